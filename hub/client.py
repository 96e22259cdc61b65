"""Speaks to a running hub over its control socket, from asyncio.

A method an operation; what is asked and what comes back is described in ``hub.messages``::

    async with HubClient("ipc:///run/user/1000/tuttihub-4464") as hub:
        await hub.gain("Anna", gain_db=-6)
        for client in (await hub.status()).clients:
            print(client.name, client.state)
        async for event in hub.events("join", "leave"):
            print(event.at_s, event.event.name)

A client is given by its shown name (text) or its slot (number). Several may ask at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec
from msgspec import UNSET, UnsetType

from hub.connection import (
    TIMEOUT_S,
    Connection,
    ControlError,
    EventStream,
    HubRefused,
    HubUnreachable,
    is_listened_to,
)
from hub.messages import requests, results
from hub.messages.fields import SILENCE
from hub.messages.requests import Batched, R, Request, result_of
from hub.messages.state import ClientState, Status
from hub.rendezvous import find_control

__all__ = [
    "TIMEOUT_S", "Client", "ControlError", "EventStream", "HubClient", "HubRefused",
    "HubUnreachable", "find_control", "is_listened_to",
]  # fmt: skip

Client = int | str
Filling = Literal["zero", "wavetable", "burg"]


class HubClient:
    """A connection to one hub; use it from one event loop.

    Args:
        endpoint: ``ipc://`` and a path, or ``tcp://HOST:PORT``.
        timeout_s: how long the hub may take to reply.
        key: over tcp://: one's own ``NAME.key_secret``; $TUTTIHUB_KEY unless given.
        hub_key: and the hub's ``hub.key``; $TUTTIHUB_HUB_KEY unless given.

    All requests raise HubRefused when the hub says no, HubUnreachable when there is no reply in
    time (no later hub gets such a request, but one that hangs may still carry it out), and
    ControlError when what came is no reply. Entering raises HubUnreachable when nothing listens
    there, which is seen at once, and ControlError when a key is missing or wrong.
    """

    def __init__(
        self,
        endpoint: str,
        timeout_s: float = TIMEOUT_S,
        key: Path | None = None,
        hub_key: Path | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._connection = Connection(endpoint, timeout_s, key, hub_key)

    async def __aenter__(self) -> Self:
        self._connection.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up; who still waits for a reply is told that there is none."""
        await self._connection.close()

    async def ask(self, request: Request[R]) -> R:
        """Send a request and wait for its result."""
        fields = msgspec.to_builtins(request)
        reply = await self._connection.exchange(fields)
        try:
            result: R = msgspec.json.decode(reply, type=result_of(type(request)))
        except msgspec.DecodeError as error:
            raise ControlError(f"the hub's result is of another kind: {error}") from None
        return result

    async def request(self, op: str, **fields: object) -> dict[str, Any]:
        """Send a request as it is, known to this client or not; its result as it came."""
        reply = await self._connection.exchange({**fields, "op": op})
        result = msgspec.json.decode(reply)
        return result if isinstance(result, dict) else {}

    def events(self, *topics: str) -> EventStream:
        """What happens, without end; all of it unless topics are given.

        It begins some milliseconds after this call, when the hub has learnt of it: what one
        orders at once may not be told, and ``status`` says how things stand.

        Raises:
            ControlError: the client is not open.
            HubUnreachable: nobody tells anything there.
            ValueError: there is no such topic.
        """
        return self._connection.events(*topics)

    async def ping(self) -> results.Pong:
        """Whether the hub is there; its version and pid."""
        return await self.ask(requests.Ping())

    async def status(self) -> Status:
        """The whole state."""
        return await self.ask(requests.Status())

    async def clients(self) -> list[ClientState]:
        """The state of the clients alone."""
        return (await self.ask(requests.Clients())).clients

    async def patch(self, mode: int | str) -> results.Patched:
        """Change who hears whom: 'full-mix', 'fan-out-no-self', 'loopback' or 'none'."""
        return await self.ask(requests.Patch(mode))

    async def gain(
        self,
        source: Client,
        *,
        gain_db: float | UnsetType | None = UNSET,
        gain: float | UnsetType | None = UNSET,
        listener: Client | None = None,
    ) -> results.Gained:
        """Set how loud a client is, for all or for one listener, in decibels or as a factor.

        Args:
            gain_db: −inf is silence; None takes a setting back.
        """
        level = _decibels(gain_db)
        return await self.ask(
            requests.Gain(source=source, listener=listener, gain_db=level, gain=gain)
        )

    async def pan(self, client: Client, pan: float | str | None) -> results.Panned:
        """Place a client between left (−100) and right (100); None takes a setting back."""
        return await self.ask(requests.Pan(client, pan))

    async def guard(self, client: Client) -> results.OfClient:
        """Let a client be that the guard has noticed, for the rest of its session."""
        return await self.ask(requests.Guard(client))

    async def limiter(self, on: bool | None, client: Client | None = None) -> results.Limited:
        """Limit every mix that is sent, or one client's (None: as everybody's), or do not."""
        return await self.ask(requests.Limiter(on, UNSET if client is None else client))

    async def mute(self, client: Client, muted: bool = True) -> results.Muted:
        """Take a client out of everybody's mix, or back in."""
        return await self.ask(requests.Mute(client, muted))

    async def queue(self, client: Client, queue: int | str) -> results.Queued:
        """Change how deep a client's queue is: packets, '20ms', 'auto', 'auto5' for 5 ms more."""
        return await self.ask(requests.Queue(client, queue))

    async def kick(self, client: Client) -> results.OfClient:
        """End a client's session, with a good-bye."""
        return await self.ask(requests.Kick(client))

    async def lock(self) -> results.Locked:
        """Let no newcomers in; those who were here may come back."""
        return await self.ask(requests.Lock())

    async def unlock(self) -> results.Locked:
        """Let newcomers in again."""
        return await self.ask(requests.Unlock())

    async def waiting_room(self, on: bool) -> results.WaitingRoom:
        """Have newcomers wait to be admitted, or not; 'held' says how many wait already."""
        return await self.ask(requests.WaitingRoom(on))

    async def admit(self, client: Client) -> results.OfClient:
        """Let a client out of the waiting room: it is heard, and hears."""
        return await self.ask(requests.Admit(client))

    async def refuse(self, client: Client) -> results.OfClient:
        """Send a client away that waits to be admitted."""
        return await self.ask(requests.Refuse(client))

    async def ban(
        self,
        client: Client | UnsetType = UNSET,
        *,
        network: str | UnsetType = UNSET,
        account: str | UnsetType = UNSET,
        for_s: float | None = None,
        reason: str = "",
    ) -> results.BanMade:
        """Keep out a client's account or source, a network, or an account; one of them.

        Args:
            for_s: seconds; None: for good.
        """
        return await self.ask(
            requests.Ban(
                client=client, network=network, account=account, for_s=for_s, reason=reason
            )
        )

    async def unban(
        self, *, network: str | UnsetType = UNSET, account: str | UnsetType = UNSET
    ) -> results.BanEnded:
        """End the ban on a network or an account."""
        return await self.ask(requests.Unban(network=network, account=account))

    async def bans(self) -> list[results.Ban]:
        """The bans that stand."""
        return (await self.ask(requests.Bans())).bans

    async def sections(self) -> list[results.Section]:
        """The sections."""
        return (await self.ask(requests.Sections())).sections

    async def section(
        self,
        name: str,
        members: Sequence[Client] | UnsetType = UNSET,
        *,
        add: Sequence[Client] | UnsetType = UNSET,
        remove: Sequence[Client] | UnsetType = UNSET,
    ) -> results.Section:
        """Make a section, or change who is in it: all its members, or some more or less."""
        return await self.ask(
            requests.Section(
                name=name, members=_listed(members), add=_listed(add), remove=_listed(remove)
            )
        )

    async def remove_section(self, name: str) -> results.Named:
        """End a section, and what is told of it."""
        return await self.ask(requests.SectionRemove(name))

    async def hear(
        self,
        *,
        listener: Client | UnsetType = UNSET,
        listener_section: str | UnsetType = UNSET,
        source: Client | UnsetType = UNSET,
        source_section: str | UnsetType = UNSET,
        gain_db: float | UnsetType | None = UNSET,
        gain: float | UnsetType | None = UNSET,
        pan: float | str | UnsetType | None = UNSET,
        muted: bool | UnsetType | None = UNSET,
        soloed: bool | UnsetType | None = UNSET,
    ) -> results.Heard:
        """Set what a listener or section hears of a source or section; None takes back."""
        return await self.ask(
            requests.Hear(
                listener=listener, listener_section=listener_section, source=source,
                source_section=source_section, gain_db=_decibels(gain_db), gain=gain, pan=pan,
                muted=muted, soloed=soloed,
            )
        )  # fmt: skip

    async def hearing(self) -> list[results.Heard]:
        """All that was told by ``hear``."""
        return (await self.ask(requests.Hearing())).rules

    async def matrix(
        self,
        listeners: Sequence[Client],
        sources: Sequence[Client],
        gains: Sequence[Sequence[float | None]],
    ) -> results.MatrixSet:
        """Set what each listener gets of each source, linear; all of it from one frame on."""
        rows = [[None if gain is None else float(gain) for gain in row] for row in gains]
        return await self.ask(
            requests.Matrix(listeners=list(listeners), sources=list(sources), gains=rows)
        )

    async def master(
        self, gain_db: float | UnsetType = UNSET, *, gain: float | UnsetType = UNSET
    ) -> results.Master:
        """Set the gain of all that is sent, in decibels or as a factor."""
        return await self.ask(requests.Master(gain_db=_decibels(gain_db), gain=gain))

    async def rename(self, client: Client, name: str) -> results.Renamed:
        """Show a client under another name."""
        return await self.ask(requests.Rename(client, name))

    async def conceal(self, client: Client, underrun: Filling | None) -> results.Concealed:
        """What a client's gaps are filled with; None: as everybody's."""
        return await self.ask(requests.Conceal(client, underrun))

    async def scenes(self, name: str | UnsetType = UNSET) -> list[results.Scene]:
        """This scene, or of all the names and how much is in them."""
        return (await self.ask(requests.Scenes(name))).scenes

    async def save_scene(self, name: str) -> results.Kept:
        """Keep all levels under a name."""
        return await self.ask(requests.SceneSave(name))

    async def recall_scene(self, name: str, seconds: float = 0.0) -> results.Recalled:
        """Let the levels of a scene hold, faded to within so many seconds."""
        return await self.ask(requests.SceneRecall(name, seconds))

    async def delete_scene(self, name: str) -> results.Kept:
        """Forget a scene."""
        return await self.ask(requests.SceneDelete(name))

    async def batch(self, asked: Sequence[Batched]) -> list[dict[str, Any]]:
        """Several requests about levels, all of them or none, from one frame on."""
        return (await self.ask(requests.Batch(list(asked)))).results

    async def shutdown(self) -> results.Stopping:
        """End the hub, with a good-bye to all."""
        return await self.ask(requests.Shutdown())


def _decibels(gain_db: float | UnsetType | None) -> Any:
    """As it may stand in a request: JSON has no infinity."""
    if isinstance(gain_db, float) and not math.isfinite(gain_db):
        if gain_db != -math.inf:
            raise ValueError(f"gain_db: {gain_db} is not a number of decibels")
        return SILENCE
    return gain_db


def _listed(clients: Sequence[Client] | UnsetType) -> list[Client] | UnsetType:
    return clients if isinstance(clients, UnsetType) else list(clients)
