"""Changes of a credentials file's text; all else in it, comments too, stays as it is."""

from __future__ import annotations

import unicodedata

from hub.auth.passwords import PASSWORD_BYTES
from hub.auth.times import parse_times
from hub.auth.users import COMMENT, lines_of_users
from shared.credentials import MAX_TEXT_BYTES


class Unusable(ValueError):
    """A user name, a password or times that a file cannot hold; the text says why not."""


def check_name(name: str) -> None:
    """Raises Unusable for a name that a file cannot hold."""
    if not name:
        raise Unusable("a user name cannot be empty")
    if name.startswith(COMMENT):
        raise Unusable(f"user name {name!r} begins with {COMMENT}, as comments do")
    for char in name:
        if char == ":" or unicodedata.category(char)[0] == "C":
            raise Unusable(f"user name {name!r} holds {char!r}, which is not allowed")
    if len(name.encode()) > MAX_TEXT_BYTES:
        raise Unusable(f"user name is longer than {MAX_TEXT_BYTES} bytes")


def check_password(password: str) -> None:
    """Raises Unusable for a password that no client could use, or that would count in part."""
    size = len(password.encode(errors="surrogateescape"))
    if not password or "\0" in password:
        raise Unusable("a password cannot be empty, nor hold a zero byte")
    if size > PASSWORD_BYTES:
        raise Unusable(f"password has {size} bytes, of which only {PASSWORD_BYTES} would count")


def check_times(times: str) -> None:
    """Raises Unusable for times that are wrong in part."""
    _, problems = parse_times(times)
    if problems:
        raise Unusable(f"times {times!r}: {'; '.join(problems)}")


def fields_of(text: str, name: str) -> list[str] | None:
    """All fields of a user's line, the last if there are several; None when there is none."""
    found = None
    for _, line in lines_of_users(text):
        fields = line.split(":")
        if fields[0] == name and len(fields) > 1:
            found = fields
    return found


def with_user(text: str, name: str, hash_text: str, times: str) -> str:
    """The text with this user's line, where its last one was, or else at the end."""
    rest = (fields_of(text, name) or [])[3:]
    new = ":".join([name, hash_text, times, *rest])
    lines, places = _lines_and_places(text, name)
    if places:
        lines[places[-1]] = new
    else:
        lines.append(new)
    return _joined(lines, places[:-1])


def without_user(text: str, name: str) -> str:
    """The text without any line of this user."""
    lines, places = _lines_and_places(text, name)
    return _joined(lines, places)


def _lines_and_places(text: str, name: str) -> tuple[list[str], list[int]]:
    lines = text.removesuffix("\n").split("\n") if text else []
    places = [k - 1 for k, line in lines_of_users("\n".join(lines)) if line.split(":")[0] == name]
    return lines, places


def _joined(lines: list[str], left_out: list[int]) -> str:
    return "".join(f"{line}\n" for k, line in enumerate(lines) if k not in left_out)
