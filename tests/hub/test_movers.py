"""Ports to which receivers have followed their clients, as the table of sessions learns them."""

from __future__ import annotations

from ipaddress import ip_address

from hub.movers import learn_ports
from hub.sessions import Session, SessionTable
from shared.arena import Arena
from tests.hub.listening import make_arena, seat

HOME = ip_address("192.0.2.1")


def play(arena: Arena, table: SessionTable, name: str) -> Session:
    """A new session, being served."""
    session = table.open(name, HOME, 61002, 0.0)
    assert session is not None
    table.admit(session, 50000 + session.slot, 0.0)
    seat(arena, session.slot, session.number, moves=0, peer_port=50000 + session.slot)
    arena.control[0]["slots_high"] = table.slots_high
    return session


def test_a_new_port_becomes_the_sessions_own_and_the_old_one_is_nobodys() -> None:
    arena, table = make_arena(slots=8), SessionTable(8)
    anna, berta = play(arena, table, "Anna"), play(arena, table, "Berta")
    arena.rx[berta.slot]["moves"], arena.rx[berta.slot]["peer_port"] = 1, 40404

    learn_ports(arena, table)

    assert (anna.peer_port, berta.peer_port) == (50000, 40404)
    newcomer = table.open("Clara", HOME, 61003, 1.0)
    assert newcomer is not None
    assert table.rival(newcomer, 40404) is berta
    assert table.rival(newcomer, 50001) is None
    assert table.rival(newcomer, 50000) is anna


def test_all_are_followed_that_move_at_once() -> None:
    arena, table = make_arena(slots=32), SessionTable(32)
    sessions = [play(arena, table, f"client {k}") for k in range(32)]
    arena.rx["moves"], arena.rx["peer_port"] = 1, 40000

    learn_ports(arena, table)

    assert [session.peer_port for session in sessions] == [40000] * 32
    assert not table.alone_at(40000)


def test_what_a_slot_holds_of_its_last_client_is_no_move() -> None:
    arena, table = make_arena(slots=8), SessionTable(8)
    anna = play(arena, table, "Anna")
    arena.rx[anna.slot]["session"] = anna.number - 1
    arena.rx[anna.slot]["moves"], arena.rx[anna.slot]["peer_port"] = 1, 40404

    learn_ports(arena, table)

    assert anna.peer_port == 50000
