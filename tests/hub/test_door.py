"""The door: whom it refuses for what, how often a source may come, and what that costs."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest

from hub.addresses import parse_address
from hub.bans import Ban
from hub.door import (
    AUTO_PER_MINUTE,
    AUTO_PER_SOURCE,
    LOCK_GRACE_S,
    Door,
    DoorRules,
    Refusal,
)
from hub.networks import parse_network

ANNA, BERTA = ip_address("192.0.2.1"), ip_address("198.51.100.2")
NETS = tuple(map(parse_network, ("192.0.2.0/24", "2001:db8::/32")))


def test_an_open_door_is_open() -> None:
    assert Door().knock(ANNA, 0.0, 0.0) is None


@pytest.mark.parametrize(
    ("rules", "anna", "berta"),
    [
        (DoorRules(allow=NETS), None, Refusal.NOT_ALLOWED),
        (DoorRules(deny=NETS), Refusal.DENIED, None),
        (DoorRules(allow=NETS, deny=NETS[:1]), Refusal.DENIED, Refusal.NOT_ALLOWED),
    ],
)
def test_networks_are_let_in_or_not(
    rules: DoorRules, anna: Refusal | None, berta: Refusal | None
) -> None:
    door = Door(rules)
    assert (door.knock(ANNA, 0.0, 0.0), door.knock(BERTA, 0.0, 0.0)) == (anna, berta)
    assert door.knock(parse_address("::ffff:192.0.2.1"), 0.0, 0.0) is anna
    assert door.knock(ip_address("2001:db8::1"), 0.0, 0.0) is not Refusal.NOT_ALLOWED


def test_a_ban_comes_before_all_else() -> None:
    door = Door(DoorRules(deny=NETS), [Ban(NETS[0], 0.0, 100.0)])
    assert door.knock(ANNA, 0.0, 99.0) is Refusal.BANNED
    assert door.knock(ANNA, 0.0, 100.0) is Refusal.DENIED


def test_a_source_may_come_so_often_and_others_are_not_concerned() -> None:
    door = Door(DoorRules(per_minute=3))
    assert [door.knock(ANNA, 0.0, 0.0) for _ in range(4)] == [None] * 3 + [Refusal.TOO_OFTEN]
    assert door.knock(BERTA, 0.0, 0.0) is None
    assert door.knock(ANNA, 19.9, 0.0) is Refusal.TOO_OFTEN
    assert door.knock(ANNA, 20.1, 0.0) is None
    assert door.knock(ANNA, 20.2, 0.0) is Refusal.TOO_OFTEN


def test_addresses_of_one_64_are_one_source() -> None:
    door = Door(DoorRules(per_minute=3))
    block = int(ip_address("2001:db8::"))
    answers = [door.knock(IPv6Address(block + 7**k), 0.0, 0.0) for k in range(4)]
    assert answers == [None] * 3 + [Refusal.TOO_OFTEN]


def test_a_whole_choir_behind_one_router_may_come_at_once_unless_told_otherwise() -> None:
    door = Door()
    assert not door.crowded(ANNA, AUTO_PER_SOURCE - 1)
    assert door.crowded(ANNA, AUTO_PER_SOURCE)
    answers = [door.knock(ANNA, 0.0, 0.0) for _ in range(AUTO_PER_MINUTE + 1)]
    assert answers == [None] * AUTO_PER_MINUTE + [Refusal.TOO_OFTEN]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_hubs_own_machine_is_limited_by_explicit_numbers_only(address: str) -> None:
    here = ip_address(address)
    door = Door()
    assert not door.crowded(here, 10_000)
    assert all(door.knock(here, 0.0, 0.0) is None for _ in range(AUTO_PER_MINUTE + 1))
    assert Door(DoorRules(per_source=2)).crowded(here, 2)
    strict = Door(DoorRules(per_minute=1))
    assert [strict.knock(here, 0.0, 0.0) for _ in range(2)] == [None, Refusal.TOO_OFTEN]


def test_what_is_known_of_sources_is_bounded() -> None:
    door = Door()
    for k in range(50_000):
        door.knock(IPv6Address(k << 64), 0.0, 0.0)
    assert len(door._connections) == 16_384


def test_those_refused_by_a_list_take_no_memory() -> None:
    door = Door(DoorRules(deny=NETS))
    door.knock(ANNA, 0.0, 0.0)
    assert len(door._connections) == 0


def test_the_lock_knows_those_who_were_here() -> None:
    door = Door()
    assert door.knows(0.0)
    assert door.lock(10_000.0)
    assert not door.lock(20_000.0)
    assert door.knows(10_000.0 - LOCK_GRACE_S)
    assert not door.knows(9_999.0 - LOCK_GRACE_S)
    assert door.unlock()
    assert not door.unlock()
    assert door.knows(0.0)
