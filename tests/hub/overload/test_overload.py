"""What follows from load: words in the arena, mixes, clients that go, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hub.events import Event
from hub.overload.admission import Admission
from hub.overload.overload import HURRY_S, Overload
from hub.overload.resources import Readings
from hub.overload.shedding import HURRY, LOOKS, PATIENCE_LOOKS, Shedding
from hub.sessions import Session
from shared.layout import EndReason, Shed, StopOrder
from tests.hub.houses import House
from tests.hub.listening import directory, make_arena


class Gauges:
    """Show what they are set to."""

    line_bps = realtime_limit = None
    realtime_used, realtime_paused = 0.0, 0

    def __init__(self) -> None:
        self.readings = Readings()

    def read(self, present: Sequence[Session], now_s: float) -> Readings:
        return self.readings


class Ensemble:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.plain: list[bool] = []
        self.dropped = 0

    def set_plain(self, plain: bool) -> None:
        if not self.plain or self.plain[-1] != plain:
            self.plain.append(plain)

    def drop_newest(self, now: float) -> bool:
        self.dropped += 1
        return True


class Scene:
    """An overload with all that it touches."""

    def __init__(self) -> None:
        self.arena, self.known, self.gauges = make_arena(lanes=1), directory(), Gauges()
        self.ensemble, self.told = Ensemble(), list[Event]()
        self.now_s = 10.0
        self.overload = Overload(
            self.arena, self.gauges, Admission(0.8), Shedding(0.95), self.ensemble,  # type: ignore[arg-type]
            self.known, self.told.append,
        )  # fmt: skip

    def seconds(self, cpu: float, count: int) -> None:
        self.gauges.readings = Readings(cpu=cpu)
        for _ in range(count):
            self.now_s += 1.0
            self.overload.look([], self.now_s)

    @property
    def words(self) -> int:
        return int(self.arena.control[0]["shed"])


def test_each_step_has_its_effect_is_told_and_counted_and_taken_back() -> None:
    scene = Scene()
    scene.seconds(0.5, 20)
    assert (scene.words, scene.ensemble.plain, scene.told) == (0, [], [])
    seen = []
    for _ in range(3):
        scene.seconds(1.0, LOOKS)
        seen.append((scene.words, scene.ensemble.plain[-1:]))
    both = int(Shed.METERS | Shed.ORDERS)
    assert seen == [(1, [False]), (1, [True]), (both, [True])]
    info = scene.known.hub.overload
    assert info.sheds == ("meters", "mixes", "concealment")
    assert info.shed_times == {"meters": 1, "mixes": 1, "concealment": 1}
    assert info.refuses == ("cpu-full",)
    scene.seconds(1.0, LOOKS)
    assert (scene.ensemble.dropped, scene.known.hub.clients_dropped) == (1, 1)
    scene.seconds(0.5, 3 * PATIENCE_LOOKS + LOOKS // 2)
    assert (scene.words, scene.ensemble.plain) == (0, [False, True, False])
    assert scene.known.hub.overload.sheds == ()
    lists = [event.fields()["left_out"] for event in scene.told]
    one, two, three = ["meters"], ["meters", "mixes"], ["meters", "mixes", "concealment"]
    assert lists == [one, two, three, two, one, []]


@pytest.mark.parametrize("section", ["clock", "lanes"])
def test_missed_ticks_are_looked_at_four_times_a_second(section: str) -> None:
    scene = Scene()
    scene.seconds(0.9, 1)
    for _ in range(HURRY):
        for _ in range(5):  # as the supervisor polls
            scene.now_s += HURRY_S / 5
            scene.arena.clock[0]["ticks"] += 19
            getattr(scene.arena, section)[-1]["missed"] += 2
            scene.overload.hurry(scene.now_s)
    scene.overload.hurry(scene.now_s + HURRY_S)
    assert scene.known.hub.overload.sheds == ("meters",)


@pytest.fixture
def house() -> Any:
    house = House(admission=Admission(0.8))
    yield house
    house.membership.close()


def test_the_one_who_came_last_goes_and_is_a_newcomer_then(house: House) -> None:
    anna = house.join("Anna", 1)
    house.now += 1.0
    berta = house.join("Berta", 2)
    house.now += 1.0
    assert house.hello("Carla") is not None  # who does not play yet costs nothing
    for _ in range(LOOKS):
        house.membership.reception.admission.look(Readings(cpu=0.9), 2)
        house.membership.reception.admission.look(Readings(cpu=0.9), 2)
    assert house.membership.drop_newest(house.now)
    assert house.slot(berta, "stop") == StopOrder.KICK
    assert house.slot(anna, "stop") == StopOrder.NONE
    assert not house.membership.drop_newest(house.now)  # never the last one
    house.end(berta, EndReason.KICKED)
    assert house.directory.hub.sessions_ended == {EndReason.OVERLOAD: 1}
    (gone,) = house.directory.hub.departures
    assert [each["condition"] for each in gone.conditions] == ["let-go"]
    assert house.hello("Berta", udp_port=2) is None
    assert house.refused == {"cpu-full": 1}
    assert anna.active
