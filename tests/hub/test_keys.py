"""The control socket over TCP: real CURVE; who has no key that is known gets nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import zmq
from click.testing import CliRunner

from hub.cli import cli
from hub.client import ControlError, HubClient, HubUnreachable
from hub.control import ControlSocket
from hub.events import LockSet
from hub.exits import EXIT_PORT_IN_USE, EXIT_WRONG_OPTION
from hub.keys import HUB, WrongKey, list_keys, make_pair
from hub.rendezvous import events_endpoint
from hub.resolving import make_config
from hub.server import run
from loadtest.conduct.ports import PORTS
from tests.hub.listening import RecordingHub, listening
from tests.hub.loops import in_a_loop


@pytest.fixture
def log_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    for name in (HUB, "anna"):
        done = CliRunner().invoke(cli, ["keys", "make", str(folder), name])
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def endpoint(keys: Path) -> Iterator[str]:
    hub = RecordingHub()
    # the next one is that of events
    with listening(f"tcp://127.0.0.1:{PORTS.take(2)}", hub, keys) as served:
        yield served.endpoint


def secret(keys: Path, name: str) -> Path:
    return keys / "secrets" / f"{name}.key_secret"


def ping(
    endpoint: str, key: Path | None = None, hub_key: Path | None = None, timeout_s: float = 5.0
) -> str:
    """The version of the hub that answers."""

    async def ask() -> str:
        async with HubClient(endpoint, timeout_s, key, hub_key) as hub:
            return (await hub.ping()).version

    return asyncio.run(ask())


def test_keys_are_made_once_listed_and_their_owners_alone(keys: Path) -> None:
    assert list(list_keys(keys)) == [HUB, "anna"]
    for path in (keys / "hub.key_secret", secret(keys, "anna"), keys):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    with pytest.raises(WrongKey, match="has a key"):
        make_pair(keys, "anna")
    with pytest.raises(WrongKey, match="is no name"):
        make_pair(keys, "../anna")
    listed = CliRunner().invoke(cli, ["keys", "list", str(keys)])
    assert [line.split()[1] for line in listed.output.splitlines()] == [HUB, "anna"]


def test_who_has_a_known_key_is_answered(endpoint: str, keys: Path) -> None:
    assert ping(endpoint, secret(keys, "anna"), keys / "hub.key") == "1.2.3"


def test_another_key_gets_nothing(endpoint: str, keys: Path, tmp_path: Path) -> None:
    make_pair(tmp_path / "elsewhere", "mallory")
    wrong = secret(tmp_path / "elsewhere", "mallory")
    with pytest.raises(HubUnreachable):
        ping(endpoint, wrong, keys / "hub.key", 0.7)


def test_another_hubs_key_gets_nothing(endpoint: str, keys: Path, tmp_path: Path) -> None:
    make_pair(tmp_path / "elsewhere", HUB)
    wrong = tmp_path / "elsewhere" / "hub.key"
    with pytest.raises(HubUnreachable):
        ping(endpoint, secret(keys, "anna"), wrong, 0.7)


def test_no_key_gets_nothing(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTTIHUB_KEY", raising=False)
    with pytest.raises(ControlError, match="TUTTIHUB_KEY"):
        ping(endpoint)
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.linger = 0
        sock.connect(endpoint)
        sock.send(json.dumps({"v": 1, "op": "ping"}).encode())
        assert not sock.poll(700)


def test_it_listens_at_ipv6_too(keys: Path) -> None:
    with listening(f"tcp://[::1]:{PORTS.take(2)}", RecordingHub(), keys) as served:
        assert ping(served.endpoint, secret(keys, "anna"), keys / "hub.key") == "1.2.3"


def test_a_clients_key_that_is_none_is_told_at_start(keys: Path) -> None:
    """ZeroMQ would shut out all the others, and say nothing."""
    (keys / "clients" / "broken.key").write_text("metadata\ncurve\n")

    async def start() -> None:
        ControlSocket("tcp://127.0.0.1:*", RecordingHub(), keys)

    with pytest.raises(WrongKey, match=r"broken\.key"):
        asyncio.run(start())


def test_who_has_a_known_key_is_told_what_happens_and_who_did_it(endpoint: str, keys: Path) -> None:
    @in_a_loop
    async def test() -> None:
        async with HubClient(endpoint, 5.0, secret(keys, "anna"), keys / "hub.key") as anna:
            first = asyncio.ensure_future(anext(anna.events("lock")))
            while not first.done():  # subscribing takes a moment
                await anna.lock()
                await asyncio.sleep(0.02)
            assert (first.result().event, first.result().by) == (LockSet(locked=True), "anna")

    test()


def test_who_has_no_key_is_told_nothing(endpoint: str, keys: Path) -> None:
    async def lock() -> None:
        async with HubClient(endpoint, 5.0, secret(keys, "anna"), keys / "hub.key") as asking:
            for _ in range(10):
                await asking.lock()
                await asyncio.sleep(0.05)

    with zmq.Context() as context, context.socket(zmq.SUB) as sock:
        sock.linger = 0
        sock.subscribe(b"")
        sock.connect(events_endpoint(endpoint))
        asyncio.run(lock())
        assert not sock.poll(50)


def test_a_secret_that_others_can_read_is_none(keys: Path) -> None:
    (keys / "hub.key_secret").chmod(0o640)

    async def start() -> None:
        ControlSocket("tcp://127.0.0.1:*", RecordingHub(), keys)

    with pytest.raises(WrongKey, match=r"hub\.key_secret: .* 0640.*chmod 600"):
        asyncio.run(start())


def started(keys: Path, where: str) -> int:
    """Exit code of a hub that does not get as far as to start a process."""

    def never(*_: object) -> list[str]:
        raise AssertionError("a process was to be started")

    config = make_config(
        bind_port=PORTS.take(), udp_base=str(PORTS.take(4)), max_clients=4, metrics="off",
        control="off", banfile="off", scenefile="off", control_tcp=where, control_keys=str(keys),
    )  # fmt: skip
    return run(config, never)


@pytest.mark.usefixtures("log_as_before")
@pytest.mark.parametrize("wrong", ["192.0.2.1:4465", "nowhere.invalid:4465"])
def test_an_address_that_cannot_be_is_told_before_anything_starts(
    keys: Path, wrong: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert started(keys, wrong) == EXIT_WRONG_OPTION
    assert f"--control-tcp: {wrong}: " in capfd.readouterr().err


@pytest.mark.usefixtures("log_as_before")
@pytest.mark.parametrize("behind", [0, 1])
def test_a_port_in_use_is_told_before_anything_starts(
    keys: Path, behind: int, capfd: pytest.CaptureFixture[str]
) -> None:
    port = PORTS.take(2)
    with socket.create_server(("127.0.0.1", port + behind)):
        assert started(keys, f"localhost:{port}") == EXIT_PORT_IN_USE
    told = capfd.readouterr().err
    assert f"--control-tcp: localhost:{port}: tcp://127.0.0.1:{port + behind} cannot be had" in told


@pytest.mark.usefixtures("log_as_before")
def test_missing_keys_are_told_before_anything_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert started(tmp_path / "none", f"127.0.0.1:{PORTS.take(2)}") == EXIT_WRONG_OPTION
    told = capfd.readouterr().err
    assert "none/hub.key_secret: there is no such key; `tuttihub keys make" in told
