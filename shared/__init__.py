"""What both planes agree on: wire protocol, shared-memory layout, atomics, system calls."""
