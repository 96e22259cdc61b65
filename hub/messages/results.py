"""What comes back from each operation. Clients are numbers of slots here, gains are linear."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from hub.messages.state import ClientState

Party = int | str
"""A slot, or the name of a section."""


class Result(Struct, frozen=True):
    """What an operation brought; more may be told by later hubs."""


class Pong(Result, frozen=True):
    """That a hub is there."""

    version: str
    pid: int


class Clients(Result, frozen=True):
    """Who is here, by slot."""

    clients: list[ClientState]


class Patched(Result, frozen=True):
    """The mode that holds, by its name."""

    patch: str


class Gained(Result, frozen=True):
    """A gain that holds; null: taken back, or (in decibels) silence."""

    source: int
    listener: int | None
    gain_db: float | None
    gain: float | None


class Panned(Result, frozen=True):
    """A place that holds, -100..100; null: none."""

    client: int
    pan: float | None


class OfClient(Result, frozen=True):
    """Whom it concerned."""

    client: int


class Limited(Result, frozen=True):
    """Whether mixes, or the client's, are limited."""

    on: bool | None
    client: int | UnsetType = UNSET


class Muted(Result, frozen=True):
    """Whether a strip is silent."""

    client: int
    muted: bool


class Queued(Result, frozen=True):
    """The queue that a client's receiver was told to keep."""

    client: int
    queue: str


class Locked(Result, frozen=True):
    """Whether newcomers stay outside, and whether that is news."""

    locked: bool
    changed: bool


class WaitingRoom(Result, frozen=True):
    """Whether newcomers wait, and how many do already."""

    on: bool
    held: int


class Ban(Result, frozen=True):
    """A ban that stands, on a network or an account; times are Unix times, null is for good."""

    since_s: float
    until_s: float | None
    reason: str
    name: str
    network: str | UnsetType = UNSET
    account: str | UnsetType = UNSET


class BanMade(Ban, frozen=True, kw_only=True):
    """A ban: slots that were kicked, others who are kept out once they leave, whether saved."""

    kicked: list[int]
    others: int
    saved: bool


class BanEnded(Ban, frozen=True, kw_only=True):
    """The ban that was, and whether its end was saved."""

    saved: bool


class Bans(Result, frozen=True):
    """Those that stand."""

    bans: list[Ban]


class Section(Result, frozen=True):
    """A named group of slots."""

    name: str
    members: list[int]


class Sections(Result, frozen=True):
    """All of them."""

    sections: list[Section]


class Named(Result, frozen=True):
    """What it concerned."""

    name: str


class Heard(Result, frozen=True):
    """A rule: what a listener or section hears of a source or section; null: not told."""

    listener: Party
    source: Party
    gain: float | None
    pan: float | None
    muted: bool | None
    soloed: bool | None


class Hearing(Result, frozen=True):
    """All rules."""

    rules: list[Heard]


class MatrixSet(Result, frozen=True):
    """How many listeners and sources it had."""

    listeners: int
    sources: int


class Master(Result, frozen=True):
    """The gain of all that is sent."""

    gain: float


class Renamed(Result, frozen=True):
    """Under which name a client is shown."""

    client: int
    name: str


class Concealed(Result, frozen=True):
    """What a client's gaps are filled with; null: as everybody's."""

    client: int
    underrun: str | None


class SceneStrip(Struct, frozen=True):
    """A strip of a scene."""

    gain: float
    muted: bool
    pan: float | None


class Scene(Result, frozen=True):
    """A scene: all of one that was asked for by name, else how much is in it."""

    name: str
    strips: int | dict[str, SceneStrip]
    sections: list[str] | dict[str, list[str]]
    rules: int | list[dict[str, Any]]
    patch: str | UnsetType = UNSET
    master: float | UnsetType = UNSET


class Scenes(Result, frozen=True):
    """Those that are kept."""

    scenes: list[Scene]


class Kept(Result, frozen=True):
    """A scene that was saved or deleted, and whether the file has that."""

    name: str
    saved: bool


class Recalled(Result, frozen=True):
    """A scene that holds, once it is faded in."""

    name: str
    seconds: float


class BatchDone(Result, frozen=True):
    """A result for each request, in their order."""

    results: list[dict[str, Any]]


class Stopping(Result, frozen=True):
    """That the hub ends."""
