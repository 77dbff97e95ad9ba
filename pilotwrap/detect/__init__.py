"""Pure; Snapshot to NodeFacts to AllocationFacts."""
