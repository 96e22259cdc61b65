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
from hub.events import MAX_WAITING, Events
from tests.end_to_end.processes import wait_until
from tests.hub.listening import directory, raised

ANNA = ClientInfo(slot=2, session=7, name="Anna", address="192.0.2.1", port=61002, joined_s=0.0)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/control-events"


@pytest.fixture
def events(endpoint: str) -> Iterator[Events]:
    events = Events(endpoint)
    yield events
    events.close()


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def subscribe(context: zmq.Context[Any], endpoint: str, events: Events, topic: str) -> Any:
    """A subscriber that has been heard of."""
    sock = context.socket(zmq.SUB)
    sock.rcvtimeo = 5000
    sock.subscribe(topic.encode())
    sock.connect(endpoint)

    def heard() -> bool:
        events.tell(topic, probe=True)
        return bool(sock.poll(20))

    wait_until(heard, 5.0, "the subscription is there")
    while sock.poll(50):
        sock.recv_multipart()
    return sock


def test_a_topic_is_told_to_its_subscribers(
    endpoint: str, events: Events, context: zmq.Context[Any]
) -> None:
    path = Path(endpoint.removeprefix("ipc://"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sock = subscribe(context, endpoint, events, "join")
    events.tell("leave", slot=2)
    events.tell("join", slot=2, name="Anna")
    topic, data = sock.recv_multipart()
    event = json.loads(data)
    assert (topic, event["v"], event["event"]) == (b"join", 1, "join")
    assert (event["slot"], event["name"]) == (2, "Anna")
    assert abs(event["at_s"] - time.time()) < 60


def test_restarts_are_told_once(endpoint: str, events: Events, context: zmq.Context[Any]) -> None:
    sock = subscribe(context, endpoint, events, "restart")
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
    endpoint: str, events: Events, context: zmq.Context[Any]
) -> None:
    slow = subscribe(context, endpoint, events, "level")
    began = time.monotonic()
    for number in range(40 * MAX_WAITING):
        events.tell("level", number=number, padding="x" * 200)
    assert time.monotonic() - began < 20.0
    got = 0
    while slow.poll(200):
        slow.recv_multipart()
        got += 1
    assert 0 < got < 40 * MAX_WAITING


def test_the_file_goes_with_the_hub(endpoint: str) -> None:
    Events(endpoint).close()
    assert not Path(endpoint.removeprefix("ipc://")).exists()


def test_without_an_endpoint_nobody_is_told() -> None:
    events = Events(None)
    events.tell("join", slot=1)
    events.close()


def test_conditions_of_who_left_are_over_and_a_successors_are_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = Events(None)
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        events, "tell", lambda topic, **fields: told.append({"topic": topic, **fields})
    )
    troubled = replace(ANNA, conditions=raised("no-udp"))
    known = directory(troubled)
    events.look(known)
    known.clients[2] = replace(troubled, session=8, name="Berta")
    events.look(known)
    del known.clients[2]
    events.look(known)
    events.close()
    assert sorted((one["name"], one["raised"]) for one in told if one["topic"] == "condition") == [
        ("Anna", False), ("Anna", True), ("Berta", False), ("Berta", True),
    ]  # fmt: skip
