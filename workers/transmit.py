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

from shared.atomics import load_acquire, store_release
from shared.bundles import bundle
from shared.kernels import kernel, part_kernel
from shared.layout import STRIP_DEPTH, PatchMode, RxState, Shed
from shared.libc import close, memmove
from shared.messages import MailOp
from shared.protocol import HEADER_BYTES, MAX_CHANNELS, MAX_DATAGRAM_BYTES
from workers.fetch import fetch_listener
from workers.limiter import limit
from workers.local import Local, add_local, aim_local, forget_local, make_local
from workers.mailbox import Mailbox, make_mailbox, read_mail
from workers.mix import add_strip, fold, glide, preset, scale_bus, source_channel
from workers.monitors import (
    Monitors,
    add_monitors,
    adopt_orders,
    aim_monitors,
    aim_row,
    begin_anew,
    gain_of_parts,
    load_orders,
    make_monitors,
    settle_monitors,
    settle_parts,
    turn,
)
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
from workers.rows import Rows, add_row, make_rows, settle_row

LEVELS_PER_S = 10
MAX_MAIL = 64
"""Mails a lane reads in one tick; the rest waits for the next."""
MAX_GAP_PACKETS = 900
"""A longer gap in the numbering would be taken for a restart by the client."""

_ACTIVE, _NONE = int(RxState.ACTIVE), int(PatchMode.NONE)
_METERS = int(Shed.METERS)
_SOCKET, _DROP = int(MailOp.SOCKET), int(MailOp.DROP)


@bundle
class Lane(NamedTuple):
    """A transmit lane's own memory; S = slots, P = period.

    Attributes:
        fds: (S,) int64, sockets; −1: none.
        sessions: (S,) int64, whose socket it is.
        rows: Rows, what listeners hear other than patch and monitors give.
        monitors: Monitors, mixes that listeners share.
        local: Local, what they hear of a local JACK graph.
        output: (MAX_CHANNELS, P) float64, the mix being encoded.
        returns: Returns, of those who hear at a rate of their own.
        schedule: Schedule, of packets that leave between two ticks.
        box: Mailbox.
        mail_seen: (1,) int64, mails read so far.
        polls, timespec: scratch of system calls.
    """

    fds: npt.NDArray[np.int64]
    sessions: npt.NDArray[np.int64]
    rows: Rows
    monitors: Monitors
    local: Local
    output: npt.NDArray[np.float64]
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
        rows=make_rows(slots),
        monitors=make_monitors(slots, period_frames),
        local=make_local(slots),
        output=np.zeros((MAX_CHANNELS, period_frames), np.float64),
        returns=make_returns(slots, period_frames, rate_hz),
        schedule=make_schedule(),
        box=make_mailbox(),
        mail_seen=np.zeros(1, np.int64),
        polls=np.zeros((1, 2), np.int32),
        timespec=np.zeros(2, np.int64),
    )


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
    adopt_orders(arena, index, lanes, lane.rows, lane.monitors)


@part_kernel
def _mix_channel(arena, now, listener, channel, bus_to, self_to, moving, lane, output):
    """One channel of a listener's mix: bus or monitors, own voice, changed levels."""
    header, tx = arena.header[0], arena.tx[listener]
    frames, voices = header.period_frames, arena.voices[now]
    scale_bus(arena.buses[now, channel], frames, tx.bus_gain, bus_to, output)
    add_monitors(arena, now, listener, channel, lane.monitors, output)
    own = source_channel(voices[listener], channel, header.upmix)
    if own >= 0:
        add_strip(arena.strips[now, listener, own], frames, tx.self_gain, self_to, output)
    if lane.rows.counts[listener] > 0:
        aims = lane.monitors.own_aims
        add_row(
            arena.strips[now], voices, listener, channel, frames, moving, lane.rows, aims, output
        )
    if header.jack != 0:
        add_local(arena, listener, channel, frames, lane.local, output)


@part_kernel
def _mix(arena, now, listener, channels, lane):
    """A listener's mix of a tick, into lane.output."""
    header, clock, tx = arena.header[0], arena.clock[0], arena.tx[listener]
    rows, monitors = lane.rows, lane.monitors
    master, voices = clock.master[now], arena.voices[now]
    held = arena.slots[listener].held != 0
    turns = turn(listener, 0 if held else monitors.wanted[listener], rows, monitors)
    bus_goal, self_goal = preset(_NONE if held else clock.patch[now])
    bus_goal, self_goal = bus_goal * master, self_goal * master
    left = rows.left[listener]
    bus_to = glide(tx.bus_gain, bus_goal if monitors.turned[listener] == 0 else 0.0, left)
    others = preset(clock.patch[now])[0] * master
    moves = aim_monitors(header, voices, listener, others, master, monitors) or turns
    shares, parts_from, parts_to = gain_of_parts(listener, monitors)
    if shares:  # monitors have a pace of their own: what is heard of it altogether has this one's
        self_to = glide(tx.self_gain + tx.bus_gain + parts_from, bus_goal + self_goal, left)
        self_to -= bus_to + parts_to
    else:
        self_to = glide(tx.self_gain, self_goal, left)
    moves = moves or bus_to != tx.bus_gain or self_to != tx.self_gain
    moving = False
    if rows.counts[listener] > 0:
        moving = aim_row(
            header, voices, listener, tx.bus_gain, bus_to, tx.self_gain, self_to, bus_goal,
            self_goal, master, moves, rows, monitors,
        )  # fmt: skip
    folded = channels == 1 and header.downmix > 0.0
    if header.jack != 0:
        factor = header.downmix if folded else 1.0
        aim_local(arena, now, listener, 0.0 if held else master, factor, lane.local)
    for channel in range(2 if folded else channels):
        output = lane.output[channel]
        _mix_channel(arena, now, listener, channel, bus_to, self_to, moving, lane, output)
    if folded:
        fold(lane.output, header.period_frames, header.downmix)
    tx.bus_gain = bus_to
    tx.self_gain = self_to
    settle_row(listener, moving, rows, monitors.own_aims)
    settle_parts(listener, monitors)


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


@part_kernel
def _begin_stream(header, rx, tx, listener, tick, area, size, copies, rows, monitors, local):
    """A new session's stream starts at 0 and fades in; older parts of r > 1 are zero bytes."""
    if tx.session != rx.session:
        begin_anew(listener, rows, monitors)
        forget_local(listener, local)
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


@part_kernel
def _emit(order, rx, tx, listener, fd, wall_us, area, size, copies, phase, schedule):
    """Send the packet that is full, or as good as full, and begin the next.

    Args:
        order: its SLOT.
        phase: in which it leaves; 0: now.
    """
    leaves_us = wall_us + phase_ns(phase, schedule) // 1000
    write_header(
        area, 0, leaves_us, tx.sequence, rx.frames, rx.rate_code, rx.bits, rx.channels, rx.wants
    )
    if phase == 0:
        send(order, rx, tx, fd, area.ctypes.data, size * copies)
    else:
        put(phase, listener, rx.session, area, size * copies, schedule)
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


@part_kernel
def _pack(
    header, order, rx, tx, listener, samples, count, advance, beyond, fd, wall_us, area, size,
    copies, schedule,
):  # fmt: skip
    """Encode so many frames of a mix; packets that are full leave, or wait for their phase.

    Args:
        advance, beyond: hub frames a frame, and what is left of the tick's sound after all of
            them: of ``workers.returns.place_of``.
    """
    frames, bits, width, done = rx.frames, rx.bits, rx.bits // 8, 0
    packets = (tx.fill_frames + count) // frames
    paced = header.pacing != 0 and has_room(packets, size * copies, schedule)
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
                phase = phase_of(header, tx, rest, schedule)
            _emit(order, rx, tx, listener, fd, wall_us, area, size, copies, phase, schedule)


@kernel
def _leave_out(order, rx, tx, listener, missed, fd, wall_us, area, size, copies, schedule):
    """The frames of missed ticks are a gap in the stream, just as long.

    A packet that was begun is ended with silence; whole packets are never sent, so that
    the client sees the loss it is; the next begins with silence.
    """
    frames, left = rx.frames, missed
    if tx.fill_frames > 0 and tx.fill_frames + left >= frames:
        left -= frames - tx.fill_frames
        _silence(rx, area, tx.fill_frames, frames)
        _emit(order, rx, tx, listener, fd, wall_us, area, size, copies, 0, schedule)
    skipped = left // frames
    if skipped > MAX_GAP_PACKETS:
        return
    if skipped > 0:
        tx.sequence += skipped
        area[size : size * copies] = 0  # older parts are no neighbours of the next packet
    fill = tx.fill_frames + left % frames
    _silence(rx, area, tx.fill_frames, fill)
    tx.fill_frames = fill


@part_kernel
def serve_listener(arena, listener, tick, fd, wall_us, lane):
    """Mix, encode and send what one listener is due in a tick."""
    header, rx, tx = arena.header[0], arena.rx[listener], arena.tx[listener]
    order, frames, channels = arena.slots[listener], rx.frames, rx.wants
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
    _begin_stream(
        header, rx, tx, listener, tick, area, size, copies, lane.rows, lane.monitors, lane.local
    )
    if tick > tx.last_tick + 1:
        missed = (tick - tx.last_tick - 1) * period
        if own:
            missed = skip_period(listener, missed, returns)
        _leave_out(order, rx, tx, listener, missed, fd, wall_us, area, size, copies, lane.schedule)
    tx.last_tick = tick

    _mix(arena, tick % STRIP_DEPTH, listener, channels, lane)
    samples, count, advance, beyond = lane.output, period, 1.0, 0.0
    if own:
        samples, count = returns.output, read_period(header, rx, listener, samples, returns)
        advance, beyond = place_of(listener, returns)
    limited = order.limited
    limited = arena.control[0].limiter if limited == 0 else limited % 2
    metered = arena.control[0].shed & _METERS == 0
    if metered or limited != 0 or tx.limiter_cut != 0.0:
        peak, squares = limit(samples, channels, count, rate_hz, limited, tx)
        if metered:
            _meter(rate_hz, tx, peak, squares, channels, count)
    _pack(
        header, order, rx, tx, listener, samples, count, advance, beyond, fd, wall_us, area, size,
        copies, lane.schedule,
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
    load_orders(arena, index, lanes, tick % STRIP_DEPTH, lane.rows, lane.monitors)
    high = arena.control[0].slots_high
    for slot in range(first, high, step):
        if slot + step < high:
            fetch_listener(arena, slot + step, tick % STRIP_DEPTH)
        rx = arena.rx[slot]
        if load_acquire(rx, "state") != _ACTIVE:
            continue
        if lane.fds[slot] < 0 or lane.sessions[slot] != rx.session:
            continue
        serve_listener(arena, slot, tick, lane.fds[slot], wall_us, lane)
        served += 1
    settle_monitors(arena.control[0].monitors_high, lane.monitors)
    store_release(arena.lanes[index], "levels_read", lane.monitors.read[0])
    return served
