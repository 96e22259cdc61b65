"""How long before a tick is due a shared receiver reads what its clients have sent, and what it
conceals of what is not there."""

from __future__ import annotations

import os
import socket
import struct
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.layout import RxState
from shared.protocol import pack_header
from tests.kernels import steps
from tests.workers.arenas import GUARD_NS, arena_of
from tests.workers.streams import SESSION, Format
from workers.hubtime import tick_after, tick_time
from workers.inbox import FIRST, make_inbox
from workers.rounds import LEAD_DECAY, LEAD_SPARE_NS, _seal, next_lead

PERIOD_NS = 2_666_666


def twin(lead: int, took: int, period: int) -> int:
    """An eighth more than it took, and some; at once if that is more, else little by little."""
    wanted = took + int(took / 8) + LEAD_SPARE_NS
    faded = lead - lead // LEAD_DECAY
    if wanted > faded:
        faded = wanted
    return period if faded > period else faded


@given(st.integers(0, PERIOD_NS), st.lists(st.integers(0, 10**8), min_size=1, max_size=40))
def test_the_lead_is_as_its_twin(lead: int, times: list[int]) -> None:
    for took in times:
        expected = twin(lead, took, PERIOD_NS)
        lead = next_lead(lead, took, PERIOD_NS)
        assert lead == expected


def test_the_slowest_reading_is_remembered_for_a_while() -> None:
    lead = next_lead(0, 800_000, PERIOD_NS)
    peak = lead
    for _ in range(LEAD_DECAY):
        lead = next_lead(lead, 100_000, PERIOD_NS)
    assert 0.3 * peak < lead < 0.45 * peak
    for _ in range(20 * LEAD_DECAY):
        lead = next_lead(lead, 100_000, PERIOD_NS)
    assert 112_500 + LEAD_SPARE_NS <= lead < 150_000


def test_what_falls_due_after_the_reading_is_for_the_next_time() -> None:
    """It may lie in the socket by then: a receiver may be put off between the two."""
    fmt, inbox, port = Format(queue=2), make_inbox(1, 48000), 4464
    name = np.zeros(32, np.uint8)
    name[:8] = list(struct.pack("=H", 2) + struct.pack(">H", port) + bytes([127, 0, 0, 1]))
    data = np.frombuffer(pack_header(fmt.header) + bytes(fmt.frames * 2 * fmt.channels), np.uint8)
    now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    with arena_of(period=fmt.period) as arena, socket.socket(type=socket.SOCK_DGRAM) as empty:
        header, order, rx = arena.header[0], arena.slots[0], arena.rx[0]
        header["t0_ns"] = now_ns - 10**9
        order["session"] = order["admit"] = SESSION
        order["queue_packets"] = fmt.queue
        order["peer_low"] = int.from_bytes(b"\0\0\xff\xff\x7f\0\0\1", "little")
        rx["session"], rx["state"], rx["pid"] = SESSION, RxState.WAITING, os.getpid()
        steps.take(arena, SESSION, data.copy(), len(data), name, inbox, now_ns, now_ns)
        assert rx["state"] == RxState.ACTIVE
        inbox.polls[FIRST, 0] = empty.fileno()

        zeros = np.zeros(1, np.int64)
        first_ns = int(tick_time(header, int(rx["watermark"]) // fmt.period)) - GUARD_NS
        _seal(arena, zeros, zeros + SESSION, 1, os.getpid(), inbox, first_ns)
        assert rx["concealed_frames"] == 0  # it plays its only packet

        covered = int(rx["watermark"]) // fmt.period
        began_ns = int(tick_time(header, covered)) - GUARD_NS
        while time.clock_gettime_ns(time.CLOCK_MONOTONIC) < tick_time(header, covered + 3):
            time.sleep(0.002)
        wake_ns, _ = _seal(arena, zeros, zeros + SESSION, 1, os.getpid(), inbox, began_ns)

        sealed = int(tick_after(header, began_ns + GUARD_NS))
        assert int(rx["watermark"]) == sealed * fmt.period
        assert rx["concealed_frames"] == fmt.period
        assert wake_ns == tick_time(header, sealed) - GUARD_NS
