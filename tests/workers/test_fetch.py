"""What is asked for ahead of a client's turn: hints, whatever the records hold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit

from shared.arena import Arena
from shared.layout import CACHE_LINE, RX, STRIP_DEPTH
from tests.workers.arenas import arena_of
from workers.fetch import (
    LISTENER_LINES,
    PACKET_LINES,
    fetch_listener,
    fetch_record,
    fetch_sound,
)
from workers.inbox import Inbox, make_inbox
from workers.numbering import SEEN_PACKETS

ODD = [0, -1, 1, np.iinfo(np.int64).max, np.iinfo(np.int64).min]


@njit(_nrt=False)
def _fetch(arena, inbox, slot):  # type: ignore[no-untyped-def]
    fetch_record(arena, slot)
    fetch_sound(arena, slot, inbox.seen[slot])
    for now in range(STRIP_DEPTH):
        fetch_listener(arena, slot, now)


@pytest.mark.parametrize(
    ("lines", "touched"),
    [
        (
            PACKET_LINES,
            ("watermark", "highest", "packets", "filled", "clock_offset", "block", "guard"),
        ),
        (LISTENER_LINES, ("state", "session", "sockaddr")),
    ],
)
def test_lines_are_the_records_own_and_each_is_asked_for_once(
    lines: npt.NDArray[np.int64], touched: tuple[str, ...]
) -> None:
    assert (lines % CACHE_LINE == 0).all()
    assert len(np.unique(lines)) == len(lines)
    assert lines.min() == 0
    assert lines.max() < RX.itemsize
    assert RX.fields is not None
    for name in touched:
        offset = RX.fields[name][1]
        assert offset - offset % CACHE_LINE in lines


@pytest.mark.parametrize("value", ODD)
def test_nothing_changes_whatever_a_record_holds(value: int) -> None:
    inbox: Inbox = make_inbox(2, 48000)
    arena: Arena
    with arena_of(slots=2) as arena:
        for name in ("frames", "ring_frames", "filled", "watermark", "highest"):
            arena.rx[1][name] = value
        arena.rx[1]["channels"] = 16
        before = [each.tobytes() for each in (*arena, inbox.seen)]
        for slot in range(2):
            _fetch(arena, inbox, slot)
        assert [each.tobytes() for each in (*arena, inbox.seen)] == before
        assert inbox.seen.shape == (2, SEEN_PACKETS)
