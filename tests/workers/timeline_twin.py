"""The timeline's twin: the same promises kept on an endless line of samples, in plain Python.

No ring, no 16-bit numbers in the bookkeeping, no windows: what was ever received stays
known, and every hub sample has a place of its own. ``twin_take`` plays a list of events
(see ``streams``) as ``streams.take`` does with the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np

from shared.layout import MIN_RING_FRAMES, RING_FRAMES, Concealed, Underrun
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
from workers import conceal
from workers.burg import MAX_ORDER
from workers.conceal import FADE_FRAMES, HISTORY_FRAMES, make_concealment
from workers.gaps import SCAN_PACKETS
from workers.line import fade_table
from workers.numbering import ACCOUNT_PACKETS, MAX_JUMP
from workers.steer import WINDOW_NS
from workers.timeline import LATE_DEFICIT, LATE_RUN

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
        self.line = np.zeros((fmt.channels, 1 << (room - 1).bit_length()), np.float32)
        self.work = make_concealment(1)  # has a twin of its own
        self.count = dict.fromkeys(COUNTERS, 0)
        self.concealed, self.concealing = [0] * len(Concealed), Concealed.ZERO
        self.started = False
        frames, period = fmt.frames, fmt.period
        self.step = gcd(frames, period)
        reserve = 3 * frames + 2 * period + FADE_FRAMES + HISTORY_FRAMES
        margin = (fmt.queue - 1) * frames
        self.ring = MIN_RING_FRAMES
        while self.ring < min(margin + reserve, RING_FRAMES):
            self.ring *= 2
        self.margin = min(margin, self.ring - reserve)
        self.behind = period + 2 * FADE_FRAMES
        self.room = self.ring - self.behind
        self.watermark = self.base_position = self.base_number = 0
        self.highest = self.accounted = 0
        self.received: set[int] = set()
        self.gap_start: int | None = None
        self.resting = False
        self.bridge: tuple[int, int] | None = None
        self.blend_start = self.conceal_end = self.owed = 0
        self.late_run = self.late_since = 0
        self.numbering = NumberingTwin(frames * SECOND // fmt.rate_hz)
        self.slack: list[int] = []
        self.slack_since = 0

    # where a stream lies

    def anchor(self, number: int, arrival: int, now: int, earliest: int = 0) -> None:
        """The packet lies so that one as late as it may be is ``margin`` early."""
        fmt = self.fmt
        here = (arrival + GUARD_NS - T0_NS) * fmt.rate_hz // SECOND + 1
        wanted = here + self.margin + fmt.period - self.step
        next_tick = tick_after(fmt, now + GUARD_NS) * fmt.period
        self.base_position = up(max(wanted, next_tick, earliest), self.step)
        self.base_number = number
        self.owed = self.late_run = 0
        self.numbering.useful()
        self.slack, self.slack_since = [], arrival

    def set_anew(self, number: int, arrival: int, now: int) -> None:
        """The stream goes on from this packet, after what is final already."""
        self.count["restarts"] += 1
        self.anchor(number, arrival, now, self.watermark)
        self.soften()

    def soften(self) -> None:
        """A seam without a gap is faded as if there were one."""
        if self.base_position == self.watermark and self.gap_start is None:
            self.add_tail()

    def add_tail(self) -> None:
        """A fade-out, for sound from elsewhere to come in over."""
        newest_end = self.position(self.highest) + self.fmt.frames
        end = self.watermark + FADE_FRAMES
        self.fade_out(end, self.ring - (max(newest_end, end) - self.watermark))
        self.conceal_end, self.blend_start, self.bridge = end, self.watermark, None

    def fade_out(self, end: int, past: int) -> None:
        mask = self.line.shape[1] - 1
        conceal.fade_out(self.line, mask, self.fmt.channels, self.watermark, end, past)

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
        self.rouse(now)
        if not self.started:
            self.started = True
            self.highest = self.accounted = number16
            self.anchor(number16, arrival, now)
            self.watermark = self.blend_start = self.base_position
            self.conceal_end = self.base_position + FADE_FRAMES
        number = self.extend(number16, arrival, now)
        if number is None:
            self.count["late"] += 1
            return
        for age in range(len(event.packets) - 1, 0, -1):
            part, older = event.packets[age], number - age
            if part is None or part[0] & 0xFFFF != older & 0xFFFF or self.had(older):
                continue
            if older <= self.base_number or older <= self.highest - MAX_JUMP:
                continue
            late = self.count["late"]
            placed = self.place(older, part[1], arrival, now, repair=True)
            self.count["repaired"] += placed and self.count["late"] == late
        if self.had(number):
            self.count["duplicates"] += 1
        elif self.place(number, first, arrival, now):
            self.numbering.useful()

    def had(self, number: int) -> bool:
        """Whether a packet was here already, as far as can be told."""
        if number in self.received:
            return True
        self.advance()
        settled = self.base_number <= number < self.accounted
        return settled and self.position(number) < self.watermark

    def extend(self, number16: int, arrival: int, now: int) -> int | None:
        """The packet's true number; None when it does not belong to the stream."""
        self.numbering.highest = self.highest
        number, anew = self.numbering.extend(number16, arrival)
        if anew:
            assert number is not None
            self.settle(self.highest + 1)
            self.highest = self.accounted = number
            self.set_anew(number, arrival, now)
        return number

    def settle(self, up_to: int) -> None:
        """Count as lost what is missing below a number."""
        for number in range(self.accounted, up_to):
            self.count["lost"] += number not in self.received
        self.accounted = max(self.accounted, up_to)

    def place(
        self, number: int, first: int, arrival: int, now: int, *, repair: bool = False
    ) -> bool:
        """Lay a new packet down; True when any of it could be used."""
        self.advance()
        fmt, newest = self.fmt, number >= self.highest
        self.count["packets"] += 1
        self.count["reordered"] += number < self.highest
        if number > self.highest:
            self.highest = number
            self.settle(number - ACCOUNT_PACKETS)
        where = self.position(number)
        if number < self.base_number or where < self.watermark:
            self.count["late"] += 1
        if number < self.base_number:
            self.received.add(number)
            return False
        play = tick_after(fmt, now + GUARD_NS) * fmt.period
        if where < self.watermark:
            if newest and self.ahead_ns(number, arrival) < 0:
                if self.late_run == 0:
                    self.late_since = arrival
                self.late_run += 1
                pace = (self.late_run - 1) * fmt.frames * SECOND // fmt.rate_hz // 2
                deficit = LATE_DEFICIT * fmt.frames * SECOND // fmt.rate_hz
                self.late_since = min(self.late_since, arrival - pace + deficit)
                if self.late_run >= LATE_RUN and arrival - self.late_since >= pace:
                    self.set_anew(number, arrival, now)
        else:
            self.late_run = 0
            if where + fmt.frames - play > self.room:
                if not newest:
                    self.count["late"] += 1
                    return False
                self.give_up_queue(number, arrival, now, play)
                self.count["overflow_frames"] += where - self.base_position
            elif newest and not repair:
                self.shorten(number, arrival, play)
        self.received.add(number)
        where = self.position(number)
        skip = max(self.watermark - where, 0)
        if skip >= fmt.frames:
            return False
        audio = samples_of(fmt, self.signal, first)
        end = min(self.conceal_end, self.blend_start + FADE_FRAMES, where + fmt.frames)
        for at in range(where + skip, end):
            rise = FADE[at - self.blend_start]
            tail = self.line[:, at] * (np.float32(1) - rise)
            audio[:, at - where] = audio[:, at - where] * rise + tail
        self.line[:, where + skip : where + fmt.frames] = audio[:, skip:]
        return True

    def rewind(self, position: int) -> None:
        """Take back what was final from here on; the next real frames fade in over it."""
        if self.watermark - position < FADE_FRAMES:
            self.add_tail()
        self.conceal_end = position + FADE_FRAMES
        self.watermark = self.blend_start = position
        self.gap_start = None

    def give_up_queue(self, number: int, arrival: int, now: int, play: int) -> None:
        """The ring is full: the newest packet is next, at the wanted depth."""
        self.count["overflows"] += 1
        self.anchor(number, arrival, now, min(self.watermark, play + self.fmt.period))
        if self.base_position < self.watermark:
            self.rewind(self.base_position)
        else:
            self.soften()

    def shorten(self, number: int, arrival: int, play: int) -> None:
        """Skip, with a cross-fade, what the queue was too long by for a whole window."""
        fmt, step = self.fmt, self.step
        self.slack.append(self.ahead_ns(number, arrival) * fmt.rate_hz // SECOND)
        surplus = self.owed
        if not surplus:
            if arrival - self.slack_since < WINDOW_NS:
                return
            excess = min(self.slack) - self.margin
            if excess >= fmt.period + fmt.frames:
                surplus = (excess - fmt.period // 2) // step * step
        self.owed = 0
        self.slack, self.slack_since = [], arrival
        if not surplus:
            return
        if self.watermark != self.position(number) or self.gap_start is not None:
            self.owed = surplus
            return
        amount = min(surplus, (self.watermark - play - fmt.period) // step * step)
        if amount > 0:
            self.count["overflows"] += 1
            self.count["overflow_frames"] += amount
            self.rewind(self.watermark - amount)
        self.base_position, self.base_number = self.watermark, number

    # what becomes final

    def fill(self, until: int, beyond: tuple[int, int] | None) -> int:
        """Write the line from the watermark on: to the real sound beyond, or a tail."""
        assert self.gap_start is not None
        fmt = self.fmt
        newest_end = max(self.position(self.highest) + fmt.frames, until + FADE_FRAMES)
        next_real, future = beyond or (-1, 0)
        end: int = conceal.fill(
            Underrun.ZERO, self.line, self.line.shape[1] - 1, fmt.channels, fmt.rate_hz,
            max(self.ring - (newest_end - self.gap_start), 0), self.gap_start, self.watermark,
            until, next_real, future, fmt.frames, MAX_ORDER, self.work, 0,
        )  # fmt: skip
        self.bridge = (self.watermark, end) if beyond and end == next_real else None
        if self.gap_start == self.watermark:
            self.concealing = Concealed.ZERO
        return end

    def prepare(self, now: int) -> None:
        """A hole that is due before the next packet comes is bridged while there is time."""
        if self.gap_start is not None or self.position(self.highest) <= self.watermark:
            return
        due = tick_time(self.fmt, self.watermark // self.fmt.period) - GUARD_NS
        if not 0 <= due - now <= self.fmt.frames * SECOND // self.fmt.rate_hz:
            return
        beyond = self.beyond()
        if beyond is None or beyond[0] - self.watermark > conceal.BRIDGE_FRAMES:
            return
        if self.bridge != (self.watermark, beyond[0]):
            self.gap_start = self.watermark
            self.fill(self.watermark, beyond)
            self.gap_start = None

    def advance(self) -> None:
        """The watermark moves over all that is there."""
        fmt = self.fmt
        while self.watermark >= self.base_position:
            packets, inside = divmod(self.watermark - self.base_position, fmt.frames)
            if self.base_number + packets not in self.received:
                return
            self.watermark += fmt.frames - inside
            self.gap_start = None

    def beyond(self) -> tuple[int, int] | None:
        """The first packet after the gap at the watermark: its position, frames that follow."""
        fmt = self.fmt
        number = self.base_number
        if self.watermark >= self.base_position:
            number += (self.watermark - self.base_position) // fmt.frames + 1
        for later in range(number, min(number + SCAN_PACKETS, self.highest + 1)):
            if later in self.received:
                frames = 0
                while frames < HISTORY_FRAMES and later + frames // fmt.frames in self.received:
                    frames += fmt.frames
                return self.position(later), frames
        return None

    def conceal(self, frames: int, how: Concealed) -> None:
        """So many frames were filled in."""
        self.count["concealed_frames"] += frames
        self.concealed[how] += frames
        self.concealing = how

    def seal(self, up_to: int) -> None:
        """All below up_to becomes final, concealed where it is missing."""
        if up_to - self.watermark > self.behind and not self.resting:
            self.conceal(up_to - self.behind - self.watermark, Concealed.AWAY)
            self.count["underruns"] += 1
            self.line[:, self.watermark : up_to - self.behind] = 0
            self.watermark = self.conceal_end = up_to - self.behind
            self.gap_start = max(self.watermark - self.fmt.rate_hz, 0)
            self.bridge = None
            conceal.forget(self.work, 0)
        while True:
            self.advance()
            if self.watermark >= up_to:
                return
            beyond = self.beyond()
            until = min(up_to, beyond[0]) if beyond else up_to
            running = self.gap_start is not None
            if not running:
                self.gap_start = self.watermark
                self.count["underruns"] += 1
            bridged = False
            if beyond is not None and self.bridge is not None:
                begun = running or self.bridge[0] == self.watermark
                bridged = begun and self.bridge[1] == beyond[0]
            if not bridged:
                end = self.fill(until, beyond)
                bridged = self.bridge is not None
                if not bridged:
                    self.conceal_end, self.blend_start = end, until
            if bridged and beyond and self.conceal_end <= beyond[0]:
                self.conceal_end, self.blend_start = beyond[0], until
            self.conceal(until - self.watermark, self.concealing)
            self.watermark = until

    def conceal_due(self, now: int) -> int:
        """Conceal what is due and missing; when to look again.

        It is done tick by tick for ever: that a receiver rests in a long gap must not show.
        """
        fmt = self.fmt
        tick = self.watermark // fmt.period
        if tick_time(fmt, tick) - GUARD_NS <= now:
            tick = tick_after(fmt, now + GUARD_NS)
            self.seal(tick * fmt.period)
            self.resting = self.resting or self.rests()
        return tick_time(fmt, tick) - GUARD_NS

    def rests(self) -> bool:
        """Whether the gap has been silent for whole ticks, with nothing beyond it."""
        fmt = self.fmt
        if self.gap_start is None or self.position(self.highest) + fmt.frames > self.watermark:
            return False
        silent = conceal.SILENCE_MS * fmt.rate_hz // 1000 + FADE_FRAMES + 2 * fmt.period
        return self.watermark - self.gap_start >= silent

    def rouse(self, now: int) -> None:
        """The rest ends; of a receiver that hung meanwhile, too, the gap is still that one."""
        if self.resting:
            self.seal(tick_after(self.fmt, now + GUARD_NS - 1) * self.fmt.period)
        self.resting = False

    def resume(self) -> None:
        """Another receiver begins: what the last one had in hand is forgotten."""
        self.received = set()
        conceal.forget(self.work, 0)
        self.accounted = self.highest + 1
        if not self.resting:
            self.gap_start = None
        self.bridge = None

    def end(self, now: int) -> None:
        """Fade out, settle the account."""
        self.rouse(now)
        self.advance()
        needed = up(self.watermark + FADE_FRAMES, self.fmt.period)
        self.fade_out(needed, self.ring - (needed - self.watermark) - FADE_FRAMES)
        self.count["underruns"] += self.gap_start is None
        self.conceal(needed - self.watermark, Concealed.AWAY)
        self.watermark = needed
        self.settle(self.highest + 1)


def twin_take(
    fmt: Format, signal: Signal, events: Sequence[Event], ticks: int
) -> tuple[Samples, list[bool], dict[str, int], list[int], list[tuple[int, int, int]]]:
    """As ``streams.take``: (heard, got, counters, frames by Concealed, trace)."""
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
            covered = twin.watermark >= first + fmt.period
            got.append(twin.started and (covered or twin.resting))
            if got[-1] and covered:
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
                twin.end(moment)
                ended = True
            at += 1
        wake = far
        if twin.started and not ended:
            twin.advance()
            twin.prepare(moment)
            wake = max(twin.conceal_due(moment), until)
        trace += [(twin.watermark, twin.base_position, twin.base_number)] * (at - first)
    return heard, got, twin.count, twin.concealed, trace
