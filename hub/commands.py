"""The control socket's language, carried out: JSON requests in, JSON replies out. Sans-IO.

::

    {"v": 1, "id": 7, "op": "mute", "client": "Anna", "muted": true}
    {"v": 1, "id": 7, "ok": true, "result": {...}}
    {"v": 1, "id": 7, "ok": false, "error": {"code": "no-client", "message": "..."}}

``hub.messages`` says what can be asked and what comes back; docs/control.md is made of it.
Sections, hearing, master, scenes and more are carried out by ``hub.shaping``.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import UNSET

from hub.bans import TooManyBans
from hub.console import Console
from hub.fields import client_at, linear, parsed
from hub.levels import to_db
from hub.messages import requests, results
from hub.messages.errors import CommandError, shown, wrong
from hub.messages.fields import VERSION
from hub.messages.reading import allowed, id_of, parse, read
from hub.messages.requests import Request
from hub.networks import Network, parse_network
from hub.pans import Pan
from hub.shaping import HANDLERS as SHAPING
from hub.values import PacketsOrAuto, Patch, Queue, patch_name
from shared.layout import PatchMode

log = structlog.get_logger()

Answer = results.Result | dict[str, Any]


class Hub(Protocol):
    """What can be asked of a hub; slots are those of present clients."""

    @property
    def console(self) -> Console: ...
    @property
    def has_jack(self) -> bool:
        """Whether there is a local JACK graph."""

    def ping(self) -> dict[str, Any]: ...
    async def status(self) -> dict[str, Any]: ...
    async def clients(self) -> list[dict[str, Any]]: ...
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
    request: dict[str, Any] = {}
    body: dict[str, Any]
    try:
        request = parse(data)
        result = _carry_out(read(request), hub)
        body = {"ok": True, "result": await result if isawaitable(result) else result}
    except CommandError as error:
        body = _refusal(error.code, error.message)
    except Exception as error:  # one request must not end the hub
        log.exception("request failed", op=_op(request))
        body = _failure(error)
    return _encoded(request, body)


def _refusal(code: str, message: str) -> dict[str, Any]:
    return {"ok": False, "error": {"code": code, "message": message}}


def _failure(error: Exception) -> dict[str, Any]:
    return _refusal("internal", f"the hub failed: {type(error).__name__}: {error}")


def _encoded(request: dict[str, Any], body: dict[str, Any]) -> bytes:
    """A reply as it is sent; one that cannot be written must not leave its sender without."""
    head = {"v": VERSION, "id": id_of(request)}
    try:
        return msgspec.json.encode({**head, **body}, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError) as error:
        log.exception("reply failed", op=_op(request))
        return json.dumps({**head, **_failure(error)}).encode()


def _op(request: dict[str, Any]) -> str | None:
    """For the log: whatever else was sent in its place may be of any size."""
    op = request.get("op")
    return op if isinstance(op, str) else None


def _plain(value: object) -> float:
    """NumPy's floats are Python's, too."""
    if isinstance(value, float):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no type of JSON's")


def _carry_out(request: Request[Any], hub: Hub) -> Answer | Awaitable[Answer]:
    shape = SHAPING.get(type(request))
    if shape is not None:
        return shape(request, hub.console, hub.find)
    return _HANDLERS[type(request)](request, hub)


def _batch(request: requests.Batch, hub: Hub) -> Answer:
    """All of it from one frame on, or nothing of it."""
    console = hub.console
    before, done = console.levels.state(), []
    with console.together():
        for k, one in enumerate(request.requests):
            try:
                done.append(msgspec.to_builtins(_carry_out(one, hub)))
            except BaseException as error:
                console.levels.restore(before)
                console.show_all()
                log.info("batch refused, undone", requests=k)
                if isinstance(error, CommandError):
                    raise CommandError(error.code, f"requests[{k}]: {error.message}") from None
                raise
    return results.BatchDone(done)


def _ping(request: requests.Ping, hub: Hub) -> Answer:
    return results.Pong(**hub.ping())


async def _status(request: requests.Status, hub: Hub) -> Answer:
    return await hub.status()


async def _clients(request: requests.Clients, hub: Hub) -> Answer:
    return {"clients": await hub.clients()}


def _patch(request: requests.Patch, hub: Hub) -> Answer:
    mode: PatchMode = parsed(request, "mode", Patch(jack=hub.has_jack))
    hub.set_patch(mode)
    return results.Patched(patch_name(mode))


def _gain(request: requests.Gain, hub: Hub) -> Answer:
    source = client_at(request.source, "source", hub.find)
    gain = linear(request.gain_db, request.gain)
    listener = None
    if request.listener is not UNSET and request.listener is not None:
        listener = client_at(request.listener, "listener", hub.find)
        hub.set_pair(listener, source, gain)
    else:
        hub.set_gain(source, gain)
    # JSON has no infinity; silence is gain 0 and no decibels
    return results.Gained(source, listener, round(to_db(gain), 2) if gain else None, gain)


def _pan(request: requests.Pan, hub: Hub) -> Answer:
    slot = client_at(request.client, "client", hub.find)
    pan: float | None = parsed(request, "pan", Pan())
    hub.set_pan(slot, pan)
    return results.Panned(slot, pan)


def _guard(request: requests.Guard, hub: Hub) -> Answer:
    slot = client_at(request.client, "client", hub.find)
    hub.release_guard(slot)
    return results.OfClient(slot)


def _limiter(request: requests.Limiter, hub: Hub) -> Answer:
    if request.client is not UNSET:
        slot = client_at(request.client, "client", hub.find)
        hub.console.set_limited(slot, request.on)
        return results.Limited(request.on, slot)
    if request.on is None:
        raise wrong("on", None, "true or false")
    hub.set_limiter(request.on)
    return results.Limited(request.on)


def _mute(request: requests.Mute, hub: Hub) -> Answer:
    slot = client_at(request.client, "client", hub.find)
    hub.set_muted(slot, request.muted)
    return results.Muted(slot, request.muted)


def _queue(request: requests.Queue, hub: Hub) -> Answer:
    slot = client_at(request.client, "client", hub.find)
    queue: Queue = parsed(request, "queue", PacketsOrAuto())
    hub.set_queue(slot, queue)
    return results.Queued(slot, str(queue))


def _kick(request: requests.Kick, hub: Hub) -> Answer:
    slot = client_at(request.client, "client", hub.find)
    if not hub.kick(slot):
        raise CommandError("going", f"client: {shown(request.client)} is leaving already")
    return results.OfClient(slot)


def _lock(request: requests.Lock, hub: Hub) -> Answer:
    return results.Locked(True, hub.lock())


def _unlock(request: requests.Unlock, hub: Hub) -> Answer:
    return results.Locked(False, hub.unlock())


def _waiting_room(request: requests.WaitingRoom, hub: Hub) -> Answer:
    return results.WaitingRoom(request.on, hub.set_waiting_room(request.on))


def _admit(request: requests.Admit, hub: Hub) -> Answer:
    slot = client_at(request.client, "client", hub.find)
    if not hub.admit(slot):
        raise _not_waiting(request.client)
    return results.OfClient(slot)


def _refuse(request: requests.Refuse, hub: Hub) -> Answer:
    slot = client_at(request.client, "client", hub.find)
    if not hub.refuse(slot):
        raise _not_waiting(request.client)
    return results.OfClient(slot)


def _not_waiting(client: int | str) -> CommandError:
    return CommandError("not-waiting", f"client: {shown(client)} does not wait to be admitted")


async def _ban(request: requests.Ban, hub: Hub) -> Answer:
    if not request.reason.isprintable():
        raise wrong("reason", request.reason, allowed(requests.Ban, "reason"))
    try:
        if request.client is not UNSET:
            slot = client_at(request.client, "client", hub.find)
            made = await hub.ban_client(slot, request.for_s, request.reason)
        else:
            made = await hub.ban(_target(request), request.for_s, request.reason)
    except TooManyBans as error:
        raise CommandError("too-many", str(error)) from None
    return results.BanMade(**made)


async def _unban(request: requests.Unban, hub: Hub) -> Answer:
    ended = await hub.unban(_target(request))
    if ended is None:
        field = "network" if request.account is UNSET else "account"
        given = shown(getattr(request, field))
        raise CommandError("no-ban", f"{field}: {given}: there is no ban on it")
    return results.BanEnded(**ended)


def _bans(request: requests.Bans, hub: Hub) -> Answer:
    return results.Bans([results.Ban(**ban) for ban in hub.bans()])


def _target(request: requests.Ban | requests.Unban) -> Network | str:
    """The network or account that a ban is on."""
    if request.account is not UNSET:
        if not request.account.isprintable():
            raise wrong("account", request.account, allowed(type(request), "account"))
        return request.account
    given = str(request.network)
    try:
        network = parse_network(given)
    except ValueError:
        raise wrong("network", given, allowed(type(request), "network")) from None
    if network.prefixlen == 0:
        problem = "is everybody: lock the hub instead"
        raise CommandError("bad-field", f"network: {shown(given)} {problem}")
    return network


def _shutdown(request: requests.Shutdown, hub: Hub) -> Answer:
    hub.shut_down()
    return results.Stopping()


Handler = Callable[[Any, Hub], Answer | Awaitable[Answer]]

_HANDLERS: dict[type[Request[Any]], Handler] = {
    requests.Ping: _ping,
    requests.Status: _status,
    requests.Clients: _clients,
    requests.Patch: _patch,
    requests.Gain: _gain,
    requests.Pan: _pan,
    requests.Guard: _guard,
    requests.Limiter: _limiter,
    requests.Mute: _mute,
    requests.Queue: _queue,
    requests.Kick: _kick,
    requests.Lock: _lock,
    requests.Unlock: _unlock,
    requests.WaitingRoom: _waiting_room,
    requests.Admit: _admit,
    requests.Refuse: _refuse,
    requests.Ban: _ban,
    requests.Unban: _unban,
    requests.Bans: _bans,
    requests.Batch: _batch,
    requests.Shutdown: _shutdown,
}
