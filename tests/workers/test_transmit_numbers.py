"""Return streams: numbers, ticks that were missed, redundant parts, packets that cannot leave."""

from __future__ import annotations

import numpy as np
import pytest

from shared.layout import PatchMode
from shared.protocol import parse_datagram
from tests.workers.desk import decoded, desk_of
from workers.transmit import serve_listener


def test_numbers_wrap() -> None:
    with desk_of() as desk:
        desk.listener(0)
        desk.publish({})
        desk.serve(0)
        desk.arena.tx[0]["sequence"] = 65534
        numbers = []
        for _ in range(4):
            desk.publish({})
            numbers.append(parse_datagram(desk.serve(0)[0])[0].sequence)
    assert numbers == [65534, 65535, 0, 1]


def test_missed_ticks_are_a_gap_in_the_numbers() -> None:
    with desk_of() as desk:
        desk.listener(0)
        numbers = []
        for jump in (0, 0, 4, 0):
            desk.tick += jump
            desk.publish({})
            numbers.append(parse_datagram(desk.serve(0)[0])[0].sequence)
    assert numbers == [0, 1, 6, 7]


@pytest.mark.parametrize(("frames", "period"), [(1024, 64), (441, 128), (120, 128)])
def test_single_missed_ticks_add_up(frames: int, period: int) -> None:
    """Each is less than a packet, or no whole number of them: time does not get lost."""
    with desk_of(period=period) as desk:
        desk.listener(0, frames=frames, wants=1)
        last = -1
        for _ in range(200):
            desk.tick += 1  # one missed, one served
            desk.publish({})
            for datagram in desk.serve(0):
                last = parse_datagram(datagram)[0].sequence
    packets = 400 * period / frames
    assert packets - 3 <= last <= packets


def test_gap_too_long_to_be_a_loss_is_none() -> None:
    """A client takes a step of more than 1000 for a restart and drops what follows."""
    with desk_of() as desk:
        desk.listener(0)
        numbers = []
        for jump in (0, 900, 901, 100_000):
            desk.tick += jump
            desk.publish({})
            numbers.append(parse_datagram(desk.serve(0)[0])[0].sequence)
    assert numbers == [0, 901, 902, 903]


def test_part_of_a_packet_that_was_missed_is_silence() -> None:
    """The packet leaves when it is due, with a hole in it."""
    with desk_of(period=64) as desk:
        desk.listener(0, frames=256, bits=32, wants=1)
        desk.mode(PatchMode.FULL_MIX)
        heard = []
        for jump in (0, 0, 0, 0, 0, 2):
            desk.tick += jump
            desk.publish({1: np.full((1, 64), 0.5, np.float32)})
            heard += desk.serve(0)
        assert [parse_datagram(datagram)[0].sequence for datagram in heard] == [0, 1]
        expected = np.full(256, 0.5)
        expected[64:192] = 0
        np.testing.assert_array_equal(decoded(heard[1])[0], expected)


def test_packet_whose_end_was_missed_is_sent() -> None:
    with desk_of(period=64) as desk:
        desk.listener(0, frames=256, bits=32, wants=1)
        desk.mode(PatchMode.FULL_MIX)
        heard = []
        for jump in (0, 0, 0, 0, 0, 5, 0, 0):
            desk.tick += jump
            desk.publish({1: np.full((1, 64), 0.5, np.float32)})
            heard += desk.serve(0)
        numbers = [parse_datagram(datagram)[0].sequence for datagram in heard]
        assert numbers == [0, 1, 2]
        np.testing.assert_array_equal(decoded(heard[1])[0], np.repeat([0.5, 0], [64, 192]))
        np.testing.assert_array_equal(decoded(heard[2])[0], np.repeat([0, 0.5], [128, 128]))


def test_older_parts_after_a_gap_are_zero_bytes() -> None:
    """They would not be the packets before the newest, which is all that a client checks."""
    with desk_of() as desk:
        desk.listener(0, redundancy=2)
        for jump in (0, 0, 3):
            desk.tick += jump
            desk.publish({1: np.full((2, 128), 0.25, np.float32)})
            (datagram,) = desk.serve(0)
        header, _ = parse_datagram(datagram)
        assert header.sequence == 5
        assert datagram[header.packet_bytes :] == bytes(header.packet_bytes)


def test_older_parts_are_zero_bytes_at_first() -> None:
    with desk_of() as desk:
        desk.listener(0, redundancy=3)
        seen: list[bytes] = []
        for _ in range(4):
            desk.publish({1: np.full((2, 128), 0.25, np.float32)})
            (datagram,) = desk.serve(0)
            size = parse_datagram(datagram)[0].packet_bytes
            parts = [datagram[i : i + size] for i in range(0, len(datagram), size)]
            assert len(parts) == 3
            older = [*seen[:2], bytes(size), bytes(size)][:2]
            assert parts[1:] == older
            seen.insert(0, parts[0])


def test_redundancy_gives_way_to_the_largest_datagram() -> None:
    """16 channels × 512 frames × 16 bit: 16400 bytes, three of them fit into a datagram."""
    with desk_of(period=512) as desk:
        desk.listener(0, frames=512, wants=16, redundancy=4)
        desk.publish({})
        (datagram,) = desk.serve(0)
        assert len(datagram) == 3 * (16 + 16 * 512 * 2)


def test_packet_that_fits_no_datagram_is_an_error_and_no_crash() -> None:
    with desk_of() as desk:
        desk.listener(0, frames=8192, bits=32, wants=2)
        desk.publish({})
        assert desk.serve(0) == []
        assert desk.arena.tx[0]["errors"] == 1


def test_send_that_fails_is_counted_and_numbered() -> None:
    with desk_of() as desk:
        desk.listener(0)
        desk.publish({})
        serve_listener(desk.arena, 0, desk.tick, -1, desk.wall_us, desk.lane)
        assert desk.arena.tx[0]["errors"] == 1
        desk.publish({})
        assert parse_datagram(desk.serve(0)[0])[0].sequence == 1
