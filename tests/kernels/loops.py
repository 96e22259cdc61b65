"""Compiled loops that call the hub's kernels many times: what is timed is never the way in.

A call from Python costs tens of µs in unpacking an arena, more than most kernels. The loops
are compiled anew by every process: a cache would know their own text only, not that of the
kernels they are to measure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from shared.libc import (
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SECOND_NS,
    futex_wait,
    futex_wake,
    sendmmsg,
    sendto,
)
from workers import receiver, timeline
from workers.hubtime import frames_to_ns
from workers.limiter import limit
from workers.mixer import mix_tick
from workers.packet import parse
from workers.pcm import decode
from workers.resample import resample
from workers.transmit import serve_tick


def loop(function: Callable[..., Any]) -> Any:
    """Compile as a kernel, but for this process alone."""
    return njit(nogil=True, _nrt=False)(function)


@loop
def parse_many(datagram, fields, count):  # type: ignore[no-untyped-def]
    """Parse one datagram so many times; how often it was legal."""
    legal = 0
    for k in range(count):
        datagram[8] = k & 0xFF
        legal += parse(datagram, 0, len(datagram), fields)
    return legal


@loop
def decode_many(datagram, bits, channels, frames, output, count):  # type: ignore[no-untyped-def]
    """Decode one packet so many times; samples that were no audio."""
    bad = 0
    for _ in range(count):
        for channel in range(channels):
            bad += decode(datagram, 16 + channel * frames * bits // 8, bits, frames, output)
    return bad


@loop
def receive_many(arena, inbox, session, name, datagram, at, every, count):  # type: ignore[no-untyped-def]
    """A receiver's work for so many packet times, without its system calls.

    Args:
        arena, inbox: of a client that is WAITING and will be admitted.
        name: (32,) uint8, its sockaddr; datagram: (bytes,) uint8, its packet.
        at: (1,) int64, number of the next packet; goes on from call to call.
        every: all packets come (1), or only each second (2) and so on.
    """
    header, rx, seen = arena.header[0], arena.rx[0], inbox.seen[0]
    for k in range(at[0], at[0] + count):
        now_ns = header.t0_ns + frames_to_ns(k * rx.frames, header.rate_hz)
        if k % every == 0:
            datagram[8] = k & 0xFF
            datagram[9] = (k >> 8) & 0xFF
            receiver._take(
                arena, 0, session, -1, datagram, len(datagram), name, False, inbox, 0,
                now_ns, now_ns,
            )  # fmt: skip
            timeline.publish(rx, arena.lines[0], arena.rings[0], seen, inbox.tools)
        receiver.conceal_due(arena, 0, 0, inbox, now_ns, now_ns)
    at[0] += count


@loop
def mix_many(arena, sources, at, count):  # type: ignore[no-untyped-def]
    """So many ticks of the mixer's own part; sources that sounded."""
    sounding = 0
    for tick in range(at[0], at[0] + count):
        sounding += mix_tick(arena, tick, sources)
    at[0] += count
    return sounding


@loop
def serve_many(arena, lane, at, count):  # type: ignore[no-untyped-def]
    """Serve all listeners for so many ticks, from strips that stay; how many were served."""
    served = 0
    for tick in range(at[0], at[0] + count):
        served += serve_tick(arena, 0, 0, tick, 1_795_323_038_698_913, lane)
    at[0] += count
    return served


@loop
def limit_many(samples, block, on, tx, count):  # type: ignore[no-untyped-def]
    """Limit copies of so many blocks, (count, channels, frames); what is taken off at last."""
    channels, frames = block.shape
    for k in range(count):
        for channel in range(channels):
            for i in range(frames):
                block[channel, i] = samples[k, channel, i]
        limit(block, channels, frames, 48000, on, tx[0])
    return tx[0].limiter_cut


@loop
def resample_many(line, channels, position, step, frames, filters, index, scratch, ring, count):  # type: ignore[no-untyped-def]
    """Read so many blocks of a line that repeats.

    Args:
        position: (2,) int64, frame and phase; goes on from call to call.
    """
    mask, ring_mask = line.shape[1] - 1, ring.shape[1] - 1
    frame, phase = position[0], position[1]
    for k in range(count):
        frame, phase = resample(
            line, mask, channels, frame, phase, step, frames, filters, index, scratch,
            ring, ring_mask, k * frames,
        )  # fmt: skip
    position[0], position[1] = frame, phase


@loop
def wait_for_word(words, timespec, times):  # type: ignore[no-untyped-def]
    """Sleep until a word that others wake changes, so many times."""
    for _ in range(times):
        futex_wait(np.int64(words.ctypes.data), words[0] & 0xFFFFFFFF, SECOND_NS, timespec)


@loop
def wake_word(words):  # type: ignore[no-untyped-def]
    """Change it, and wake all who wait for it."""
    words[0] += 1
    return futex_wake(np.int64(words.ctypes.data))


@loop
def send_each(fds, names, data, told):  # type: ignore[no-untyped-def]
    """A datagram from each socket; how many were sent."""
    sent, flags = 0, MSG_DONTWAIT | MSG_NOSIGNAL
    for k in range(len(fds)):
        if told:
            name = names[k].ctypes.data
            sent += sendto(fds[k], data.ctypes.data, len(data), flags, name, 16) == len(data)
        else:
            sent += sendto(fds[k], data.ctypes.data, len(data), flags, 0, 0) == len(data)
    return sent


@loop
def send_batches(fd, messages, batch):  # type: ignore[no-untyped-def]
    """All messages from one socket, so many a system call; how many were sent.

    Args:
        messages: (n, 8) uint64, struct mmsghdr each.
    """
    sent = 0
    for first in range(0, len(messages), batch):
        count = min(batch, len(messages) - first)
        sent += sendmmsg(fd, messages[first].ctypes.data, count, MSG_DONTWAIT | MSG_NOSIGNAL)
    return sent
