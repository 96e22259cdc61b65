"""Receivers that serve many: nobody hears that another is served by the same process."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.layout import EndReason, PatchMode, RxState, StopOrder
from shared.limits import MAX_SHARING, SHARED_CHANNELS, SHARED_FRAMES
from shared.messages import MAIL, MailOp, send_order
from tests.machine import Witness
from tests.workers.flood import Flood
from tests.workers.players import APART_S, Player, noise
from tests.workers.rig import Rig, alive, wait_until
from tests.workers.takes import Take, repeat_if_disturbed, take
from tests.workers.test_dataplane_failures import RECEIVER_GAP
from workers.rounds import FEW

pytestmark = pytest.mark.living

TROUBLES = (
    "lost", "late", "duplicates", "reordered", "malformed", "foreign", "underruns",
    "concealed_frames", "overflows", "restarts", "kernel_drops", "sanitised",
)  # fmt: skip
FLOOD_PER_S = 100_000
AUDIO_PER_S = 3_000
FLOOD_S = 0.5


@pytest.fixture(scope="module")
def rigs() -> Iterator[list[Rig]]:
    rigs: list[Rig] = []
    yield rigs
    for rig in rigs:
        rig.stop()


@pytest.fixture
def rig(rigs: list[Rig]) -> Rig:
    """One for all tests but those that end it."""
    if not rigs:
        rigs.append(Rig(mode=PatchMode.FAN_OUT_NO_SELF))
    return rigs[-1]


def band(count: int) -> list[Player]:
    return [Player(noise(128 * (50 + k), seed=k, level=0.2)) for k in range(count)]


def served_by(rig: Rig, players: Sequence[Player]) -> set[int]:
    return {rig.counter(player.slot, "pid") for player in players}


def assert_all_hear_all(performance: Take, players: Sequence[Player], end: int) -> None:
    """Until a hub sample when all still played: the tick in which one's sound ends may be late."""
    for player in players:
        others = {other: 1.0 for other in players if other is not player}
        performance.assert_hears(player, others, high=end)
        performance.assert_counters(player, dict.fromkeys(TROUBLES, 0))


@pytest.mark.parametrize("apart_s", [0.0, APART_S], ids=["at once", "spread"])
@repeat_if_disturbed
def test_who_shares_a_receiver_is_heard_to_the_bit(rig: Rig, apart_s: float) -> None:
    """And is read once or twice a tick, however many packets come."""
    formats = [(16, 16), (64, 24), (128, 8), (128, 16), (128, 32), (256, 16), (240, 16)]
    players = [
        Player(
            noise(frames * 40, bits=bits, seed=frames + bits, level=0.1), frames=frames, bits=bits
        )
        for frames, bits in formats
    ]

    with take(rig, *players, shared=True, apart_s=apart_s) as performance:
        assert len(served_by(rig, players)) == 1
        ticks, wakeups = rig.ticks, rig.counter(players[0].slot, "wakeups")
        end = performance.play(0.4) - 2 * rig.period
        ticks, wakeups = rig.ticks - ticks, rig.counter(players[0].slot, "wakeups") - wakeups

    assert_all_hear_all(performance, players, end)
    assert 0.9 * ticks < wakeups < 2.2 * ticks or performance.witnessed


def three_together(k: int) -> Sequence[int]:
    return range(k - 2, k + 1) if k % 3 == 2 else ()


@pytest.mark.parametrize("shared", [False, True], ids=["a process each", "shared"])
@repeat_if_disturbed
def test_packets_that_come_together_are_heard_to_the_bit(rig: Rig, shared: bool) -> None:
    """Of each packet's own length one is asked for, and then those that may be there."""
    players = [
        Player(noise(128 * 60, seed=k, level=0.2), route=three_together, first=k) for k in range(3)
    ]

    with take(rig, *players, shared=shared) as performance:
        end = performance.play(0.4) - 2 * rig.period

    assert_all_hear_all(performance, players, end)


def some_lost(k: int) -> Sequence[int]:
    return () if k % 7 == 3 else (k,)


@repeat_if_disturbed
def test_what_is_lost_is_concealed_as_by_a_receiver_of_ones_own(rig: Rig) -> None:
    alone, *others = (Player(noise(128 * 60, seed=4), route=some_lost) for _ in range(3))

    with take(rig, *others, shared=True) as performance:
        performance.add(alone)
        assert len(served_by(rig, [alone, *others])) == 2
        performance.play(0.4)

    for player in (alone, *others):
        counters = performance.counters[player]
        assert counters["late"] == counters["restarts"] == 0 or performance.witnessed
        lost = player.steps // 7
        assert abs(counters["underruns"] - lost) <= 4 or performance.witnessed
        assert abs(rig.counter(player.slot, "lost") - lost) <= 1
        per_gap = counters["concealed_frames"] / counters["underruns"]
        assert 120 <= per_gap <= 128 or performance.witnessed


@repeat_if_disturbed
def test_a_flood_at_a_neighbour_costs_nobody_a_sample(rig: Rig) -> None:
    victim, first, second = players = band(3)
    small = [b"", b"?", bytes(15), bytes(16), bytes(48), bytes(63)]

    with take(rig, *players, shared=True) as performance:
        rig.set_pair(first.slot, {victim.slot: 0.0})
        rig.set_pair(second.slot, {victim.slot: 0.0})
        start = performance.play(0.1)
        with Flood(victim.socket, victim.hub, small, FLOOD_PER_S) as flood:
            performance.play(FLOOD_S)
        performance.play(0.05)
        end = rig.now - 256
        if flood.sent < 0.5 * FLOOD_PER_S * FLOOD_S:
            performance.disturbances.append(f"the flood was but {flood.sent} datagrams")
        rig.set_pair(first.slot, {})
        rig.set_pair(second.slot, {})

    assert flood.sent >= 0.5 * FLOOD_PER_S * FLOOD_S
    performance.assert_hears(first, {second: 1.0}, start, end, complete=True)
    performance.assert_hears(second, {first: 1.0}, start, end, complete=True)
    performance.assert_hears(victim, {first: 1.0, second: 1.0})
    for player in (first, second):
        performance.assert_counters(player, dict.fromkeys(TROUBLES, 0))
    counters = performance.counters[victim]
    counted = counters["malformed"] + counters["kernel_drops"]
    assert counted == pytest.approx(flood.sent, rel=0.01)
    assert counters["datagrams"] <= FEW * counters["wakeups"]  # never more at once
    assert counters["state"] == RxState.ACTIVE


def costly(player: Player) -> list[bytes]:
    """Valid datagrams of many packets, all of them news, that begin anew every 1600 packets."""
    return [player.datagram(k) for k in range(7, 1607, 8)]


@repeat_if_disturbed
def test_a_neighbour_that_sends_ever_more_audio_costs_nobody_a_sample(rig: Rig) -> None:
    """Each datagram holds as much as a format may that shares a receiver, and is ever news."""
    frames = SHARED_FRAMES
    hostile = Player(
        noise(frames * 20, SHARED_CHANNELS, seed=9, level=0.1), frames=frames, redundancy=8
    )
    first, second = band(2)

    with take(rig, hostile, first, second, shared=True) as performance:
        rig.set_pair(first.slot, {hostile.slot: 0.0})
        rig.set_pair(second.slot, {hostile.slot: 0.0})
        start = performance.play(0.1)
        with Flood(hostile.socket, hostile.hub, costly(hostile), AUDIO_PER_S) as flood:
            performance.play(FLOOD_S)
        end = rig.now - 256
        if flood.sent < 0.5 * AUDIO_PER_S * FLOOD_S:
            performance.disturbances.append(f"the flood was but {flood.sent} datagrams")
        rig.set_pair(first.slot, {})
        rig.set_pair(second.slot, {})

    assert flood.sent >= 0.5 * AUDIO_PER_S * FLOOD_S
    assert performance.counters[hostile]["packets"] > 1000
    performance.assert_hears(first, {second: 1.0}, start, end, complete=True)
    performance.assert_hears(second, {first: 1.0}, start, end, complete=True)
    for player in (first, second):
        performance.assert_counters(player, dict.fromkeys(TROUBLES, 0))


@pytest.mark.parametrize(
    "fmt",
    [{"channels": SHARED_CHANNELS + 1}, {"frames": SHARED_FRAMES + 1}],
    ids=["channels", "frames"],
)
@repeat_if_disturbed
def test_a_format_that_takes_long_is_left_to_a_receiver_of_its_own(
    rig: Rig, fmt: dict[str, int]
) -> None:
    channels, frames = fmt.get("channels", 2), fmt.get("frames", 128)
    first, second = band(2)
    guest = Player(noise(frames * 40, channels, seed=5, level=0.1), frames=frames)

    with take(rig, first, second, shared=True) as performance:
        token = rig.receiver_token(first.slot)
        begin = performance.play(0.05)
        guest.slot = rig.prepare()
        guest.hub = rig.hub(guest.slot)
        for listener in (first, second):
            rig.set_pair(listener.slot, {guest.slot: 0.0})
        rig.put_to(token, guest.slot)
        performance.band.add(guest)
        wait_until(lambda: rig.counter(guest.slot, "pid") == 0, what="it is given up")
        assert rig.state(guest.slot) is RxState.KNOCKING
        wait_until(lambda: len(files(rig, token)) <= 2 + 2 + 5, what="its socket is closed")
        rig.start_receiver(guest.slot)
        performance.wait_active(guest)
        performance.band.remove(guest)
        end = performance.play(0.05) - 256
        assert len(served_by(rig, [first, second, guest])) == 2
        rig.set_pair(first.slot, {})
        rig.set_pair(second.slot, {})
        rig.arena.slots[guest.slot]["stop"] = StopOrder.SILENT
        wait_until(lambda: rig.state(guest.slot) == RxState.ENDED)
        rig.free(guest.slot)

    performance.assert_hears(first, {second: 1.0}, begin, end, 0)
    performance.assert_hears(second, {first: 1.0}, begin, end, 0)
    guest.close()


def files(rig: Rig, token: int) -> list[Path]:
    """Descriptors of a worker: sockets, mail and life, and what every receiver has."""
    return list(Path(f"/proc/{rig.pids[token]}/fd").iterdir())


@repeat_if_disturbed
def test_who_comes_and_who_is_sent_away_costs_nobody_a_sample(rig: Rig) -> None:
    """Newcomers are put to the living receiver, in the places of who has left."""
    first, second, *guests = band(6)
    obeyed: list[tuple[int, list[str]]] = []

    with take(rig, first, second, shared=True) as performance:
        token = rig.receiver_token(first.slot)
        begin = performance.play(0.05)
        for guest in guests:
            guest.slot = rig.prepare()
            guest.hub = rig.hub(guest.slot)
            for listener in (first, second):
                rig.set_pair(listener.slot, {each.slot: 0.0 for each in guests if each.slot >= 0})
            rig.put_to(token, guest.slot)
            performance.band.add(guest)
            performance.wait_active(guest)
            witness = Witness([rig.pids[token], os.getpid()])
            rig.arena.slots[guest.slot]["stop"] = StopOrder.KICK
            ticks = rig.ticks
            wait_until(lambda slot=guest.slot: rig.state(slot) == RxState.ENDED)  # type: ignore[misc]
            obeyed.append((rig.ticks - ticks, witness.tells()))
            performance.band.remove(guest)
            wait_until(lambda guest=guest: guest.exits >= 2, what="it is told")  # type: ignore[misc]
            performance.play(0.02)
            assert rig.reason(guest.slot) is EndReason.KICKED
            rig.free(guest.slot)
        end = performance.play(0.1) - 256
        wait_until(lambda: len(files(rig, token)) <= 2 + 2 + 5, what="their sockets are closed")
        assert len(served_by(rig, [first, second])) == 1
        rig.set_pair(first.slot, {})
        rig.set_pair(second.slot, {})

    assert all(ticks <= 3 or waited for ticks, waited in obeyed) or performance.witnessed, obeyed
    performance.assert_hears(first, {second: 1.0}, begin, end, 0)
    performance.assert_hears(second, {first: 1.0}, begin, end, 0)
    for guest in guests:
        assert guest.exits == 2
        guest.close()


@repeat_if_disturbed
def test_who_is_handed_over_to_a_shared_receiver_loses_no_sample(rig: Rig) -> None:
    """Nor do those who are there already; the receivers of their own end in order."""
    players = band(5)
    token = rig.start_receiver(shared=True)

    with take(rig, *players) as performance:
        alone = [rig.receiver_token(player.slot) for player in players]
        performance.play(0.1)
        rig.hand_over(token, players[0].slot)
        performance.play(0.05)
        wait_until(lambda: served_by(rig, players[:1]) == {rig.pids[token]}, what="a hand-over")
        rig.hand_over(token, *(player.slot for player in players[1:]))
        performance.play(0.2)
        wait_until(lambda: served_by(rig, players) == {rig.pids[token]}, what="all hand-overs")
        end = performance.play(0.05) - 256
        for former in alone:
            assert rig.ended(former) == 0
            del rig.pids[former]

    assert_all_hear_all(performance, players, end)


@repeat_if_disturbed
def test_what_is_lost_at_a_hand_over_is_concealed_as_ever(rig: Rig) -> None:
    """No tick goes without sound since the one receiver has left it to the other."""
    players = [Player(noise(128 * 60, seed=k), route=some_lost) for k in range(6)]
    steady = Player(noise(128 * 50, seed=9, level=0.2))
    token = rig.start_receiver(shared=True)

    with take(rig, *players, steady) as performance:
        performance.play(0.1)
        for player in players:
            rig.hand_over(token, player.slot)
            performance.play(0.03)
        wait_until(lambda: served_by(rig, players) == {rig.pids[token]})
        performance.play(0.1)

    for player in players:
        counters = performance.counters[player]
        lost = player.steps // 7
        assert abs(counters["underruns"] - lost) <= 4 or performance.witnessed
        per_gap = counters["concealed_frames"] / counters["underruns"]
        assert 120 <= per_gap <= 128 or performance.witnessed
    performance.assert_counters(steady, dict.fromkeys(TROUBLES, 0))


@repeat_if_disturbed
def test_who_sends_nothing_for_a_while_is_handed_over_too(rig: Rig) -> None:
    """And an AWAIT of a session that is over is forgotten, with its socket."""
    playing, resting = players = band(2)
    token = rig.start_receiver(shared=True)

    with take(rig, *players, expected={"starved"}) as performance:
        performance.play(0.1)
        performance.band.remove(resting)
        performance.play(0.3)
        rig.hand_over(token, resting.slot)
        performance.play(0.2)
        wait_until(lambda: served_by(rig, [resting]) == {rig.pids[token]}, what="a hand-over")
        held = len(files(rig, token))
        rig.arena.slots[resting.slot]["stop"] = StopOrder.SILENT
        wait_until(lambda: rig.state(resting.slot) == RxState.ENDED)
        rig.hand_over(token, resting.slot)
        performance.play(0.1)
        wait_until(lambda: len(files(rig, token)) == held - 1, what="its socket is closed")

    performance.assert_counters(playing, dict.fromkeys(TROUBLES, 0))


def halt(pid: int) -> None:
    """Make a process stand still."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    wait_until(lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "T", what="it stands still")


@contextmanager
def asking(rig: Rig, token: int, player: Player) -> Iterator[None]:
    """A shared receiver has asked for a client, and stands still; the client's own is killed."""
    own = rig.receiver_token(player.slot)
    halt(rig.pids[own])
    try:
        rig.hand_over(token, player.slot)
        wait_until(lambda: rig.counter(player.slot, "heir") == rig.pids[token], what="a request")
        halt(rig.pids[token])
        rig.kill(own)
        yield
    finally:
        for halted in (own, token):
            if alive(rig.pids.get(halted, 0)):
                os.kill(rig.pids[halted], signal.SIGCONT)


@repeat_if_disturbed
def test_a_request_that_a_clients_new_receiver_has_not_seen_is_made_again(rig: Rig) -> None:
    """The receiver that was asked has died, and the one that goes on clears what it finds."""
    player, other = players = band(2)
    token = rig.start_receiver(shared=True)

    with take(rig, *players, expected={"starved"}) as performance:
        performance.play(0.05)
        with performance.promptly(), asking(rig, token, player):
            second = rig.start_receiver(player.slot)
            assert rig.counter(player.slot, "heir") == 0
        wait_until(lambda: served_by(rig, [player]) == {rig.pids[token]}, what="a hand-over")
        begin = performance.play(0.1)
        end = performance.play(0.1) - 256
        assert rig.ended(second) == 0
        del rig.pids[second]

    performance.assert_hears(other, {player: 1.0}, begin, end, 0)
    performance.assert_hears(player, {other: 1.0}, begin, end, 0)
    performance.assert_counters(other, dict.fromkeys(TROUBLES, 0))


@repeat_if_disturbed
def test_a_request_that_came_after_its_session_is_taken_back(rig: Rig) -> None:
    """So the slot's next client stays with its receiver; and the socket that waited is closed."""
    former, newcomer, steady = band(3)
    token = rig.start_receiver(shared=True)

    with take(rig, steady, expected={"starved"}) as performance:
        rig.join(former)
        performance.band.add(former)
        performance.wait_active(former)
        with asking(rig, token, former):
            performance.band.remove(former)
            rig.free(former.slot)
            newcomer.slot = rig.prepare()
            assert newcomer.slot == former.slot
            newcomer.hub = rig.hub(newcomer.slot)
            performance.players.append(newcomer)
            own = rig.start_receiver(newcomer.slot)
            # as if it had stood still between its last look at the session and its request
            rig.arena.rx[newcomer.slot]["heir"] = rig.pids[token]
        wait_until(lambda: rig.counter(newcomer.slot, "heir") == 0, what="it is taken back")
        wait_until(lambda: len(files(rig, token)) <= 2 + 5, what="the socket is closed")
        performance.band.add(newcomer)
        performance.wait_active(newcomer)
        performance.play(0.2)
        assert served_by(rig, [newcomer]) == {rig.pids[own]}
        rig.shared.pop(token).close()
        assert rig.ended(token) == 0
        del rig.pids[token]

    performance.assert_hears(newcomer, {steady: 1.0})
    performance.assert_hears(steady, {newcomer: 1.0})
    for player in (newcomer, steady):
        performance.assert_counters(player, dict.fromkeys(TROUBLES, 0))
    former.close()


@repeat_if_disturbed
def test_a_killed_shared_receiver_is_a_short_gap_of_its_clients(rig: Rig) -> None:
    """Each goes on with a process of its own."""
    first, second, third, witness = players = band(4)

    with take(rig, first, second, third, shared=True, expected={"starved"}) as performance:
        performance.add(witness)
        performance.play(0.1)
        with performance.promptly():
            rig.kill(rig.receiver_token(first.slot))
            for player in (first, second, third):
                rig.start_receiver(player.slot)
        end = performance.play(0.3) - 256
        assert len(served_by(rig, players)) == 4

    performance.assert_hears(first, {second: 1.0, third: 1.0, witness: 1.0}, end - 4800, end, 0)
    for player in (first, second, third):
        counters = performance.counters[player]
        assert counters["concealed_frames"] <= RECEIVER_GAP or performance.witnessed
        assert counters["restarts"] == counters["malformed"] == 0
        assert counters["state"] == RxState.ACTIVE
    performance.assert_counters(witness, dict.fromkeys(TROUBLES, 0))


def test_a_shared_receiver_ends_with_the_last_when_nobody_else_will_come(rig: Rig) -> None:
    first, second = band(2)
    rig.join(first, second, shared=True)
    token = rig.receiver_token(first.slot)
    pid = rig.pids[token]
    rig.arena.slots[first.slot]["stop"] = StopOrder.SILENT
    rig.arena.slots[second.slot]["stop"] = StopOrder.SILENT
    wait_until(lambda: rig.state(first.slot) == rig.state(second.slot) == RxState.ENDED)
    mail = rig.shared.pop(token)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for data in (bytes(31), MAIL.pack(99, 1, 1, 1), MAIL.pack(MailOp.SOCKET, 1 << 40, 5, 0)):
            socket.send_fds(mail, [data], [sock.fileno()])
    assert alive(pid)

    mail.close()

    assert rig.ended(token) == 0
    del rig.pids[token]
    for player in (first, second):
        rig.free(player.slot)
        player.close()


def test_no_order_names_more_than_a_receiver_can_serve(rig: Rig) -> None:
    count = MAX_SHARING + 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        order = {"op": "receiver", "slots": [0] * count, "sessions": [1] * count, "token": 990}
        send_order(rig.orders, order, (sock.fileno(),) * count)
    assert "sockets for" in rig.event("failed", 990)["error"]


def test_every_shared_receiver_ends_when_the_hub_does(rigs: list[Rig], rig: Rig) -> None:
    """One that plays, one whose clients have gone."""
    rigs.remove(rig)
    players = band(3)
    rig.join(*players[:2], shared=True)
    rig.join(players[2], shared=True)
    rig.arena.slots[players[2].slot]["stop"] = StopOrder.SILENT
    for _ in range(3):
        players[0].step()
    wait_until(lambda: rig.state(players[0].slot) == RxState.ACTIVE)
    os.close(rig.life_write)
    rig.life_write = os.dup(rig.life_read)  # something for close() to close

    rig.assert_workers_end(0.5)

    for player in players[:2]:
        assert rig.reason(player.slot) is EndReason.HUB_STOP
    for player in players:
        player.close()
    rig.close()
