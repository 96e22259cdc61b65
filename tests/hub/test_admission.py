"""Who may come in: the lock, limits of a source, the waiting room."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from hub.door import MAX_WAITING, Door, DoorRules
from hub.identity import SILENT_S
from hub.sessions import Phase
from shared.layout import EndReason, StopOrder
from tests.hub.houses import HERE, SLOTS, Build, House
from tests.hub.loops import in_a_loop

# ---- lock


def test_the_lock_keeps_newcomers_out_and_lets_those_back_who_were_here(house: House) -> None:
    anna = house.join("Anna")
    assert house.porter.lock(house.now)
    assert house.directory.hub.door.locked
    assert house.hello("Mallory") is None
    house.end(anna)
    assert house.join("Anna").active
    assert house.hello("Anna", address="192.0.2.66") is None
    assert house.refused == {"locked": 2}
    assert house.porter.unlock()
    assert house.join("Mallory", 4470).active


def test_who_left_long_before_the_lock_is_a_newcomer(house: House) -> None:
    early, late = house.join("Early", 1), house.join("Late", 2)
    house.end(early)
    house.now += 600.0
    house.end(late)
    house.porter.lock(house.now)
    assert house.hello("Early") is None
    assert house.join("Late", 2).active


def test_a_namesake_of_the_living_does_not_pass_the_lock(house: House) -> None:
    anna = house.join("Anna")
    house.porter.lock(house.now)
    other = house.hello("Anna")
    assert other is not None
    house.now += 0.01
    house.knock(other, 5555)
    house.now += 0.01
    house.heard(anna)
    house.poll()
    assert (other.phase, house.slot(other, "stop")) == (Phase.LEAVING, StopOrder.KICK)
    assert house.slot(other, "admit") == 0
    assert anna.active
    assert house.refused == {"locked": 1}


def test_who_is_kicked_stays_outside_while_it_is_locked(house: House) -> None:
    anna = house.join("Anna")
    house.porter.lock(house.now)
    house.membership.kick(anna, house.now)
    house.end(anna, EndReason.KICKED)
    assert house.hello("Anna") is None


# ---- limits


def test_a_source_has_so_many_places_and_others_have_theirs(build: Build) -> None:
    house = build(DoorRules(per_source=2))
    anna, _ = house.join("Anna", 1), house.join("Berta", 2)
    assert house.hello("Carla") is None
    assert house.join("Carla", 3, address="192.0.2.2").active
    assert house.refused == {"too-many": 1}
    house.end(anna)
    assert house.join("Carla", 1).active


def test_a_full_source_may_still_come_back_but_no_namesake_slips_in(build: Build) -> None:
    house = build(DoorRules(per_source=1))
    anna = house.join("Anna")
    twin = house.hello("Anna")
    assert twin is not None
    house.knock(twin, 5555)
    house.now += 0.01
    house.heard(anna)
    house.poll()
    assert (twin.phase, house.slot(twin, "stop")) == (Phase.LEAVING, StopOrder.KICK)
    house.end(twin, EndReason.KICKED)
    assert anna.active

    again = house.join("Anna")  # the same port: she has been started again
    assert again.phase is Phase.MOVING
    assert house.hello("Anna") is None
    house.obey()
    assert [(s.phase, s.slot) for s in house.table.sessions()] == [(Phase.ACTIVE, anna.slot)]
    assert house.refused == {"too-many": 2}


@pytest.mark.parametrize("name", ["Anna", ""])
@pytest.mark.parametrize("crashed_s", [0.1, SILENT_S + 1.0])
def test_a_client_started_again_at_a_full_source_gets_in(
    build: Build, name: str, crashed_s: float
) -> None:
    """Its router has given it another port; its old self is yet to be known to be gone."""
    house = build(DoorRules(per_source=2))
    berta, anna = house.join("Berta", 1), house.join(name, 2)
    house.levels.set_gain(anna.slot, 0.5)
    house.now += crashed_s
    house.heard(berta)
    back = house.hello(name)
    assert back is not None
    house.knock(back, 5555)
    house.now += SILENT_S
    house.heard(berta)
    house.poll()
    if name:
        assert back.phase is Phase.MOVING
        house.obey()
    else:  # who is silent may be somebody else: it is not pushed out, but ends by itself
        assert (back.phase, anna.phase) == (Phase.WAITING, Phase.ACTIVE)
        house.end(anna, EndReason.SILENCE)
    one, other = house.table.sessions()
    assert (one, one.active, other.active) == (berta, True, True)
    assert house.levels.gain(other.slot) == 0.5
    assert house.refused == {}


def test_a_nameless_newcomer_at_a_full_source_is_one_too_many(build: Build) -> None:
    house = build(DoorRules(per_source=1))
    first = house.join("", 1)
    second = house.hello("")
    assert second is not None
    house.now += 1.0
    house.knock(second, 5555)
    assert second.phase is Phase.WAITING
    assert house.hello("") is None  # one who is here can come back once at a time
    house.now += 0.01
    house.heard(first)
    house.poll()
    assert (second.phase, first.phase) == (Phase.LEAVING, Phase.ACTIVE)
    assert house.refused == {"too-many": 2}


def test_who_bears_the_name_of_somebody_present_gets_no_more_places(build: Build) -> None:
    house = build(DoorRules(per_source=2))
    house.join("Anna", 1), house.join("Berta", 2)
    assert house.hello("Anna") is not None
    assert house.hello("Anna") is None
    assert house.hello("Berta") is not None
    assert house.hello("Carla") is None


def test_one_64_is_one_source(build: Build) -> None:
    house = build(DoorRules(per_source=1))
    house.join("Anna", address="2001:db8::1")
    assert house.hello("Berta", address="2001:db8::2:1") is None
    assert house.hello("Berta", address="2001:db8:0:1::1") is not None


# ---- waiting room


def test_a_newcomer_waits_unheard_and_hears_nothing_until_admitted(build: Build) -> None:
    house = build(DoorRules(waiting_room=True))
    anna = house.join("Anna")
    assert anna.held
    assert house.slot(anna, "admit") == anna.number  # she is served, with silence
    assert (house.slot(anna, "held"), house.slot(anna, "gain")) == (1, 0.0)
    house.levels.set_gain(anna.slot, 0.5)
    house.levels.set_pair(anna.slot, anna.slot, 1.0)
    assert (house.slot(anna, "gain"), house.slot(anna, "overrides")) == (0.0, 0)
    assert house.porter.admit(anna)
    assert (house.slot(anna, "held"), house.slot(anna, "gain")) == (0, 0.5)
    assert house.slot(anna, "overrides") == 1
    assert not house.porter.admit(anna)


@in_a_loop
async def test_who_waits_is_unheard_even_while_levels_wait_to_be_written() -> None:
    """A lane that has died holds them up, but not for who comes into the waiting room."""
    house = House(DoorRules(waiting_room=True))
    house.arena.clock[0]["pid"] = 1  # a mixer that reads nothing
    house.levels.set_gain(SLOTS - 1, 0.5)
    anna = house.join("Anna")
    assert house.slot(anna, "admit") == anna.number
    assert house.slot(anna, "gain") == 0.0
    assert house.levels._strip_fades  # the usual way is closed
    house.membership.close()


def test_who_was_admitted_is_not_held_again_unless_kicked(build: Build) -> None:
    house = build(DoorRules(waiting_room=True))
    anna = house.join("Anna")
    house.porter.admit(anna)
    house.end(anna)
    back = house.join("Anna")
    assert not back.held
    house.membership.kick(back, house.now)
    house.end(back, EndReason.KICKED)
    assert house.join("Anna").held


def test_who_left_the_waiting_room_is_not_remembered(build: Build) -> None:
    house = build(DoorRules(waiting_room=True))
    house.end(house.join("Anna"))
    assert len(house.membership.reception.places) == 0
    assert house.join("Anna").held


def test_who_comes_back_into_the_waiting_room_waits_on(build: Build) -> None:
    house = build(DoorRules(waiting_room=True))
    anna = house.join("Anna")
    house.join("Anna")
    house.obey()
    (back,) = house.table.sessions()
    assert (back.slot, back.held, house.slot(back, "held")) == (anna.slot, True, 1)
    assert house.porter.admit(back)
    assert house.slot(back, "gain") == 1.0


def test_who_is_muted_and_sent_back_to_the_waiting_room_stays_muted(build: Build) -> None:
    house = build(DoorRules(waiting_room=True))
    anna = house.join()
    house.porter.admit(anna)
    house.levels.set_muted(anna.slot, True)
    house.membership.kick(anna, house.now)
    house.end(anna, EndReason.KICKED)
    for _ in range(2):
        anna = house.join()
        assert anna.held
        house.end(anna)
    anna = house.join()
    assert anna.held
    assert house.levels.muted(anna.slot)


def test_the_waiting_room_opens_and_closes_while_the_hub_runs(house: House) -> None:
    anna = house.join("Anna", 1)
    assert house.porter.set_waiting_room(True) == 0
    berta = house.join("Berta", 2)
    assert (anna.held, berta.held) == (False, True)
    house.end(anna)
    assert not house.join("Anna", 1).held  # she had been let in
    assert house.directory.hub.door.waiting_room
    assert house.porter.set_waiting_room(False) == 1
    assert berta.held  # until somebody has looked at her
    assert not house.join("Carla", 3).held


def test_who_is_refused_is_told_and_gone(build: Build) -> None:
    house = build(DoorRules(waiting_room=True))
    anna, berta = house.join("Anna"), house.join("Berta", 4470)
    house.porter.admit(berta)
    assert house.porter.refuse(anna, house.now)
    assert house.slot(anna, "stop") == StopOrder.KICK
    assert not house.porter.refuse(berta, house.now)
    assert berta.active
    assert house.refused == {"refused": 1}


def test_hellos_without_sound_are_few_a_source() -> None:
    door = Door()
    assert not door.hasty(ip_address("192.0.2.1"), MAX_WAITING - 1)
    assert door.hasty(ip_address("192.0.2.1"), MAX_WAITING)
    assert not door.hasty(HERE, 10 * MAX_WAITING)


def test_waiting_sessions_are_counted_by_source(house: House) -> None:
    house.hello("a")
    house.hello("b", address="192.0.2.2")
    house.join("c", 3)
    assert house.table.waiting_of(ip_address("192.0.2.1")) == 1
