"""What hostile guests send: wrong in every way there is, and silent where it is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from shared.protocol import (
    EXIT_PACKET,
    HEADER,
    HEADER_BYTES,
    AudioHeader,
    PeerError,
    pack_header,
    parse_datagram,
)

FRAMES, RATE_HZ = 128, 48000
"""Of packets that are right."""
_RATE_CODE = 3


def silence(number: int, channels: int = 1) -> bytes:
    """A packet that is right in every way, and holds no sound."""
    header = AudioHeader(0, number & 0xFFFF, FRAMES, _RATE_CODE, 16, channels, channels)
    return pack_header(header) + bytes(2 * FRAMES * channels)


def nonsense(random: Random) -> Iterator[bytes]:
    """Datagrams without end, of which nothing may be heard; few are a packet at all.

    Should one that is made at random be right by chance, it is left out.
    """
    while True:
        if random.random() < 0.15:
            yield _redundant_lies(random)
            continue
        data = random.choice(_MAKERS)(random)
        try:
            parse_datagram(data)
        except PeerError:
            yield data


def _noise(random: Random) -> bytes:
    return random.randbytes(random.randrange(1, 2000))


def _tiny(random: Random) -> bytes:
    return random.randbytes(random.randrange(0, 16))


def _wrong_length(random: Random) -> bytes:
    """A right header, and more or less than it says."""
    packet = silence(random.getrandbits(16), random.randrange(1, 3))
    return packet[:-1] if random.random() < 0.5 else packet + bytes(random.randrange(1, 16))


def _hostile_header(random: Random) -> bytes:
    """A header whose fields are at or beyond their limits, before some silence."""
    values = (
        random.choice((0, (1 << 64) - 1)),
        random.getrandbits(16),
        random.choice((0, 1, 15, 8193, 65535)),
        random.choice((0, 3, 8, 255)),
        random.choice((0, 1, 12, 16, 64, 255)),
        random.choice((0, 1, 2, 17, 255)),
        random.choice((0, 1, 17, 254, 255)),
    )
    return HEADER.pack(*values) + bytes(random.choice((0, 1, 47, 256, 512, 1456, 9000)))


def _almost_exit(random: Random) -> bytes:
    """As long as a good-bye, but none."""
    data = bytearray(EXIT_PACKET)
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


def _redundant_lies(random: Random) -> bytes:
    """A packet of silence, and older ones whose headers say something else or nothing.

    Their length is right, so that a hub which believes the first header takes it.
    """
    packet = silence(random.getrandbits(16), 2)
    older = [
        random.choice((random.randbytes(HEADER_BYTES), bytes(HEADER_BYTES), b"\xff" * HEADER_BYTES))
        + bytes(len(packet) - HEADER_BYTES)
        for _ in range(random.randrange(1, 12))
    ]
    return b"".join((packet, *older))


_MAKERS: tuple[Callable[[Random], bytes], ...] = (
    _noise, _tiny, _wrong_length, _hostile_header, _almost_exit,
)  # fmt: skip
