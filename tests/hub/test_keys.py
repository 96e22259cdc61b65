"""The control socket over TCP: real CURVE; who has no key that is known gets nothing."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from click.testing import CliRunner

from hub.cli import cli
from hub.client import ControlError, HubClient, HubUnreachable
from hub.control import ControlSocket
from hub.keys import HUB, WrongKey, list_keys, make_pair
from tests.hub.listening import RecordingHub, listening


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
    with listening("tcp://127.0.0.1:*", hub, keys) as served:
        yield served.endpoint


def secret(keys: Path, name: str) -> Path:
    return keys / "secrets" / f"{name}.key_secret"


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
    with HubClient(endpoint, key=secret(keys, "anna"), hub_key=keys / "hub.key") as client:
        assert client.ping()["version"] == "1.2.3"


def test_another_key_gets_nothing(endpoint: str, keys: Path, tmp_path: Path) -> None:
    make_pair(tmp_path / "elsewhere", "mallory")
    wrong = secret(tmp_path / "elsewhere", "mallory")
    with (
        HubClient(endpoint, 0.7, key=wrong, hub_key=keys / "hub.key") as client,
        pytest.raises(HubUnreachable),
    ):
        client.ping()


def test_another_hubs_key_gets_nothing(endpoint: str, keys: Path, tmp_path: Path) -> None:
    make_pair(tmp_path / "elsewhere", HUB)
    wrong = tmp_path / "elsewhere" / "hub.key"
    with (
        HubClient(endpoint, 0.7, key=secret(keys, "anna"), hub_key=wrong) as client,
        pytest.raises(HubUnreachable),
    ):
        client.ping()


def test_no_key_gets_nothing(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUTTIHUB_KEY", raising=False)
    with pytest.raises(ControlError, match="TUTTIHUB_KEY"):
        HubClient(endpoint)
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.linger = 0
        sock.connect(endpoint)
        sock.send(json.dumps({"v": 1, "op": "ping"}).encode())
        assert not sock.poll(700)


def test_it_listens_at_ipv6_too(keys: Path) -> None:
    with (
        listening("tcp://[::1]:*", RecordingHub(), keys) as served,
        HubClient(
            served.endpoint, key=secret(keys, "anna"), hub_key=keys / "hub.key"
        ) as client,
    ):  # fmt: skip
        assert client.ping()["version"] == "1.2.3"


def test_a_clients_key_that_is_none_is_told_at_start(keys: Path) -> None:
    """ZeroMQ would shut out all the others, and say nothing."""
    (keys / "clients" / "broken.key").write_text("metadata\ncurve\n")

    async def start() -> None:
        ControlSocket("tcp://127.0.0.1:*", RecordingHub(), keys)

    with pytest.raises(WrongKey, match=r"broken\.key"):
        asyncio.run(start())
