"""A busy hub's door: newcomers stay outside, who plays or comes back is not concerned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hub.overload.admission import LOOKS, Admission
from hub.overload.resources import Readings
from hub.reception import BACK_S
from hub.sessions import Phase
from shared.layout import StopOrder
from tests.hub.houses import House


@pytest.fixture
def house() -> Iterator[House]:
    house = House(admission=Admission(0.8))
    yield house
    house.membership.close()


def load(house: House, cpu: float) -> None:
    """So much of its cores is in use for a while."""
    for _ in range(4 * LOOKS):
        house.membership.reception.admission.look(Readings(cpu=cpu), len(house.table))


def test_newcomers_are_refused_with_the_reason_and_let_in_again(house: House) -> None:
    anna = house.join("Anna")
    load(house, 0.9)
    assert house.hello("Berta") is None
    assert house.refused == {"cpu-full": 1}
    (entry,) = house.directory.hub.turned_away.listed(house.now)
    assert entry["conditions"][0]["condition"] == "no-time"
    assert anna.active
    load(house, 0.5)
    assert house.join("Berta", 4470).active


def test_who_has_just_left_comes_back(house: House) -> None:
    anna = house.join("Anna")
    load(house, 0.9)
    house.end(anna)
    house.now += BACK_S - 2.0
    assert house.hello("Berta") is None
    back = house.hello("Anna")
    assert back is not None
    house.now += 5.0  # its first packet takes its time
    house.knock(back)
    assert back.active


def test_who_left_long_ago_or_was_kicked_is_a_newcomer(house: House) -> None:
    anna, berta = house.join("Anna", 1), house.join("Berta", 2)
    load(house, 0.9)
    house.membership.kick(berta, house.now)
    for session in (anna, berta):
        house.end(session)
    assert house.hello("Berta", udp_port=2) is None
    house.now += BACK_S
    assert house.hello("Anna", udp_port=1) is None
    assert house.refused == {"cpu-full": 2}


def test_who_is_started_again_takes_its_own_place(house: House) -> None:
    anna = house.join("Anna")
    load(house, 0.9)
    again = house.hello("Anna")
    assert again is not None
    house.knock(again)
    assert (again.phase, anna.phase) == (Phase.MOVING, Phase.LEAVING)
    house.obey()
    (back,) = house.table.sessions()
    assert (back.slot, back.active) == (anna.slot, True)


def test_a_namesake_of_the_living_is_a_newcomer(house: House) -> None:
    anna = house.join("Anna")
    load(house, 0.9)
    other = house.hello("Anna")
    assert other is not None  # it may be Anna herself
    house.now += 0.01
    house.knock(other, 5555)
    house.now += 0.01
    house.heard(anna)
    house.poll()
    assert (other.phase, house.slot(other, "stop")) == (Phase.LEAVING, StopOrder.KICK)
    assert anna.active
    assert house.refused == {"cpu-full": 1}


def test_who_was_let_in_before_the_load_rose_is_not_sent_off(house: House) -> None:
    berta = house.hello("Berta")
    assert berta is not None
    load(house, 0.9)
    house.knock(berta)
    assert berta.active
