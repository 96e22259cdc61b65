"""The control socket's language: JSON requests in, JSON replies out. Sans-IO.

::

    {"v": 1, "id": 7, "op": "mute", "client": "Anna", "muted": true}
    {"v": 1, "id": 7, "ok": true, "result": {...}}
    {"v": 1, "id": 7, "ok": false, "error": {"code": "no-client", "message": "..."}}

``id`` is any number or text up to 64 characters, and comes back. A client is given by its
shown name or by the number of its slot. Errors say which field is wrong, what stood
there, and what is allowed::

    op        fields
    ping                                            version and pid
    status                                          all of hub.snapshot
    clients                                         its clients alone
    patch     mode: 1 | 2 | 4 | 5 | name            who hears whom
    gain      source, [listener],                   strip gain of a source, or what one
              gain_db: −120..24 | −Infinity | null  listener gets of it; null takes the
              or gain: 0..15.85 | null              setting back
    pan       client, pan: −100..100 | word | null  where it stands between left and right
    guard     client                                let a client be that the guard has noticed
    limiter   on: true | false, [client]            of all mixes, or of one client's
    mute      client, muted: true | false
    queue     client,                               how deep its queue is; begun with its
              queue: 1..64 | "auto" | "autoN"       next packet
    kick      client
    lock, unlock                                    newcomers stay outside, or come in
    waiting-room  on: true | false                  newcomers wait to be admitted, or not
    admit     client                                it leaves the waiting room for the mix
    refuse    client                                it is sent away from there
    ban       client | network | account,           nobody of it may come in, and who is here
              [for_s: seconds], [reason]            is kicked; for good without for_s
    unban     network | account
    bans                                            those that stand
    batch     requests: [{op, ...}, ...]            levels, all of them or none
    shutdown

Sections, hearing, master, scenes and more: ``hub.shaping``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from typing import Any, Protocol

import structlog

from hub.bans import MAX_REASON_CHARS, TooManyBans
from hub.console import Console
from hub.fields import (
    MISSING,
    CommandError,
    Request,
    client_at,
    gain_in,
    is_number,
    pan_in,
    shown,
    truth,
    truth_or_null,
    wrong,
)
from hub.levels import to_db
from hub.networks import Network, parse_network
from hub.shaping import BATCHED, OPS
from hub.values import PacketsOrAuto, Patch, Queue, Refused, patch_name
from shared.layout import PatchMode

log = structlog.get_logger()

VERSION = 1
MAX_REQUEST_BYTES = 4 << 20
"""Room for a matrix of 500 listeners and 500 sources."""
MAX_BATCH = 4096
MAX_BATCH_PAIRS = 1 << 18
"""Gains of all matrices of a batch: those of one that says all of a full hub."""
MAX_ID_CHARS = 64
MAX_BAN_S = 100 * 366 * 86400.0

Result = dict[str, Any]
Handler = Callable[[Request, "Hub"], Result | Awaitable[Result]]


class Hub(Protocol):
    """What can be asked of a hub; slots are those of present clients."""

    @property
    def console(self) -> Console: ...
    def ping(self) -> dict[str, Any]: ...
    def status(self) -> dict[str, Any]: ...
    def clients(self) -> list[dict[str, Any]]: ...
    def find(self, client: int | str) -> int | None:
        """Slot of the client in this slot, or of this shown name."""

    def set_patch(self, mode: PatchMode) -> None: ...
    def set_gain(self, source: int, gain: float | None) -> None: ...
    def set_pair(self, listener: int, source: int, gain: float | None) -> None: ...
    def set_pan(self, client: int, pan: float | None) -> None: ...
    def release_guard(self, client: int) -> None: ...
    def set_limiter(self, on: bool) -> None: ...
    def set_muted(self, client: int, muted: bool) -> None: ...
    def set_queue(self, client: int, queue: Queue) -> None: ...
    def kick(self, client: int) -> bool: ...
    def lock(self) -> bool: ...
    def unlock(self) -> bool: ...
    def set_waiting_room(self, on: bool) -> int:
        """Returns how many wait."""

    def admit(self, client: int) -> bool: ...
    def refuse(self, client: int) -> bool: ...
    async def ban_client(self, client: int, for_s: float | None, reason: str) -> dict[str, Any]: ...
    async def ban(self, target: Network | str, for_s: float | None, reason: str) -> dict[str, Any]:
        """Ban a network or the holder of an account; raises TooManyBans."""

    async def unban(self, target: Network | str) -> dict[str, Any] | None: ...
    def bans(self) -> list[dict[str, Any]]: ...
    def shut_down(self) -> None: ...


async def answer(data: bytes, hub: Hub) -> bytes:
    """The reply to a request, whatever it holds. All is done at once but for what must be saved."""
    request: Request = {}
    body: dict[str, Any]
    try:
        request = _parse(data)
        result = _obey(request, hub)
        body = {"ok": True, "result": await result if isawaitable(result) else result}
    except CommandError as error:
        body = {"ok": False, "error": {"code": error.code, "message": error.message}}
    except Exception as error:  # one request must not end the hub
        log.exception("request failed", op=request.get("op"))
        body = _failure(error)
    return _encoded(request, body)


def _failure(error: Exception) -> dict[str, Any]:
    message = f"the hub failed: {type(error).__name__}: {error}"
    return {"ok": False, "error": {"code": "internal", "message": message}}


def _encoded(request: Request, body: dict[str, Any]) -> bytes:
    """A reply as it is sent; one that cannot be written must not leave its sender without."""
    head = {"v": VERSION, "id": _id(request)}
    try:
        return json.dumps({**head, **body}).encode()
    except (TypeError, ValueError) as error:
        log.exception("reply failed", op=request.get("op"))
        return json.dumps({**head, **_failure(error)}).encode()


def _parse(data: bytes) -> Request:
    try:
        request = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CommandError("bad-json", f"request is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise CommandError("bad-json", f"request: {shown(request)} is not a JSON object")
    return request


def _id(request: Request) -> int | float | str | None:
    """The request's id, if it is fit to be sent back."""
    given = request.get("id")
    if isinstance(given, str) and len(given) <= MAX_ID_CHARS:
        return given
    if isinstance(given, (int, float)) and not isinstance(given, bool) and abs(given) < 2**63:
        return given
    return None


def _obey(request: Request, hub: Hub) -> Result | Awaitable[Result]:
    version = request.get("v")
    if version != VERSION or isinstance(version, bool):
        raise CommandError(
            "bad-version", f"v: {shown(version)} is not a version of this hub (allowed: {VERSION})"
        )
    if "id" in request and request["id"] is not None and _id(request) is None:
        allowed = f"a number or a text up to {MAX_ID_CHARS} characters"
        raise CommandError("bad-field", f"id: {shown(request['id'])} is not {allowed}")
    return _carry_out(request, hub, ("v", "id", "op"))


def _carry_out(
    request: Request, hub: Hub, common: tuple[str, ...], allowed_ops: Iterable[str] = ()
) -> Result | Awaitable[Result]:
    """Do what a request asks for, whose fields may be those of its op and common ones."""
    op, known = request.get("op"), tuple(allowed_ops) or (*_OPS, *OPS)
    if not isinstance(op, str) or op not in known:
        raise CommandError("unknown-op", f"op: {shown(op)} is not one of {', '.join(known)}")
    fields = (_OPS[op] if op in _OPS else OPS[op])[0]
    for name in request:
        if name not in (*common, *fields):
            allowed = f"(allowed: {', '.join(fields)})" if fields else "(it has none)"
            raise CommandError("bad-field", f"{shown(name)} is not a field of {op!r} {allowed}")
    if op in OPS:
        return OPS[op][1](request, hub.console, hub.find)
    return _OPS[op][1](request, hub)


def _batch(request: Request, hub: Hub) -> dict[str, Any]:
    """All of it from one frame on, or nothing of it."""
    given = request.get("requests", MISSING)
    if not isinstance(given, list) or not 0 < len(given) <= MAX_BATCH:
        raise wrong("requests", given, f"a list of 1..{MAX_BATCH} requests")
    pairs = sum(_pairs(one) for one in given)
    if pairs > MAX_BATCH_PAIRS:
        allowed = f"up to {MAX_BATCH_PAIRS} gains of matrices"
        raise CommandError("bad-field", f"requests: {pairs} are not {allowed}")
    console = hub.console
    before, results = console.levels.state(), []
    with console.levels.together():
        for k, one in enumerate(given):
            try:
                if not isinstance(one, dict):
                    raise wrong("request", one, "a JSON object")
                results.append(_carry_out(one, hub, ("op",), BATCHED))
            except BaseException as error:
                console.levels.restore(before)
                console.show_all()
                if isinstance(error, CommandError):
                    raise CommandError(error.code, f"requests[{k}]: {error.message}") from None
                raise
    return {"results": results}


def _pairs(request: object) -> int:
    """How many gains a request's matrix has, if it is one."""
    if not isinstance(request, dict) or request.get("op") != "matrix":
        return 0
    sides = (request.get("listeners"), request.get("sources"))
    listeners, sources = (len(side) if isinstance(side, list) else 0 for side in sides)
    return listeners * sources


def _ping(request: Request, hub: Hub) -> dict[str, Any]:
    return hub.ping()


def _status(request: Request, hub: Hub) -> dict[str, Any]:
    return hub.status()


def _clients(request: Request, hub: Hub) -> dict[str, Any]:
    return {"clients": hub.clients()}


def _patch(request: Request, hub: Hub) -> dict[str, Any]:
    given = request.get("mode", MISSING)
    try:
        mode: PatchMode = Patch().parse(given)
    except Refused as refused:
        raise CommandError("bad-field", f"mode: {shown(given)} {refused}") from None
    hub.set_patch(mode)
    return {"patch": patch_name(mode)}


def _gain(request: Request, hub: Hub) -> dict[str, Any]:
    source = client_at(request.get("source", MISSING), "source", hub.find)
    gain = gain_in(request)
    listener = None
    if request.get("listener") is not None:
        listener = client_at(request.get("listener", MISSING), "listener", hub.find)
        hub.set_pair(listener, source, gain)
    else:
        hub.set_gain(source, gain)
    return {
        "source": source,
        "listener": listener,
        # JSON has no infinity; silence is gain 0 and no decibels
        "gain_db": round(to_db(gain), 2) if gain else None,
        "gain": gain,
    }


def _pan(request: Request, hub: Hub) -> dict[str, Any]:
    slot = client_at(request.get("client", MISSING), "client", hub.find)
    pan = pan_in(request)
    hub.set_pan(slot, pan)
    return {"client": slot, "pan": pan}


def _guard(request: Request, hub: Hub) -> dict[str, Any]:
    slot = client_at(request.get("client", MISSING), "client", hub.find)
    hub.release_guard(slot)
    return {"client": slot}


def _limiter(request: Request, hub: Hub) -> dict[str, Any]:
    if "client" in request:
        slot = client_at(request["client"], "client", hub.find)
        alone = truth_or_null(request, "on")
        hub.console.set_limited(slot, alone)
        return {"client": slot, "on": alone}
    on = truth(request, "on")
    hub.set_limiter(on)
    return {"on": on}


def _mute(request: Request, hub: Hub) -> dict[str, Any]:
    slot = client_at(request.get("client", MISSING), "client", hub.find)
    muted = truth(request, "muted")
    hub.set_muted(slot, muted)
    return {"client": slot, "muted": muted}


def _queue(request: Request, hub: Hub) -> dict[str, Any]:
    slot = client_at(request.get("client", MISSING), "client", hub.find)
    given = request.get("queue", MISSING)
    try:
        queue: Queue = PacketsOrAuto().parse(given)
    except Refused as refused:
        raise CommandError("bad-field", f"queue: {shown(given)} {refused}") from None
    hub.set_queue(slot, queue)
    return {"client": slot, "queue": str(queue)}


def _kick(request: Request, hub: Hub) -> dict[str, Any]:
    slot = client_at(request.get("client", MISSING), "client", hub.find)
    if not hub.kick(slot):
        raise CommandError("going", f"client: {shown(request['client'])} is leaving already")
    return {"client": slot}


def _lock(request: Request, hub: Hub) -> dict[str, Any]:
    return {"locked": True, "changed": hub.lock()}


def _unlock(request: Request, hub: Hub) -> dict[str, Any]:
    return {"locked": False, "changed": hub.unlock()}


def _waiting_room(request: Request, hub: Hub) -> dict[str, Any]:
    on = truth(request, "on")
    return {"on": on, "held": hub.set_waiting_room(on)}


def _admit(request: Request, hub: Hub) -> dict[str, Any]:
    slot = client_at(request.get("client", MISSING), "client", hub.find)
    if not hub.admit(slot):
        raise _not_waiting(request)
    return {"client": slot}


def _refuse(request: Request, hub: Hub) -> dict[str, Any]:
    slot = client_at(request.get("client", MISSING), "client", hub.find)
    if not hub.refuse(slot):
        raise _not_waiting(request)
    return {"client": slot}


def _not_waiting(request: Request) -> CommandError:
    client = shown(request["client"])
    return CommandError("not-waiting", f"client: {client} does not wait to be admitted")


async def _ban(request: Request, hub: Hub) -> dict[str, Any]:
    for_s, reason = request.get("for_s"), request.get("reason", "")
    if for_s is not None and not (is_number(for_s) and 0 < for_s <= MAX_BAN_S):
        allowed = f"a number of seconds (up to {MAX_BAN_S:g}) or null"
        raise CommandError("bad-field", f"for_s: {shown(for_s)} is not {allowed}")
    if not isinstance(reason, str) or len(reason) > MAX_REASON_CHARS or not reason.isprintable():
        allowed = f"a line of text up to {MAX_REASON_CHARS} characters"
        raise CommandError("bad-field", f"reason: {shown(reason)} is not {allowed}")
    for_s = None if for_s is None else float(for_s)
    try:
        if "client" in request:
            _one_of(request, "client", "network", "account")
            return await hub.ban_client(
                client_at(request.get("client", MISSING), "client", hub.find), for_s, reason
            )
        return await hub.ban(_target(request, "client"), for_s, reason)
    except TooManyBans as error:
        raise CommandError("too-many", str(error)) from None


async def _unban(request: Request, hub: Hub) -> dict[str, Any]:
    target = _target(request)
    ended = await hub.unban(target)
    if ended is None:
        field = "account" if isinstance(target, str) else "network"
        raise CommandError("no-ban", f"{field}: {shown(request[field])}: there is no ban on it")
    return ended


def _bans(request: Request, hub: Hub) -> dict[str, Any]:
    return {"bans": hub.bans()}


def _one_of(request: Request, *fields: str) -> None:
    if sum(field in request for field in fields) != 1:
        raise CommandError("bad-field", f"exactly one of {', '.join(fields)} must be given")


def _target(request: Request, *others: str) -> Network | str:
    """The network or account that a ban is on."""
    _one_of(request, *others, "network", "account")
    if "account" in request:
        account = request["account"]
        if isinstance(account, str) and account and account.isprintable():
            return account
        raise CommandError("bad-field", f"account: {shown(account)} is not the name of one")
    given = request["network"]
    try:
        network = parse_network(given if isinstance(given, str) else "")
    except ValueError:
        problem = "is not a network (192.0.2.0/24, 2001:db8::/32, or an address)"
        raise CommandError("bad-field", f"network: {shown(given)} {problem}") from None
    if network.prefixlen == 0:
        problem = "is everybody: lock the hub instead"
        raise CommandError("bad-field", f"network: {shown(given)} {problem}")
    return network


def _shutdown(request: Request, hub: Hub) -> dict[str, Any]:
    hub.shut_down()
    return {}


_OPS: Mapping[str, tuple[tuple[str, ...], Handler]] = {
    "ping": ((), _ping),
    "status": ((), _status),
    "clients": ((), _clients),
    "patch": (("mode",), _patch),
    "gain": (("source", "listener", "gain_db", "gain"), _gain),
    "pan": (("client", "pan"), _pan),
    "guard": (("client",), _guard),
    "limiter": (("on", "client"), _limiter),
    "mute": (("client", "muted"), _mute),
    "queue": (("client", "queue"), _queue),
    "kick": (("client",), _kick),
    "lock": ((), _lock),
    "unlock": ((), _unlock),
    "waiting-room": (("on",), _waiting_room),
    "admit": (("client",), _admit),
    "refuse": (("client",), _refuse),
    "ban": (("client", "network", "account", "for_s", "reason"), _ban),
    "unban": (("network", "account"), _unban),
    "bans": ((), _bans),
    "batch": (("requests",), _batch),
    "shutdown": ((), _shutdown),
}


def fields_of() -> dict[str, tuple[str, ...]]:
    """All operations and their fields."""
    return {op: fields for op, (fields, _) in (*_OPS.items(), *OPS.items())}
