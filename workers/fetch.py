"""A client's memory, asked for while another is served.

A client has a page or more each for its record, its line, its ring and the packet it is sent, and
between two of its turns the kernel and all the others have been there: what a turn touches would
come line by line, each when it is wanted. A client's memory is asked for two turns ahead, and
what is found through that one turn ahead. A lane asks for the next listener's while it sends to
one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.kernels import kernel
from shared.layout import CACHE_LINE, RX
from shared.prefetch import prefetch_read, prefetch_write
from workers.numbering import ACCOUNT_PACKETS, SEEN_PACKETS

MOST_BYTES = 1024
"""Of each channel's samples."""
MOST_CHANNELS = 2


def _lines(*spans: tuple[str, str]) -> npt.NDArray[np.int64]:
    """Offsets of the cache lines of an RX record from one field to another."""
    offsets: list[int] = []
    for first, last in spans:
        start, end = (RX.fields[name][1] for name in (first, last))  # type: ignore[index]
        offsets.extend(range(start - start % CACHE_LINE, end + 1, CACHE_LINE))
    return np.array(offsets, np.int64)


PACKET_LINES = _lines(
    ("state", "filter"),
    ("watermark", "trial_contrary"),
    ("block_count", "block"),
    ("late_weight", "late_weight"),
    ("channel_peaks", "channel_peaks"),
    ("channel_squares", "channel_squares"),
    ("channel_sums", "channel_sums"),
    ("guard", "guard"),
)
"""What a packet touches of an RX record."""
LISTENER_LINES = _lines(("state", "filter"), ("sockaddr", "sockaddr"))
"""What is read of an RX record to send to its client."""


@kernel
def fetch_record(arena, slot):
    """A client's record, as a packet of it will want it."""
    at = np.int64(arena.rx.ctypes.data) + slot * arena.rx.strides[0]
    for offset in PACKET_LINES:
        prefetch_write(at + offset)


@kernel
def fetch_sound(arena, slot, seen):
    """Where a client's next packet will be written, and read for the hub.

    Args:
        seen: (SEEN_PACKETS,) int64, of this client.
    """
    rx, lines, rings = arena.rx[slot], arena.lines, arena.rings
    mask, size = rx.ring_frames - 1, min(rx.frames * 4, MOST_BYTES)
    line = np.int64(lines.ctypes.data) + slot * lines.strides[0] + (rx.filled & mask) * 4
    ring = np.int64(rings.ctypes.data) + slot * rings.strides[0] + (rx.watermark & mask) * 4
    for channel in range(min(rx.channels, MOST_CHANNELS)):
        for at in range(0, size, CACHE_LINE):
            prefetch_write(line + channel * lines.strides[1] + at)
            prefetch_write(ring + channel * rings.strides[1] + at)
    numbers = np.int64(seen.ctypes.data)
    prefetch_write(numbers + ((rx.highest + 1) & (SEEN_PACKETS - 1)) * 8)
    prefetch_read(numbers + ((rx.highest + 1 - ACCOUNT_PACKETS) & (SEEN_PACKETS - 1)) * 8)


@kernel
def fetch_listener(arena, slot, now):
    """What a listener's next packet is made of, and where it is made.

    Args:
        now: of the tick at hand, in ``Arena.strips``.
    """
    rx, tx, slots = arena.rx, arena.tx, arena.slots
    at = np.int64(rx.ctypes.data) + slot * rx.strides[0]
    for offset in LISTENER_LINES:
        prefetch_read(at + offset)
    at = np.int64(tx.ctypes.data) + slot * tx.strides[0]
    for offset in range(0, tx.strides[0], CACHE_LINE):
        prefetch_write(at + offset)
    at = np.int64(slots.ctypes.data) + slot * slots.strides[0]
    for offset in range(0, slots.strides[0], CACHE_LINE):
        prefetch_read(at + offset)
    size = min(arena.header[0].period_frames * 4, MOST_BYTES)
    at = np.int64(arena.packets.ctypes.data) + slot * arena.packets.strides[0]
    strips = arena.strips
    strip = np.int64(strips.ctypes.data) + now * strips.strides[0] + slot * strips.strides[1]
    for line in range(0, size, CACHE_LINE):
        prefetch_write(at + line)
        for channel in range(MOST_CHANNELS):
            prefetch_read(strip + channel * strips.strides[2] + line)
