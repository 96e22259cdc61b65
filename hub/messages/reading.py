"""Reads requests as the types of ``hub.messages.requests``, and says in words what is wrong.

msgspec checks; where it refuses, its path leads to the value and to the description of the type
that stands there, and the message names the field, the value, and what is allowed.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, structs

from hub.messages.errors import MISSING, CommandError, shown, wrong
from hub.messages.fields import MAX_BATCH, MAX_BATCH_PAIRS, MAX_ID_CHARS, SILENCE, VERSION
from hub.messages.requests import BATCHED, OPS, Batch, Request

Raw = dict[str, Any]
Id = int | float | str | None

_PATH = re.compile(r" - at `\$\.?(.*)`$")
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def parse(data: bytes) -> Raw:
    """A request as an object of JSON, where -Infinity may stand without quotes.

    Raises:
        CommandError: it is none.
    """
    try:
        request = json.loads(data, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise CommandError("bad-json", f"request is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise CommandError("bad-json", f"request: {shown(request)} is not a JSON object")
    return request


def _constant(word: str) -> float | str:
    return SILENCE if word == "-Infinity" else float(word)


def id_of(request: Raw) -> Id:
    """The request's id, if it is fit to be sent back."""
    given = request.get("id")
    if isinstance(given, str) and len(given) <= MAX_ID_CHARS and _is_text(given):
        return given
    if isinstance(given, (int, float)) and not isinstance(given, bool) and abs(given) < 2**63:
        return given
    return None


def _is_text(given: str) -> bool:
    """Whether there is no half of a surrogate pair in it, which JSON can escape."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def read(request: Raw) -> Request[Any]:
    """A request of this version, all fields as their types want them.

    Raises:
        CommandError: it is none.
    """
    version = request.get("v", MISSING)
    if version != VERSION or isinstance(version, bool):
        problem = f"is not a version of this hub (allowed: {VERSION})"
        raise CommandError("bad-version", f"v: {shown(version)} {problem}")
    if request.get("id") is not None and id_of(request) is None:
        raise wrong("id", request["id"], f"a number or a text up to {MAX_ID_CHARS} characters")
    fields = {name: value for name, value in request.items() if name not in ("v", "id")}
    if fields.get("op") == "batch":
        return _batch(fields)
    return _typed(fields, OPS)


def _batch(fields: Raw) -> Batch:
    _look(Batch, fields)
    given = fields["requests"]
    if not isinstance(given, list) or not 0 < len(given) <= MAX_BATCH:
        raise wrong("requests", given, f"a list of 1..{MAX_BATCH} requests")
    pairs = sum(_pairs(one) for one in given)
    if pairs > MAX_BATCH_PAIRS:
        allowed = f"up to {MAX_BATCH_PAIRS} gains of matrices"
        raise CommandError("bad-field", f"requests: {pairs} are not {allowed}")
    read: list[Any] = []
    for k, one in enumerate(given):
        try:
            if not isinstance(one, dict):
                raise wrong("request", one, "a JSON object")
            read.append(_typed(one, BATCHED))
        except CommandError as error:
            raise CommandError(error.code, f"requests[{k}]: {error.message}") from None
    return Batch(read)


def _pairs(request: object) -> int:
    """How many gains a request's matrix has, if it is one."""
    if not isinstance(request, dict) or request.get("op") != "matrix":
        return 0
    sides = (request.get("listeners"), request.get("sources"))
    listeners, sources = (len(side) if isinstance(side, list) else 0 for side in sides)
    return listeners * sources


def _typed(fields: Raw, ops: Mapping[str, type[Request[Any]]]) -> Request[Any]:
    op = fields.get("op", MISSING)
    kind = ops.get(op) if isinstance(op, str) else None
    if kind is None:
        raise CommandError("unknown-op", f"op: {shown(op)} is not one of {', '.join(ops)}")
    _look(kind, fields)
    try:
        typed: Request[Any] = msgspec.convert(fields, kind)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        raise _refusal(kind, fields, str(error)) from None
    return typed


def _look(kind: type[Request[Any]], fields: Raw) -> None:
    """Which fields are there."""
    known = _known(kind)
    for name in fields:
        if name not in known and name != "op":
            allowed = f"(allowed: {', '.join(known)})" if known else "(it has none)"
            raise CommandError(
                "bad-field", f"{shown(name)} is not a field of {fields['op']!r} {allowed}"
            )
    for name, required in known.items():
        if required and name not in fields:
            raise wrong(name, MISSING, _allowed(kind, [name]))
    for group in kind.one_of:
        if sum(name in fields for name in group) != 1:
            raise CommandError("bad-field", f"exactly one of {', '.join(group)} must be given")


@cache
def _known(kind: type[Request[Any]]) -> dict[str, bool]:
    """Fields, and whether they must be there."""
    return {field.name: field.required for field in structs.fields(kind)}


def _refusal(kind: type[Request[Any]], fields: Raw, message: str) -> CommandError:
    """What msgspec said, in words."""
    found = _PATH.search(message)
    steps: list[str | int] = [
        int(index) if index else name for index, name in _STEP.findall(found[1] if found else "")
    ]
    if not steps:
        return CommandError("bad-field", message)
    value: Any = fields
    for step in steps:
        value = value[step]
    field = "".join(f"[{s}]" if isinstance(s, int) else s for s in steps)
    return wrong(field, value, _allowed(kind, steps))


def allowed(kind: type[Request[Any]], field: str) -> str:
    """What a field may be, in words."""
    return _allowed(kind, [field])


def _allowed(kind: type[Request[Any]], steps: list[str | int]) -> str:
    """The innermost description on the way."""
    name, *indices = steps
    told, here = "", [_hints(kind)[str(name)]]
    for step in (None, *indices):
        if step is not None:
            here = [get_args(one)[0] for one in _flat(here) if get_origin(one) is list]
        told = next((meta.description for meta in metas(here) if meta.description), told)
    return told


@cache
def _hints(kind: type[Request[Any]]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _flat(kinds: list[Any]) -> Iterator[Any]:
    """Members of unions, without what is said of them."""
    for one in kinds:
        origin = get_origin(one)
        if origin is Annotated:
            yield from _flat([get_args(one)[0]])
        elif origin in (Union, types.UnionType):
            yield from _flat(list(get_args(one)))
        else:
            yield one


def metas(kinds: list[Any]) -> Iterator[Meta]:
    """What is said of types and of members of unions, the outermost first."""
    for one in kinds:
        origin = get_origin(one)
        if origin is Annotated:
            inner, *said = get_args(one)
            yield from (meta for meta in said if isinstance(meta, Meta))
            yield from metas([inner])
        elif origin in (Union, types.UnionType):
            yield from metas(list(get_args(one)))
