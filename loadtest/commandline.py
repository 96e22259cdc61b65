"""What the commands have in common: lists of numbers and cores, files written whole, Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click

EXIT_INTERRUPTED = 130
"""As shells say it of a program that a Ctrl-C ended."""
ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""They end a program as Ctrl-C does: in order, with all that it started."""
_SIGNALLED = 128
"""Shells add a signal's number to it."""
_NEW = ".new"


class Numbers(click.ParamType[tuple[int, ...]]):
    """A list such as 64,128 of whole numbers within limits; each counts once."""

    name = "list"

    def __init__(self, low: int, high: int, *, empty: bool = False) -> None:
        """empty: whether there may be none."""
        self.low, self.high, self.empty = low, high, empty

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        words = str(value).split(",") if str(value) or not self.empty else []
        try:
            numbers = tuple(dict.fromkeys(int(word) for word in words))
        except ValueError:
            self.fail(
                f"{value!r} is no list of numbers {self.low}..{self.high} such as 64,128",
                param, ctx,
            )  # fmt: skip
        for number in numbers:
            if not self.low <= number <= self.high:
                self.fail(f"{number} is not in {self.low}..{self.high}", param, ctx)
        return numbers


def cores(text: str, option: str, allowed: Collection[int]) -> set[int]:
    """The cores of '0,2-3'.

    Raises:
        click.BadParameter: it is no list, or names others than those allowed.
    """
    found: set[int] = set()
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found |= set(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list such as 0,2-3", param_hint=option) from None
    if not found or not found <= set(allowed):
        raise click.BadParameter(f"{text!r}: cores are {listed(allowed)}", param_hint=option)
    return found


def listed(numbers: Collection[int]) -> str:
    """For people: '0, 1, 2'."""
    return ", ".join(map(str, sorted(numbers)))


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """This thread, and those it starts, on one core until the end of the block."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Ended(KeyboardInterrupt):
    """Another signal than Ctrl-C's, which wants the same."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A Ctrl-C in the block, a SIGTERM or a closed terminal, ends the program in order, with the
    exit code for that. Of the main thread only; what is ignored (``nohup``) stays so."""
    code = EXIT_INTERRUPTED

    def end(number: int, frame: object) -> None:
        nonlocal code
        code = _SIGNALLED + number
        raise Ended

    former = {
        each: signal.signal(each, end)
        for each in ENDINGS
        if signal.getsignal(each) is not signal.SIG_IGN
    }
    try:
        yield
    except KeyboardInterrupt:
        click.echo("\nInterrupted.", err=True)
        sys.exit(code)
    finally:
        for each, before in former.items():
            signal.signal(each, before)


def need_writable(path: Path | None, option: str) -> None:
    """Say before a long run, not after it, that its file cannot be written.

    Raises:
        click.BadParameter: so it is.
    """
    if path is None:
        return
    try:
        if _is_special(path):
            path.open("ab").close()
            return
        fresh = _fresh(path)
        fresh.write_bytes(b"")
        fresh.unlink()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it was not written; what was there before still is.
    """
    if _is_special(path):
        path.write_text(text)
        return
    fresh = _fresh(path)
    try:
        fresh.write_text(text)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise


def _fresh(path: Path) -> Path:
    return path.with_name(path.name + _NEW)


def _is_special(path: Path) -> bool:
    """/dev/stdout and its like must not be replaced."""
    return path.exists() and not path.is_file()
