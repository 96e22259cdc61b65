"""What a hub can be asked for: limits and choices that both planes rely on.

Kept free of numpy, so that the command line can name them without loading it.
"""

from __future__ import annotations

from enum import IntEnum

MAX_LANES = 16
"""Separate transmit lanes."""
MIN_PERIOD_FRAMES, MAX_PERIOD_FRAMES = 16, 1024
MAX_QUEUE_PACKETS = 64


class PatchMode(IntEnum):
    """JackTrip's hub patch modes (``-p``)."""

    SERVER_TO_CLIENTS = 0
    LOOPBACK = 1
    FAN_OUT_NO_SELF = 2
    RESERVED = 3
    FULL_MIX = 4
    NONE = 5
