"""The longest packet that the path carries whole, and whether longer ones get through in pieces.

A hub answers when it hears us: so for each length a session is begun whose packets have it. Routers
that carry less should say so (ICMP); where they do not, lengths are tried. The sessions go on until
all is over (see ``visit``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hub.doctor.line import Fragments, Line, Problem
from hub.doctor.listening import common_header
from hub.doctor.playing import Ears, Form, Player, take
from hub.doctor.visit import Hub, leave, wait_for
from shared.protocol import HEADER_BYTES, MIN_FRAMES

USUAL_MTU = 1500
LIKELY_MTUS = (576, 1280, 1400, 1420, 1460, 1492)
"""Of telephone networks, tunnels, WireGuard, and DSL."""
HEADERS_IPV4, HEADERS_IPV6 = 28, 48
"""Of IP and UDP together."""
LONG_MTU = 2092
"""More than any path carries whole."""
WAIT_S = 1.2
SLOWLY, MOST_S = 3.0, 3.0
"""A hub is given so many times what it took to begin, but no longer than that."""
LONGEST_S = 24.0
"""That a session plays: longer than all of this takes."""
MOST_TOLD = 4


class Passage(Enum):
    """What became of packets of a length."""

    HEARD = 0
    SILENCE = 1
    TOLD = 2
    """Somebody says that they are too long."""
    NOT_TRIED = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """What was found.

    Attributes:
        mtu: longest IP packet that passes whole; None: not known.
        told: a router or this machine said it.
        vanish: longer ones vanish, and nobody says so.
        fragments: whether what is longer than the path carries gets through; None: not known.
        mirrors: the hub answers in packets as long as ours, whatever we play; None: not known.
    """

    mtu: int | None
    told: bool
    vanish: bool
    fragments: bool | None
    mirrors: bool | None = None


class Trial:
    """A session whose packets have a certain length; it goes on until it is left."""

    def __init__(self, hub: Hub, usual: Form, mtu: int, fragments: Fragments) -> None:
        """Begin it: one channel, as many frames as it takes."""
        self.mtu = mtu
        self._never = fragments is Fragments.NEVER
        headers = HEADERS_IPV6 if hub.address.is_ipv6 else HEADERS_IPV4
        frames = (mtu - headers - HEADER_BYTES) // (usual.bits // 8)
        self._form = Form(usual.rate_hz, frames, 1, usual.bits, 1, usual.marked)
        self._line = Line(hub.address, fragments=fragments)
        self._ears = Ears(self._line)
        self._player: Player | None = None
        if frames >= MIN_FRAMES:
            _, self._player = hub.begin(self._line, self._form, LONGEST_S)

    def leave(self) -> None:
        if self._player is not None:
            leave(self._player, self._ears)
        self._ears.close()
        self._line.close()

    def wait(self, timeout_s: float) -> Passage:
        """What has become of it, if need be after a time."""
        wait_for(lambda: self.passage() is not Passage.SILENCE, timeout_s)
        return self.passage()

    def passage(self) -> Passage:
        """What has become of it up to now."""
        if self._player is None:
            return Passage.NOT_TRIED
        if self._ears.last_ns(self._player) is not None:
            return Passage.HEARD
        if self._never and self.told_mtu:
            return Passage.TOLD
        if self._ears.sent_away(self._player):
            return Passage.NOT_TRIED
        return Passage.SILENCE

    @property
    def told_mtu(self) -> int:
        """The longest that passes, as somebody says; 0: nobody does."""
        self._line.hear_complaints()
        told = [each.mtu for each in self._line.complaints if each.problem is Problem.TOO_LONG]
        return min(told, default=0)

    @property
    def mirrors(self) -> bool | None:
        """Whether the hub answers in packets as long as these; None: it does not answer."""
        if self._player is None:
            return None
        header = common_header(take(self._player, self._ears, self._line))
        return None if header is None else header.frames == self._form.frames


class SizeExamination:
    """Tries lengths against one hub."""

    def __init__(self, hub: Hub, form: Form, first_sound_s: float) -> None:
        """Open nothing yet.

        Args:
            form: of which packets are known to pass; rate and resolution are kept.
            first_sound_s: that the hub took to begin.
        """
        self._hub, self._form = hub, form
        self._wait_s = min(max(WAIT_S, SLOWLY * first_sound_s), MOST_S)
        self._trials: list[Trial] = []
        headers = HEADERS_IPV6 if hub.address.is_ipv6 else HEADERS_IPV4
        self._known = form.datagram_bytes + headers

    def close(self) -> None:
        """Leave all sessions."""
        for trial in self._trials:
            trial.leave()

    def examine(self) -> Sizes:
        """All of it: three sessions of a moment each on a good path, eight on the worst."""
        mtu, told = USUAL_MTU, False
        trial = self._try(mtu)
        for _ in range(MOST_TOLD):
            if trial.passage() is not Passage.TOLD or not 68 <= trial.told_mtu < mtu:
                break
            mtu, told = trial.told_mtu, True
            trial = self._try(mtu)
        silent = trial.passage() is Passage.SILENCE
        # a hub that answers no further session says nothing about lengths
        unfit = trial.passage() is Passage.NOT_TRIED
        if unfit or (silent and self._try(self._known).passage() is not Passage.HEARD):
            return Sizes(None, told, False, None, self._mirrors())
        vanish = trial.passage() is Passage.SILENCE  # it has gone on, if it was only slow
        if vanish:
            self._search([each for each in LIKELY_MTUS if self._known <= each < mtu])
            trial.wait(self._wait_s)  # shorter ones were quick, and it may be about to begin
        longer = self._try(LONG_MTU, Fragments.AS_USUAL)
        if longer.passage() is Passage.SILENCE:
            self._try(self._known)
        fragments = {Passage.HEARD: True, Passage.SILENCE: False}.get(longer.passage())
        if vanish:
            heard = [
                each.mtu
                for each in self._trials
                if each is not longer and each.passage() is Passage.HEARD
            ]
            mtu = max(heard)
        return Sizes(mtu, told, vanish and mtu < USUAL_MTU, fragments, self._mirrors())

    def _mirrors(self) -> bool | None:
        known = [each.mirrors for each in self._trials if each.mtu != self._known]
        return next((each for each in known if each is not None), None)

    def _search(self, likely: list[int]) -> None:
        """Find the longest likely one that passes, by halving."""
        low, high = 0, len(likely)
        while low < high:
            middle = (low + high) // 2
            if self._try(likely[middle]).passage() is Passage.HEARD:
                low = middle + 1
            else:
                high = middle

    def _try(self, mtu: int, fragments: Fragments = Fragments.NEVER) -> Trial:
        trial = Trial(self._hub, self._form, mtu, fragments)
        self._trials.append(trial)
        trial.wait(self._wait_s)
        return trial
