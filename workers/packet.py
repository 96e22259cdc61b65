"""The audio header as kernels read and write it; ``shared.protocol`` is the reference.

Every byte is hostile until ``parse`` has said otherwise.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel
from shared.protocol import (
    EXIT_BYTES,
    HEADER_BYTES,
    MAX_CHANNELS,
    MAX_FRAMES,
    MIN_FRAMES,
    RATE_UNDEFINED,
    SENDS_NOTHING,
)

SEQUENCE, FRAMES, RATE_CODE, BITS, WANTS, SENDS, PACKET_BYTES, REDUNDANCY = range(8)
"""Where ``parse`` puts what it finds."""
FIELDS = 8


@kernel
def parse(data, offset, length, fields):
    """Read and check the header at offset of a datagram whose rest is length bytes.

    Args:
        data: (bytes,) uint8.
        fields: (8,) int64, written; see the constants above.

    Returns:
        True when the header is legal and length is a whole number of full packets.
    """
    if length < HEADER_BYTES or length == EXIT_BYTES:
        return False
    frames = np.int64(data[offset + 10]) | np.int64(data[offset + 11]) << 8
    rate_code = np.int64(data[offset + 12])
    bits = np.int64(data[offset + 13])
    wants = np.int64(data[offset + 14])
    sends = np.int64(data[offset + 15])
    if sends == 0:
        sends = wants
    elif sends == SENDS_NOTHING:
        sends = np.int64(0)
    fields[SEQUENCE] = np.int64(data[offset + 8]) | np.int64(data[offset + 9]) << 8
    fields[FRAMES] = frames
    fields[RATE_CODE] = rate_code
    fields[BITS] = bits
    fields[WANTS] = wants
    fields[SENDS] = sends
    if frames < MIN_FRAMES or frames > MAX_FRAMES or rate_code > RATE_UNDEFINED:
        return False
    if bits != 8 and bits != 16 and bits != 24 and bits != 32:
        return False
    if sends < 1 or sends > MAX_CHANNELS or wants < 1 or wants > MAX_CHANNELS:
        return False
    size = HEADER_BYTES + frames * sends * (bits // 8)
    fields[PACKET_BYTES] = size
    fields[REDUNDANCY] = length // size
    return length >= size and length % size == 0


@kernel
def is_exit(data, offset, length):
    """Whether these bytes are the good-bye: 63 times 0xff."""
    if length != EXIT_BYTES:
        return False
    for i in range(EXIT_BYTES):
        if data[offset + i] != 0xFF:
            return False
    return True


@kernel
def write_header(data, offset, timestamp_us, sequence, frames, rate_code, bits, wants, sends):
    """Write the 16 bytes of a header; wants and sends are from the writer's point of view.

    Args:
        data: (bytes,) uint8.
        sequence: taken modulo 65536.
    """
    for i in range(8):
        data[offset + i] = np.uint8((timestamp_us >> (8 * i)) & 0xFF)
    data[offset + 8] = np.uint8(sequence & 0xFF)
    data[offset + 9] = np.uint8((sequence >> 8) & 0xFF)
    data[offset + 10] = np.uint8(frames & 0xFF)
    data[offset + 11] = np.uint8((frames >> 8) & 0xFF)
    data[offset + 12] = np.uint8(rate_code)
    data[offset + 13] = np.uint8(bits)
    data[offset + 14] = np.uint8(wants)
    if sends == wants:
        sends = 0
    elif sends == 0:
        sends = SENDS_NOTHING
    data[offset + 15] = np.uint8(sends)
