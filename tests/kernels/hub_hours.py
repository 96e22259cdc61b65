"""Hours of one client whose clock is off, at synthetic times; for ``loadtest.benchmarks.hours``.

    python -m tests.kernels.hub_hours GIVEN.npz FOUND.npz

The receiver's own kernels, called as its loop does, and the mixer's reading: packets come, the
receiver wakes when something is due, a tick takes what is in the ring. The client plays a sine
without an end (TURNS of it in the 65536 packets after which its numbers begin anew). GIVEN:
``arrivals`` and ``sent`` (n,) float64, hub frames since the hub's start, of packets 0..n−1, in
order; ``ppm`` that the client is fast by, ``rate_hz``, ``queue`` (packets; 0: auto). FOUND:
``seconds`` (s, len(FIGURES)) float64, a row a second of what is played; ``end``, the client's
counters in the end by name.
"""

from __future__ import annotations

import struct
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.kernels import kernel
from shared.layout import DriftMode, RxState, Underrun
from shared.protocol import AudioHeader, pack_header
from tests.kernels.steps import conceal, take
from tests.workers.arenas import T0_NS, arena_of
from workers import gaps, playout, timeline
from workers.hubtime import tick_time
from workers.inbox import make_inbox
from workers.line import position_of

FIGURES = (
    "deviation", "shortest", "longest", "margin", "following", "ratio", "starved", "late", "gaps",
    "overflows", "restarts",
)  # fmt: skip
"""Of a second: the sine's greatest deviation from what its last two samples foresee; how long a
packet waited from its leaving the client to its play-out, at least and at most, frames; the
margin; whether the client is resampled to its clock, and by what; ticks that found nothing; and
packets late, gaps, skips and timelines set anew by the end of it."""
COUNTERS = (
    "packets", "late", "underruns", "overflows", "restarts", "engaged", "concealed_frames",
    "overflow_frames", "grown_frames", "glided_frames",
)  # fmt: skip
FRAMES = PERIOD = 128
PACKETS = 1 << 16
TURNS = 174_241
"""997 Hz at 48 kHz; prime to the packets, so that no two are alike."""
LEVEL = 0.5
SESSION, PORT = 1, 4464
_ACTIVE, _FOLLOWING = int(RxState.ACTIVE), playout.FOLLOWING


@kernel
def _listen(ring, mask, first, count, foreseen, sound):  # type: ignore[no-untyped-def]
    """The greatest deviation of samples in the ring from what the two before each foresee.

    Args:
        foreseen: 2·cos of the sine's angle a sample; sound: (2,) float64, the last two samples.
    """
    worst = 0.0
    for i in range(first, first + count):
        sample = np.float64(ring[i & mask])
        worst = max(worst, abs(sample + sound[0] - foreseen * sound[1]))
        sound[0], sound[1] = sound[1], sample
    return worst


@kernel
def stay(arena, inbox, name, arrivals_ns, sent, payload, foreseen, sound, seconds):  # type: ignore[no-untyped-def]
    """Receive packets one at a time, and hear what is played.

    Args:
        name: (32,) uint8, sockaddr of the client.
        arrivals_ns: (n,) int64, CLOCK_MONOTONIC; sent: (n,) float64, hub frames.
        payload: (PACKETS, bytes) uint8.
        foreseen, sound: as for ``_listen``; sound is silence.
        seconds: (s, len(FIGURES)) float64, written; all zeros.
    """
    header, rx = arena.header[0], arena.rx[0]
    line, ring, seen, tools = arena.lines[0], arena.rings[0], inbox.seen[0], inbox.tools
    wake, tick = arrivals_ns[0], np.int64(0)
    for k in range(len(arrivals_ns)):
        now = arrivals_ns[k]
        while rx.state == _ACTIVE:
            due = tick_time(header, tick)
            if due >= now and wake >= now:
                break
            if wake <= due:
                wake = conceal(arena, inbox, wake)
                continue
            row = seconds[min(tick * header.period_frames // header.rate_hz, len(seconds) - 1)]
            if rx.watermark < (tick + 1) * header.period_frames:
                row[6] += 1.0
            deviation = _listen(
                ring[0], rx.ring_frames - 1, tick * header.period_frames, header.period_frames,
                foreseen, sound,
            )  # fmt: skip
            row[0] = max(row[0], deviation)
            tick += 1
        if rx.state != _ACTIVE:
            tick = np.int64((now - header.t0_ns) * header.rate_hz / 1e9) // header.period_frames + 1
        data = payload[k & (PACKETS - 1)]
        take(arena, SESSION, data, len(data), name, inbox, now, now)
        if rx.state != _ACTIVE:
            continue
        timeline.publish(rx, line, ring, seen, tools)
        gaps.prepare(header, rx, line, seen, tools, 0, now, 1)
        wake = conceal(arena, inbox, now)
        row = seconds[min(np.int64(sent[k]) // header.rate_hz, len(seconds) - 1)]
        waited = playout.played_at(rx, position_of(rx, k)) - sent[k]
        row[1] = waited if row[1] == 0.0 else min(row[1], waited)
        row[2] = max(row[2], waited)
        row[3] = rx.margin_frames
        row[4] = rx.resampling == _FOLLOWING
        row[5] = rx.clock_ratio
        row[7], row[8] = rx.late, rx.underruns
        row[9], row[10] = rx.overflows, rx.restarts


def packets() -> npt.NDArray[np.uint8]:
    """(PACKETS, bytes): the sine, mono, 32 bit."""
    made = np.zeros((PACKETS, 16 + 4 * FRAMES), np.uint8)
    made[:, :16] = np.frombuffer(pack_header(AudioHeader(0, 0, FRAMES, 3, 32, 1, 1)), np.uint8)
    made[:, 8:10] = np.arange(PACKETS).astype("<u2").view(np.uint8).reshape(-1, 2)
    turns = np.arange(PACKETS * FRAMES) * TURNS % (PACKETS * FRAMES) / (PACKETS * FRAMES)
    sine = (LEVEL * np.sin(2 * np.pi * turns)).astype("<f4")
    made[:, 16:] = sine.view(np.uint8).reshape(PACKETS, -1)
    return made


def follow(
    arrivals: npt.NDArray[np.float64],
    sent: npt.NDArray[np.float64],
    *,
    ppm: float,
    rate_hz: int,
    queue: int,
    drift: DriftMode = DriftMode.AUTO,
) -> tuple[npt.NDArray[np.float64], dict[str, int]]:
    """See the head of this module: a row a second, and the counters in the end."""
    name = np.zeros(32, np.uint8)
    name[:8] = list(struct.pack("<H", 2) + struct.pack(">H", PORT) + bytes([127, 0, 0, 1]))
    times_ns = T0_NS + np.rint(arrivals * (1e9 / rate_hz)).astype(np.int64)
    angle = 2 * np.pi * TURNS / (PACKETS * FRAMES) * (1 + ppm * 1e-6)
    seconds = np.zeros((int(sent[-1] // rate_hz) + 1, len(FIGURES)))
    inbox = make_inbox(1, rate_hz)
    with arena_of(period=PERIOD, rate_hz=rate_hz) as arena:
        order, rx = arena.slots[0], arena.rx[0]
        arena.header[0]["rate_code"] = 3
        arena.header[0]["drift"] = drift
        arena.header[0]["underrun"] = Underrun.BURG
        order["session"], order["admit"], order["queue_packets"] = SESSION, SESSION, queue
        order["peer_low"] = int.from_bytes(b"\0\0\xff\xff\x7f\0\0\1", "little")
        rx["session"], rx["state"], rx["valid_ns"] = SESSION, RxState.WAITING, T0_NS
        stay(arena, inbox, name, times_ns, sent, packets(), 2 * np.cos(angle), np.zeros(2), seconds)
        end = {counter: int(rx[counter]) for counter in COUNTERS}
    return seconds, end


def main() -> None:
    """Read, follow, write."""
    with np.load(sys.argv[1]) as given:
        seconds, end = follow(
            given["arrivals"], given["sent"], ppm=float(given["ppm"]),
            rate_hz=int(given["rate_hz"]), queue=int(given["queue"]),
        )  # fmt: skip
    counters: dict[str, Any] = {name: np.array(count) for name, count in end.items()}
    np.savez(sys.argv[2], allow_pickle=False, seconds=seconds, **counters)


if __name__ == "__main__":
    main()
