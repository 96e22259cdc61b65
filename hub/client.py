"""Speaks to a running hub over its control socket.

One request, one reply, JSON both ways (see ``hub.control`` for what a hub understands)::

    {"v": 1, "id": 7, "op": "mute", "client": "Anna", "muted": true}
    {"v": 1, "id": 7, "ok": true, "result": {...}}
    {"v": 1, "id": 7, "ok": false, "error": {"code": "no-client", "message": "..."}}

Anna is a client's shown name; a number is a slot.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from hub.endpoint import events_endpoint
from hub.keys import WrongKey, read_pair, read_public

VERSION = 1
TIMEOUT_S = 5.0
OWN_KEY, HUB_KEY = "TUTTIHUB_KEY", "TUTTIHUB_HUB_KEY"


class ControlError(RuntimeError):
    """A request came to nothing."""


class HubUnreachable(ControlError):
    """Nobody answers at the endpoint."""

    def __init__(self, endpoint: str, why: str) -> None:
        super().__init__(f"no hub answers at {endpoint}: {why}")
        self.endpoint, self.why = endpoint, why


class HubRefused(ControlError):
    """The hub understood, and would not.

    Attributes:
        code: for programs: 'no-client', 'bad-value'...
        message: for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class HubClient:
    """A connection to one hub; use it from one thread.

    >>> with HubClient("ipc:///run/user/1000/tuttihub-4464") as hub:   # doctest: +SKIP
    ...     hub.set_muted("Anna", True)

    Args:
        key: over tcp://: one's own ``NAME.key_secret``; $TUTTIHUB_KEY unless given.
        hub_key: and the hub's ``hub.key``; $TUTTIHUB_HUB_KEY unless given.

    Raises:
        HubUnreachable: nothing listens there, seen at once.
        ControlError: a key is missing or wrong.
    """

    def __init__(
        self,
        endpoint: str,
        timeout_s: float = TIMEOUT_S,
        key: Path | None = None,
        hub_key: Path | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self._last_id = 0
        _knock(endpoint)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        # what nobody took by then is not worth waiting for at the end
        self._socket.linger = 0
        self._socket.ipv6 = "[" in endpoint
        try:
            if endpoint.startswith("tcp://"):
                self._lock(key, hub_key)
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise HubUnreachable(endpoint, str(error)) from None
        except WrongKey as error:
            self.close()
            raise ControlError(str(error)) from None

    def _lock(self, key: Path | None, hub_key: Path | None) -> None:
        """Speak CURVE, without which nobody answers over TCP."""
        own, hubs = key or os.environ.get(OWN_KEY), hub_key or os.environ.get(HUB_KEY)
        if not own or not hubs:
            raise WrongKey(f"over tcp:// a key is needed: files in {OWN_KEY} and {HUB_KEY}")
        pair = read_pair(Path(own))
        self._socket.curve_publickey, self._socket.curve_secretkey = pair.public, pair.secret
        self._socket.curve_serverkey = read_public(Path(hubs))

    def close(self) -> None:
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def status(self) -> dict[str, Any]:
        """The whole state (see ``hub.snapshot``)."""
        return self.request("status")

    def clients(self) -> list[dict[str, Any]]:
        """The state of the clients alone."""
        clients: list[dict[str, Any]] = self.request("clients")["clients"]
        return clients

    def ping(self) -> dict[str, Any]:
        """Whether the hub is there; its version and pid."""
        return self.request("ping")

    def set_patch(self, mode: str) -> dict[str, Any]:
        """Change who hears whom: 'full-mix', 'fan-out-no-self', 'loopback' or 'none'."""
        return self.request("patch", mode=mode)

    def set_gain(
        self, client: int | str, gain_db: float | None, listener: int | str | None = None
    ) -> dict[str, Any]:
        """Set how loud a client is, for all or for one listener.

        Args:
            gain_db: −inf is silence; None takes a setting back.
        """
        wanted: dict[str, object] = {"source": client, "gain_db": gain_db}
        if listener is not None:
            wanted["listener"] = listener
        return self.request("gain", **wanted)

    def set_muted(self, client: int | str, muted: bool) -> dict[str, Any]:
        """Take a client out of everybody's mix, or back in."""
        return self.request("mute", client=client, muted=muted)

    def set_pan(self, client: int | str, pan: float | str | None) -> dict[str, Any]:
        """Place a client between left (−100) and right (100); None takes a setting back."""
        return self.request("pan", client=client, pan=pan)

    def release_guard(self, client: int | str) -> dict[str, Any]:
        """Let a client be that the guard has noticed, for the rest of its session."""
        return self.request("guard", client=client)

    def set_limiter(self, on: bool) -> dict[str, Any]:
        """Limit every mix that is sent, or do not."""
        return self.request("limiter", on=on)

    def set_queue(self, client: int | str, queue: str) -> dict[str, Any]:
        """Change how deep a client's queue is: packets, 'auto', or 'auto5' for 5 ms more."""
        return self.request("queue", client=client, queue=queue)

    def kick(self, client: int | str) -> dict[str, Any]:
        """End a client's session, with a good-bye."""
        return self.request("kick", client=client)

    def lock(self) -> dict[str, Any]:
        """Let no newcomers in; those who were here may come back."""
        return self.request("lock")

    def unlock(self) -> dict[str, Any]:
        """Let newcomers in again."""
        return self.request("unlock")

    def set_waiting_room(self, on: bool) -> dict[str, Any]:
        """Have newcomers wait to be admitted, or not; 'held' says how many wait already."""
        return self.request("waiting-room", on=on)

    def admit(self, client: int | str) -> dict[str, Any]:
        """Let a client out of the waiting room: it is heard, and hears."""
        return self.request("admit", client=client)

    def refuse(self, client: int | str) -> dict[str, Any]:
        """Send a client away that waits to be admitted."""
        return self.request("refuse", client=client)

    def ban(
        self,
        client: int | str | None = None,
        *,
        network: str | None = None,
        account: str | None = None,
        for_s: float | None = None,
        reason: str = "",
    ) -> dict[str, Any]:
        """Keep out a client's account or source, a network, or an account; one of them.

        Args:
            for_s: seconds; None: for good.
        """
        given = {"client": client, "network": network, "account": account}
        wanted = {name: value for name, value in given.items() if value is not None}
        return self.request("ban", **wanted, for_s=for_s, reason=reason)

    def unban(self, *, network: str | None = None, account: str | None = None) -> dict[str, Any]:
        """End the ban on a network or an account."""
        given = {"network": network, "account": account}
        return self.request("unban", **{k: v for k, v in given.items() if v is not None})

    def bans(self) -> list[dict[str, Any]]:
        """The bans that stand."""
        bans: list[dict[str, Any]] = self.request("bans")["bans"]
        return bans

    def set_section(self, name: str, members: Sequence[int | str]) -> dict[str, Any]:
        """Make a section, or change who is in it."""
        return self.request("section", name=name, members=list(members))

    def remove_section(self, name: str) -> dict[str, Any]:
        """End a section, and what is told of it."""
        return self.request("section-remove", name=name)

    def hear(
        self,
        *,
        listener: int | str | None = None,
        listener_section: str | None = None,
        source: int | str | None = None,
        source_section: str | None = None,
        **told: float | bool | None,
    ) -> dict[str, Any]:
        """Set what a listener or section hears of a source or section.

        Args:
            told: some of gain_db, gain, pan, muted, soloed; None takes a setting back.
        """
        parties = {
            "listener": listener, "listener_section": listener_section,
            "source": source, "source_section": source_section,
        }  # fmt: skip
        given = {name: value for name, value in parties.items() if value is not None}
        return self.request("hear", **given, **told)

    def set_matrix(
        self,
        listeners: Sequence[int | str],
        sources: Sequence[int | str],
        gains: Sequence[Sequence[float | None]],
    ) -> dict[str, Any]:
        """Set what each listener gets of each source, linear; all of it from one frame on."""
        rows = [list(row) for row in gains]
        return self.request("matrix", listeners=list(listeners), sources=list(sources), gains=rows)

    def set_master(self, gain_db: float) -> dict[str, Any]:
        """Set the gain of all that is sent."""
        return self.request("master", gain_db=gain_db)

    def rename(self, client: int | str, name: str) -> dict[str, Any]:
        """Show a client under another name."""
        return self.request("rename", client=client, name=name)

    def set_underrun(self, client: int | str, underrun: str | None) -> dict[str, Any]:
        """What a client's gaps are filled with; None: as everybody's."""
        return self.request("conceal", client=client, underrun=underrun)

    def save_scene(self, name: str) -> dict[str, Any]:
        """Keep all levels under a name."""
        return self.request("scene-save", name=name)

    def recall_scene(self, name: str, seconds: float = 0.0) -> dict[str, Any]:
        """Let the levels of a scene hold, faded to within so many seconds."""
        return self.request("scene-recall", name=name, seconds=seconds)

    def delete_scene(self, name: str) -> dict[str, Any]:
        """Forget a scene."""
        return self.request("scene-delete", name=name)

    def batch(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Several requests about levels, all of them or none, from one frame on."""
        results: list[dict[str, Any]] = self.request("batch", requests=list(requests))["results"]
        return results

    def events(self, *topics: str) -> Iterator[dict[str, Any]]:
        """What happens from now on; all of it unless topics are given. Waits for ever."""
        if not self.endpoint.startswith("ipc://"):
            raise ControlError("events are told on the hub's own machine only")
        endpoint = events_endpoint(self.endpoint)
        _knock(endpoint)
        with self._context.socket(zmq.SUB) as sock:
            sock.linger = 0
            for topic in topics or ("",):
                sock.subscribe(topic.encode())
            sock.connect(endpoint)
            while True:
                yield _parse(sock.recv_multipart()[-1])

    def shut_down(self) -> dict[str, Any]:
        """End the hub, with a good-bye to all."""
        return self.request("shutdown")

    def request(self, op: str, **fields: object) -> dict[str, Any]:
        """Send one request and wait for its reply's result.

        Raises:
            HubUnreachable: no reply in time.
            HubRefused: the hub says no.
            ControlError: what came is no reply.
        """
        self._last_id += 1
        request = {"v": VERSION, "id": self._last_id, "op": op, **fields}
        self._socket.send(json.dumps(request).encode())
        deadline = time.monotonic() + self.timeout_s
        while True:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0 or not self._socket.poll(left_ms):
                raise HubUnreachable(self.endpoint, f"no reply within {self.timeout_s:g} s")
            reply = _parse(self._socket.recv_multipart()[-1])
            if reply.get("id") == self._last_id:  # not one that came too late for its request
                return _result(reply)


def _knock(endpoint: str) -> None:
    """Find out at once what ZeroMQ would try in vain for ever."""
    if not endpoint.startswith("ipc://"):
        return
    path = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            raise HubUnreachable(endpoint, "there is no such socket") from None
        except ConnectionRefusedError:
            raise HubUnreachable(endpoint, "the hub that made this socket is gone") from None
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise HubUnreachable(endpoint, why) from None


def _parse(data: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(data)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise ControlError(f"the hub's reply is no JSON object: {data[:80]!r}")
    return reply


def _result(reply: dict[str, Any]) -> dict[str, Any]:
    if reply.get("v") != VERSION:
        raise ControlError(f"the hub speaks version {reply.get('v')!r} of the control protocol")
    if reply.get("ok") is True:
        return reply.get("result") or {}
    error = reply.get("error") or {}
    raise HubRefused(str(error.get("code", "failed")), str(error.get("message", "no reason given")))
