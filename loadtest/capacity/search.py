"""The largest number of clients that holds a service level. No clock, no socket: it asks.

::

    climb:    16, 32, 64 ... with short probes, until one number fails twice
    close in: halve the gap between the best that passed and the least that failed
    confirm:  full probes below and above the gap, each number decided by two votes
              below does not hold -> it is the new upper end; close in again
              above holds after all -> it is the new lower end; climb on from there
    found:    a number that holds, and the next step up does not

A number *holds* when two full probes of at most three pass, and *fails* when two fail. Short
probes only point the way, but one that fails is one of those votes too (what fails in a third of
the time fails in all of it); never more than one, since they are asked on the way, where a
disturbed minute of the machine could decide too much. On a noisy machine a single probe may
fail for no fault of the hub's: if a number passes one full probe with probability p, it is found
to hold with p² (3 − 2p), that is 97 % for p = 0.9 and 50 % for p = 0.5 (less by the short
probe's vote). So what is found is a number at which the level is held more often than not, not
one at which it has never been broken; how often each number passed stands with the result, and
how many probes failed below it.

A probe that failed before there was anything to measure counts as both of the votes.

Once decided a number is never asked again, so every round of confirmation moves one end of the
gap for good, and the search ends; ``most`` bounds it besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from loadtest.capacity.probe import Probe

VOTES = 2
"""So many of at most 2 × VOTES − 1 full probes decide."""

Measure = Callable[[int, float], Probe]
"""(clients, seconds) -> Probe."""
Progress = Callable[[str, Probe | None], None]
"""(what is done now, the probe that has just ended)."""


class Ending(StrEnum):
    """Why a search ended."""

    FOUND = "found"
    """The number holds and a step more does not."""
    HIGHEST = "highest allowed"
    """The number holds and no more were allowed."""
    GENERATOR = "generator gives out first"
    """Beyond the number the generator itself was late: the hub may well carry more."""
    NOTHING = "nothing held"
    """Not even the lowest number held."""
    UNSETTLED = "too many probes"
    """The allowed number of probes did not suffice; the bounds are the best known."""


MEANING = {
    Ending.FOUND: "{held} clients hold the service level, {fails} do not.",
    Ending.HIGHEST: "{held} clients hold the service level; more were not asked for.",
    Ending.GENERATOR: (
        "{held} clients hold the service level. With {beyond} the load generator itself was late "
        "again and again, so nothing can be said of the hub there: its capacity is {held} or more. "
        "Give the generator a faster core, or one that nothing else uses."
    ),
    Ending.NOTHING: "Not even {fails} clients held the service level.",
    Ending.UNSETTLED: (
        "Ended after as many probes as were allowed; {held} clients are the most that are known to "
        "hold the service level."
    ),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """How to search.

    Attributes:
        start: first number tried.
        highest: largest number allowed.
        seconds: length of a full probe; screen_s: of a short one.
        step_share: the answer is found to this share of itself; at least step clients.
        repeats: further tries of a run whose generator was late.
        most: probes in all.
    """

    start: int = 16
    highest: int = 1024
    seconds: float = 30.0
    screen_s: float = 10.0
    step_share: float = 0.03
    step: int = 1
    repeats: int = 2
    most: int = 60

    def __post_init__(self) -> None:
        if not 1 <= self.start <= self.highest:
            raise ValueError(f"start: {self.start} is not in 1..{self.highest}")
        if self.screen_s > self.seconds or self.screen_s <= 0:
            raise ValueError(f"screen_s: {self.screen_s:g} is not in 0..{self.seconds:g}")
        if self.step < 1 or self.step_share < 0 or self.repeats < 0 or self.most < 1:
            raise ValueError("step and most: at least 1; step_share and repeats: at least 0")

    def gap(self, clients: int) -> int:
        """The resolution near a number."""
        return max(self.step, int(self.step_share * clients))


@dataclass(slots=True)
class Found:
    """What a search found.

    Attributes:
        clients: the largest number that holds; 0: none.
        fails: the least number that was decided to fail; 0: none was.
        beyond: where the generator gave out; 0: nowhere.
        probes: all, in order.
    """

    ending: Ending
    clients: int
    fails: int
    beyond: int
    probes: list[Probe] = field(default_factory=list)

    @property
    def meaning(self) -> str:
        """In a sentence, or two."""
        text = MEANING[self.ending].format(held=self.clients, fails=self.fails, beyond=self.beyond)
        failed, usable = self.below
        if failed:
            text += (
                f" Of {usable} probes with fewer clients {failed} failed: the machine was "
                "disturbed, or the hub is now and then."
            )
        return text

    @property
    def below(self) -> tuple[int, int]:
        """(failed, all) usable probes of fewer clients."""
        fewer = [probe for probe in self.probes if probe.usable and probe.clients < self.clients]
        return sum(not probe.passed for probe in fewer), len(fewer)

    def votes(self, clients: int, seconds: float) -> tuple[int, int]:
        """(passed, failed) usable probes of a number, of at least that length."""
        usable = [
            probe for probe in self.probes
            if probe.usable and probe.clients == clients and probe.seconds >= seconds
        ]  # fmt: skip
        passed = sum(probe.passed for probe in usable)
        return passed, len(usable) - passed

    def to_json(self) -> dict[str, Any]:
        return {
            "ending": str(self.ending),
            "meaning": self.meaning,
            "clients": self.clients,
            "fails": self.fails,
            "beyond": self.beyond,
            "failed_below": self.below[0],
            "probes": [probe.to_json() for probe in self.probes],
        }


class _GeneratorGaveOut(Exception):
    """The generator was late at a number, every time."""

    def __init__(self, clients: int) -> None:
        super().__init__(clients)
        self.clients = clients


class _EnoughProbes(Exception):
    """No more probes are allowed."""


class Search:
    """One search; ``run`` does all of it.

    Args:
        measure: makes a probe.
        rules: how.
        progress: told before each probe what is done, and after it the probe.
        known: probes of an earlier, interrupted search by the same rules: each answers the
            first question that it fits, in order, before anything is measured.
    """

    def __init__(
        self,
        measure: Measure,
        rules: Rules,
        *,
        progress: Progress = lambda text, probe: None,
        known: Iterable[Probe] = (),
    ) -> None:
        self.measure = measure
        self.rules = rules
        self.progress = progress
        self.probes: list[Probe] = []
        self._known = list(known)
        self._floor = 0  # the largest number decided to hold
        self._ceiling = rules.highest + 1  # the least number decided to fail, or not allowed
        self._passed: set[int] = set()  # numbers that passed some probe
        self._votes: dict[int, list[bool]] = {}  # of each number; True: it held
        self._beyond = 0  # the least number at which the generator gave out; 0: none
        self._low = 0
        self._high = rules.highest + 1

    def run(self) -> Found:
        """Search; whatever ``measure`` raises goes through, ``probes`` keeps what there was."""
        steps = self._climb, self._settle
        at = 0
        while True:
            try:
                while at < len(steps):
                    steps[at]()
                    at += 1
                return self._found(self._ending())
            except _GeneratorGaveOut as gave_out:
                # Nothing can be measured there: what lies below may be still.
                self._beyond = self._ceiling = self._high = gave_out.clients
                self._passed = {each for each in self._passed if each < self._ceiling}
                self._low = max({self._floor} | self._passed)
                at = 1
            except _EnoughProbes:
                return self._found(Ending.UNSETTLED)

    def _settle(self) -> None:
        """Close in and decide both ends, until both are."""
        while True:
            self._close_in()
            if self._decide_low() and self._decide_high():
                return

    def _climb(self) -> None:
        """Double from the first number on, until one fails or none is left."""
        clients = min(self.rules.start, self._ceiling - 1)
        while clients > self._low:
            # Twice, since here a mishap would cost the most: all that lies above.
            if not self._screen(clients) and (
                self._has_failed(clients) or not self._screen(clients)
            ):
                self._high = clients
                return
            self._low = clients
            clients = min(clients * 2, self._ceiling - 1)
        self._high = self._ceiling

    def _close_in(self) -> None:
        """Halve the gap until it is small enough."""
        while self._high - self._low > (self.rules.gap(self._high) if self._low else 1):
            middle = (self._low + self._high) // 2
            if self._screen(middle):
                self._low = middle
            else:
                self._high = middle

    def _decide_low(self) -> bool:
        """Whether the lower end holds; if not, it becomes the upper one."""
        if self._low <= self._floor:
            return True
        if self._holds(self._low):
            self._floor = self._low
            return True
        self._ceiling = self._high = self._low
        self._passed = {clients for clients in self._passed if clients < self._ceiling}
        self._low = max({self._floor} | self._passed)
        return False

    def _decide_high(self) -> bool:
        """Whether the upper end fails; if not, it becomes the lower one, and we climb on."""
        if self._high > self.rules.highest and self._low < self.rules.highest:
            if self._screen(self.rules.highest):  # the last one counts, however small the gap
                self._low = self.rules.highest
            else:
                self._high = self.rules.highest
            return False
        if self._high >= self._ceiling:
            return True
        if not self._holds(self._high):
            self._ceiling = self._high
            return True
        # Had it been the noise that made it fail, more of what lies above may hold as well.
        gap = max(self._high - self._low, self.rules.gap(self._high))
        self._floor = self._low = self._high
        while (above := self._low + gap) < self._ceiling and self._screen(above):
            self._low, gap = above, gap * 2
        self._high = min(above, self._ceiling)
        return False

    def _ending(self) -> Ending:
        if self._ceiling == self._beyond:
            return Ending.GENERATOR
        if self._floor == 0:
            return Ending.NOTHING
        return Ending.HIGHEST if self._ceiling > self.rules.highest else Ending.FOUND

    def _found(self, ending: Ending) -> Found:
        decided = self._ceiling <= self.rules.highest and self._ceiling != self._beyond
        fails = self._ceiling if decided else 0
        return Found(ending, self._floor, fails, self._beyond, self.probes)

    def _screen(self, clients: int) -> bool:
        """One short probe, unless the number is decided."""
        if clients <= self._floor or clients >= self._ceiling:
            return clients <= self._floor
        probe = self._probe(clients, self.rules.screen_s, "looking at")
        if probe.passed:
            self._passed.add(clients)
        votes = self._votes.setdefault(clients, [])
        if probe.hopeless:
            votes += [False] * VOTES
        elif not probe.passed or self.rules.screen_s >= self.rules.seconds:
            if probe.passed not in votes:
                votes.append(probe.passed)
        return probe.passed

    def _has_failed(self, clients: int) -> bool:
        """Whether a number is decided to fail."""
        return self._votes.get(clients, []).count(False) >= VOTES

    def _holds(self, clients: int) -> bool:
        """Decide a number by votes."""
        votes = self._votes.setdefault(clients, [])
        while True:
            for verdict in (True, False):
                if votes.count(verdict) >= VOTES:
                    return verdict
            probe = self._probe(clients, self.rules.seconds, "confirming")
            votes += [probe.passed] * (VOTES if probe.hopeless else 1)

    def _probe(self, clients: int, seconds: float, doing: str) -> Probe:
        """A probe whose generator was in time, or the end of the search."""
        for attempt in range(1 + self.rules.repeats):
            again = f", try {attempt + 1}" if attempt else ""
            self.progress(f"{doing} {clients} clients, {seconds:g} s{again}", None)
            probe = self._ask(clients, seconds)
            self.probes.append(probe)
            self.progress("", probe)
            if probe.usable:
                return probe
        raise _GeneratorGaveOut(clients)

    def _ask(self, clients: int, seconds: float) -> Probe:
        for index, probe in enumerate(self._known):
            if (probe.clients, probe.seconds) == (clients, seconds):
                return self._known.pop(index)
        if len(self.probes) >= self.rules.most:
            raise _EnoughProbes
        return self.measure(clients, seconds)
