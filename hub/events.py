"""What happens at a hub, as it is told over the PUB sockets of ``hub.publisher``.

A class is a shape; its ``topic`` is what a subscriber asks for, and no topic begins with
another. Where a topic has several shapes, ``what`` says which. Gains are linear, places −100..100,
null is "not set". Changes that somebody ordered are told when they hold, whoever ordered them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened."""

    topic: ClassVar[str] = ""

    def fields(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


Tell = Callable[[Event], None]


def nobody(event: Event) -> None:
    """Told to nobody."""


# --- who is there, and how it fares ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Event):
    """A client was let in.

    Attributes:
        back: it was here before, and has its place and levels again.
        held: it waits to be admitted.
    """

    topic: ClassVar[str] = "join"
    slot: int
    name: str
    address: str
    back: bool
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Left(Event):
    """A client's session ended, after so many seconds."""

    topic: ClassVar[str] = "leave"
    slot: int
    name: str
    address: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionChanged(Event):
    """A condition begins or ends; looked at once a second.

    Attributes:
        slot, name: None: the hub's own.
    """

    topic: ClassVar[str] = "condition"
    slot: int | None
    name: str | None
    condition: str
    raised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted(Event):
    """A process was replaced, for so many times now; looked at once a second.

    Attributes:
        slot, name: of a receiver's client.
    """

    topic: ClassVar[str] = "restart"
    process: str
    times: int
    slot: int | None
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JackChanged(Event):
    """The local JACK graph came, went, or does not fit; looked at once a second.

    Attributes:
        clock: whose the hub follows.
        left_out: clients for whose ports JACK has no room.
    """

    topic: ClassVar[str] = "jack"
    state: str
    clock: Literal["jack", "own"]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShed(Event):
    """The hub has too much to do, or no longer; all that it leaves out now, in that order."""

    topic: ClassVar[str] = "shed"
    left_out: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Event):
    """The hub ends, and says good-bye to so many clients."""

    topic: ClassVar[str] = "stop"
    clients: int


# --- levels ---


@dataclass(frozen=True, slots=True, kw_only=True)
class StripSet(Event):
    """What all hear of a client."""

    topic: ClassVar[str] = "level"
    what: Literal["strip"] = "strip"
    slot: int
    name: str
    gain: float
    muted: bool
    pan: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSet(Event):
    """Who hears whom."""

    topic: ClassVar[str] = "level"
    what: Literal["patch"] = "patch"
    patch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterSet(Event):
    """The gain of all that is sent."""

    topic: ClassVar[str] = "level"
    what: Literal["master"] = "master"
    master: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionSet(Event):
    """Who is in a section, by slots; None: there is no such section any more."""

    topic: ClassVar[str] = "level"
    what: Literal["section"] = "section"
    section: str
    members: list[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HearingSet(Event):
    """What a listener hears of a source, each a slot or the name of a section."""

    topic: ClassVar[str] = "level"
    what: Literal["hearing"] = "hearing"
    listener: int | str
    source: int | str
    gain: float | None
    pan: float | None
    muted: bool | None
    soloed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixSet(Event):
    """What so many listeners hear of so many sources."""

    topic: ClassVar[str] = "level"
    what: Literal["matrix"] = "matrix"
    listeners: int
    sources: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ManySet(Event):
    """So many changes of levels in one message that they are not told one by one."""

    topic: ClassVar[str] = "level"
    what: Literal["many"] = "many"
    changes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneChanged(Event):
    """A scene was saved, deleted, or recalled to hold within so many seconds."""

    topic: ClassVar[str] = "scene"
    what: Literal["saved", "deleted", "recalled"]
    scene: str
    seconds: float | None = None


# --- other orders about clients ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Renamed(Event):
    """A client is shown under another name."""

    topic: ClassVar[str] = "rename"
    slot: int
    before: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSet(Event):
    """How deep a client's queue is; None: everybody's, and that of who comes."""

    topic: ClassVar[str] = "queue"
    slot: int | None
    name: str | None
    queue: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterSet(Event):
    """Whether mixes are limited.

    Attributes:
        slot, name: of the client whose mix is meant; None: everybody's.
        on: None: as everybody's.
    """

    topic: ClassVar[str] = "limiter"
    slot: int | None
    name: str | None
    on: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcealmentSet(Event):
    """What a client's gaps are filled with; None: as everybody's."""

    topic: ClassVar[str] = "conceal"
    slot: int
    name: str
    underrun: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardReleased(Event):
    """The guard lets a client be."""

    topic: ClassVar[str] = "guard"
    slot: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kicked(Event):
    """A client was told to go."""

    topic: ClassVar[str] = "kick"
    slot: int
    name: str


# --- the door ---


@dataclass(frozen=True, slots=True, kw_only=True)
class LockSet(Event):
    """Newcomers stay outside, or come in."""

    topic: ClassVar[str] = "lock"
    locked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRoomSet(Event):
    """Newcomers wait to be admitted, or not; so many wait now."""

    topic: ClassVar[str] = "waiting-room"
    on: bool
    held: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted(Event):
    """A client left the waiting room for the mix."""

    topic: ClassVar[str] = "admit"
    slot: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway(Event):
    """A client that waited to be admitted was sent away."""

    topic: ClassVar[str] = "refuse"
    slot: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Banned(Event):
    """A network or an account may not come in.

    Attributes:
        target: the network, or the account.
        until_s: Unix time; None: for good.
        kicked: slots of who was sent away.
    """

    topic: ClassVar[str] = "ban"
    target: str
    until_s: float | None
    reason: str
    kicked: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbanned(Event):
    """A ban ended by order."""

    topic: ClassVar[str] = "unban"
    target: str


EVENTS: tuple[type[Event], ...] = (
    Joined, Left, ConditionChanged, Restarted, JackChanged, LoadShed,
    Stopping,
    StripSet, PatchSet, MasterSet, SectionSet, HearingSet, MatrixSet, ManySet, SceneChanged,
    Renamed, QueueSet, LimiterSet, ConcealmentSet, GuardReleased, Kicked,
    LockSet, WaitingRoomSet, Admitted, TurnedAway, Banned, Unbanned,
)  # fmt: skip
TOPICS = tuple(dict.fromkeys(event.topic for event in EVENTS))
