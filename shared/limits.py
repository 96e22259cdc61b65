"""What a hub can be asked for: limits and choices that both planes rely on.

Kept free of numpy, so that the command line can name them without loading it.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

MAX_LANES = 16
"""Separate transmit lanes."""
MIN_PERIOD_FRAMES, MAX_PERIOD_FRAMES = 16, 1024
MAX_QUEUE_PACKETS, MAX_QUEUE_MS = 64, 250
MAX_SHARING = 64
"""Clients that one receiver can serve."""
SHARED_CHANNELS, SHARED_FRAMES = 2, 256
"""A packet of more takes too long for those who share a receiver with whoever sends it."""
MAX_HEADROOM_MS = 250
"""That an automatic queue may have beyond its need."""


class PatchMode(IntEnum):
    """JackTrip's hub patch modes (``-p``)."""

    SERVER_TO_CLIENTS = 0
    LOOPBACK = 1
    FAN_OUT_NO_SELF = 2
    RESERVED = 3
    FULL_MIX = 4
    NONE = 5


class JackPorts(IntEnum):
    """Who has JACK ports of its own (``--jack-ports``)."""

    CLIENTS = 0
    SECTIONS = 1
    MIX = 2


class Underrun(IntEnum):
    """What a gap in a client's sound is filled with (``--underrun``)."""

    ZERO = 0
    """A quick fade to silence."""
    WAVETABLE = 1
    """The last packet, over and over, faded."""
    BURG = 2
    """What the sound before (and after) the gap predicts."""


class Concealed(IntEnum):
    """How frames that were not there were filled in; indices of ``RX.concealed``."""

    ZERO = 0
    """A quick fade to silence, as ordered."""
    WAVETABLE = 1
    BURG = 2
    """A prediction of the full order that the sound allows."""
    BURG_REDUCED = 3
    """One of a lower order, for want of time."""
    AWAY = 4
    """Skipped or faded away: the receiver had not run, or the session ended."""


class Shed(IntFlag):
    """What processes leave out while the hub has too much to do (``CONTROL.shed``)."""

    METERS = 1
    """Levels are not measured; those last told stay."""
    ORDERS = 2
    """Models of concealment are small."""


class DriftMode(IntEnum):
    """Whether a client's sound is resampled to the hub's clock (``--drift``)."""

    OFF = 0
    """Never: clocks that differ cost a skip or a gap now and then."""
    ON = 1
    """From the first packet."""
    AUTO = 2
    """As soon as the client's clock certainly differs; bit-exact until then."""


class GuardMode(IntEnum):
    """What becomes of a client that sends noise or a stuck tone for seconds (``--guard``)."""

    OFF = 0
    """Nobody looks."""
    WATCH = 1
    """It is said who does."""
    LIMIT = 2
    """It is lowered by 20 dB until it behaves."""
    MUTE = 3
    """It is not heard until it behaves."""


class Noticed(IntEnum):
    """What the guard has noticed of a client (``RX.guard``)."""

    QUIET = 0
    """Nothing."""
    NOISE = 1
    TONE = 2
    """One that does not end."""
