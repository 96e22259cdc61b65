"""Bytes that are nearly right: valid messages, and what becomes of them in bad hands."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

EDGES = (0, 1, 2, 127, 128, 255, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1)
"""Values at which lengths, ports and counts are usually mistaken."""

KINDS = ("bit", "byte", "number", "number", "cut", "drop", "repeat", "insert", "splice")
"""Of things that may happen; numbers twice as often."""


@st.composite
def nearly(
    draw: st.DrawFn, valid: st.SearchStrategy[bytes], fields: Sequence[tuple[int, int]] = ()
) -> bytes:
    """A valid message, or one to which up to four things have happened.

    Args:
        fields: offset and bytes of each number in it, little-endian: they are set to EDGES, or to
            a little more or less than they were.
    """
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 12))
        match draw(
            st.sampled_from(
                ["bit", "byte", "number", "number", "cut", "drop", "repeat", "insert", "splice"]
            )
        ):
            case "bit" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "byte" if at < len(data):
                data[at] = draw(st.sampled_from([0, 9, 10, 13, 32, 35, 36, 44, 58, 127, 255]))
            case "number" if fields:
                offset, width = draw(st.sampled_from(fields))
                before = int.from_bytes(data[offset : offset + width], "little")
                near = st.integers(-3, 3).map(before.__add__)
                number = draw(st.sampled_from(EDGES) | near)
                if offset + width <= len(data):
                    data[offset : offset + width] = (number % 256**width).to_bytes(width, "little")
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[at : at + length] * draw(st.integers(1, 40))
            case "insert":
                data[at:at] = draw(st.binary(max_size=12))
            case "splice":
                data[at:] = draw(valid)[at:]
    return bytes(data)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The message as it may arrive: cut at these places."""
    ends = sorted({*cuts, len(data)} & set(range(1, len(data) + 1)))
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
