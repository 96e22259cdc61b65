"""A client's stay, seen from the arena, with a staff that only takes notes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import numpy as np
import pytest

from hub.addresses import Peer
from hub.membership import OBEY_S
from hub.pans import Section
from hub.sessions import Phase, Session
from hub.values import Queue
from shared.layout import EndReason, RxState, StopOrder
from shared.protocol import EXIT_PACKET, Hello
from tests.hub.stays import HOME, SLOTS, House


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.membership.close()


def test_newcomers_get_what_their_section_has() -> None:
    """And whoever sits there after them gets nothing of it."""
    house = House(sections=(Section("vio*", -40.0, -6.0), Section("tuba", gain_db=3.0)))
    try:
        violin, tuba, flute = (house.enter(name) for name in ("Viola 2", "tuba", "flute"))
        pans = [house.membership.levels.pan(s.slot) for s in (violin, tuba, flute)]
        assert pans == [-40.0, None, None]
        gains = [house.slot(s, "gain") for s in (violin, tuba, flute)]
        assert gains == pytest.approx([10 ** (-6 / 20), 10 ** (3 / 20), 1.0])
        assert house.slot(violin, "pan_left") > house.slot(violin, "pan_right") > 0
        shown = house.directory.clients[violin.slot]
        assert shown.pan == -40.0
        assert shown.gain == pytest.approx(10 ** (-6 / 20))
        house.membership.levels.clear(violin.slot)
        assert house.slot(violin, "panned") == 0
    finally:
        house.membership.close()


def test_a_hello_fills_a_slot_and_orders_a_receiver(house: House) -> None:
    session = house.enter()
    raw = struct.pack("=qq", house.slot(session, "peer_high"), house.slot(session, "peer_low"))
    assert raw == bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])
    fields = ("session", "ipv6", "admit", "stop", "gain", "overrides")
    assert [house.slot(session, f) for f in fields] == [session.number, 0, 0, 0, 1.0, 0]
    assert (house.slot(session, "queue_packets"), house.slot(session, "headroom_ns")) == (0, 3e6)
    assert house.staff.hired == [(session.slot, session.number)]
    assert house.arena.control[0]["slots_high"] == 1
    assert house.directory.clients[0].name == "Anna"
    sock = house.membership.socket_of(session.number)
    assert sock is not None
    assert sock.getsockname() == ("127.0.0.1", session.port)


def test_a_newcomer_finds_nothing_of_the_slots_last_owner_but_what_the_mixer_may_be_reading(
    house: House,
) -> None:
    rx, tx = house.arena.rx, house.arena.tx
    rx_fields, tx_fields = rx.dtype.names or (), tx.dtype.names or ()
    for records in (rx, tx):
        records.view(np.uint8)[:] = 7
    kept = {name: rx[0][name].copy() for name in ("ring_frames", "channels")}
    house.membership.welcome(Hello(4464, "Anna", True), HOME, 0.0)
    assert not any(np.any(tx[0][name]) for name in tx_fields)
    assert {name: rx[0][name] for name in kept} == kept
    assert not any(np.any(rx[0][name]) for name in rx_fields if name not in kept)
    assert (rx[1:].view(np.uint8) == 7).all()
    assert (tx[1:].view(np.uint8) == 7).all()


def test_who_knocks_is_let_in(house: House) -> None:
    session = house.enter()
    house.membership.poll(0.0)
    assert house.slot(session, "admit") == 0
    house.knock(session, 4464)
    assert house.slot(session, "admit") == session.number


def test_a_knock_of_the_slots_last_session_is_not_heard(house: House) -> None:
    session = house.enter()
    house.receiver(session, RxState.KNOCKING, peer_port=4464)
    house.arena.rx[session.slot]["session"] = session.number + 100
    house.membership.poll(0.0)
    assert house.slot(session, "admit") == 0


def test_a_clean_end_frees_slot_port_and_directory(house: House) -> None:
    session = house.join(4464)
    sock = house.membership.socket_of(session.number)
    assert sock is not None
    house.end(session, EndReason.CLIENT_EXIT)
    assert house.table.sessions() == []
    assert house.slot(session, "session") == 0
    assert house.directory.clients == {}
    assert sock.fileno() == -1
    assert house.directory.hub.sessions_ended == {EndReason.CLIENT_EXIT: 1}


def test_a_session_that_ended_is_not_revived_by_its_receivers_bad_end(house: House) -> None:
    session = house.join(4464)
    house.end(session, EndReason.SILENCE, status=-11)
    assert house.table.sessions() == []


def test_a_new_session_starts_from_clean_records(house: House) -> None:
    session = house.join(4464)
    rx, tx = house.arena.rx[session.slot], house.arena.tx[session.slot]
    rx["packets"] = tx["packets"] = 99
    rx["jitter"] = 5
    house.membership.set_queue(session.slot, Queue(7))
    rx["ring_frames"], rx["channels"] = 4096, 2
    house.end(session, EndReason.CLIENT_EXIT)
    house.membership.poll(60.0)  # the slot has rested
    for other in "bcd":
        house.enter(other, 60.0)  # it is kept for Anna as long as others are free
    again = house.enter("Berta", 60.0)
    assert again.slot == session.slot
    assert (rx["packets"], tx["packets"], rx["jitter"].sum()) == (0, 0, 0)
    assert (house.slot(again, "queue_packets"), house.slot(again, "headroom_ns")) == (0, 3e6)
    # of the mixer's own reading nothing may be torn away under it
    assert (rx["ring_frames"], rx["channels"]) == (4096, 2)


def test_a_crashed_receiver_is_replaced_in_the_same_session(house: House) -> None:
    session = house.join(4464)
    house.membership.receiver_ended([session.number], -9, 1.0)
    assert house.staff.hired == [(0, session.number)] * 2
    assert house.directory.clients[0].receiver_restarts == 1
    assert house.directory.hub.restarts["receiver", "killed"] == 1
    assert house.slot(session, "admit") == session.number


def test_a_receiver_that_ends_without_a_reason_has_crashed(house: House) -> None:
    session = house.join(4464)
    house.membership.receiver_ended([session.number], 0, 1.0)
    assert len(house.staff.hired) == 2


def test_too_many_crashes_end_the_session_with_a_goodbye(house: House) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(5.0)
        session = house.join(client.getsockname()[1])
        for k in range(5):
            house.membership.receiver_ended([session.number], -11, 1.0 + k / 10)
        assert [client.recv(100) for _ in range(2)] == [EXIT_PACKET] * 2
    assert house.directory.hub.sessions_ended == {EndReason.FAILED: 1}
    assert house.arena.rx[session.slot]["state"] == RxState.ENDED


def test_a_kick_is_an_order_and_then_an_end(house: House) -> None:
    session = house.join(4464)
    assert house.membership.kick(session, 1.0)
    assert house.slot(session, "stop") == StopOrder.KICK
    assert not house.membership.kick(session, 1.1)
    house.end(session, EndReason.KICKED, 1.2)
    assert house.directory.hub.sessions_ended == {EndReason.KICKED: 1}


def test_who_does_not_obey_is_killed_once(house: House) -> None:
    session = house.join(4464)
    house.membership.kick(session, 1.0)
    for now in (1.5, 1.0 + OBEY_S + 0.1, 1.0 + OBEY_S + 0.2):
        house.membership.poll(now)
    assert house.staff.dismissed == [session.number]
    house.membership.receiver_ended([session.number], -9, 3.0)
    assert house.directory.hub.sessions_ended == {EndReason.KICKED: 1}


def test_a_come_back_moves_into_its_old_slot(house: House) -> None:
    old = house.join(4464)
    other = house.join(4470, "Berta")
    house.membership.levels.set_gain(old.slot, 0.5)
    house.membership.levels.set_pair(other.slot, old.slot, 0.25)
    house.membership.set_queue(old.slot, Queue(7))
    newcomer = house.enter()
    house.knock(newcomer, 4464, 1.0)
    assert house.slot(old, "stop") == house.slot(newcomer, "stop") == StopOrder.SILENT
    house.end(newcomer, EndReason.REPLACED, 1.01)
    assert house.table.by_slot(old.slot) is old  # until its own receiver has ended
    hired = len(house.staff.hired)
    house.end(old, EndReason.REPLACED, 1.02)

    back = house.table.by_slot(old.slot)
    assert back is not None
    assert house.staff.hired[hired:] == [(old.slot, back.number)]
    assert house.slot(back, "session") == house.slot(back, "admit") == back.number
    assert house.slot(back, "stop") == StopOrder.NONE
    assert house.arena.rx[back.slot]["state"] == RxState.IDLE
    assert house.slot(newcomer, "session") == 0
    sock = house.membership.socket_of(back.number)
    assert sock is not None
    assert sock.getsockname()[1] == newcomer.port
    assert (back.name, house.directory.clients[back.slot].name) == ("Anna", "Anna")
    assert sorted(house.directory.clients) == [old.slot, other.slot]
    # her place in the mix is hers still
    assert house.slot(back, "gain") == house.directory.clients[back.slot].gain == 0.5
    assert house.arena.pair[other.slot, back.slot] == 0.25
    assert house.slot(back, "queue_packets") == 7


@pytest.mark.parametrize("which", ["old", "newcomer"])
def test_who_is_kicked_while_coming_back_goes_as_soon_as_it_is_there(
    house: House, which: str
) -> None:
    old, newcomer = house.join(4464), house.enter()
    house.knock(newcomer, 4464, 1.0)
    assert house.membership.kick(old if which == "old" else newcomer, 1.0)
    assert not house.membership.kick(newcomer, 1.0)
    house.end(newcomer, EndReason.REPLACED, 1.01)
    house.end(old, EndReason.REPLACED, 1.02)

    back = house.table.by_slot(old.slot)
    assert back is not None
    assert back.phase is Phase.LEAVING
    assert house.slot(back, "stop") == StopOrder.KICK


def test_a_come_back_survives_crashes_on_the_way(house: House) -> None:
    old, newcomer = house.join(4464), house.enter()
    house.knock(newcomer, 4464, 1.0)
    house.membership.receiver_ended([old.number], -11, 1.1)
    house.membership.receiver_ended([newcomer.number], -11, 1.1)
    back = house.table.by_slot(old.slot)
    assert back is not None
    assert back.phase is Phase.ACTIVE


def test_a_come_back_waits_for_one_who_is_leaving_already(house: House) -> None:
    old, newcomer = house.join(4464), house.enter()
    house.membership.kick(old, 1.0)
    house.knock(newcomer, 4464, 1.0)
    assert newcomer.phase is Phase.WAITING
    assert house.slot(newcomer, "admit") == 0
    house.end(old, EndReason.KICKED, 1.1)
    house.membership.poll(1.11)
    assert house.slot(newcomer, "admit") == newcomer.number


def test_a_second_come_back_waits_for_the_first(house: House) -> None:
    old, first, second = house.join(4464), house.enter(), house.enter()
    house.knock(first, 4464, 1.0)
    house.knock(second, 4464, 1.0)
    assert house.table.waiting() == [second]
    house.end(old, EndReason.REPLACED, 1.1)
    house.end(first, EndReason.REPLACED, 1.1)
    back = house.table.by_slot(old.slot)
    assert back is not None
    house.membership.poll(1.2)
    assert second.phase is Phase.MOVING
    assert house.slot(back, "stop") == StopOrder.SILENT


def test_lanes_look_as_far_as_what_is_cleared_for_a_newcomer(house: House) -> None:
    """One that loads levels in between would keep the row of the slot's last owner."""
    control, levels = house.arena.control[0], house.membership.levels
    together, seen = levels.together, []

    @contextmanager
    def watched(fade_s: float = 0.0) -> Iterator[None]:
        with together(fade_s):
            yield
        seen.append((int(control["levels"]), int(control["slots_high"])))

    levels.together = watched  # type: ignore[method-assign]
    house.enter()
    assert seen
    assert all(high == 1 for count, high in seen if count)


def test_a_voice_fades_before_its_levels_are_forgotten(house: House) -> None:
    session = house.join(4464)
    house.membership.levels.set_muted(session.slot, True)
    house.arena.rx[session.slot]["watermark"] = 1000 * 128
    house.end(session, EndReason.CLIENT_EXIT, 1.0)
    house.membership.poll(60.0)
    assert house.slot(session, "gain") == 0.0
    assert house.arena.control[0]["slots_high"] == 1
    house.arena.clock[0]["tick"] = 1000
    house.membership.poll(60.1)
    assert house.slot(session, "gain") == 1.0
    assert house.arena.control[0]["slots_high"] == 0


def test_a_full_house_turns_away_and_says_so_in_the_directory(house: House) -> None:
    for _ in range(SLOTS):
        house.enter()
    assert house.membership.welcome(Hello(4464, "Late", True), HOME, 0.0) is None
    assert house.directory.hub.hellos_refused == {"full": 1}
    assert house.directory.hub.sessions_started == SLOTS


def test_a_local_address_that_is_not_ours_is_turned_away(house: House) -> None:
    peer = Peer(HOME.address, 40000, ip_address("192.0.2.99"))
    assert house.membership.welcome(Hello(4464, "Odd", True), peer, 0.0) is None
    assert house.directory.hub.hellos_refused == {"no-socket": 1}
    assert house.table.sessions() == []


FLOOD = 20_000
"""More mail than the kernel has room for."""


def moved(house: House, session: Session, port: int, heard_s: float = 0.0) -> None:
    """Its receiver followed it to another port."""
    rx = house.arena.rx[session.slot]
    rx["peer_port"], rx["valid_ns"] = port, int(heard_s * 1e9)
    rx["moves"] += 1


def test_who_comes_from_a_port_that_was_left_replaces_nobody(house: House) -> None:
    anna = house.join(4464, "Anna")
    moved(house, anna, 61000)
    berta = house.join(4464, "Berta", now=1.0)
    assert [s.phase for s in (anna, berta)] == [Phase.ACTIVE] * 2
    assert house.slot(anna, "stop") == StopOrder.NONE


def test_who_comes_back_from_the_port_it_moved_to_takes_its_place(house: House) -> None:
    anna = house.join(4464, "Anna")
    moved(house, anna, 61000)
    again = house.enter("Anna", 1.0)
    house.knock(again, 61000, 1.0)
    assert (anna.phase, again.phase) == (Phase.LEAVING, Phase.MOVING)
    assert house.slot(anna, "stop") == house.slot(again, "stop") == StopOrder.SILENT


def test_who_is_gone_from_a_port_another_moved_to_ends_without_a_word(house: House) -> None:
    """Exit packets, or its mix, would reach the other."""
    gone, anna = house.join(61000, "Gone"), house.join(4464, "Anna")
    house.arena.rx[gone.slot]["valid_ns"] = int(0.9e9)
    moved(house, anna, 61000, 2.8)
    house.membership.poll(2.8)
    assert house.slot(gone, "stop") == StopOrder.NONE  # it may be about to be followed, too
    house.arena.rx[anna.slot]["valid_ns"] = int(3e9)
    house.membership.poll(3.0)
    assert (house.slot(gone, "stop"), house.slot(anna, "stop")) == (StopOrder.SILENT, 0)
    house.end(gone, EndReason.REPLACED, 3.1)
    house.membership.poll(3.2)
    assert house.table.sessions() == [anna]


def test_clients_whose_router_swaps_their_ports_both_stay(house: House) -> None:
    anna, berta = house.join(61000, "Anna"), house.join(61001, "Berta")
    moved(house, anna, 61001, 5.0)
    house.arena.rx[berta.slot]["valid_ns"] = int(4.8e9)
    house.membership.poll(5.0)
    moved(house, berta, 61000, 5.1)
    house.membership.poll(5.1)
    house.membership.poll(6.0)
    assert [s.phase for s in (anna, berta)] == [Phase.ACTIVE] * 2
    assert (anna.peer_port, berta.peer_port) == (61001, 61000)
    assert house.slot(anna, "stop") == house.slot(berta, "stop") == StopOrder.NONE


def test_an_account_is_shown(house: House) -> None:
    hello = Hello(4464, "Anna", True, account="anna@example.org")
    assert house.membership.welcome(hello, HOME, 0.0) is not None
    assert house.directory.clients[0].account == "anna@example.org"
