"""Pure knowledge of schedulers, launchers, runtimes, accelerators, environments and machines, one file a thing."""
