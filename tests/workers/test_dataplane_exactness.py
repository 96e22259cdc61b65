"""What returns is what was sent, sample for sample: formats, packet sizes, header bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from shared.layout import PatchMode, RxState
from tests.workers.hearing import Wire
from tests.workers.players import Player, noise
from tests.workers.rig import Rig
from tests.workers.takes import repeat_if_disturbed, take

pytestmark = pytest.mark.living

LISTS = {  # counters that must not move while nothing goes wrong
    "lost", "late", "duplicates", "reordered", "repaired", "malformed", "foreign",
    "underruns", "concealed_frames", "overflows", "restarts", "kernel_drops", "sanitised",
}  # fmt: skip


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.stop()


@pytest.mark.parametrize("mode", [PatchMode.LOOPBACK, PatchMode.FULL_MIX])
@repeat_if_disturbed
def test_a_client_at_the_hubs_period_hears_every_16_bit_value(rig: Rig, mode: PatchMode) -> None:
    rig.arena.control[0]["patch"] = mode
    player = Player(np.arange(-32768, 32768).reshape(2, -1))

    with take(rig, player, queue=4) as performance:
        performance.play(0.9)

    performance.assert_hears(player, {player: 1.0}, at_least=32768)
    heard = performance.heard[player]
    low, high = performance.span(player)
    sent = np.roll(player.signal, heard.position - low, axis=1)[:, : high - low]
    sent = np.tile(sent, 2)[:, : high - low]
    rule = np.copysign(np.floor(np.abs(sent / 32768 * 32767) + 0.5), sent)
    as_ruled = np.all(heard.part(low, high) == rule, axis=0)
    performance.assert_right(as_ruled | performance.excused(player, low, high))
    performance.assert_counters(player, dict.fromkeys(LISTS, 0))


@repeat_if_disturbed
def test_every_bit_resolution_returns_bit_exact(rig: Rig) -> None:
    rig.arena.control[0]["patch"] = PatchMode.LOOPBACK
    players = [
        Player(noise(128 * 60, bits=bits, seed=bits, level=0.9), bits=bits)
        for bits in (8, 16, 24, 32)
    ]

    with take(rig, *players) as performance:
        performance.play(0.4)

    for player in players:
        performance.assert_hears(player, {player: 1.0})
        assert {h.bits for h in performance.heard[player].stream.headers} == {player.bits}


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@repeat_if_disturbed
def test_sources_of_every_resolution_are_heard_at_another(rig: Rig, bits: int) -> None:
    rig.arena.control[0]["patch"] = PatchMode.FULL_MIX
    others = [b for b in (8, 16, 24, 32) if b != bits]
    players = [Player(noise(128 * 60, bits=b, seed=b, level=0.3), bits=b) for b in (bits, *others)]

    with take(rig, *players) as performance:
        performance.play(0.3)

    performance.assert_hears(players[0], dict.fromkeys(players, 1.0))


@repeat_if_disturbed
def test_channels_return_by_number_and_the_header_says_which(rig: Rig) -> None:
    """Byte 14: what the client sends; byte 15: 0 if it gets as many, else how many it gets."""
    rig.arena.control[0]["patch"] = PatchMode.LOOPBACK
    shapes = [(1, 1), (2, 2), (1, 2), (2, 1), (3, 1), (16, 16), (1, 16), (16, 2)]
    players = [
        Player(noise(128 * 60, sends, seed=7 * sends + wants), wants=wants)
        for sends, wants in shapes
    ]

    with take(rig, *players) as performance:
        performance.play(0.4)

    for player, (sends, wants) in zip(players, shapes, strict=True):
        performance.assert_hears(player, {player: 1.0})
        size = 16 + 128 * wants * 2
        channel_bytes = (sends, 0 if sends == wants else wants)
        for data in player.returned:
            assert len(data) == size
            assert (data[14], data[15]) == channel_bytes


@repeat_if_disturbed
def test_header_of_every_packet(rig: Rig) -> None:
    """Own format, numbers from 0 in steps of one, wall clock, and silence is sent as well."""
    rig.arena.control[0]["patch"] = PatchMode.LOOPBACK
    silent: Wire = np.zeros((2, 128), np.int64)
    player = Player(silent)
    before = time.time_ns() // 1000

    with take(rig, player) as performance:
        low = rig.now
        high = performance.play(0.4)
    after = time.time_ns() // 1000

    stream = performance.heard[player].stream
    performance.assert_numbered(player)
    assert len(stream.numbers) >= (high - low) // 128 - performance.missed
    for header in stream.headers:
        assert (header.frames, header.rate_code, header.bits) == (128, 3, 16)
        assert (header.sends, header.wants) == (2, 2)
        assert before <= header.timestamp_us <= after
    stamps = [header.timestamp_us for header in stream.headers]
    assert stamps == sorted(stamps)
    assert not stream.values.any()


@repeat_if_disturbed
def test_packet_numbers_wrap(rig: Rig) -> None:
    rig.arena.control[0]["patch"] = PatchMode.LOOPBACK
    player = Player(noise(128 * 60), first=65536 - 40)

    with take(rig, player) as performance:
        performance.play(0.5)

    performance.assert_hears(player, {player: 1.0})
    performance.assert_counters(player, dict.fromkeys(LISTS, 0))


@repeat_if_disturbed
def test_clients_over_ipv6_and_ipv4_hear_each_other(rig: Rig) -> None:
    rig.arena.control[0]["patch"] = PatchMode.FULL_MIX
    players = [
        Player(noise(128 * 60, seed=k, level=0.2), address=address)
        for k, address in enumerate(("::1", "127.0.0.1", "::1"))
    ]

    with take(rig, *players) as performance:
        performance.play(0.3)

    for player in players:
        performance.assert_hears(player, dict.fromkeys(players, 1.0))
        assert performance.counters[player]["foreign"] == 0


@repeat_if_disturbed
def test_one_receiver_may_serve_several_clients(rig: Rig) -> None:
    """Who leaves takes nobody along; a successor goes on with all of them."""
    rig.arena.control[0]["patch"] = PatchMode.LOOPBACK
    players = [Player(noise(frames * 50, seed=frames), frames=frames) for frames in (128, 64, 240)]

    with take(rig, *players, shared=True) as performance:
        performance.play(0.2)
        left = rig.now
        players[2].say_goodbye()
        performance.band.remove(players[2])
        kept = performance.play(0.2)
        assert rig.state(players[2].slot) == RxState.ENDED
        players[2].say_goodbye()  # nobody listens any more
        performance.play(0.02)
        assert {rig.counter(player.slot, "pid") for player in players} == {
            rig.counter(players[0].slot, "pid")
        }
        with performance.promptly():
            rig.kill(rig.receiver_token(players[0].slot))
            rig.start_receiver(*(player.slot for player in players[:2]))
        killed = performance.play(0.1)
        performance.play(0.2)

    low, high = performance.span()
    performance.assert_hears(players[2], {players[2]: 1.0}, low, min(left, high), 0)
    assert players[2].exits == 2
    for player in players[:2]:
        low, high = performance.span(player)
        performance.assert_hears(player, {player: 1.0}, low, kept - 256, 9600)
        performance.assert_hears(player, {player: 1.0}, killed, high)


CLOCKS = [(16, 48000, 3), (100, 48000, 3), (128, 48000, 3), (441, 44100, 2), (1024, 96000, 5)]
PACKETS = [16, 64, 100, 128, 256, 441, 480, 1024]


@pytest.mark.parametrize(("period", "rate", "code"), CLOCKS)
def test_packets_of_any_size_against_periods_of_any_size(period: int, rate: int, code: int) -> None:
    rig = Rig(period=period, rate=rate, mode=PatchMode.LOOPBACK)

    @repeat_if_disturbed
    def plays_exactly() -> None:
        players = [
            Player(noise(frames * (6000 // frames + 1), seed=frames), frames=frames, rate_code=code)
            for frames in PACKETS
        ]
        with take(rig, *players) as performance:
            performance.play(0.5)
        for player in players:
            performance.assert_hears(player, {player: 1.0})
            stream = performance.heard[player].stream
            performance.assert_numbered(player)
            form = {(header.frames, header.rate_code) for header in stream.headers}
            assert form == {(player.frames, code)}

    try:
        plays_exactly()
    finally:
        rig.stop()
