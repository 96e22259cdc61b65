"""Events over a real PUB socket: who listens is told, who is slow loses, nobody waits."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zmq

from hub.directory import ClientInfo
from hub.events import ConditionChanged, Event, LockSet, PatchSet, Restarted, Stopping
from hub.publisher import MAX_WAITING, Publisher
from tests.end_to_end.processes import wait_until
from tests.hub.listening import directory, raised

LOCKED = LockSet(locked=True)
MIXER = Restarted(process="mixer", times=0, slot=None, name=None)
ANNA = ClientInfo(slot=2, session=7, name="Anna", address="192.0.2.1", port=61002, joined_s=0.0)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/control-events"


@pytest.fixture
def events(endpoint: str) -> Iterator[Publisher]:
    events = Publisher()
    events.bind_file(endpoint)
    yield events
    events.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def subscribe(context: zmq.Context[Any], endpoint: str, events: Publisher, probe: Event) -> Any:
    """A subscriber to a topic that has been heard of."""
    sock = context.socket(zmq.SUB)
    sock.rcvtimeo = 5000
    sock.subscribe(probe.topic.encode())
    sock.connect(endpoint)

    def heard() -> bool:
        events.tell(probe)
        return bool(sock.poll(20))

    wait_until(heard, 5.0, "the subscription is there")
    while json.loads(sock.recv_multipart()[1])["number"] < events._numbers[probe.topic]:
        pass  # each probe that came to be heard
    return sock


def test_a_topic_is_told_to_its_subscribers(
    endpoint: str, events: Publisher, context: zmq.Context[Any]
) -> None:
    path = Path(endpoint.removeprefix("ipc://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sock = subscribe(context, endpoint, events, LOCKED)
    events.tell(Stopping(clients=2))
    events.tell(LOCKED)
    topic, data = sock.recv_multipart()
    event = json.loads(data)
    assert abs(event.pop("at_s") - time.time()) < 60
    number = event.pop("number")
    assert topic == b"lock"
    assert event == {"v": 1, "event": "lock", "by": None, "locked": True}
    events.tell(LOCKED)
    assert json.loads(sock.recv_multipart()[1])["number"] == number + 1


def test_restarts_are_told_once(
    endpoint: str, events: Publisher, context: zmq.Context[Any]
) -> None:
    sock = subscribe(context, endpoint, events, MIXER)
    known = directory(ANNA)
    events.look(known)
    known.hub.mixer_restarts = known.clients[2].receiver_restarts = 1
    events.look(known)
    events.look(known)
    told = [json.loads(sock.recv_multipart()[1]) for _ in range(2)]
    assert [(t["process"], t["times"], t["slot"]) for t in told] == [
        ("mixer", 1, None), ("receiver", 1, 2),
    ]  # fmt: skip
    assert not sock.poll(50)


def test_who_does_not_read_loses_and_holds_up_nobody(
    endpoint: str, events: Publisher, context: zmq.Context[Any]
) -> None:
    slow = subscribe(context, endpoint, events, PatchSet(patch=""))
    long = PatchSet(patch="x" * 200)
    began = time.monotonic()
    for _ in range(40 * MAX_WAITING):
        events.tell(long)
    assert time.monotonic() - began < 20.0
    got = 0
    while slow.poll(200):
        slow.recv_multipart()
        got += 1
    assert 0 < got < 40 * MAX_WAITING


def test_the_file_goes_with_the_hub(endpoint: str) -> None:
    events = Publisher()
    events.bind_file(endpoint)
    events.close()
    assert not Path(endpoint.removeprefix("ipc://")).exists()


def test_without_an_endpoint_nobody_is_told() -> None:
    events = Publisher()
    events.tell(LOCKED)
    events.close()


def test_conditions_of_who_left_are_over_and_a_successors_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = Publisher()
    told: list[Event] = []
    monkeypatch.setattr(events, "tell", told.append)
    troubled = replace(ANNA, conditions=raised("no-udp"))
    known = directory(troubled)
    events.look(known)
    known.clients[2] = replace(troubled, session=8, name="Berta")
    events.look(known)
    del known.clients[2]
    events.look(known)
    events.close()
    changes = [one for one in told if isinstance(one, ConditionChanged)]
    assert sorted((one.name, one.raised) for one in changes) == [
        ("Anna", False), ("Anna", True), ("Berta", False), ("Berta", True),
    ]  # fmt: skip
