"""The control socket: real ZeroMQ, real files."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq

from hub.control import MAX_UNANSWERED, ControlInUse, make_way
from hub.messages.fields import MAX_REQUEST_BYTES
from hub.networks import Network
from tests.end_to_end.processes import wait_until
from tests.hub.listening import BAN, RecordingHub, listening

TIMEOUT_MS = 10_000
PING = json.dumps({"v": 1, "id": 1, "op": "ping"}).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # the path of a Unix socket has room for 107 characters only
    return tmp_path / "control"


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def connect(context: zmq.Context[Any], path: Path, kind: int = zmq.DEALER) -> zmq.Socket[bytes]:
    sock: zmq.Socket[bytes] = context.socket(kind)
    sock.linger = 0
    sock.rcvtimeo = TIMEOUT_MS
    sock.connect(f"ipc://{path}")
    return sock


def test_the_file_is_for_its_user_alone_and_goes_with_the_hub(path: Path) -> None:
    with listening(f"ipc://{path}", RecordingHub()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_both_kinds_of_asking_sockets_are_answered(
    path: Path, context: zmq.Context[Any], kind: int
) -> None:
    with listening(f"ipc://{path}", RecordingHub()), connect(context, path, kind) as sock:
        for _ in range(3):
            sock.send(PING)
            assert json.loads(sock.recv())["ok"]


def test_many_are_answered_each_its_own(path: Path, context: zmq.Context[Any]) -> None:
    with listening(f"ipc://{path}", RecordingHub()):
        socks = [connect(context, path) for _ in range(20)]
        for number, sock in enumerate(socks):
            sock.send(json.dumps({"v": 1, "id": number, "op": "ping"}).encode())
        assert [json.loads(sock.recv())["id"] for sock in socks] == list(range(20))
        for sock in socks:
            sock.close()


def test_garbage_is_answered_and_the_next_request_too(
    path: Path, context: zmq.Context[Any]
) -> None:
    with listening(f"ipc://{path}", RecordingHub()), connect(context, path) as sock:
        sock.send(b"\xff\0\xff")
        assert json.loads(sock.recv())["error"]["code"] == "bad-json"
        sock.send_multipart([b"a", b"b", b"c", b"d", b"e"])  # passed over
        sock.send(PING)
        assert json.loads(sock.recv())["ok"]


def test_a_request_too_large_costs_only_its_sender(path: Path, context: zmq.Context[Any]) -> None:
    with (
        listening(f"ipc://{path}", RecordingHub()),
        connect(context, path) as fat,
        connect(context, path) as slim,
    ):
        fat.send(b" " * (MAX_REQUEST_BYTES + 1))
        slim.send(PING)
        assert json.loads(slim.recv())["ok"]
        assert not fat.poll(100)


FLOOD = """
import sys, zmq
context = zmq.Context()
socks = [context.socket(zmq.DEALER) for _ in range(32)]
for sock in socks:
    sock.connect(sys.argv[1])
while True:
    for sock in socks:
        try:
            sock.send(b"{}", zmq.NOBLOCK)
        except zmq.Again:
            pass
"""


def test_who_floods_holds_up_neither_others_nor_the_loop(
    path: Path, context: zmq.Context[Any]
) -> None:
    endpoint = f"ipc://{path}"
    with listening(endpoint, RecordingHub()) as hub, connect(context, path) as sock:
        flood = subprocess.Popen([sys.executable, "-c", FLOOD, endpoint])
        try:
            time.sleep(0.7)  # it has begun
            turns, began = hub.turns, time.monotonic()
            for _ in range(10):
                sock.send(PING)
                assert json.loads(sock.recv())["ok"]
            time.sleep(0.3)
            assert hub.turns - turns > 10 * (time.monotonic() - began)
        finally:
            flood.kill()
            flood.wait()


def test_who_waits_is_bounded(path: Path, context: zmq.Context[Any]) -> None:
    """What cannot be answered yet is not read on and on."""
    hub = SlowDisk()
    with listening(f"ipc://{path}", hub), connect(context, path) as sock:
        for number in range(2 * MAX_UNANSWERED):
            unban = {"v": 1, "id": number, "op": "unban", "account": "mallory"}
            sock.send(json.dumps(unban).encode())
        wait_until(lambda: hub.waiting == MAX_UNANSWERED, 5.0, "as many as may wait do")
        assert not sock.poll(200)
        assert hub.waiting == MAX_UNANSWERED
        asyncio.run_coroutine_threadsafe(hub.let_go(), hub.loop).result(TIMEOUT_MS / 1000)
        ids = {json.loads(sock.recv())["id"] for _ in range(2 * MAX_UNANSWERED)}
        assert ids == set(range(2 * MAX_UNANSWERED))


@dataclass
class SlowDisk(RecordingHub):
    """A hub whose bans are written when it is let go on."""

    written: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    loop: Any = None

    async def unban(self, target: Network | str) -> dict[str, Any] | None:
        self.waiting += 1
        self.loop = asyncio.get_running_loop()
        await self.written.wait()
        return {**BAN, "saved": True}

    async def let_go(self) -> None:
        self.written.set()

    def shut_down(self) -> None:
        asyncio.get_running_loop().call_later(0.2, self.written.set)


def test_who_waits_for_a_disk_holds_up_nobody(path: Path, context: zmq.Context[Any]) -> None:
    with listening(f"ipc://{path}", SlowDisk()), connect(context, path) as sock:
        for number, op, fields in (
            (1, "unban", {"account": "mallory"}),
            (2, "ping", {}),
            (3, "shutdown", {}),
        ):
            sock.send(json.dumps({"v": 1, "id": number, "op": op, **fields}).encode())
        assert [json.loads(sock.recv())["id"] for _ in range(3)] == [2, 3, 1]


def test_who_waits_for_a_disk_when_the_hub_ends_is_answered(
    path: Path, context: zmq.Context[Any]
) -> None:
    with connect(context, path) as sock:
        with listening(f"ipc://{path}", SlowDisk()):
            for number, op, fields in ((1, "unban", {"account": "mallory"}), (2, "shutdown", {})):
                sock.send(json.dumps({"v": 1, "id": number, "op": op, **fields}).encode())
            assert json.loads(sock.recv())["id"] == 2
        assert json.loads(sock.recv())["result"] == {**BAN, "saved": True}


def test_the_socket_of_a_dead_hub_is_taken_over(path: Path, context: zmq.Context[Any]) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    with listening(f"ipc://{path}", RecordingHub()), connect(context, path) as sock:
        sock.send(PING)
        assert json.loads(sock.recv())["ok"]


def test_the_socket_of_a_living_hub_is_not_taken(path: Path) -> None:
    with listening(f"ipc://{path}", RecordingHub()):
        with pytest.raises(ControlInUse, match="another hub answers"):
            make_way(path)
        assert path.is_socket()


def test_the_socket_of_a_hub_that_is_too_busy_to_accept_is_not_taken(path: Path) -> None:
    with ExitStack() as stack, socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        code = 0
        while code != errno.EAGAIN:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            code = waiting.connect_ex(str(path))
        with pytest.raises(ControlInUse, match="another hub answers"):
            make_way(path)
        assert path.is_socket()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ControlInUse, match="no socket"):
        make_way(path)
    assert path.read_text() == "precious"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such directory") as caught:
        make_way(tmp_path / "missing" / "control")
    assert caught.value.filename == str(tmp_path / "missing")
