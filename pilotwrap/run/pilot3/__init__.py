"""PanDA's own pilot as the agent: prepared, served by the bridge, watched, ended, judged."""
