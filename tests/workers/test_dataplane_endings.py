"""How a session begins and ends, and what is said to the client of it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.layout import EndReason, PatchMode, RxState, StopOrder
from shared.protocol import EXIT_PACKET
from tests.workers.players import Player, noise
from tests.workers.rig import Rig, alive, wait_until
from tests.workers.takes import SETTLED_FRAMES, repeat_if_disturbed, take

pytestmark = pytest.mark.alone

ALMOST_S = 9.0
"""Silence that is short of what ends a session, but for a moment in which machines may halt."""

KNOWN_S = 5.0
"""More than it takes to measure a rate."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(mode=PatchMode.LOOPBACK)
    yield rig
    rig.stop()


@contextmanager
def guest(rig: Rig, *, admitted: bool = True, heard: bool = True, **form: int) -> Iterator[Player]:
    """A client with a slot, that has sent a little and, if admitted, been answered."""
    player = Player(noise(128 * 40), **form)  # type: ignore[arg-type]
    rig.join(player)
    if not admitted:
        rig.arena.slots[player.slot]["admit"] = 0
    if heard:
        for _ in range(4):
            player.step()
        state = RxState.ACTIVE if admitted else RxState.KNOCKING
        wait_until(lambda: rig.state(player.slot) == state, what="the client is known")
        if admitted:
            wait_until(player.hears, what="it hears")
    yield player
    rig.leave(player)


def ended(rig: Rig, player: Player) -> EndReason:
    wait_until(lambda: rig.state(player.slot) == RxState.ENDED, what="the session ends")
    player.collect()
    return rig.reason(player.slot)


def exits_after(rig: Rig, player: Player) -> int:
    """Exit packets that came by the time the hub has ticked on."""
    until = rig.ticks + 20
    wait_until(lambda: rig.ticks > until)
    player.collect()
    return player.exits


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_client_that_says_goodbye_is_answered_twice(rig: Rig, count: int) -> None:
    with guest(rig) as player:
        for _ in range(count):
            player.send(EXIT_PACKET)

        assert ended(rig, player) == EndReason.CLIENT_EXIT
        assert exits_after(rig, player) == 2
        assert rig.counter(player.slot, "malformed") == 0


def test_after_its_goodbye_a_client_gets_no_more_audio(rig: Rig) -> None:
    with guest(rig) as player:
        player.say_goodbye()
        ended(rig, player)
        exits_after(rig, player)
        before = len(player.returned)

        exits_after(rig, player)

        assert len(player.returned) == before


def test_a_goodbye_before_any_audio_opens_and_ends_nothing(rig: Rig) -> None:
    with guest(rig, heard=False) as player:
        player.say_goodbye()

        wait_until(lambda: rig.counter(player.slot, "malformed") == 2)
        assert rig.state(player.slot) == RxState.WAITING
        assert exits_after(rig, player) == 0
        player.step()
        player.step()
        wait_until(lambda: rig.state(player.slot) == RxState.ACTIVE)


def test_a_goodbye_from_another_port_ends_nothing(rig: Rig) -> None:
    """Late exit packets of whoever used the port before."""
    with guest(rig) as player, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        for _ in range(2):
            stranger.sendto(EXIT_PACKET, player.hub)

        wait_until(lambda: rig.counter(player.slot, "foreign") == 2)
        assert rig.state(player.slot) == RxState.ACTIVE
        assert exits_after(rig, player) == 0


def test_63_other_bytes_end_nothing(rig: Rig) -> None:
    with guest(rig) as player:
        for k in (0, 31, 62):
            player.send(EXIT_PACKET[:k] + b"\xfe" + EXIT_PACKET[k + 1 :])
        player.send(bytes(63))

        wait_until(lambda: rig.counter(player.slot, "malformed") == 4)
        assert rig.state(player.slot) == RxState.ACTIVE
        assert exits_after(rig, player) == 0


def test_ten_silent_seconds_end_a_session(rig: Rig) -> None:
    """The arena says when the last datagram came: the test moves that into the past."""
    with guest(rig) as player:
        rig.arena.rx[player.slot]["valid_ns"] -= int(ALMOST_S * 1e9)
        assert exits_after(rig, player) == 0
        assert rig.state(player.slot) == RxState.ACTIVE
        before = len(player.returned)
        exits_after(rig, player)
        assert len(player.returned) >= before + 20  # until then it is served

        rig.arena.rx[player.slot]["valid_ns"] -= int(1e9)

        assert ended(rig, player) == EndReason.SILENCE
        assert exits_after(rig, player) == 2


def test_junk_does_not_keep_a_session_alive(rig: Rig) -> None:
    with guest(rig) as player:
        rig.arena.rx[player.slot]["valid_ns"] -= int(ALMOST_S * 1e9)

        def junk() -> bool:
            player.send(b"hello?")
            return rig.state(player.slot) == RxState.ENDED

        wait_until(junk, what="the session ends")
        assert rig.reason(player.slot) == EndReason.SILENCE


def test_a_client_that_never_sends_is_given_up(rig: Rig) -> None:
    with guest(rig, heard=False) as player:
        rig.arena.rx[player.slot]["valid_ns"] -= int(10e9)

        assert ended(rig, player) == EndReason.NO_UDP
        assert exits_after(rig, player) == 0


@pytest.mark.parametrize("admitted", [True, False], ids=["active", "knocking"])
def test_a_kicked_client_is_told(rig: Rig, admitted: bool) -> None:
    with guest(rig, admitted=admitted) as player:
        rig.arena.slots[player.slot]["stop"] = StopOrder.KICK

        assert ended(rig, player) == EndReason.KICKED
        assert exits_after(rig, player) == 2


def test_a_kick_before_the_first_datagram_has_nobody_to_tell(rig: Rig) -> None:
    with guest(rig, heard=False) as player:
        rig.arena.slots[player.slot]["stop"] = StopOrder.KICK

        assert ended(rig, player) == EndReason.KICKED
        assert exits_after(rig, player) == 0


@pytest.mark.parametrize("admitted", [True, False], ids=["active", "knocking"])
def test_a_replaced_session_ends_without_a_word(rig: Rig, admitted: bool) -> None:
    """Its address and port are already those of the client's new session."""
    with guest(rig, admitted=admitted) as player:
        rig.arena.slots[player.slot]["stop"] = StopOrder.SILENT

        assert ended(rig, player) == EndReason.REPLACED
        assert exits_after(rig, player) == 0


def test_nobody_is_served_before_it_is_admitted(rig: Rig) -> None:
    with guest(rig, admitted=False) as player:
        rx = rig.arena.rx[player.slot]
        assert (rx["frames"], rx["bits"], rx["channels"], rx["wants"]) == (128, 16, 2, 2)
        assert rx["peer_port"] == player.socket.getsockname()[1]
        assert exits_after(rig, player) == 0
        assert not player.returned

        rig.arena.slots[player.slot]["admit"] = rig.arena.slots[player.slot]["session"]

        player.step()
        wait_until(player.hears, what="it hears")


def test_a_client_that_wants_more_than_a_datagram_holds_is_ended(rig: Rig) -> None:
    """16 channels of 1024 floats: one byte more than UDP carries is enough."""
    player = Player(noise(1024 * 4, 1, bits=32), frames=1024, bits=32, wants=16)
    rig.join(player)

    player.step()

    assert ended(rig, player) == EndReason.TOO_LARGE
    assert exits_after(rig, player) == 2
    assert not player.returned
    rig.leave(player)


@repeat_if_disturbed
def test_a_slot_keeps_nothing_of_who_had_it(rig: Rig) -> None:
    """The next session's stream begins at 0, and with silence."""
    loud, quiet = Player(noise(128 * 40, level=1.0)), Player(noise(128 * 40, level=0.001))
    with take(rig, loud) as performance:
        performance.play(0.1)
    with take(rig, quiet) as performance:
        performance.play(0.2)

    assert quiet.slot == loud.slot
    stream = performance.heard[quiet].stream
    assert stream.numbers[0] == 0
    assert abs(stream.values).max() <= 2 * 33  # concealment may overshoot, not by more
    performance.assert_hears(quiet, {quiet: 1.0})
    assert performance.span(quiet)[0] - performance.heard[quiet].origin > SETTLED_FRAMES


def test_a_rate_that_must_be_measured_ends_no_receiver(rig: Rig) -> None:
    """For as long as it is not known, packets have no length in time."""
    player = Player(noise(128 * 40), rate_code=7)
    rig.join(player)
    slot = player.slot
    for _ in range(4):
        player.step()
    wait_until(lambda: rig.state(slot) == RxState.KNOCKING, what="the client is known")
    pid, began = rig.counter(slot, "pid"), time.monotonic()
    while rig.state(slot) == RxState.KNOCKING and time.monotonic() - began < KNOWN_S:
        player.step()
        time.sleep(128 / 48000)

    assert rig.counter(slot, "pid") == pid
    assert alive(pid)
    wait_until(lambda: rig.counter(slot, "datagrams") >= player.steps, what="all are read")
    rig.leave(player)
