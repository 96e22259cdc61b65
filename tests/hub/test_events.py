"""What is told of an operator's changes: every operation that changes something tells of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from itertools import permutations

import pytest

from hub.console import MAX_TOLD
from hub.door import DoorRules
from hub.events import (
    EVENTS,
    TOPICS,
    Admitted,
    Banned,
    ConcealmentSet,
    Event,
    GuardReleased,
    HearingSet,
    Kicked,
    LimiterSet,
    LockSet,
    ManySet,
    MasterSet,
    MatrixSet,
    PatchSet,
    QueueSet,
    Renamed,
    SceneChanged,
    SectionSet,
    StripSet,
    TurnedAway,
    Unbanned,
    WaitingRoomSet,
)
from hub.messages.requests import OPS
from hub.osc import OscDesk
from tests.hub.studio import Studio

SILENT = {
    "ping", "status", "clients", "bans", "sections", "hearing", "scenes",  # change nothing
    "batch",  # tells what stands in it
    "shutdown",  # the supervisor does
}  # fmt: skip
ORDERS: list[tuple[str, dict[str, object], list[Event]]] = [
    ("patch", {"mode": 2}, [PatchSet(patch="fan-out-no-self")]),
    ("gain", {"source": "Anna", "gain": 0.5},
     [StripSet(slot=0, name="Anna", gain=0.5, muted=False, pan=None)]),
    ("gain", {"source": "Anna", "listener": 1, "gain": 0.5},
     [HearingSet(listener=1, source=0, gain=0.5, pan=None, muted=None, soloed=None)]),
    ("pan", {"client": "Anna", "pan": -40},
     [StripSet(slot=0, name="Anna", gain=1.0, muted=False, pan=-40)]),
    ("mute", {"client": "Anna", "muted": True},
     [StripSet(slot=0, name="Anna", gain=1.0, muted=True, pan=None)]),
    ("guard", {"client": "Anna"}, [GuardReleased(slot=0, name="Anna")]),
    ("limiter", {"on": False}, [LimiterSet(slot=None, name=None, on=False)]),
    ("limiter", {"client": "Anna", "on": True}, [LimiterSet(slot=0, name="Anna", on=True)]),
    ("queue", {"client": "Anna", "queue": "auto5"},
     [QueueSet(slot=0, name="Anna", queue="auto5")]),
    ("conceal", {"client": "Anna", "underrun": "zero"},
     [ConcealmentSet(slot=0, name="Anna", underrun="zero")]),
    ("rename", {"client": "Anna", "name": "Anne"},
     [Renamed(slot=0, before="Anna", name="Anne")]),
    ("kick", {"client": "Anna"}, [Kicked(slot=0, name="Anna")]),
    ("lock", {}, [LockSet(locked=True)]),
    ("unlock", {}, [LockSet(locked=False)]),
    ("waiting-room", {"on": False}, [WaitingRoomSet(on=False, held=1)]),
    ("admit", {"client": "Held"}, [Admitted(slot=2, name="Held")]),
    ("refuse", {"client": "Held"}, [TurnedAway(slot=2, name="Held")]),
    ("ban", {"network": "192.0.2.9", "reason": "noise"},
     [Banned(target="192.0.2.9", until_s=None, reason="noise", kicked=[])]),
    ("unban", {"account": "mallory"}, [Unbanned(target="mallory")]),
    ("section", {"name": "low", "members": [1]}, [SectionSet(section="low", members=[1])]),
    ("section-remove", {"name": "high"}, [SectionSet(section="high", members=None)]),
    ("hear", {"listener": 0, "source_section": "high", "muted": True},
     [HearingSet(listener=0, source="high", gain=None, pan=None, muted=True, soloed=None)]),
    ("matrix", {"listeners": [0], "sources": [0, 1], "gains": [[1, 0]]},
     [MatrixSet(listeners=1, sources=2)]),
    ("master", {"gain": 0.5}, [MasterSet(master=0.5)]),
    ("scene-save", {"name": "finale"}, [SceneChanged(scene="finale", what="saved")]),
    ("scene-delete", {"name": "overture"}, [SceneChanged(scene="overture", what="deleted")]),
]  # fmt: skip


@pytest.fixture
def studio() -> Iterator[Studio]:
    """Anna and Berta play, Held waits; there are a ban, a section and a scene."""
    studio = Studio(rules=DoorRules(waiting_room=True))
    for port, name in enumerate(("Anna", "Berta", "Held")):
        studio.house.join(name, 4464 + port)
    for op, given in (
        ("admit", {"client": "Anna"}), ("admit", {"client": "Berta"}),
        ("ban", {"account": "mallory"}), ("section", {"name": "high", "members": [0]}),
        ("scene-save", {"name": "overture"}),
    ):  # fmt: skip
        studio.ask(op, **given)
    studio.told.clear()
    yield studio
    studio.house.membership.close()


@pytest.mark.parametrize(("op", "given", "told"), ORDERS)
def test_a_change_is_told(
    studio: Studio, op: str, given: dict[str, object], told: list[Event]
) -> None:
    studio.ask(op, **given)
    assert studio.told == told


def test_all_changes_are_among_these() -> None:
    assert {op for op, _, _ in ORDERS} | {"scene-recall"} == set(OPS) - SILENT


def test_a_refused_change_is_not_told(studio: Studio) -> None:
    studio.refused("rename", client="Anna", name="Berta")
    studio.refused("admit", client="Anna")
    studio.refused(
        "batch",
        requests=[{"op": "master", "gain": 0.5}, {"op": "mute", "client": "X", "muted": True}],
    )
    assert studio.told == []


def test_a_batch_tells_what_stands_in_it_and_of_very_much_that_it_is(studio: Studio) -> None:
    masters = [{"op": "master", "gain": k / 1000} for k in range(MAX_TOLD + 1)]
    studio.ask("batch", requests=masters[:3])
    assert studio.told == [MasterSet(master=k / 1000) for k in range(3)]
    studio.told.clear()
    studio.ask("batch", requests=masters)
    assert studio.told == [ManySet(changes=MAX_TOLD + 1)]


def test_a_scene_tells_the_strips_and_then_itself(studio: Studio) -> None:
    studio.ask("scene-recall", name="overture", seconds=1)
    *strips, last = studio.told
    assert [type(strip) for strip in strips] == [StripSet] * 3
    assert last == SceneChanged(scene="overture", what="recalled", seconds=1.0)


def test_queues_over_osc_are_told(studio: Studio) -> None:
    house = studio.house
    desk = OscDesk(house.arena, house.directory, house.membership, studio.told.append)
    desk.set_queues(None, 5)
    assert studio.told == [QueueSet(slot=None, name=None, queue="auto5")]


def test_no_topic_begins_with_another() -> None:
    assert not [(a, b) for a, b in permutations(TOPICS, 2) if a.startswith(b)]


@pytest.mark.parametrize("event", EVENTS)
def test_shapes_of_one_topic_are_told_apart(event: type[Event]) -> None:
    shapes = [shape for shape in EVENTS if shape.topic == event.topic]
    assert len(shapes) == 1 or "what" in {field.name for field in fields(event)}
    assert not {field.name for field in fields(event)} & {"v", "event", "number", "at_s", "by"}


def test_all_is_json(studio: Studio) -> None:
    for _, _, told in ORDERS:
        for event in told:
            assert json.loads(json.dumps(event.fields())) == event.fields()
