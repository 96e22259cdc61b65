"""How a record of the arena is made: of cache lines, each with one writer."""

from __future__ import annotations

import numpy as np

CACHE_LINE = 64
STRIP_DEPTH = 4
"""Ticks that published buses and strips stay readable for transmit lanes."""
I64, F64 = np.int64, np.float64

Field = tuple[str, object] | tuple[str, object, tuple[int, ...]]


def record(*lines: list[Field]) -> np.dtype:
    """Structured dtype whose groups of fields each start on a cache line of their own."""
    names: list[str] = []
    formats: list[object] = []
    offsets: list[int] = []
    offset = 0
    for line in lines:
        for name, kind, *shape in line:
            base = np.dtype(kind)  # type: ignore[call-overload]
            offset = -(-offset // base.alignment) * base.alignment
            dtype = np.dtype((base, shape[0])) if shape else base
            names.append(str(name))
            formats.append(dtype)
            offsets.append(offset)
            offset += dtype.itemsize
        offset = -(-offset // CACHE_LINE) * CACHE_LINE
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": offset})
