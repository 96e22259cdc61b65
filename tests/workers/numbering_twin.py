"""The numbering's twin: whole numbers, a list of what came, and the rules in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.protocol import sequence_step
from workers.numbering import (
    ECHO_GAP,
    ECHO_NS,
    ECHOES,
    MAX_JUMP,
    ODD_GAP,
    ODD_RUN,
    PAUSE_NS,
    PAUSE_PACKETS,
    RESTART_NS,
)


@dataclass
class NumberingTwin:
    """One client's numbers.

    Attributes:
        highest: the newest number.
        run: (number, arrival) of the odd packets at hand, each beyond the one before.
        past: the last of a run amidst which newer packets came.
        echoes: how often newer packets came amidst this run.
    """

    packet_ns: int
    highest: int = 0
    run: list[tuple[int, int]] = field(default_factory=list)
    past: tuple[int, int] | None = None
    first: int = 0
    echoes: int = 0

    def extend(self, number16: int, arrival: int) -> tuple[int | None, bool]:
        """The packet's true number, None when it does not belong; and whether all begins anew."""
        step = sequence_step(number16, self.highest & 0xFFFF)
        if 0 < step <= MAX_JUMP:
            if self.run:
                self.past, self.run, self.echoes = self.run[-1], [], self.echoes + 1
            return self.highest + step, False
        far = abs(step) > MAX_JUMP
        if self.note(number16, arrival) and self.anew(far):
            self.highest += (number16 - self.highest - 1) % 65536 + 1
            self.run, self.past, self.echoes = [], None, 0
            return self.highest, True
        return None if far else self.highest + step, False

    def useful(self) -> None:
        """The packet was in time after all."""
        if self.run:
            self.past, self.run = self.run[-1], []
            if not self.echoes:
                self.past = None

    def note(self, number16: int, arrival: int) -> bool:
        """Add an odd packet to its run, or begin one; False if the run is beyond it."""
        last = self.run[-1] if self.run else self.past
        echoes = 0
        patience = max(PAUSE_NS, PAUSE_PACKETS * self.packet_ns)
        if last is not None and arrival - last[1] <= patience:
            ahead = sequence_step(number16, (last[0] + 1) & 0xFFFF)
            if -(last[0] + 1 - self.first + ODD_GAP) <= ahead < 0:
                return False
            if 0 <= ahead <= ODD_GAP:
                number = last[0] + 1 + ahead
                if not self.run:
                    self.first = number
                self.run.append((number, arrival))
                return True
            if ODD_GAP < ahead <= ECHO_GAP:
                echoes = self.echoes
        self.run, self.past, self.echoes = [(number16, arrival)], None, echoes
        self.first = number16
        return True

    def anew(self, far: bool) -> bool:
        """Whether the run is long enough, and at the client's own pace if it is not far away."""
        if len(self.run) < ODD_RUN:
            return False
        (begin, since), (end, until) = self.run[0], self.run[-1]
        pace = (end - begin) * self.packet_ns
        lasts = until - since >= RESTART_NS + (ECHO_NS if self.echoes >= ECHOES else 0)
        return far or (lasts and 0.75 * pace <= until - since <= 1.5 * pace)
