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
    limiter   on: true | false
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
    shutdown
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Protocol

import structlog

from hub.bans import MAX_REASON_CHARS, TooManyBans
from hub.levels import MAX_GAIN, from_db, to_db
from hub.networks import Network, parse_network
from hub.pans import Pan
from hub.values import MAX_GAIN_DB, MIN_GAIN_DB, PacketsOrAuto, Patch, Queue, Refused, patch_name
from shared.layout import PatchMode

log = structlog.get_logger()

VERSION = 1
MAX_REQUEST_BYTES = 64 * 1024
MAX_ID_CHARS = 64
MAX_BAN_S = 100 * 366 * 86400.0
_MISSING = object()

Request = dict[str, Any]
Result = dict[str, Any]
Handler = Callable[[Request, "Hub"], Result | Awaitable[Result]]


class CommandError(Exception):
    """A request that cannot be met.

    Attributes:
        code: for programs: bad-json, bad-version, unknown-op, bad-field, no-client, going,
            not-waiting, no-ban, too-many.
        message: for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Hub(Protocol):
    """What can be asked of a hub; slots are those of present clients."""

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
        message = f"the hub failed: {type(error).__name__}: {error}"
        body = {"ok": False, "error": {"code": "internal", "message": message}}
    return json.dumps({"v": VERSION, "id": _id(request), **body}).encode()


def _parse(data: bytes) -> Request:
    try:
        request = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CommandError("bad-json", f"request is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise CommandError("bad-json", f"request: {_shown(request)} is not a JSON object")
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
            "bad-version", f"v: {_shown(version)} is not a version of this hub (allowed: {VERSION})"
        )
    if "id" in request and request["id"] is not None and _id(request) is None:
        allowed = f"a number or a text up to {MAX_ID_CHARS} characters"
        raise CommandError("bad-field", f"id: {_shown(request['id'])} is not {allowed}")
    op = request.get("op")
    if not isinstance(op, str) or op not in _OPS:
        raise CommandError("unknown-op", f"op: {_shown(op)} is not one of {', '.join(_OPS)}")
    fields, handle = _OPS[op]
    for name in request:
        if name not in ("v", "id", "op", *fields):
            allowed = f"(allowed: {', '.join(fields)})" if fields else "(it has none)"
            raise CommandError("bad-field", f"{_shown(name)} is not a field of {op!r} {allowed}")
    return handle(request, hub)


def _ping(request: Request, hub: Hub) -> dict[str, Any]:
    return hub.ping()


def _status(request: Request, hub: Hub) -> dict[str, Any]:
    return hub.status()


def _clients(request: Request, hub: Hub) -> dict[str, Any]:
    return {"clients": hub.clients()}


def _patch(request: Request, hub: Hub) -> dict[str, Any]:
    given = request.get("mode", _MISSING)
    try:
        mode: PatchMode = Patch().parse(given)
    except Refused as refused:
        raise CommandError("bad-field", f"mode: {_shown(given)} {refused}") from None
    hub.set_patch(mode)
    return {"patch": patch_name(mode)}


def _gain(request: Request, hub: Hub) -> dict[str, Any]:
    source = _client(request, "source", hub)
    gain = _wanted_gain(request)
    listener = None
    if request.get("listener") is not None:
        listener = _client(request, "listener", hub)
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


def _wanted_gain(request: Request) -> float | None:
    """The linear gain asked for; None to take the setting back."""
    if ("gain_db" in request) == ("gain" in request):
        raise CommandError("bad-field", "exactly one of gain_db and gain must be given")
    if "gain_db" in request:
        given = request["gain_db"]
        if given is None:
            return None
        if _is_number(given) and (MIN_GAIN_DB <= given <= MAX_GAIN_DB or given == -math.inf):
            return from_db(given)
        allowed = f"a number of decibels ({MIN_GAIN_DB:g}..{MAX_GAIN_DB:g}), -Infinity or null"
        raise CommandError("bad-field", f"gain_db: {_shown(given)} is not {allowed}")
    given = request["gain"]
    if given is None:
        return None
    if _is_number(given) and 0.0 <= given <= MAX_GAIN:
        return float(given)
    raise CommandError(
        "bad-field", f"gain: {_shown(given)} is not a factor (0..{MAX_GAIN:.2f}) or null"
    )


def _pan(request: Request, hub: Hub) -> dict[str, Any]:
    slot = _client(request, "client", hub)
    given = request.get("pan", _MISSING)
    try:
        pan = Pan().parse(given)
    except Refused as refused:
        raise CommandError("bad-field", f"pan: {_shown(given)} {refused}") from None
    hub.set_pan(slot, pan)
    return {"client": slot, "pan": pan}


def _guard(request: Request, hub: Hub) -> dict[str, Any]:
    slot = _client(request, "client", hub)
    hub.release_guard(slot)
    return {"client": slot}


def _limiter(request: Request, hub: Hub) -> dict[str, Any]:
    on = _truth(request, "on")
    hub.set_limiter(on)
    return {"on": on}


def _truth(request: Request, field: str) -> bool:
    given = request.get(field, _MISSING)
    if not isinstance(given, bool):
        raise CommandError("bad-field", f"{field}: {_shown(given)} is not true or false")
    return given


def _mute(request: Request, hub: Hub) -> dict[str, Any]:
    slot = _client(request, "client", hub)
    muted = _truth(request, "muted")
    hub.set_muted(slot, muted)
    return {"client": slot, "muted": muted}


def _queue(request: Request, hub: Hub) -> dict[str, Any]:
    slot = _client(request, "client", hub)
    given = request.get("queue", _MISSING)
    try:
        queue: Queue = PacketsOrAuto().parse(given)
    except Refused as refused:
        raise CommandError("bad-field", f"queue: {_shown(given)} {refused}") from None
    hub.set_queue(slot, queue)
    return {"client": slot, "queue": str(queue)}


def _kick(request: Request, hub: Hub) -> dict[str, Any]:
    slot = _client(request, "client", hub)
    if not hub.kick(slot):
        raise CommandError("going", f"client: {_shown(request['client'])} is leaving already")
    return {"client": slot}


def _lock(request: Request, hub: Hub) -> dict[str, Any]:
    return {"locked": True, "changed": hub.lock()}


def _unlock(request: Request, hub: Hub) -> dict[str, Any]:
    return {"locked": False, "changed": hub.unlock()}


def _waiting_room(request: Request, hub: Hub) -> dict[str, Any]:
    on = _truth(request, "on")
    return {"on": on, "held": hub.set_waiting_room(on)}


def _admit(request: Request, hub: Hub) -> dict[str, Any]:
    slot = _client(request, "client", hub)
    if not hub.admit(slot):
        raise _not_waiting(request)
    return {"client": slot}


def _refuse(request: Request, hub: Hub) -> dict[str, Any]:
    slot = _client(request, "client", hub)
    if not hub.refuse(slot):
        raise _not_waiting(request)
    return {"client": slot}


def _not_waiting(request: Request) -> CommandError:
    shown = _shown(request["client"])
    return CommandError("not-waiting", f"client: {shown} does not wait to be admitted")


async def _ban(request: Request, hub: Hub) -> dict[str, Any]:
    for_s, reason = request.get("for_s"), request.get("reason", "")
    if for_s is not None and not (_is_number(for_s) and 0 < for_s <= MAX_BAN_S):
        allowed = f"a number of seconds (up to {MAX_BAN_S:g}) or null"
        raise CommandError("bad-field", f"for_s: {_shown(for_s)} is not {allowed}")
    if not isinstance(reason, str) or len(reason) > MAX_REASON_CHARS or not reason.isprintable():
        allowed = f"a line of text up to {MAX_REASON_CHARS} characters"
        raise CommandError("bad-field", f"reason: {_shown(reason)} is not {allowed}")
    for_s = None if for_s is None else float(for_s)
    try:
        if "client" in request:
            _one_of(request, "client", "network", "account")
            return await hub.ban_client(_client(request, "client", hub), for_s, reason)
        return await hub.ban(_target(request, "client"), for_s, reason)
    except TooManyBans as error:
        raise CommandError("too-many", str(error)) from None


async def _unban(request: Request, hub: Hub) -> dict[str, Any]:
    target = _target(request)
    ended = await hub.unban(target)
    if ended is None:
        field = "account" if isinstance(target, str) else "network"
        raise CommandError("no-ban", f"{field}: {_shown(request[field])}: there is no ban on it")
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
        raise CommandError("bad-field", f"account: {_shown(account)} is not the name of one")
    given = request["network"]
    try:
        network = parse_network(given if isinstance(given, str) else "")
    except ValueError:
        problem = "is not a network (192.0.2.0/24, 2001:db8::/32, or an address)"
        raise CommandError("bad-field", f"network: {_shown(given)} {problem}") from None
    if network.prefixlen == 0:
        problem = "is everybody: lock the hub instead"
        raise CommandError("bad-field", f"network: {_shown(given)} {problem}")
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
    "limiter": (("on",), _limiter),
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
    "shutdown": ((), _shutdown),
}


def _client(request: Request, field: str, hub: Hub) -> int:
    """Slot of the client that a field names."""
    given = request.get(field, _MISSING)
    if not isinstance(given, (int, str)) or isinstance(given, bool):
        raise CommandError(
            "bad-field", f"{field}: {_shown(given)} is not a client's name or the number of a slot"
        )
    slot = hub.find(given)
    if slot is None:
        what = "in this slot" if isinstance(given, int) else "of this name"
        raise CommandError("no-client", f"{field}: {_shown(given)}: no client {what} is here")
    return slot


def _is_number(given: object) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool)


def _shown(value: object) -> str:
    """A value as it may stand in an error message, cut short."""
    if value is _MISSING:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
