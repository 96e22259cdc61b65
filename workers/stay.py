"""A client's stay: a session from its first datagram to its end, but for the audio.

Format, sample rate, address and copies are the first datagram's, as ``RX`` keeps them.
A session ends by the client's good-bye, by silence, or as it is ordered.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.layout import EndReason, RxState, StopOrder
from shared.libc import MSG_DONTWAIT, MSG_NOSIGNAL, SECOND_NS, getpid, sendto
from shared.limits import SHARED_CHANNELS, SHARED_FRAMES
from shared.protocol import (
    EXIT_BYTES,
    EXIT_PACKET,
    EXIT_REPEATS,
    MAX_REDUNDANCY,
    SILENCE_TIMEOUT_S,
)
from workers import conceal, gaps, moves, numbering, packet, rates, room, steer
from workers.hubtime import frames_to_ns, tick_time

COPIES_RUN = 16
"""Datagrams in a row with another number of copies change what the client is answered with."""
SILENCE_NS = int(SILENCE_TIMEOUT_S * SECOND_NS)

_EXIT = np.frombuffer(EXIT_PACKET, np.uint8)
_IDLE, _WAITING, _ACTIVE = int(RxState.IDLE), int(RxState.WAITING), int(RxState.ACTIVE)
_ENDED = int(RxState.ENDED)
_SILENCE, _NO_UDP, _KICKED = int(EndReason.SILENCE), int(EndReason.NO_UDP), int(EndReason.KICKED)
GOES_ON = int(EndReason.NONE)
_HUB_STOP, _REPLACED = int(EndReason.HUB_STOP), int(EndReason.REPLACED)
_KICK, _SILENT = int(StopOrder.KICK), int(StopOrder.SILENT)


@kernel
def begin(arena, slot, session, index, inbox, now_ns):
    """Report for duty: a new session waits, one whose receiver died goes on.

    From here on the slot is this process's: another that still serves it ends (``serves``).
    """
    rx = arena.rx[slot]
    rx.heir = 0  # before the pid: whoever sees that may ask for the client
    store_release(rx, "pid", np.int64(getpid()))
    rx.started_ns = now_ns
    rx.looked_ns = now_ns
    inbox.junk[index] = 0
    inbox.behind[index] = 0
    conceal.forget(inbox.tools.concealment, index)
    if rx.session == session and rx.state != _IDLE:
        numbering.resume(rx, inbox.seen[index])
        steer.resume_clock(arena.header[0], rx)
        return
    rx.session = session
    rx.valid_ns = now_ns
    store_release(rx, "state", _WAITING)


@kernel
def is_demanding(header, rx):
    """Whether each packet of a client's format takes long, as to resample it does."""
    if rx.rate_code != header.rate_code or rates.told(header, rx.rate_code) == 0:
        return True
    return rx.channels > SHARED_CHANNELS or rx.frames > SHARED_FRAMES


@kernel
def give_up(rx):
    """Leave a client to another receiver, which the supervisor finds it."""
    store_release(rx, "pid", 0)


@kernel
def lets_go(header, rx, pid, now_ns):
    """Leave a client to the receiver that has asked for it, when nothing is lost by that.

    That is between two gaps, and not before its sound covers the tick at hand: the other, which
    looks once a period, may be past that.
    """
    heir = load_acquire(rx, "heir")
    if heir == 0 or heir == pid or rx.state != _ACTIVE:
        return
    if rx.resting == 0:
        if rx.gap_start >= 0 or gaps.sees_hole(rx):
            return
        due_ns = tick_time(header, gaps.covered_tick(header, rx)) - header.guard_ns
        if due_ns - now_ns < frames_to_ns(header.period_frames, header.rate_hz):
            return
    give_up(rx)


@kernel
def ask_for(rx, session):
    """Ask the receiver of a client that plays to let go of it; False: it plays no more."""
    if rx.session != session or rx.state != _ACTIVE:
        return False
    store_release(rx, "heir", np.int64(getpid()))
    return True


@kernel
def takes_over(arena, slot, session, index, inbox, now_ns):
    """Begin to serve a client that its receiver has let go of.

    Returns:
        1: it is served here; 0: not yet; -1: it never will be.
    """
    rx, pid = arena.rx[slot], np.int64(getpid())
    heir = load_acquire(rx, "heir")
    if rx.session != session or rx.state != _ACTIVE:
        if heir == pid:  # the next session's receiver shall not let go of it
            rx.heir = 0
        return -1
    if heir != pid:
        # its receiver has begun only now, and has not seen the request; another's is a newer one
        return 0 if heir == 0 and ask_for(rx, session) else -1
    if load_acquire(rx, "pid") != 0:
        return 0
    begin(arena, slot, session, index, inbox, now_ns)
    return 1


@kernel
def goes_on(rx, session):
    """Whether the record is still this session's, which has neither ended nor been given up."""
    return rx.session == session and rx.state != _ENDED and rx.pid != 0


@kernel
def serves(rx, session, pid):
    """Whether a session goes on, and this process is its newest receiver: it has but one."""
    return load_acquire(rx, "pid") == pid and goes_on(rx, session)


@kernel
def learn(rx, name, ipv6, port, fields):
    """Take address and format from the first valid datagram."""
    rx.peer_port = port
    rx.frames = fields[packet.FRAMES]
    rx.rate_code = fields[packet.RATE_CODE]
    rates.forget(rx)
    rx.bits = fields[packet.BITS]
    rx.channels = fields[packet.SENDS]
    rx.wants = fields[packet.WANTS]
    rx.redundancy = min(fields[packet.REDUNDANCY], MAX_REDUNDANCY)
    for i in range(len(name)):
        rx.sockaddr[i] = name[i]
    rx.sockaddr_bytes = 28 if ipv6 else 16


@kernel
def same_format(rx, fields):
    """Whether a packet is of the format that the session began with."""
    return (
        rx.frames == fields[packet.FRAMES]
        and rx.bits == fields[packet.BITS]
        and rx.channels == fields[packet.SENDS]
        and rx.rate_code == fields[packet.RATE_CODE]
    )


@kernel
def follow_copies(rx, copies):
    """Answer with as many copies of a packet as the client sends, should it change its mind."""
    if copies == rx.redundancy:
        rx.copies_run = 0
        return
    rx.copies_run = rx.copies_run + 1 if copies == rx.copies else 1
    rx.copies = copies
    if rx.copies_run >= COPIES_RUN:
        rx.redundancy = copies


@kernel
def know_rate(header, rx, fields, filters, arrival_ns):
    """Learn a client's sample rate from its packet, or from when it came; whether it is known."""
    rate_hz = rates.told(header, rx.rate_code)
    if rate_hz == 0:
        rate_hz = rates.measure(rx, fields[packet.SEQUENCE], arrival_ns)
    if rate_hz > 0:
        rates.adopt(header, rx, filters, rate_hz)
        if room.fits(header, rx):
            return True
        rate_hz = rates.NONE
    rx.rate_hz = rate_hz
    return False


@kernel
def has_moved(rx, data, length, port, fields, arrival_ns):
    """Whether a datagram from another port of the client's address is proof of its own."""
    if rx.state != _ACTIVE or not packet.parse(data, 0, length, fields):
        return False
    if not same_format(rx, fields) or rx.wants != fields[packet.WANTS]:
        return False
    packet_ns = frames_to_ns(rx.frames, rx.rate_hz)
    stamp_us = moves.timestamp_us(data, 0)
    return moves.proven(rx, port, fields[packet.SEQUENCE], stamp_us, arrival_ns, packet_ns)


@kernel
def _say_goodbye(rx, fd):
    """Send the client its exit packets."""
    if rx.sockaddr_bytes > 0:
        for _ in range(EXIT_REPEATS):
            sendto(
                fd, _EXIT.ctypes.data, EXIT_BYTES, MSG_DONTWAIT | MSG_NOSIGNAL,
                rx.sockaddr.ctypes.data, rx.sockaddr_bytes,
            )  # fmt: skip


@kernel
def end(arena, slot, fd, reason, goodbye, inbox, index, now_ns):
    """End a session: let its sound fade out, say good-bye, leave the reason."""
    rx, header = arena.rx[slot], arena.header[0]
    if rx.state == _ACTIVE:
        line, ring = arena.lines[slot], arena.rings[slot]
        gaps.rouse(header, rx, line, ring, inbox.tools, now_ns)
        gaps.fade_away(header, rx, line, ring, inbox.seen[index], inbox.tools)
        numbering.finish(rx, inbox.seen[index])
    if goodbye:
        _say_goodbye(rx, fd)
    rx.end_reason = reason
    store_release(rx, "state", _ENDED)  # from now on the record may be another session's


@kernel
def reason_to_end(control, order, rx, now_ns):
    """Why a session must end now, by the supervisor's order or for silence; NONE: it goes on."""
    if load_acquire(control, "stop") != 0:
        return _HUB_STOP
    stop = load_acquire(order, "stop")
    if stop == _KICK:
        return _KICKED
    if stop == _SILENT:
        return _REPLACED
    if now_ns - rx.valid_ns >= SILENCE_NS:
        return _NO_UDP if rx.state == _WAITING else _SILENCE
    return GOES_ON


@kernel
def obey(arena, slot, fd, index, inbox, now_ns):
    """End a session that must end."""
    rx = arena.rx[slot]
    reason = reason_to_end(arena.control[0], arena.slots[slot], rx, now_ns)
    if reason == GOES_ON:
        return
    goodbye = reason != _REPLACED
    if reason == _SILENCE or reason == _NO_UDP:
        # a hub that was silent may be another by now, and its port another client's
        goodbye = rx.state != _WAITING and arena.header[0].endpoint == 0
    end(arena, slot, fd, reason, goodbye, inbox, index, now_ns)
