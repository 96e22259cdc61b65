"""Who hears whom, channel by channel: the tables of section 7.2 of the protocol page.

Three clients are there at once: M is mono, S stereo, A sends one channel and receives
two (what most real clients do). Each of their four ways into the hub carries noise of
its own, and each of their five ways out must be *exactly* the sum of those in the
table: nothing missing, nothing else, unity gain, and silence exactly zero.
"""

from __future__ import annotations

import pytest

from tests.end_to_end.measuring import (
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    Take,
    assert_hears,
    undisturbed,
)
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage

# (listener, channel) -> who must be heard there
Table = dict[tuple[str, int], set[tuple[str, int]]]

M1, S1, S2, A1 = ("M", 1), ("S", 1), ("S", 2), ("A", 1)

_NOBODY: Table = {
    ("M", 1): set(),
    ("S", 1): set(),
    ("S", 2): set(),
    ("A", 1): set(),
    ("A", 2): set(),
}
_LOOPBACK: Table = _NOBODY | {("M", 1): {M1}, ("S", 1): {S1}, ("S", 2): {S2}, ("A", 1): {A1}}
_OTHERS: Table = {
    ("M", 1): {S1, A1},
    ("S", 1): {M1, A1},
    ("S", 2): set(),
    ("A", 1): {M1, S1},
    ("A", 2): {S2},
}
_FULL_MIX: Table = {
    ("M", 1): {M1, S1, A1},
    ("S", 1): {M1, S1, A1},
    ("S", 2): {S2},
    ("A", 1): {M1, S1, A1},
    ("A", 2): {S2},
}

TABLES: dict[tuple[int, bool], Table] = {
    (1, False): _LOOPBACK,
    (1, True): _LOOPBACK | {("A", 2): {A1}},
    (2, False): _OTHERS,
    (2, True): _OTHERS | {("S", 2): {M1, A1}, ("A", 2): {S2, M1}},
    (4, False): _FULL_MIX,
    (4, True): _FULL_MIX | {("S", 2): {S2, M1, A1}, ("A", 2): {S2, M1, A1}},
    (5, False): _NOBODY,
}


@pytest.mark.parametrize(("patch", "upmix"), TABLES, ids=lambda value: str(value))
def test_everybody_hears_whom_the_table_says(stage: Stage, patch: int, upmix: bool) -> None:
    hub = stage.hub(patch, options=["-u"] if upmix else [], follows_clocks=True)
    stage.client(hub, "M", 1, 1)
    stage.client(hub, "S", 2, 2)
    stage.client(hub, "A", 1, 2)
    clients = stage.everybody_in(hub)
    # At most four at a time, each below a quarter of full scale: nothing clips.
    voices = {
        source: noise(seed, SIGNAL_FRAMES, 0.24, lead=LEAD_FRAMES)
        for seed, source in enumerate((M1, S1, S2, A1))
    }

    def judge(take: Take) -> None:
        by_name = {client.name: client for client in clients}
        for (listener, channel), heard in TABLES[patch, upmix].items():
            expected = [voices[source].in_hub for source in sorted(heard)]
            assert_hears(take, by_name[listener], channel, expected)

    undisturbed(lambda: stage.record_exactly(hub, voices, clients), judge)
