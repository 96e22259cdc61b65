"""A client's stream through the receiver's kernels at synthetic times: no socket, no clock.

``play`` is the receiver's loop and the mixer's reading in one kernel. What happens is a
list of *events* in order of time; between them the receiver wakes when something is due
and the mixer takes its ticks, exactly as the real loops do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import load_acquire
from shared.kernels import kernel
from shared.layout import DriftMode, RxState, Underrun
from shared.protocol import RATE_UNDEFINED, RATES_HZ, AudioHeader, pack_header
from tests.kernels import steps
from tests.workers.arenas import T0_NS, arena_of, record
from workers import (
    conceal,
    drift,
    gaps,
    line,
    numbering,
    playout,
    stay,
    steer,
    timeline,
)
from workers.filters import filters_into
from workers.hubtime import tick_time
from workers.inbox import make_inbox

Samples = npt.NDArray[np.float32]

DATAGRAM, SLEEP, RESUME, END, QUEUE, HELD = range(6)
"""Kinds of event: one arrives; the receiver hangs; it died and another begins; the session
ends; the slot asks for another queue; the receiver is held up between reading and concealing."""
COURSE = (
    "highest", "played", "expected", "margin", "resampling", "late", "underruns", "overflows",
    "restarts", "glided", "grown",
)  # fmt: skip
"""What is noted after each event: the newest packet, at which hub sample (with its fraction)
its first frame is played and when it should have come; the others as in RX."""
SESSION = 5
_PORT = 4464
_ACTIVE, _ENDED = int(RxState.ACTIVE), int(RxState.ENDED)
_FAR_NS = 1 << 62

WATERMARK_FELL, HEARD_TAKEN_BACK = 1, 2
"""What ``play`` may find broken, as bits."""


@kernel
def _note_course(rx, course, k):  # type: ignore[no-untyped-def]
    course[k, 0] = rx.highest
    course[k, 1] = playout.played_at(rx, line.position_of(rx, rx.highest))
    course[k, 2] = drift.reference(rx, rx.highest)
    course[k, 3] = rx.margin_frames
    course[k, 4] = rx.resampling
    course[k, 5] = rx.late
    course[k, 6] = rx.underruns
    course[k, 7] = rx.overflows
    course[k, 8] = rx.restarts
    course[k, 9] = rx.glided_frames
    course[k, 10] = rx.grown_frames


@kernel
def play(arena, inbox, name, events, payload, trace, course, heard, got):  # type: ignore[no-untyped-def]
    """Receive a stream and read its ring, tick by tick.

    Args:
        events: (n, 5) int64: kind, now_ns, arrival_ns (SLEEP, HELD: until; QUEUE: packets), offset,
            bytes.
        payload: (bytes,) uint8, the datagrams' content.
        name: (32,) uint8, sockaddr of the client.
        trace: (n, 3) int64, written: watermark, base_position, base_sequence after it.
        course: (n, len(COURSE)) float64, written.
        heard: (channels, ticks · period) float32, written: what the mixer would read.
        got: (ticks,) uint8, written: 1 where all of a tick's samples were there in time.

    Returns:
        What was broken: WATERMARK_FELL (outside a counted splice) | HEARD_TAKEN_BACK.
    """
    header, rx, order = arena.header[0], arena.rx[0], arena.slots[0]
    ring, seen, period = arena.rings[0], inbox.seen[0], header.period_frames
    wake, tick, at, broken = _FAR_NS, 0, 0, 0
    mark, splices = np.int64(0), np.int64(0)
    while tick < len(got):
        due = tick_time(header, tick)
        event = events[at, 1] if at < len(events) else _FAR_NS
        if due <= wake and due <= event:
            playing = rx.state == _ACTIVE or rx.state == _ENDED
            if playing and rx.resting != 0:
                got[tick] = 1  # silence
            elif playing and load_acquire(rx, "watermark") >= (tick + 1) * period:
                got[tick] = 1
                for channel in range(len(heard)):
                    for i in range(tick * period, (tick + 1) * period):
                        heard[channel, i] = ring[channel, i & (rx.ring_frames - 1)]
            tick += 1
            continue
        if wake < event:
            wake = steps.conceal(arena, inbox, wake)
        else:
            now, first = event, at
            until = np.int64(0)
            while at < len(events) and events[at, 1] == now:
                kind, offset, size = events[at, 0], events[at, 3], events[at, 4]
                if kind == DATAGRAM and rx.state != _ENDED:
                    data = payload[offset : offset + size]
                    steps.take(arena, SESSION, data, size, name, inbox, events[at, 2], now)
                elif kind == SLEEP:
                    until = events[at, 2]
                elif kind == HELD:
                    until = events[at, 2]
                    steps.conceal_later(arena, inbox, now, until)
                elif kind == QUEUE:
                    order.queue_packets = events[at, 2]
                elif kind == RESUME:
                    numbering.resume(rx, seen)
                    steer.resume_clock(header, rx)
                    conceal.forget(inbox.tools.concealment, 0)
                elif rx.state == _ACTIVE:
                    stay.end(arena, 0, -1, 0, False, inbox, 0, now)
                at += 1
            if rx.state == _ACTIVE:
                timeline.publish(rx, arena.lines[0], ring, seen, inbox.tools)
                gaps.prepare(header, rx, arena.lines[0], seen, inbox.tools, 0, now, 1)
            wake = max(steps.conceal(arena, inbox, now), until)
            for k in range(first, at):
                trace[k, 0] = rx.watermark
                trace[k, 1] = rx.base_position
                trace[k, 2] = rx.base_sequence
                _note_course(rx, course, k)
        if rx.watermark < mark:
            if rx.overflows == splices:
                broken |= WATERMARK_FELL
            if rx.watermark < tick * period:
                broken |= HEARD_TAKEN_BACK
        mark, splices = rx.watermark, rx.overflows
        order.stop = 0
    return broken


class Event(NamedTuple):
    """Something that happens to a receiver.

    Attributes:
        kind: DATAGRAM, SLEEP, RESUME, END, QUEUE or HELD.
        now_ns: when the receiver takes note, since T0_NS.
        arrival_ns: when the kernel received the datagram; SLEEP, HELD: until when; QUEUE:
            packets instead.
        packets: of a datagram, newest first: (packet number, first sample's index), or
            None for a part of zero bytes.
        data: bytes to send in the place of packets.
    """

    kind: int
    now_ns: int
    arrival_ns: int
    packets: tuple[tuple[int, int] | None, ...] = ()
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """What a client sends, and to what hub."""

    frames: int = 128
    period: int = 128
    queue: int = 4
    channels: int = 1
    bits: int = 16
    rate_hz: int = 48000
    drift: DriftMode = DriftMode.OFF
    underrun: Underrun = Underrun.ZERO
    headroom_ns: int = 0
    sent_hz: int = 0
    """The client's sample rate; 0: the hub's."""
    code: int | None = None
    """What its packets say of that, if not the truth."""

    @property
    def client_hz(self) -> int:
        return self.sent_hz or self.rate_hz

    @property
    def header(self) -> AudioHeader:
        """Of its packets, but for the number."""
        code = self.code
        if code is None:
            hz = self.client_hz
            code = RATES_HZ.index(hz) if hz in RATES_HZ else RATE_UNDEFINED
        return AudioHeader(0, 0, self.frames, code, self.bits, self.channels, self.channels)

    def ns(self, frames: float) -> int:
        """Duration of so many of the client's frames."""
        return int(frames * 1_000_000_000 / self.client_hz)


Signal = Callable[[npt.NDArray[np.int64], int], npt.NDArray[np.float64]]
"""Samples of a stream by their index and channel, −1..1."""


def numbers(index: npt.NDArray[np.int64], channel: int) -> npt.NDArray[np.float64]:
    """Every sample is its own index in steps of 2^−23: exact with 24 and 32 bit."""
    return ((index + channel * 100_003) % (1 << 22) + 1) / (1 << 23)


def noise(index: npt.NDArray[np.int64], channel: int) -> npt.NDArray[np.float64]:
    """Noise that is a function of the index, exact with 8 bit and more."""
    mixed = (index + 7919 * channel) * 2654435761
    return ((mixed >> 13) % 255 - 127) / 128


def tone(index: npt.NDArray[np.int64], channel: int) -> npt.NDArray[np.float64]:
    """A sine of full scale, TONE_STEP a sample at most."""
    x: npt.NDArray[np.float64] = np.sin(0.03 * (1 + channel) * (index + 11))
    return x


def tone_step(channel: int) -> float:
    """The greatest difference between neighbouring samples of ``tone``, 16 bit included."""
    return 0.03 * (1 + channel) + 2**-14


def to_wire(x: npt.NDArray[np.float64], bits: int) -> bytes:
    """Encode so that what is a whole number of steps decodes to itself."""
    if bits == 32:
        return x.astype("<f4").tobytes()
    top = 1 << (bits - 1)
    v = np.clip(np.floor(x * top), -top, top - 1).astype(np.int64)
    if bits == 24:
        return np.stack([v >> 8 & 0xFF, v >> 16 & 0xFF, v & 0xFF], axis=-1).astype("u1").tobytes()
    return v.astype(f"<i{bits // 8}").tobytes()


def from_wire(x: npt.NDArray[np.float64], bits: int) -> Samples:
    """What ``to_wire`` makes of samples, decoded."""
    if bits == 32:
        return x.astype(np.float32)
    top = 1 << (bits - 1)
    return (np.clip(np.floor(x * top), -top, top - 1) / top).astype(np.float32)


def samples_of(fmt: Format, signal: Signal, first: int) -> Samples:
    """(channels, frames) float32 of a packet, as they must be decoded."""
    index = np.arange(first, first + fmt.frames, dtype=np.int64)
    return np.stack([from_wire(signal(index, c), fmt.bits) for c in range(fmt.channels)])


def datagram(fmt: Format, signal: Signal, event: Event) -> bytes:
    """The bytes of a DATAGRAM event."""
    if event.data is not None:
        return event.data
    parts = []
    for packet in event.packets:
        if packet is None:
            parts.append(bytes(16 + fmt.frames * fmt.channels * fmt.bits // 8))
            continue
        number, first = packet
        index = np.arange(first, first + fmt.frames, dtype=np.int64)
        parts.append(pack_header(replace(fmt.header, sequence=number & 0xFFFF)))
        parts += [to_wire(signal(index, c), fmt.bits) for c in range(fmt.channels)]
    return b"".join(parts)


@dataclass
class Take:
    """What came of a stream.

    Attributes:
        heard: (channels, ticks · period) float32, as the mixer read it; 0 where it got nothing.
        got: (ticks,) bool.
        rx: the client's record at the end.
        trace: (events, 3): watermark, base_position, base_sequence after each.
        course: (events, len(COURSE)).
        broken: WATERMARK_FELL | HEARD_TAKEN_BACK.
    """

    heard: Samples
    got: npt.NDArray[np.bool_]
    rx: dict[str, Any]
    trace: npt.NDArray[np.int64]
    course: npt.NDArray[np.float64]
    broken: int = 0
    events: list[Event] = field(default_factory=list)

    def counted(self, *names: str) -> tuple[int, ...]:
        return tuple(self.rx[name] for name in names)


_inbox = make_inbox(1, 48000)
_name = np.zeros(32, np.uint8)
_name[:8] = list(struct.pack("<H", 2) + struct.pack(">H", _PORT) + bytes([127, 0, 0, 1]))


def take(
    fmt: Format,
    signal: Signal,
    events: Sequence[Event],
    ticks: int | None = None,
    *,
    offsets: bool = True,
    shed: int = 0,
) -> Take:
    """Play a stream to its end, and some ticks more.

    Args:
        events: in order of now_ns.
        ticks: how many to take; as many as the stream needs unless given.
        offsets: whether a lasting one is taken out of the sound.
        shed: what is left out for want of time.
    """
    last_ns = max((event.now_ns for event in events), default=0)
    if ticks is None:
        queued = (fmt.queue + 2) * fmt.frames * fmt.rate_hz // fmt.client_hz
        tail = queued + 3 * fmt.period + 1024
        ticks = (last_ns * fmt.rate_hz // 1_000_000_000 + tail) // fmt.period
    contents = [datagram(fmt, signal, e) if e.kind == DATAGRAM else b"" for e in events]
    starts = np.cumsum([0, *map(len, contents)])
    table = np.array(
        [
            (
                e.kind,
                T0_NS + e.now_ns,
                e.arrival_ns + (T0_NS if e.kind != QUEUE else 0),
                offset,
                len(content),
            )
            for e, offset, content in zip(events, starts, contents, strict=False)
        ],
        np.int64,
    ).reshape(-1, 5)
    payload = np.frombuffer(bytearray(b"".join(contents) + b"\0"), np.uint8)
    taken = take_table(fmt, table, payload, ticks, offsets=offsets, shed=shed)
    taken.events = list(events)
    return taken


def take_table(
    fmt: Format,
    table: npt.NDArray[np.int64],
    payload: npt.NDArray[np.uint8],
    ticks: int,
    *,
    offsets: bool = True,
    shed: int = 0,
) -> Take:
    """As ``take``, of events and datagrams as ``play`` wants them."""
    trace = np.zeros((len(table), 3), np.int64)
    course = np.zeros((len(table), len(COURSE)))
    heard = np.zeros((fmt.channels, ticks * fmt.period), np.float32)
    got = np.zeros(ticks, np.uint8)
    _inbox.seen[:] = numbering.NEVER
    _inbox.junk[:] = 0
    inbox = _inbox._replace(tools=_inbox.tools._replace(filters=filters_into(fmt.rate_hz)))
    with arena_of(period=fmt.period, rate_hz=fmt.rate_hz) as arena:
        order, rx = arena.slots[0], arena.rx[0]
        arena.header[0]["drift"], arena.header[0]["underrun"] = fmt.drift, fmt.underrun
        order["session"], order["admit"] = SESSION, SESSION
        order["queue_packets"], order["headroom_ns"] = fmt.queue, fmt.headroom_ns
        order["peer_low"] = int.from_bytes(b"\0\0\xff\xff\x7f\0\0\1", "little")
        rx["session"], rx["state"], rx["valid_ns"] = SESSION, RxState.WAITING, T0_NS
        rx["shed"] = arena.control[0]["shed"] = shed
        if not offsets:
            rx["offset_frames"] = -(1 << 60)  # a second is never full
        broken = play(arena, inbox, _name, table, payload, trace, course, heard, got)
        return Take(heard, got.astype(bool), record(rx), trace, course, broken)


def model_orders() -> npt.NDArray[np.int64]:
    """Orders of the models, one a pair of channels, of the last gap of what was played last."""
    orders: npt.NDArray[np.int64] = _inbox.tools.concealment.order[0].copy()
    return orders


def plain(fmt: Format, packets: int, *, first: int = 0, start_ns: int = 10_000_000) -> list[Event]:
    """A stream as from a quiet network: each packet in time, none missing."""
    return [
        Event(
            DATAGRAM,
            start_ns + fmt.ns(k * fmt.frames),
            start_ns + fmt.ns(k * fmt.frames),
            ((first + k, k * fmt.frames),),
        )
        for k in range(packets)
    ]
