"""The credentials file: ``user:hash:times``, a line each; text in, users out.

Empty lines, and comments (which begin with ``#``), are skipped. A line that is no good is
skipped too, and told with its number; of several lines with one user the last good one holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hub.auth.passwords import HashRefused, split_hash
from hub.auth.times import Times, parse_times

MAX_FILE_BYTES = 16 << 20
COMMENT = "#"


class UsersRefused(ValueError):
    """A whole file is no good; the text continues '--credsfile: PATH ...'."""


@dataclass(frozen=True, slots=True)
class User:
    """Who may join, with what, and when."""

    name: str
    salt: str
    digest: str = field(repr=False)
    times: Times


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a line, counted from 1."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Users:
    """One state of the file: users by name, and what was skipped."""

    by_name: dict[str, User]
    problems: tuple[Problem, ...]


def read_users(path: Path) -> Users:
    """Users of a file.

    Raises:
        UsersRefused: it cannot be read, is no text, or has lines and all are wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsersRefused(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsersRefused(f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsersRefused(f"is no text in UTF-8: {error.reason} at byte {error.start}") from None
    users = parse_users(text)
    if users.problems and not users.by_name:
        first = users.problems[0]
        raise UsersRefused(f"has no line that is user:hash:times; line {first.line}: {first.text}")
    return users


def parse_users(text: str) -> Users:
    """Users of a file's text; nothing in it is an error."""
    by_name: dict[str, User] = {}
    problems: list[Problem] = []
    for number, line in lines_of_users(text):
        name, *rest = line.split(":")
        if len(rest) < 2:
            problems.append(Problem(number, "fewer than three fields (user:hash:times)"))
            continue
        if not name:
            problems.append(Problem(number, "no user name"))
            continue
        try:
            salt, digest = split_hash(rest[0])
        except HashRefused as refused:
            problems.append(Problem(number, f"the hash of {name!r} {refused}"))
            continue
        times, wrong = parse_times(rest[1])
        problems += [Problem(number, f"times of {name!r}: {text}") for text in wrong]
        if name in by_name:
            problems.append(Problem(number, f"{name!r} once more: this line holds"))
        by_name[name] = User(name, salt, digest, times)
    return Users(by_name, tuple(problems))


def lines_of_users(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are neither empty nor comments, with their numbers."""
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if line.strip() and not line.startswith(COMMENT):
            yield number, line
