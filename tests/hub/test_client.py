"""The control client against a real control socket, and against what is none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from hub.client import ControlError, HubClient, HubRefused, HubUnreachable
from hub.directory import ClientInfo
from shared.layout import PatchMode
from tests.hub.listening import RecordingHub, directory, listening, seat

ANNA = ClientInfo(3, 7, "Anna", "192.0.2.1", 61005, joined_s=0.0)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/control"


@pytest.fixture
def hub(endpoint: str) -> Iterator[RecordingHub]:
    hub = RecordingHub(directory=directory(ANNA))
    seat(hub.arena, 3, 7)
    with listening(endpoint, hub):
        yield hub


def test_every_request_reaches_the_hub(hub: RecordingHub, endpoint: str) -> None:
    with HubClient(endpoint) as client:
        assert client.ping() == {"version": "1.2.3", "pid": 4321}
        client.set_patch("fan-out-no-self")
        client.set_gain("Anna", 0.0)
        client.set_gain(3, None)
        client.set_gain("Anna", float("-inf"), listener=3)
        client.set_muted("Anna", True)
        client.kick(3)
        client.shut_down()
    assert hub.asked == [
        ("patch", PatchMode.FAN_OUT_NO_SELF),
        ("gain", 3, 1.0),
        ("gain", 3, None),
        ("pair", 3, 3, 0.0),
        ("mute", 3, True),
        ("kick", 3),
        ("shutdown",),
    ]


def test_status_and_clients_tell_the_same_of_a_client(hub: RecordingHub, endpoint: str) -> None:
    with HubClient(endpoint) as client:
        (of_status,) = client.status()["clients"]
        (of_clients,) = client.clients()
    assert of_status["name"] == of_clients["name"] == "Anna"
    assert of_status.keys() == of_clients.keys()


def test_refusal_carries_code_and_reason(hub: RecordingHub, endpoint: str) -> None:
    with HubClient(endpoint) as client, pytest.raises(HubRefused, match="Nobody") as caught:
        client.kick("Nobody")
    assert caught.value.code == "no-client"


def test_no_socket_is_seen_at_once(endpoint: str) -> None:
    with pytest.raises(HubUnreachable, match="there is no such socket") as caught:
        HubClient(endpoint, timeout_s=600)
    assert endpoint in str(caught.value)


def test_socket_of_a_dead_hub_is_seen_at_once(endpoint: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(endpoint.removeprefix("ipc://"))
    with pytest.raises(HubUnreachable, match="is gone"):
        HubClient(endpoint, timeout_s=600)


@contextmanager
def scripted(endpoint: str, reply: Callable[[dict[str, Any]], list[bytes]]) -> Iterator[None]:
    """Something that answers one request as it likes."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind(endpoint)

        def serve() -> None:
            sender, request = router.recv_multipart()
            for data in reply(json.loads(request)):
                router.send_multipart([sender, data])

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def reply_to(request: dict[str, Any], **changed: object) -> bytes:
    return json.dumps({"v": 1, "id": request["id"], "ok": True, "result": {}, **changed}).encode()


def test_silence_is_told_after_the_timeout(endpoint: str) -> None:
    with (
        scripted(endpoint, lambda _: []),
        HubClient(endpoint, timeout_s=0.1) as client,
        pytest.raises(HubUnreachable, match=r"no reply within 0.1 s"),
    ):
        client.ping()


def test_reply_to_another_request_is_passed_over(endpoint: str) -> None:
    def late_then_right(request: dict[str, Any]) -> list[bytes]:
        return [reply_to(request, id=0), reply_to(request, result={"pid": 5})]

    with scripted(endpoint, late_then_right), HubClient(endpoint) as client:
        assert client.ping() == {"pid": 5}


@pytest.mark.parametrize("junk", [b"", b"\xff", b"[]", b"7"])
def test_reply_that_is_none(endpoint: str, junk: bytes) -> None:
    with (
        scripted(endpoint, lambda _: [junk]),
        HubClient(endpoint) as client,
        pytest.raises(ControlError, match="is no JSON object"),
    ):
        client.ping()


def test_reply_of_another_version(endpoint: str) -> None:
    with (
        scripted(endpoint, lambda r: [reply_to(r, v=2)]),
        HubClient(endpoint) as client,
        pytest.raises(ControlError, match="version 2 of the control protocol"),
    ):
        client.ping()
