"""Bytes that are nearly right: valid messages, and what becomes of them in bad hands."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

EDGES = (0, 1, 2, 127, 128, 255, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)
"""Values at which lengths, ports and counts are usually mistaken."""
_SIGNS = bytes([0, 9, 10, 13, 32, 35, 36, 44, 58, 127, 255])
_KINDS = ("bit", "byte", "number", "number", "cut", "drop", "repeat", "insert", "splice")
"""Of things that may happen; numbers twice as often."""


def nearly(
    valid: st.SearchStrategy[bytes], fields: Sequence[tuple[int, int]] = ()
) -> st.SearchStrategy[bytes]:
    """Valid messages, and such to which up to four things have happened.

    What happens is drawn from a seed: that is ten times as fast as to have hypothesis draw it.

    Args:
        fields: offset and bytes of each number in it, little-endian: they are set to EDGES, or to
            a little more or less than they were.
    """
    return st.builds(
        lambda data, other, seed: mutated(data, other, fields, Random(seed)),
        valid,
        valid,
        st.integers(0, 2**64),
    )


def mutated(
    message: bytes, other: bytes, fields: Sequence[tuple[int, int]], random: Random
) -> bytes:
    """One message after up to four accidents, in some of which another has a part."""
    data = bytearray(message)
    for _ in range(random.randint(0, 4)):
        at, length = random.randint(0, len(data)), random.randint(1, 12)
        match random.choice(_KINDS):
            case "bit" if at < len(data):
                data[at] ^= 1 << random.randint(0, 7)
            case "byte" if at < len(data):
                data[at] = random.choice(_SIGNS)
            case "number" if fields:
                offset, width = random.choice(fields)
                number = int.from_bytes(data[offset : offset + width], "little")
                near = number + random.randint(-3, 3)
                number = random.choice((near, random.choice(EDGES)))
                if offset + width <= len(data):
                    data[offset : offset + width] = (number % 256**width).to_bytes(width, "little")
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[at : at + length] * random.randint(1, 40)
            case "insert":
                data[at:at] = random.randbytes(length)
            case "splice":
                data[at:] = other[at:]
    return bytes(data)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The message as it may arrive: cut at these places."""
    ends = sorted({*cuts, len(data)} & set(range(1, len(data) + 1)))
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
