"""Transmit: one listener's mix, encoded in its own format and sent from its own port.

A lane (the mixer itself, or a process of its own) serves the slots of its share. A
client's packet need not be as long as the hub's period: frames are encoded into the
packet being filled, and it leaves when it is full and, with ``pacing``, its time has come
(``workers.pacing``). With redundancy r the r − 1 older packets follow the newest in the
slot's packet area::

    [packet being filled, n][n − 1] ... [n − r + 1]

The mix of a client whose sample rate is not the hub's, and with ``match_clients`` everybody's,
passes ``workers.returns`` on its way: as many frames leave as the client's own clock counts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.atomics import load_acquire
from shared.kernels import kernel
from shared.layout import STRIP_DEPTH, PatchMode, RxState
from shared.libc import close, memmove
from shared.messages import MailOp
from shared.protocol import HEADER_BYTES, MAX_CHANNELS, MAX_DATAGRAM_BYTES
from workers.limiter import limit
from workers.mailbox import Mailbox, make_mailbox, read_mail
from workers.mix import add_strip, fold, preset, scale_bus, source_channel
from workers.pacing import (
    Schedule,
    begin_tick,
    has_room,
    longest_rest,
    make_schedule,
    phase_ns,
    phase_of,
    put,
    send,
    send_rest,
)
from workers.packet import write_header
from workers.pcm import encode
from workers.returns import (
    Returns,
    begin_return,
    make_returns,
    own_rate,
    place_of,
    read_period,
    skip_period,
)

LEVELS_PER_S = 10
MAX_MAIL = 64
"""Mails a lane reads in one tick; the rest waits for the next."""
MAX_GAP_PACKETS = 900
"""A longer gap in the numbering would be taken for a restart by the client."""

_ACTIVE, _NONE = int(RxState.ACTIVE), int(PatchMode.NONE)
_SOCKET, _DROP, _LEVELS = int(MailOp.SOCKET), int(MailOp.DROP), int(MailOp.LEVELS)


class Lane(NamedTuple):
    """A transmit lane's own memory; S = slots, P = period.

    Attributes:
        fds: (S,) int64, sockets; −1: none.
        sessions: (S,) int64, whose socket it is.
        counts: (S,) int64, sources whose level this listener changed.
        sources: (S, S) int32, which; extras: (S, S) float64, their coefficient now.
        wanted: (S, S) float32, the level wanted; NaN: as the preset says.
        output: (MAX_CHANNELS, P) float64, the mix being encoded.
        lookup: (S,) float64 scratch.
        returns: Returns, of those who hear at a rate of their own.
        schedule: Schedule, of packets that leave between two ticks.
        box: Mailbox.
        mail_seen: (1,) int64, mails read so far.
        polls, timespec: scratch of system calls.
    """

    fds: npt.NDArray[np.int64]
    sessions: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    sources: npt.NDArray[np.int32]
    extras: npt.NDArray[np.float64]
    wanted: npt.NDArray[np.float32]
    output: npt.NDArray[np.float64]
    lookup: npt.NDArray[np.float64]
    returns: Returns
    schedule: Schedule
    box: Mailbox
    mail_seen: npt.NDArray[np.int64]
    polls: npt.NDArray[np.int32]
    timespec: npt.NDArray[np.int64]


def make_lane(slots: int, period_frames: int, rate_hz: int) -> Lane:
    """A lane without sockets."""
    return Lane(
        fds=np.full(slots, -1, np.int64),
        sessions=np.zeros(slots, np.int64),
        counts=np.zeros(slots, np.int64),
        sources=np.zeros((slots, slots), np.int32),
        extras=np.zeros((slots, slots), np.float64),
        wanted=np.zeros((slots, slots), np.float32),
        output=np.zeros((MAX_CHANNELS, period_frames), np.float64),
        lookup=np.zeros(slots, np.float64),
        returns=make_returns(slots, period_frames, rate_hz),
        schedule=make_schedule(),
        box=make_mailbox(),
        mail_seen=np.zeros(1, np.int64),
        polls=np.zeros((1, 2), np.int32),
        timespec=np.zeros(2, np.int64),
    )


@kernel
def load_levels(row, listener, lane):
    """Take over a listener's row of pair levels; current coefficients stay and will glide.

    Args:
        row: (S,) float32, linear levels, NaN = preset.
    """
    lookup = lane.lookup
    lookup[:] = np.nan
    for k in range(lane.counts[listener]):
        lookup[lane.sources[listener, k]] = lane.extras[listener, k]
    count = 0
    for source in range(len(row)):
        if np.isnan(row[source]) and np.isnan(lookup[source]):
            continue
        lane.sources[listener, count] = source
        lane.wanted[listener, count] = row[source]
        lane.extras[listener, count] = 0.0 if np.isnan(lookup[source]) else lookup[source]
        count += 1
    lane.counts[listener] = count


@kernel
def read_all_mail(arena, index, mail_fd, lane):
    """Obey the mail that has come since the last tick; costs no system call when there is none."""
    sent = arena.control[0].mail[index]
    for _ in range(MAX_MAIL):
        if lane.mail_seen[0] >= sent:
            return
        found, fd = read_mail(mail_fd, lane.box)
        if not found:
            return
        lane.mail_seen[0] += 1
        op, slot, session = lane.box.words[0], lane.box.words[1], lane.box.words[2]
        if slot < 0 or slot >= len(lane.fds):
            op = 0
        if op == _SOCKET:
            fd, lane.fds[slot] = lane.fds[slot], fd
            lane.sessions[slot] = session
        elif op == _DROP and lane.sessions[slot] == session:
            close(lane.fds[slot])
            lane.fds[slot] = -1
            lane.sessions[slot] = 0
        elif op == _LEVELS:
            load_levels(arena.pair[slot], slot, lane)
        if fd >= 0:
            close(fd)  # the one before, or one that nobody asked for


@kernel
def adopt(arena, index, lanes, lane):
    """A lane's first act: its listeners fade in, with the levels they had."""
    for slot in range(arena.control[0].slots_high):
        if lanes > 0 and slot % lanes != index - 1:
            continue
        arena.tx[slot].bus_gain = 0.0
        arena.tx[slot].self_gain = 0.0
        if arena.slots[slot].overrides > 0:
            load_levels(arena.pair[slot], slot, lane)


@kernel
def _mix_channel(arena, now, listener, channel, bus_to, self_to, lane, output):
    """One channel of a listener's mix: bus, own voice, changed levels."""
    header, tx = arena.header[0], arena.tx[listener]
    frames, upmix = header.period_frames, header.upmix
    scale_bus(arena.buses[now, channel], frames, tx.bus_gain, bus_to, output)
    own = source_channel(arena.voices[now, listener], channel, upmix)
    if own >= 0:
        add_strip(arena.strips[now, listener, own], frames, tx.self_gain, self_to, output)
    for k in range(lane.counts[listener]):
        source = lane.sources[listener, k]
        heard = source_channel(arena.voices[now, source], channel, upmix)
        if heard < 0:
            continue
        add_strip(
            arena.strips[now, source, heard],
            frames,
            lane.extras[listener, k],
            _extra_to(lane, listener, k, bus_to, self_to),
            output,
        )


@kernel
def _extra_to(lane, listener, k, bus_to, self_to):
    """Where the coefficient of a changed level is going."""
    wanted = np.float64(lane.wanted[listener, k])
    if np.isnan(wanted):
        return 0.0
    given = bus_to + self_to if lane.sources[listener, k] == listener else bus_to
    return wanted - given


@kernel
def _settle(lane, listener, bus_to, self_to):
    """After the period every coefficient has arrived; those back at the preset go."""
    count = 0
    for k in range(lane.counts[listener]):
        if np.isnan(lane.wanted[listener, k]):
            continue
        lane.extras[listener, count] = _extra_to(lane, listener, k, bus_to, self_to)
        lane.sources[listener, count] = lane.sources[listener, k]
        lane.wanted[listener, count] = lane.wanted[listener, k]
        count += 1
    lane.counts[listener] = count


@kernel
def _meter(rate_hz, tx, peak, squares, channels, count):
    """Level of what is sent, over all channels, published ten times a second."""
    tx.window_peak = max(tx.window_peak, peak)
    tx.window_squares += squares
    tx.window_frames += count
    if tx.window_frames * LEVELS_PER_S >= rate_hz:
        tx.peak = tx.window_peak
        tx.rms = np.sqrt(tx.window_squares / (tx.window_frames * channels))
        tx.window_peak = 0.0
        tx.window_squares = 0.0
        tx.window_frames = 0


@kernel
def _begin_stream(header, rx, tx, listener, tick, area, size, copies, lane):
    """A new session's stream starts at 0 and fades in; older parts of r > 1 are zero bytes."""
    if tx.session != rx.session:
        lane.extras[listener, : lane.counts[listener]] = 0.0
        tx.session = rx.session
        tx.sequence = 0
        tx.fill_frames = 0
        tx.bus_gain = 0.0
        tx.self_gain = 0.0
        tx.last_tick = tick - 1
        tx.redundancy = 0
        rate_hz = own_rate(header, rx)
        tx.hold = longest_rest(header.period_frames, header.rate_hz, rx.frames, rate_hz)
    if tx.redundancy != copies:
        area[size : size * copies] = 0
        tx.redundancy = copies


@kernel
def _emit(rx, tx, listener, fd, wall_us, area, size, copies, phase, lane):
    """Send the packet that is full, or as good as full, and begin the next.

    Args:
        phase: in which it leaves; 0: now.
    """
    leaves_us = wall_us + phase_ns(phase, lane.schedule) // 1000
    write_header(
        area, 0, leaves_us, tx.sequence, rx.frames, rx.rate_code, rx.bits, rx.channels, rx.wants
    )
    if phase == 0:
        send(rx, tx, fd, area.ctypes.data, size * copies)
    else:
        put(phase, listener, rx.session, area, size * copies, lane.schedule)
    if copies > 1:
        memmove(area.ctypes.data + size, area.ctypes.data, size * (copies - 1))
    tx.sequence += 1
    tx.fill_frames = 0


@kernel
def _silence(rx, area, first, last):
    """Frames first..last of the packet being filled are silence."""
    width = rx.bits // 8
    for channel in range(rx.wants):
        start = HEADER_BYTES + channel * rx.frames * width
        area[start + first * width : start + last * width] = 0


@kernel
def _pack(
    header, rx, tx, listener, samples, count, advance, beyond, fd, wall_us, area, size, copies, lane
):  # fmt: skip
    """Encode so many frames of a mix; packets that are full leave, or wait for their phase.

    Args:
        advance, beyond: hub frames a frame, and what is left of the tick's sound after all of
            them: of ``workers.returns.place_of``.
    """
    frames, bits, width, done = rx.frames, rx.bits, rx.bits // 8, 0
    packets = (tx.fill_frames + count) // frames
    paced = header.pacing != 0 and has_room(packets, size * copies, lane.schedule)
    while done < count:
        fill = tx.fill_frames
        some = min(frames - fill, count - done)
        for channel in range(rx.wants):
            at = HEADER_BYTES + (channel * frames + fill) * width
            tx.clipped += encode(samples[channel], done, some, bits, area, at)
        done += some
        tx.fill_frames = fill + some
        if tx.fill_frames == frames:
            phase = 0
            if paced:
                rest = (count - done) * advance + beyond
                phase = phase_of(header, tx, rest, lane.schedule)
            _emit(rx, tx, listener, fd, wall_us, area, size, copies, phase, lane)


@kernel
def _leave_out(rx, tx, listener, missed, fd, wall_us, area, size, copies, lane):
    """The frames of missed ticks are a gap in the stream, just as long.

    A packet that was begun is ended with silence; whole packets are never sent, so that
    the client sees the loss it is; the next begins with silence.
    """
    frames, left = rx.frames, missed
    if tx.fill_frames > 0 and tx.fill_frames + left >= frames:
        left -= frames - tx.fill_frames
        _silence(rx, area, tx.fill_frames, frames)
        _emit(rx, tx, listener, fd, wall_us, area, size, copies, 0, lane)
    skipped = left // frames
    if skipped > MAX_GAP_PACKETS:
        return
    if skipped > 0:
        tx.sequence += skipped
        area[size : size * copies] = 0  # older parts are no neighbours of the next packet
    fill = tx.fill_frames + left % frames
    _silence(rx, area, tx.fill_frames, fill)
    tx.fill_frames = fill


@kernel
def serve_listener(arena, listener, tick, fd, wall_us, lane):
    """Mix, encode and send what one listener is due in a tick."""
    header, rx, tx = arena.header[0], arena.rx[listener], arena.tx[listener]
    frames, channels = rx.frames, rx.wants
    period, area = header.period_frames, arena.packets[listener]
    size = HEADER_BYTES + frames * channels * (rx.bits // 8)
    copies = max(1, min(rx.redundancy, MAX_DATAGRAM_BYTES // size))
    if frames < 1 or size > MAX_DATAGRAM_BYTES:
        tx.errors += 1
        return
    returns, rate_hz = lane.returns, own_rate(header, rx)
    own = header.match_clients != 0 or rate_hz != header.rate_hz
    if own:
        begin_return(header, rx, tx.session != rx.session, listener, returns)
    _begin_stream(header, rx, tx, listener, tick, area, size, copies, lane)
    if tick > tx.last_tick + 1:
        missed = (tick - tx.last_tick - 1) * period
        if own:
            missed = skip_period(listener, missed, returns)
        _leave_out(rx, tx, listener, missed, fd, wall_us, area, size, copies, lane)
    tx.last_tick = tick

    now = tick % STRIP_DEPTH
    held = arena.slots[listener].held != 0
    bus_to, self_to = preset(_NONE if held else arena.control[0].patch)
    folded = channels == 1 and header.downmix > 0.0
    for channel in range(2 if folded else channels):
        _mix_channel(arena, now, listener, channel, bus_to, self_to, lane, lane.output[channel])
    if folded:
        fold(lane.output, period, header.downmix)
    tx.bus_gain = bus_to
    tx.self_gain = self_to
    if lane.counts[listener] > 0:
        _settle(lane, listener, bus_to, self_to)

    samples, count, advance, beyond = lane.output, period, 1.0, 0.0
    if own:
        samples, count = returns.output, read_period(header, rx, listener, samples, returns)
        advance, beyond = place_of(listener, returns)
    limiting = arena.control[0].limiter
    peak, squares = limit(samples, channels, count, rate_hz, limiting, tx)
    _meter(rate_hz, tx, peak, squares, channels, count)
    _pack(
        header, rx, tx, listener, samples, count, advance, beyond, fd, wall_us, area, size, copies,
        lane,
    )  # fmt: skip


@kernel
def serve_tick(arena, index, lanes, tick, wall_us, lane):
    """Serve all listeners of a lane's share; returns how many there were.

    What the tick before left to be sent is sent first.

    Args:
        index: 0 for the mixer serving everybody, else 1..lanes.
        lanes: how many lanes share the listeners; 0 with index 0.
        tick: one whose buses and strips are still readable.
    """
    step = max(lanes, 1)
    first = index - 1 if lanes > 0 else 0
    served = 0
    send_rest(arena, lane)
    begin_tick(arena.header[0], tick, lane.schedule)
    for slot in range(first, arena.control[0].slots_high, step):
        rx = arena.rx[slot]
        if load_acquire(rx, "state") != _ACTIVE:
            continue
        if lane.fds[slot] < 0 or lane.sessions[slot] != rx.session:
            continue
        serve_listener(arena, slot, tick, lane.fds[slot], wall_us, lane)
        served += 1
    return served
