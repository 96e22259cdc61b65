"""Who is let in with what: places, and what becomes of namesakes."""

from __future__ import annotations

from hub.sessions import Phase
from hub.values import Queue
from shared.layout import EndReason, StopOrder
from tests.hub.houses import SLOTS, House


def test_who_comes_back_finds_slot_name_gain_mute_queue_and_pairs(house: House) -> None:
    first = house.join("Dora", 1)
    anna, berta = house.join("Anna"), house.join("Berta", 4470)
    house.levels.set_gain(anna.slot, 0.5)
    house.levels.set_muted(anna.slot, True)
    house.levels.set_pan(anna.slot, -40.0)
    house.membership.set_queue(anna.slot, Queue(0, headroom_ms=7))
    house.levels.set_pair(anna.slot, berta.slot, 0.25)
    house.levels.set_pair(berta.slot, anna.slot, 2.0)
    house.end(anna)
    assert house.levels.gain(anna.slot) == 1.0
    house.now += 3600.0

    back = house.join("Anna", 5555)
    assert (back.slot, back.name, back.musician) == (anna.slot, "Anna", anna.musician)
    assert (house.levels.gain(back.slot), house.levels.muted(back.slot)) == (0.5, True)
    assert house.slot(back, "gain") == 0.0
    assert (house.slot(back, "queue_packets"), house.slot(back, "headroom_ns")) == (0, 7e6)
    assert house.arena.pair[back.slot, berta.slot] == 0.25
    assert house.arena.pair[berta.slot, back.slot] == 2.0
    shown = house.directory.clients[back.slot]
    assert (shown.gain, shown.muted, shown.pan) == (0.5, True, -40.0)
    assert house.levels.pan(back.slot) == -40.0
    assert first.active


def test_levels_follow_a_musician_whose_slot_somebody_else_has(house: House) -> None:
    anna = house.join("Anna")
    house.levels.set_gain(anna.slot, 0.5)
    house.end(anna)
    others = [house.join(f"x{k}", 10 + k) for k in range(SLOTS)]
    assert anna.slot in {other.slot for other in others}
    house.end(others[0])
    back = house.join("Anna")
    assert back.slot == others[0].slot != anna.slot
    assert house.levels.gain(back.slot) == 0.5


def test_newcomers_leave_the_slot_of_who_has_just_left_alone(house: House) -> None:
    anna = house.join("Anna")
    house.end(anna)
    assert house.join("Berta").slot != anna.slot
    assert house.join("Anna", 4470).slot == anna.slot


def test_pairs_wait_for_both_and_pass_to_nobody_else(house: House) -> None:
    anna, berta = house.join("Anna"), house.join("Berta", 4470)
    house.levels.set_pair(anna.slot, berta.slot, 0.25)
    house.end(anna)
    house.end(berta)
    for k in range(SLOTS):
        house.join(f"x{k}", 10 + k)
    assert house.levels.hearing.listeners() == set()
    for k in range(2):
        house.end(house.table.sessions()[k])
    again = house.join("Anna")
    assert house.levels.row(again.slot) == {}
    other = house.join("Berta", 4470)
    assert house.levels.row(again.slot) == {other.slot: (0.25, None)}


def test_a_hello_alone_takes_nobodys_place(house: House) -> None:
    anna = house.join("Anna")
    house.levels.set_gain(anna.slot, 0.5)
    house.end(anna)
    ghost = house.hello("Anna")
    assert ghost is not None
    assert (ghost.slot, house.levels.gain(ghost.slot)) == (anna.slot, 1.0)
    back = house.join("Anna")
    assert house.levels.gain(back.slot) == 0.5  # the slot is the ghost's, the levels are hers
    house.end(ghost, EndReason.NO_UDP)
    house.end(back)
    assert house.join("Anna").slot == back.slot


def test_an_account_is_known_from_another_address(house: House) -> None:
    anna = house.join("", account="anna")
    assert anna.name == "anna"
    house.levels.set_muted(anna.slot, True)
    house.end(anna)
    stranger = house.join("", address="192.0.2.9", account="berta")
    assert not house.levels.muted(stranger.slot)
    back = house.join("", address="192.0.2.9", account="anna", port=4470)
    assert (back.slot, house.levels.muted(back.slot)) == (anna.slot, True)


def test_a_shown_name_is_kept_even_if_the_namesake_has_left(house: House) -> None:
    first = house.join("Anna", udp_port=1)
    second = house.join("Anna", 4470, udp_port=2)
    house.now += 0.01
    house.heard(first)
    house.poll()
    assert second.name == "Anna-01"
    house.end(second)
    house.end(first)
    assert house.join("Anna", 4470, udp_port=2).name == "Anna-01"
    assert house.join("Anna", 4464, udp_port=1).name == "Anna"


# ---- take-overs


def test_a_namesake_at_another_port_waits_until_it_is_known_who_lives(house: House) -> None:
    anna = house.join("Anna")
    house.now += 0.5
    again = house.hello("Anna")
    assert again is not None
    house.knock(again, 5555)
    assert (anna.phase, again.phase) == (Phase.ACTIVE, Phase.WAITING)
    house.now += 0.01
    house.heard(anna)
    house.poll()
    assert (anna.phase, again.phase) == (Phase.ACTIVE, Phase.ACTIVE)
    assert again.name == "Anna-01"


def test_a_namesake_of_one_who_stays_silent_takes_its_place(house: House) -> None:
    anna = house.join("Anna")
    house.levels.set_gain(anna.slot, 0.5)
    house.now += 0.5
    again = house.hello("Anna")
    assert again is not None
    house.knock(again, 5555)
    house.now += 1.6
    house.poll()
    assert (anna.phase, again.phase) == (Phase.LEAVING, Phase.MOVING)
    assert house.slot(anna, "stop") == house.slot(again, "stop") == StopOrder.SILENT
    house.obey()
    (back,) = house.table.sessions()
    assert (back.slot, back.name, back.musician) == (anna.slot, "Anna", anna.musician)
    assert house.levels.gain(back.slot) == 0.5


def test_somebody_elses_port_is_cleared_and_both_keep_what_is_theirs(house: House) -> None:
    anna = house.join("Anna")
    house.levels.set_gain(anna.slot, 0.5)
    berta = house.hello("Berta")
    assert berta is not None
    house.knock(berta, 4464)
    assert (anna.phase, house.slot(anna, "stop")) == (Phase.LEAVING, StopOrder.SILENT)
    assert berta.phase is Phase.WAITING
    house.obey()
    assert berta.active
    assert house.levels.gain(berta.slot) == 1.0
    assert house.levels.gain(house.join("Anna", 4470).slot) == 0.5
