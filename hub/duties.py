"""What the hub's processes are there for, what is told of them, and how often one may die young."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hub.sharing import Shared

SHORT_LIFE_S = 5.0
START_TRIES = 3
PAUSES_S = (0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0)
"""Before the next try, by how many short lives there were in a row."""


class WorkersFailed(RuntimeError):
    """A process that the hub cannot do without does not stay alive."""


class Kind(Enum):
    MIXER = "mixer"
    LANE = "lane"
    RECEIVER = "receiver"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Duty:
    """What a worker is for.

    Attributes:
        lane: of a lane, 1..; 0 for the mixer.
        slot, session: of a receiver; of a shared one the first.
    """

    kind: Kind
    lane: int = 0
    slot: int = 0
    session: int = 0

    def __str__(self) -> str:
        return f"lane {self.lane}" if self.kind is Kind.LANE else self.kind.value


@dataclass(slots=True)
class Worker:
    """One process, from its order to its end.

    Attributes:
        since_s: when it was ordered, then when it was started.
        ordered: whether a living zygote has the order.
        stuck: it is killed because it did not go on.
        failed: it could not be started; after a rest it counts as ended.
        shared: of a receiver that several sessions share.
        relieved_s: since when its client is to get another.
    """

    token: int
    duty: Duty
    since_s: float
    ordered: bool = False
    pid: int | None = None
    stuck: bool = False
    failed: bool = False
    shared: Shared | None = None
    relieved_s: float | None = None

    @property
    def served(self) -> dict[int, int]:
        """Slot by session of those whom a receiver serves."""
        if self.shared is not None:
            return self.shared.sessions
        return {self.duty.session: self.duty.slot}


@dataclass(frozen=True, slots=True)
class ReceiverEnded:
    """A receiver is no more.

    Attributes:
        sessions: whom it served.
        status: its exit code, or minus the signal.
        stuck: it was killed because it did not go on.
        alone: each of them is to go on with a receiver of its own: it may be what this one has
            died of, or was alone before.
    """

    sessions: tuple[int, ...]
    status: int
    stuck: bool
    alone: bool


@dataclass(frozen=True, slots=True)
class Relieved:
    """A receiver has ended whose client another serves, or is about to.

    Attributes:
        pid: it was.
    """

    slot: int
    session: int
    pid: int


@dataclass(frozen=True, slots=True)
class Retry:
    """The pause before a new try is over; duty None is the zygote."""

    duty: Duty | None


@dataclass(frozen=True, slots=True)
class Ready:
    """A zygote has loaded its kernels.

    Attributes:
        refused: real-time settings the machine refuses: {"what", "error", "advice"}.
    """

    seconds: float
    compiled: int
    refused: tuple[dict[str, str], ...]


class Patience:
    """How often something that must run may die young, with growing pauses.

    A long life makes up for all that was before it.
    """

    def __init__(self) -> None:
        self._short_lives = 0

    def pause(self, lived_s: float, *, at_start: bool) -> float | None:
        """Seconds to wait before the next try; None: it is no use."""
        self._short_lives = self._short_lives + 1 if lived_s < SHORT_LIFE_S else 0
        if self._short_lives >= (START_TRIES if at_start else len(PAUSES_S)):
            return None
        return PAUSES_S[self._short_lives]
