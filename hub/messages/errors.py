"""Why a request was refused: codes for programs, and what they mean."""

from __future__ import annotations

import json

CODES = {
    "bad-json": "no JSON object",
    "bad-version": "`v` is missing or not 1",
    "unknown-op": "`op` is none of the above",
    "bad-field": "a field is wrong or unknown; the message names it, its value, what is allowed",
    "no-client": "no such client is here",
    "going": "the client is leaving already",
    "not-waiting": "the client is not in the waiting room",
    "no-ban": "there is no ban on just this network or account",
    "no-section": "there is no section of this name",
    "no-scene": "there is no scene of this name",
    "name-taken": "somebody here is called so",
    "too-many": "there is no room for another ban, section or scene",
    "internal": "the hub failed to carry it out; its log says more",
}
WRONG = frozenset({"bad-json", "bad-version", "unknown-op", "bad-field"})
"""Codes of what could not be right at any hub: the request itself is wrong."""
MISSING = object()


class CommandError(Exception):
    """A request that cannot be met.

    Attributes:
        code: for programs, one of ``CODES``.
        message: for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        assert code in CODES, code
        self.code, self.message = code, message


def shown(value: object) -> str:
    """A value as it may stand in an error message, cut short."""
    if value is MISSING:
        return "nothing"
    try:
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
    except RecursionError:
        return "what is nested too deeply"
    return text if len(text) <= 80 else f"{text[:77]}..."


def wrong(field: str, given: object, allowed: str) -> CommandError:
    """That a field is not what is allowed, or is not there."""
    if given is MISSING:
        return CommandError("bad-field", f"{field}: missing; it is {allowed}")
    return CommandError("bad-field", f"{field}: {shown(given)} is not {allowed}")
