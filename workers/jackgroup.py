"""A group: one JACK client of the hub's, with its ports, its members, and its callback's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared.arena import Arena
from shared.callbacks import Callback
from workers import jackports
from workers.jackclock import Client, JackUnavailable, NameTaken
from workers.jackports import DESK_WORDS, MEMBER_WORDS, member_words, play_group

MAX_DELAY_S = 10
"""Of broadcast ports."""
_UNIQUE_BYTES = 60
"""Names of so many JACK can tell apart, by -01 to -99."""
_FIRST_NUMBER, _TRIES = 100, 8
"""What we append ourselves after that, and how often."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A group's ports: channels from its members, channels to them.

    Attributes:
        delay: frames that a broadcast port is behind its receive port; 0: there are none.
    """

    receives: int
    sends: int
    delay: int = 0

    @property
    def ports(self) -> int:
        """How many those are."""
        return self.receives * (2 if self.delay else 1) + self.sends


Member = tuple[int, int]
"""Slot and session."""


@dataclass(slots=True)
class Group:
    """One JACK client of ours; the arrays are its callback's.

    Attributes:
        wanted: name that was asked for.
        idle_s: since when it has no members, or None.
        cables: that were made for it.
    """

    wanted: str
    shape: Shape
    client: Client
    desk: npt.NDArray[np.int64]
    members: npt.NDArray[np.int64]
    kept: list[npt.NDArray[Any]]
    who: tuple[Member, ...] = ()
    idle_s: float | None = None
    cables: frozenset[tuple[str, str]] = frozenset()

    def seat(self, who: tuple[Member, ...]) -> None:
        """Other members from the next cycle on."""
        half = (len(self.members) - 1) // 2
        first, second = 1, 1 + half
        free = second if self.members[0] == 8 * first else first
        self.members[free] = len(who)
        for k, (slot, session) in enumerate(who):
            at = free + 1 + MEMBER_WORDS * k
            self.members[at : at + 2] = slot, session
        self.members[0] = 8 * free
        self.who = who


def make_desk(arena: Arena) -> npt.NDArray[np.int64]:
    """Words of a callback, as far as all of ours have them in common."""
    desk = np.zeros(DESK_WORDS, np.int64)
    for at, section in (
        (jackports.HEADER_AT, arena.header),
        (jackports.CONTROL_AT, arena.control),
        (jackports.JACK_AT, arena.jack),
        (jackports.RX_AT, arena.rx),
        (jackports.SLOTS_AT, arena.slots),
        (jackports.GROUPS_AT, arena.jack_groups),
        (jackports.RINGS_AT, arena.rings),
        (jackports.JACK_IN_AT, arena.jack_in),
    ):
        desk[at] = section.ctypes.data
    desk[jackports.SLOTS], desk[jackports.GROUPS] = len(arena.slots), len(arena.jack_groups)
    return desk


class Opens(Protocol):
    """Opens a client; the arguments are ``JackClient``'s."""

    def __call__(
        self,
        name: str,
        callback: Callback,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        data: int = 0,
    ) -> Client: ...


@dataclass(slots=True)
class Workshop:
    """Makes groups.

    Attributes:
        opens: their clients.
        alone: each group has one member, at most.
        voices: what callbacks remember of clients.
    """

    arena: Arena
    opens: Opens
    alone: bool
    voices: npt.NDArray[Any]
    numbers: dict[str, int] = field(default_factory=dict)

    def make(self, number: int, name: str, shape: Shape) -> Group:
        """A JACK client with a group's ports, whose callback does not run yet.

        Args:
            number: of the group.

        Raises:
            JackUnavailable: no room, no name, or no server any more.
        """
        arena = self.arena
        frames = int(arena.header[0]["period_frames"])
        capacity = 1 if self.alone else len(arena.slots)
        desk, members = make_desk(arena), np.zeros(member_words(capacity), np.int64)
        members[0] = 8
        scratch = np.zeros(frames + 2 * 6, np.float32)
        broadcasts = shape.receives if shape.delay else 0
        delayed = np.empty((max(broadcasts, 1), shape.delay + frames), np.float32)
        delayed.fill(0.0)  # its pages are there before the first cycle
        desk[jackports.GROUP] = number
        desk[jackports.RECEIVES], desk[jackports.SENDS] = shape.receives, shape.sends
        desk[jackports.ALONE] = int(self.alone)
        desk[jackports.MEMBERS_AT] = members.ctypes.data
        desk[jackports.VOICES_AT] = self.voices.ctypes.data
        desk[jackports.SCRATCH_AT] = scratch.ctypes.data
        desk[jackports.BROADCASTS], desk[jackports.DELAY] = broadcasts, shape.delay
        desk[jackports.DELAYED_AT] = delayed.ctypes.data
        desk[jackports.DELAYED_FRAMES] = delayed.shape[1]
        client = self._client(name, shape, desk)
        return Group(name, shape, client, desk, members, [scratch, delayed])

    def _client(self, name: str, shape: Shape, desk: npt.NDArray[np.int64]) -> Client:
        """By the best name that JACK takes."""
        outputs = [f"receive_{k + 1}" for k in range(shape.receives)]
        outputs += [f"broadcast_{k + 1}" for k in range(shape.receives if shape.delay else 0)]
        inputs = [f"send_{k + 1}" for k in range(shape.sends)]
        for candidate in self._names(name):
            try:
                data = desk.ctypes.data
                return self.opens(candidate, play_group, inputs=inputs, outputs=outputs, data=data)
            except NameTaken:
                continue
        raise JackUnavailable(f"JACK has no name left for {name}")

    def _names(self, name: str) -> Iterator[str]:
        """What a client may be called; JACK itself tells namesakes apart, as long as it can."""
        yield name
        if len(name.encode()) > _UNIQUE_BYTES:
            yield _cut(name, _UNIQUE_BYTES)
        for _ in range(_TRIES):
            number = self.numbers.get(name, _FIRST_NUMBER)
            self.numbers[name] = number + 1 if number < 999 else _FIRST_NUMBER
            yield f"{_cut(name, _UNIQUE_BYTES - 1)}-{number}"


def _cut(name: str, size: int) -> str:
    """UTF-8 of no more bytes, whole characters."""
    return name.encode()[:size].decode(errors="ignore")
