"""The timeline's twin: the same promises kept on an endless line of samples, in plain Python.

No ring, no 16-bit numbers in the bookkeeping, no windows: what was ever received stays
known, and every hub sample has a place of its own. ``twin_take`` plays a list of events
(see ``streams``) as ``streams.take`` does with the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from shared.layout import MIN_RING_FRAMES, RING_FRAMES
from tests.workers.arenas import GUARD_NS, T0_NS
from tests.workers.numbering_twin import NumberingTwin
from tests.workers.streams import (
    DATAGRAM,
    END,
    RESUME,
    SLEEP,
    Event,
    Format,
    Samples,
    Signal,
    samples_of,
)
from workers.numbering import ACCOUNT_PACKETS, MAX_JUMP
from workers.timeline import FADE_FRAMES, LATE_RUN, SKIP_WINDOW_NS, fade_table

FADE = fade_table()
SECOND = 1_000_000_000
COUNTERS = (
    "packets", "lost", "late", "duplicates", "reordered", "repaired",
    "concealed_frames", "underruns", "overflows", "overflow_frames", "restarts",
)  # fmt: skip


def tick_time(fmt: Format, tick: int) -> int:
    """CLOCK_MONOTONIC of a tick."""
    return T0_NS + tick * fmt.period * SECOND // fmt.rate_hz


def tick_after(fmt: Format, now_ns: int) -> int:
    """The first tick later than now."""
    tick = (now_ns - T0_NS) * fmt.rate_hz // (fmt.period * SECOND) - 1
    while tick_time(fmt, tick) <= now_ns:
        tick += 1
    return tick


def up(value: int, step: int) -> int:
    """The first multiple of step not below value."""
    return -(-value // step) * step


class TimelineTwin:
    """One client on the hub's timeline."""

    def __init__(self, fmt: Format, signal: Signal, room: int) -> None:
        self.fmt, self.signal = fmt, signal
        self.line = np.zeros((fmt.channels, room), np.float32)
        self.count = dict.fromkeys(COUNTERS, 0)
        self.started = False
        frames, period = fmt.frames, fmt.period
        self.step = gcd(frames, period)
        reserve = 2 * frames + 2 * period + FADE_FRAMES + 1024
        self.depth = min(fmt.queue * frames, RING_FRAMES - reserve)
        self.ring = MIN_RING_FRAMES
        while self.ring < self.depth + reserve:
            self.ring *= 2
        self.behind = period + 2 * FADE_FRAMES
        self.room = self.ring - self.behind
        self.watermark = self.base_position = self.base_number = 0
        self.highest = self.accounted = 0
        self.received: set[int] = set()
        self.gap_start: int | None = None
        self.faded = 0
        self.late_run = self.late_since = 0
        self.numbering = NumberingTwin(frames * SECOND // fmt.rate_hz)
        self.slack: list[int] = []
        self.slack_since = 0

    # where a stream lies

    def anchor(self, number: int, arrival: int, now: int) -> None:
        """The packet lies so that one as late as it may be is depth − frames early."""
        fmt = self.fmt
        here = (arrival + GUARD_NS - T0_NS) * fmt.rate_hz // SECOND + 1
        wanted = here + self.depth - fmt.frames + fmt.period - self.step
        next_tick = tick_after(fmt, now + GUARD_NS) * fmt.period
        self.base_position = up(max(wanted, next_tick, self.watermark), self.step)
        self.base_number = number
        self.late_run = 0
        self.numbering.useful()
        self.slack, self.slack_since = [], arrival
        self.soften()

    def soften(self) -> None:
        """A seam without a gap is faded as if there were one."""
        if self.base_position == self.watermark and (self.gap_start is None or self.faded):
            self.gap_start, self.faded = self.watermark, 0

    def position(self, number: int) -> int:
        return self.base_position + (number - self.base_number) * self.fmt.frames

    def ahead_ns(self, number: int, arrival: int) -> int:
        """How long before it is due a packet comes."""
        tick = self.position(number) // self.fmt.period
        return tick_time(self.fmt, tick) - GUARD_NS - arrival

    # what arrives

    def datagram(self, event: Event) -> None:
        assert event.packets[0] is not None
        number16, first = event.packets[0][0] & 0xFFFF, event.packets[0][1]
        arrival, now = T0_NS + event.arrival_ns, T0_NS + event.now_ns
        if not self.started:
            self.started = True
            self.highest = self.accounted = number16
            self.anchor(number16, arrival, now)
            self.gap_start, self.faded = self.base_position - FADE_FRAMES, 0
            self.watermark = self.base_position
        number = self.extend(number16, arrival, now)
        if number is None:
            self.count["late"] += 1
            return
        for age in range(len(event.packets) - 1, 0, -1):
            part, older = event.packets[age], number - age
            if part is None or part[0] & 0xFFFF != older & 0xFFFF or older in self.received:
                continue
            if older <= self.base_number or older <= self.highest - MAX_JUMP:
                continue
            self.count["repaired"] += self.place(older, part[1], arrival, now)
        if number in self.received:
            self.count["duplicates"] += 1
        elif self.place(number, first, arrival, now):
            self.numbering.useful()

    def extend(self, number16: int, arrival: int, now: int) -> int | None:
        """The packet's true number; None when it does not belong to the stream."""
        self.numbering.highest = self.highest
        number, anew = self.numbering.extend(number16, arrival)
        if anew:
            assert number is not None
            self.settle(self.highest + 1)
            self.highest = self.accounted = number
            self.count["restarts"] += 1
            self.anchor(number, arrival, now)
        return number

    def settle(self, up_to: int) -> None:
        """Count as lost what is missing below a number."""
        for number in range(self.accounted, up_to):
            self.count["lost"] += number not in self.received
        self.accounted = max(self.accounted, up_to)

    def place(self, number: int, first: int, arrival: int, now: int) -> bool:
        """Lay a new packet down; True when any of it could be used."""
        fmt, newest = self.fmt, number >= self.highest
        self.count["packets"] += 1
        self.count["reordered"] += number < self.highest
        if number > self.highest:
            self.highest = number
            self.settle(number - ACCOUNT_PACKETS)
        self.received.add(number)
        play = tick_after(fmt, now + GUARD_NS) * fmt.period
        if number < self.base_number or self.position(number) < self.watermark:
            self.count["late"] += 1
            if number < self.base_number:
                return False
            if self.ahead_ns(number, arrival) < 0:
                if self.late_run == 0:
                    self.late_since = arrival
                self.late_run += 1
                pace = (self.late_run - 1) * fmt.frames * SECOND // fmt.rate_hz // 2
                lasting = self.late_run >= LATE_RUN and arrival - self.late_since >= pace
                if newest and lasting:
                    self.count["restarts"] += 1
                    self.anchor(number, arrival, now)
        else:
            self.late_run = 0
            where = self.position(number)
            if where + fmt.frames - play > self.room:
                if not newest:
                    return False
                self.give_up_queue(number, arrival, now, play)
                self.count["overflow_frames"] += where - self.base_position
        where = self.position(number)
        skip = max(self.watermark - where, 0)
        if skip >= fmt.frames:
            return False
        audio = samples_of(fmt, self.signal, first)
        self.line[:, where + skip : where + fmt.frames] = audio[:, skip:]

        self.slack.append(self.ahead_ns(number, arrival) * fmt.rate_hz // SECOND)
        if arrival - self.slack_since >= SKIP_WINDOW_NS:
            if newest and self.watermark == where and self.gap_start is None:
                self.shorten(where, play)
            self.slack, self.slack_since = [], arrival
        return True

    def give_up_queue(self, number: int, arrival: int, now: int, play: int) -> None:
        """The ring is full: the newest packet is next, at the wanted depth."""
        queued = self.watermark
        self.count["overflows"] += 1
        self.watermark = min(queued, play + self.fmt.period)
        self.anchor(number, arrival, now)
        self.watermark = min(queued, self.base_position)
        self.soften()

    def shorten(self, where: int, play: int) -> None:
        """The queue was too long for a whole window: skip, with a cross-fade."""
        fmt, step = self.fmt, self.step
        excess = min(self.slack) - (self.depth - fmt.frames)
        if excess < fmt.period + fmt.frames:
            return
        amount = min((excess - fmt.period // 2) // step, (where - play - fmt.period) // step) * step
        if amount <= 0:
            return
        target = where - amount
        new = self.line[:, where : where + fmt.frames].copy()
        count = min(fmt.frames, FADE_FRAMES, amount)
        rise = FADE[np.arange(count) * FADE_FRAMES // count]
        old = self.line[:, target : target + count]
        new[:, :count] = new[:, :count] * rise + old * (np.float32(1) - rise)
        self.line[:, target : target + fmt.frames] = new
        self.base_position -= amount
        self.count["overflows"] += 1
        self.count["overflow_frames"] += amount
        self.watermark = target + fmt.frames

    # what becomes final

    def mirror(self, start: int, count: int) -> Samples:
        """The past, mirrored at the gap's edge and faded out."""
        assert self.gap_start is not None
        tail = np.zeros((self.fmt.channels, count), np.float32)
        into = np.arange(start - self.gap_start, start - self.gap_start + count)
        audible = into < FADE_FRAMES
        into = into[audible]
        tail[:, audible] = self.line[:, self.gap_start - 1 - into] * (np.float32(1) - FADE[into])
        return tail

    def advance(self) -> None:
        """The watermark moves over all that is there, fading it in after a gap."""
        fmt = self.fmt
        while self.watermark >= self.base_position:
            packets, inside = divmod(self.watermark - self.base_position, fmt.frames)
            if self.base_number + packets not in self.received:
                return
            count, at = fmt.frames - inside, self.watermark
            if self.gap_start is not None:
                n = min(count, FADE_FRAMES - self.faded)
                rise = FADE[self.faded : self.faded + n]
                tail = self.mirror(at, n) * (np.float32(1) - rise)
                self.line[:, at : at + n] = self.line[:, at : at + n] * rise + tail
                self.faded += n
                if self.faded == FADE_FRAMES:
                    self.gap_start = None
            self.watermark += count

    def seal(self, up_to: int) -> None:
        """All below up_to becomes final, concealed where it is missing."""
        fmt = self.fmt
        if up_to - self.watermark > self.behind:
            self.count["concealed_frames"] += up_to - self.behind - self.watermark
            self.count["underruns"] += 1
            self.watermark = up_to - self.behind
            self.gap_start, self.faded = self.watermark - FADE_FRAMES, 0
        while True:
            self.advance()
            at = self.watermark
            if at >= up_to:
                return
            inside = at - self.base_position
            count = -inside if inside < 0 else fmt.frames - inside % fmt.frames
            count = min(count, up_to - at)
            if self.gap_start is None or self.faded:
                self.gap_start, self.faded = at, 0
                self.count["underruns"] += 1
            self.line[:, at : at + count] = self.mirror(at, count)
            self.count["concealed_frames"] += count
            self.watermark += count

    def conceal_due(self, now: int) -> int:
        """Conceal what is due and missing; when to look again."""
        fmt = self.fmt
        tick = self.watermark // fmt.period
        if tick_time(fmt, tick) - GUARD_NS <= now:
            tick = tick_after(fmt, now + GUARD_NS)
            self.seal(tick * fmt.period)
        return tick_time(fmt, tick) - GUARD_NS

    def resume(self) -> None:
        """Another receiver begins: what the last one had in hand is forgotten."""
        self.received = set()
        self.accounted = self.highest + 1

    def end(self) -> None:
        """Fade out, settle the account."""
        self.seal(up(self.watermark + FADE_FRAMES, self.fmt.period))
        self.settle(self.highest + 1)


def twin_take(
    fmt: Format, signal: Signal, events: Sequence[Event], ticks: int
) -> tuple[Samples, list[bool], dict[str, int], list[tuple[int, int, int]]]:
    """As ``streams.take``: (heard, got, counters, trace)."""
    twin = TimelineTwin(fmt, signal, ticks * fmt.period + 3 * RING_FRAMES)
    heard = np.zeros((fmt.channels, ticks * fmt.period), np.float32)
    got: list[bool] = []
    trace: list[tuple[int, int, int]] = []
    far = 1 << 62
    wake, at, ended = far, 0, False
    while len(got) < ticks:
        due = tick_time(fmt, len(got))
        moment = T0_NS + events[at].now_ns if at < len(events) else far
        if due <= wake and due <= moment:
            first = len(got) * fmt.period
            got.append(twin.started and twin.watermark >= first + fmt.period)
            if got[-1]:
                heard[:, first : first + fmt.period] = twin.line[:, first : first + fmt.period]
            continue
        if wake < moment:
            wake = twin.conceal_due(wake)
            continue
        until, first = 0, at
        while at < len(events) and T0_NS + events[at].now_ns == moment:
            event = events[at]
            if event.kind == DATAGRAM and not ended:
                twin.datagram(event)
            elif event.kind == SLEEP:
                until = T0_NS + event.arrival_ns
            elif event.kind == RESUME:
                twin.resume()
            elif event.kind == END and twin.started:
                twin.end()
                ended = True
            at += 1
        wake = far
        if twin.started and not ended:
            twin.advance()
            wake = max(twin.conceal_due(moment), until)
        trace += [(twin.watermark, twin.base_position, twin.base_number)] * (at - first)
    return heard, got, twin.count, trace
