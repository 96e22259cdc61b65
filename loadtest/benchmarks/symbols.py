"""Names of the hub's compiled kernels in memory, for samples of addresses.

Machine code that numba has made is in no file that a profiler could open. But this process
loads the same code from the same cache, and has its object file with names and lengths of all
functions in it; and the hub's processes are forks of one, so that the code is at the same place
in each. That place is found by looking for the code in the memory of one of them.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import runpy
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMBOLS, _EXECUTABLE, _FUNCTION = 2, 4, 2
_CHUNK, _CHUNKS = 32, 200
"""Bytes of code that are looked for, and how many of such places; what the loader has filled in
is not what the object has."""
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ 0\s*$")


class ObjectError(ValueError):
    """Not an object file as numba makes them."""


@dataclass(frozen=True, slots=True)
class Function:
    """Machine code from `begin` until before `end`."""

    begin: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Code:
    """An executable section of an object file; the functions' places count from its begin."""

    text: bytes
    functions: tuple[Function, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """A piece of a process's memory that can be executed."""

    begin: int
    content: bytes


class Names:
    """Which function an address is in."""

    def __init__(self, functions: Iterable[Function]) -> None:
        self._functions = sorted(functions, key=lambda each: each.begin)
        self._begins = [each.begin for each in self._functions]

    def at(self, address: int) -> str:
        """Empty: in none that is known."""
        place = bisect_right(self._begins, address) - 1
        if place < 0 or address >= self._functions[place].end:
            return ""
        return self._functions[place].name


def codes_of(content: bytes) -> list[Code]:
    """The executable sections of a 64-bit ELF object that have named functions.

    Raises:
        ObjectError: it is none.
    """
    if content[:6] != b"\x7fELF\x02\x01":
        raise ObjectError("no 64-bit little-endian ELF object")
    try:
        table, size, count = (
            *struct.unpack_from("<Q", content, 40), *struct.unpack_from("<HH", content, 58)
        )  # fmt: skip
        sections = [_SECTION.unpack_from(content, table + size * each) for each in range(count)]
        functions: dict[int, list[Function]] = {}
        for _, kind, _, _, offset, length, link, _, _, _ in sections:
            if kind != _SYMBOLS:
                continue
            names = sections[link][4]
            for at in range(offset, offset + length, _SYMBOL.size):
                name, info, _, section, value, extent = _SYMBOL.unpack_from(content, at)
                if info & 0xF == _FUNCTION and extent and section < count:
                    end = content.index(b"\0", names + name)
                    text = content[names + name : end].decode(errors="replace")
                    functions.setdefault(section, []).append(Function(value, value + extent, text))
    except (struct.error, IndexError, ValueError) as error:
        raise ObjectError(f"damaged: {error}") from error
    return [
        Code(content[section[4] : section[4] + section[5]], tuple(functions[number]))
        for number, section in enumerate(sections)
        if section[2] & _EXECUTABLE and number in functions
    ]


def images(pid: int) -> list[Image]:
    """What a process can execute that is of no file.

    Raises:
        OSError: its memory may not be read, or it has ended.
    """
    found = []
    folder = Path("/proc") / str(pid)
    with (folder / "mem").open("rb") as memory:
        for line in (folder / "maps").read_text().splitlines():
            if mapping := _MAPPING.match(line):
                begin, end = (int(each, 16) for each in mapping.groups())
                memory.seek(begin)
                found.append(Image(begin, memory.read(end - begin)))
    return found


def located(code: Code, where: Sequence[Image]) -> list[Function]:
    """A section's functions with their addresses in a process; none where it is not found."""
    votes: Counter[int] = Counter()
    step = max(_CHUNK, len(code.text) // _CHUNKS)
    for at in range(0, len(code.text) - _CHUNK, step):
        chunk = code.text[at : at + _CHUNK]
        for image in where:
            place = image.content.find(chunk)
            if place >= 0 and image.content.find(chunk, place + 1) < 0:
                votes[image.begin + place - at] += 1
    if not votes:
        return []
    ((base, count),) = votes.most_common(1)
    if count < 2:
        return []
    return [Function(base + each.begin, base + each.end, each.name) for each in code.functions]


@functools.cache
def objects() -> tuple[bytes, ...]:
    """Object files of all kernels that the hub's audio processes run, from the cache; none of
    those that this process had to compile, or had loaded before. ``python -m workers.warm`` is
    run here to that end."""
    from numba.core.codegen import JITCodeLibrary

    loaded: list[bytes] = []
    load = JITCodeLibrary._set_compiled_object

    def kept(library: Any, content: bytes) -> None:
        loaded.append(content)  # numba itself forgets it
        load(library, content)

    JITCodeLibrary._set_compiled_object = kept
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it tells how it goes
            runpy.run_module("workers.warm", run_name="__main__")
    finally:
        JITCodeLibrary._set_compiled_object = load
    return tuple(loaded)


def names_in(where: Sequence[Image], contents: Iterable[bytes]) -> Names:
    """Names of all functions of some object files in a process's memory."""
    return Names(
        function
        for content in contents
        for code in codes_of(content)
        for function in located(code, where)
    )


_NESTED = re.compile(r"_ZN(.*)")


def place_of(name: str) -> str:
    """``workers.pcm.encode`` of a name as numba mangles it; itself where it is none."""
    mangled = _NESTED.match(name)
    if mangled is None:
        return name
    rest, parts = mangled.group(1), []
    while number := re.match(r"\d+", rest):
        begin = number.end()
        parts.append(rest[begin : begin + int(number.group())])
        rest = rest[begin + int(number.group()) :]
    return ".".join(parts)
