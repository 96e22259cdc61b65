"""Who is let in with what: places, the lock, the waiting room, limits and bans together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import structlog

from hub.addresses import Peer
from hub.door import MAX_WAITING, Door, DoorRules
from hub.membership import Membership
from hub.porter import Porter
from hub.ports import PortPool
from hub.sessions import Phase, Session
from hub.values import Queue
from shared.layout import EndReason, RxState, StopOrder
from shared.protocol import Hello
from tests.end_to_end.processes import PORTS
from tests.hub.listening import directory, make_arena

SLOTS = 6
HERE = ip_address("127.0.0.1")
UNIX_S = 1e9


class Staff:
    """Starts nobody."""

    def hire_receiver(self, slot: int, session: int) -> None: ...
    def dismiss_receiver(self, session: int) -> None: ...


class House:
    """A hub's membership and porter; receivers and the clock are played by hand.

    Attributes:
        now: monotonic and, beyond UNIX_S, wall clock.
    """

    def __init__(self, rules: DoorRules | None = None, banfile: Path | None = None) -> None:
        self.now = 100.0
        self.arena, self.directory = make_arena(SLOTS), directory()
        pool = PortPool(PORTS.take(12), 12)
        door = Door(rules)
        self.membership = Membership(self.arena, self.directory, pool, Staff(), 0, Queue(4), door)
        self.table, self.levels = self.membership.table, self.membership.levels
        self.membership.reception._unix_s = lambda: UNIX_S + self.now
        self.porter = Porter(self.membership, self.directory, banfile, lambda: UNIX_S + self.now)

    def hello(
        self, name: str = "Anna", *, address: str = "192.0.2.1", udp_port: int = 4464,
        account: str = "",
    ) -> Session | None:  # fmt: skip
        peer = Peer(ip_address(address), 40000, HERE)
        port = self.membership.welcome(Hello(udp_port, name, True, account), peer, self.now)
        return None if port is None else next(s for s in self.table.sessions() if s.port == port)

    def knock(self, session: Session, port: int = 4464) -> None:
        """Its first datagram comes."""
        self.write(
            session, RxState.KNOCKING, peer_port=port, rate_code=3, frames=64,
            joined_ns=int(self.now * 1e9),
        )  # fmt: skip
        self.poll()

    def join(self, name: str = "Anna", port: int = 4464, **hello: Any) -> Session:
        session = self.hello(name, **hello)
        assert session is not None
        self.knock(session, port)
        if session.active:
            self.write(session, RxState.ACTIVE, valid_ns=int(self.now * 1e9))
        return session

    def heard(self, session: Session) -> None:
        self.arena.rx[session.slot]["valid_ns"] = int(self.now * 1e9)

    def write(self, session: Session, state: RxState, **fields: int) -> None:
        rx = self.arena.rx[session.slot]
        rx["session"] = session.number
        for name, value in fields.items():
            rx[name] = value
        rx["state"] = state

    def poll(self) -> None:
        self.membership.poll(self.now)

    def end(self, session: Session, reason: EndReason = EndReason.CLIENT_EXIT) -> None:
        """Its receiver ends, and its slot has rested."""
        self.write(session, RxState.ENDED, end_reason=reason)
        self.membership.receiver_ended(session.number, 0, self.now)
        self.now += 1.0
        self.arena.clock[0]["tick"] = 1 << 40
        self.poll()

    def obey(self) -> None:
        """All receivers that were told to end do so."""
        for session in self.table.going():
            self.write(session, RxState.ENDED, end_reason=EndReason.REPLACED)
        for session in self.table.going():
            self.membership.receiver_ended(session.number, 0, self.now)
        self.poll()

    def slot(self, session: Session, field: str) -> Any:
        return self.arena.slots[session.slot][field]

    @property
    def refused(self) -> dict[str, int]:
        return self.directory.hub.hellos_refused


Build = Callable[..., House]


@pytest.fixture
def build() -> Iterator[Build]:
    houses: list[House] = []

    def build(rules: DoorRules | None = None, banfile: Path | None = None) -> House:
        houses.append(House(rules, banfile))
        return houses[-1]

    yield build
    for house in houses:
        house.membership.close()
    structlog.reset_defaults()


@pytest.fixture
def house(build: Build) -> House:
    return build()


# ---- places


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
    assert house.levels.listeners() == []
    for k in range(2):
        house.end(house.table.sessions()[k])
    again = house.join("Anna")
    assert house.levels.overrides(again.slot) == {}
    other = house.join("Berta", 4470)
    assert house.levels.overrides(again.slot) == {other.slot: 0.25}


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


def test_who_is_refused_is_told_and_gone(build: Build) -> None:
    house = build(DoorRules(waiting_room=True))
    anna, berta = house.join("Anna"), house.join("Berta", 4470)
    house.porter.admit(berta)
    assert house.porter.refuse(anna, house.now)
    assert house.slot(anna, "stop") == StopOrder.KICK
    assert not house.porter.refuse(berta, house.now)
    assert berta.active
    assert house.refused == {"refused": 1}


# ---- bans


def test_a_ban_on_a_client_kicks_it_and_keeps_its_source_out(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "bans.json"
    house = build(banfile=path)
    mallory, anna = house.join("Mallory", 1), house.join("Anna", 2)
    target = house.porter.target_of(mallory)
    made = house.porter.ban(target, 60.0, "noise", house.now, mallory.name)
    assert made == {
        "network": "192.0.2.1", "since_s": UNIX_S + 100, "until_s": UNIX_S + 160,
        "reason": "noise", "name": "Mallory", "kicked": [mallory.slot], "others": 1, "saved": True,
    }  # fmt: skip
    assert house.slot(mallory, "stop") == StopOrder.KICK
    assert anna.active  # it is not she who is meant
    assert not house.porter.gate(ip_address("192.0.2.1"), house.now)
    assert house.porter.gate(ip_address("192.0.2.2"), house.now)
    assert house.refused == {"banned": 1}
    assert json.loads(path.read_text())["bans"][0]["network"] == "192.0.2.1"
    house.now += 60.0
    assert house.porter.gate(ip_address("192.0.2.1"), house.now)


def test_a_ban_on_a_network_kicks_all_of_it(house: House) -> None:
    near = [house.join("a", 1), house.join("b", 2, address="192.0.2.200")]
    far = house.join("c", 3, address="198.51.100.1")
    target = house.porter.target_of(near[0])
    assert not isinstance(target, str)
    made = house.porter.ban(target.supernet(new_prefix=24), None, "", house.now)
    assert (made["kicked"], made["others"], made["saved"]) == ([0, 1], 0, False)
    assert far.active


def test_a_ban_on_a_client_with_an_account_is_on_the_account(house: House) -> None:
    mallory = house.join("Mallory", account="mallory")
    target = house.porter.target_of(mallory)
    assert target == "mallory"
    house.porter.ban(target, None, "", house.now, mallory.name)
    house.end(mallory, EndReason.KICKED)
    assert house.porter.gate(mallory.address, house.now)
    assert house.hello("M", account="mallory", address="198.51.100.1") is None
    assert house.join("Anna").active
    assert house.porter.unban("mallory")
    assert house.hello("M", account="mallory") is not None


def test_a_ban_on_an_account_kicks_all_of_its_sessions(house: House) -> None:
    one, other = (house.join(n, p, account="mallory") for n, p in (("M", 1), ("N", 2)))
    made = house.porter.ban("mallory", None, "", house.now, one.name)
    assert made["kicked"] == [one.slot, other.slot]
    assert made["others"] == 0


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


def test_bans_outlive_the_hub(build: Build, tmp_path: Path) -> None:
    from hub.banfile import read_bans

    path = tmp_path / "bans.json"
    first = build(banfile=path)
    source = first.porter.target_of(first.join("Mallory"))
    first.porter.ban(source, None, "", first.now)
    first.porter.ban("mallory", 1.0, "", first.now)
    second = build()
    second.now += 10.0
    for ban in read_bans(path):
        second.membership.reception.door.bans.add(ban)
    assert [ban["network"] for ban in second.porter.bans()] == ["192.0.2.1"]
    assert not second.porter.gate(ip_address("192.0.2.1"), second.now)


def test_a_ban_that_cannot_be_saved_holds_and_says_so(build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    house = build(banfile=tmp_path / "file" / "bans.json")
    made = house.porter.ban("mallory", None, "", house.now)
    assert not made["saved"]
    assert house.hello("M", account="mallory") is None


def test_a_ban_that_is_not_there_cannot_be_ended(house: House) -> None:
    assert house.porter.unban("nobody") is None
