"""The real client's concealment: which block is which packet, what may be judged, the feeder."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from loadtest.benchmarks import concealment, feeder, flaws, materials, realregulator, record
from loadtest.benchmarks.concealment import FRAMES
from loadtest.benchmarks.realregulator import CLIENT, OURS, Draw
from shared.protocol import EXIT_PACKET, AudioHeader, pack_header, parse_datagram

FIRST, PACKETS = 40, 200


def packets_of() -> realregulator.Blocks:
    sound = np.rint(np.random.default_rng(7).normal(0, 0.1, PACKETS * FRAMES) * 32768) / 32768
    return np.asarray(sound.reshape(-1, FRAMES))


def heard(order: list[int]) -> realregulator.Blocks:
    """Blocks as a client might play them: packets by number, −1 for what it made up."""
    made_up = np.full(FRAMES, 0.01)
    return np.array([made_up if number < 0 else packets_of()[number] for number in order])


def on_time(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return (np.arange(count) * 1e9 * FRAMES / materials.RATE_HZ).astype(np.int64)


def test_page_shows_the_newest_results_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.realregulator"""
    newest = max(record.RESULTS.glob(f"{realregulator.KIND}-*.json"))
    page, made = concealment.PAGE.read_text(), concealment.read(newest)
    assert page == concealment.insert(
        page, realregulator.markdown(made), realregulator.BEGIN, realregulator.END
    )
    assert concealment.to_text(made) == newest.read_text()


def test_every_way_is_judged_by_the_same_gaps() -> None:
    newest = max(record.RESULTS.glob(f"{realregulator.KIND}-*.json"))
    rows = concealment.read(newest).rows
    for way in OURS:
        for mine, its in zip(
            concealment.select(rows, way=way), concealment.select(rows, way=CLIENT), strict=True
        ):
            assert (mine.material, mine.percent, mine.pattern, mine.gaps) == (
                its.material, its.percent, its.pattern, its.gaps,
            )  # fmt: skip


def test_blocks_are_known_again_after_a_repeat_and_after_a_slip() -> None:
    order = [5, 6, 7, 7, -1, -1, 11, 12, 20, 21, 19]
    blocks = np.concatenate([np.zeros((2, FRAMES)), heard(order) + 2e-5])
    np.testing.assert_array_equal(realregulator.identified(blocks, packets_of()), [-1, -1, *order])


def test_what_no_loss_caused_spares_its_neighbourhood() -> None:
    lost = np.zeros(PACKETS, bool)
    lost[50] = True
    order = [*range(10, 50), 49, -1, -1, *range(53, 150), -1, *range(151, 199)]
    near = realregulator.disturbed(np.array(order), lost, on_time(len(order)))
    assert not near[10:120].any()
    assert near[130:170].all()


def test_a_late_cycle_spares_its_neighbourhood() -> None:
    lost, order = np.zeros(PACKETS, bool), np.arange(150)
    times = on_time(len(order))
    times[100:] += 4_000_000
    near = realregulator.disturbed(order, lost, times)
    assert near[90:120].all()
    assert not near[:70].any()


def draw(lost_packets: list[int]) -> Draw:
    sound = packets_of()[FIRST:].ravel()
    lost = np.zeros(PACKETS - FIRST, bool)
    lost[lost_packets] = True
    return Draw("noise", 1, "single", sound, lost, FIRST)


@pytest.mark.parametrize(
    ("after", "slipped"), [([-1, -1, *range(103, 160)], 0), ([-1, *range(104, 160)], 2)]
)
def test_a_gap_is_heard_in_time_with_either_side(after: list[int], slipped: int) -> None:
    blocks = heard([*range(20, 100), 99, *after])
    found = realregulator.identified(blocks, packets_of())
    judged, left_out = realregulator.gaps(
        draw([100 - FIRST]), blocks, found, np.zeros(PACKETS, bool)
    )
    assert left_out == 0
    (gap,) = judged
    assert gap.slipped == slipped
    centre = realregulator.WINDOW
    np.testing.assert_array_equal(gap.heard[0][centre - FRAMES : centre], packets_of()[99])
    if slipped:
        beyond = gap.heard[-1][centre + 4 * FRAMES :][:FRAMES]
        np.testing.assert_array_equal(beyond, packets_of()[104])


def test_gaps_near_a_fault_are_not_judged() -> None:
    blocks = heard([*range(20, 160)])
    found = realregulator.identified(blocks, packets_of())
    near = np.zeros(PACKETS, bool)
    near[100] = True
    judged, left_out = realregulator.gaps(draw([60, 90]), blocks, found, near)
    assert (len(judged), left_out) == (1, 1)
    assert flaws.of_gap(np.zeros(10_000), np.zeros(10_000), 4096, 4224, FRAMES) is None


def test_the_feeder_follows_the_clients_numbering_and_leaves_out_what_is_lost() -> None:
    sound = np.arange(8 * FRAMES, dtype=np.int16)
    lost = np.zeros(8, bool)
    lost[2] = True
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hub,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        hub.bind(("127.0.0.1", 0))
        client.settimeout(5.0)
        client.connect(hub.getsockname())
        for sequence in (65534, 65535, 0, 0, 65535, 3):  # one twice, one late, two missing
            client.send(pack_header(AudioHeader(0, sequence, FRAMES, 3, 16, 1, 1)))
        client.send(EXIT_PACKET)
        fed: list[int] = []
        packets = feeder.datagrams(sound, FRAMES)
        thread = threading.Thread(target=lambda: fed.append(feeder.feed(hub, packets, lost)))
        thread.start()
        thread.join(5.0)
        assert fed == [6]
        got = [client.recv(2048) for _ in range(5)]
    assert [parse_datagram(each)[0].sequence for each in got] == [0, 1, 3, 4, 5]
    assert got[3][16:] == sound[4 * FRAMES : 5 * FRAMES].tobytes()
