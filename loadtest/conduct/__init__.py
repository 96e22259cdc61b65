"""Doing a run: servers, handshakes, events, faults, networks, and what the hub's processes cost."""
