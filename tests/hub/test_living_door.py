"""The door of a hub in its processes: waiting room, lock, bans, and what the unwanted get."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.client import HubRefused
from shared.protocol import (
    EXIT_PACKET,
    AudioHeader,
    pack_header,
    pack_hello,
)
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, LiveHub, StartHub
from tests.hub.musicians import Musician, say_hello
from tests.hub.steadily import BESIDE

pytestmark = pytest.mark.living

DENIED, STRANGER = "127.0.0.3", "127.0.0.5"


def soon(condition: object, what: str) -> None:
    wait_until(condition, DEADLINE_S, what, poll_s=0.01)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    """A hub with a waiting room, and one network that may not come."""
    options = ("--max-clients", "24", "--waiting-room", "--deny", DENIED, "--max-per-source", "6")
    hub = LiveHub(tmp_path_factory.mktemp("guarded"), options=options)
    try:
        yield hub
        hub.stop()
    finally:
        hub.kill()


def conditions(hub: LiveHub, name: str) -> list[str]:
    """What the hub says is wrong with a client."""
    client = hub.find(name)
    return [entry["condition"] for entry in client["conditions"]] if client else []


def bytes_from(hub: LiveHub, address: str, said: bytes) -> bytes:
    """All that a TCP connection from an address is sent."""
    with contextlib.suppress(ConnectionError), socket.socket() as tcp:
        tcp.settimeout(DEADLINE_S)
        tcp.bind((address, 0))
        tcp.connect(("127.0.0.1", hub.port))
        tcp.sendall(said)
        tcp.shutdown(socket.SHUT_WR)
        return tcp.recv(4096)
    return b""


def test_a_newcomer_waits_in_silence_until_it_is_admitted(guarded: LiveHub) -> None:
    with Musician(guarded.port, "Anna", level=600) as anna:
        assert guarded.active("Anna")["held"]
        guarded.ask("admit", client="Anna")
        soon(lambda: anna.hears == 600, "Anna hears herself")
        with Musician(guarded.port, "Berta", level=300) as berta:
            assert guarded.active("Berta")["held"]
            guarded.ask("gain", source="Anna", listener="Berta", gain=1.0)
            guarded.ask("gain", source="Berta", listener="Anna", gain=1.0)
            soon(lambda: berta.packets > 200, "Berta is sent something")
            assert {sample for _, sample in berta.heard} == {0}
            assert max(sample for _, sample in anna.heard) <= 600 * BESIDE
            assert guarded.state()["hub"]["door"]["held"] == 1
            soon(lambda: "waiting-room" in conditions(guarded, "Berta"), "it is told why")
            guarded.ask("admit", client="Berta")
            soon(lambda: (anna.hears, berta.hears) == (900, 900), "both hear both")
            with pytest.raises(HubRefused, match="does not wait to be admitted"):
                guarded.ask("refuse", client="Berta")
        guarded.ask("patch", mode="loopback")
        with Musician(guarded.port, "Carla", level=300, address="127.0.0.2") as carla:
            guarded.active("Carla")
            soon(lambda: carla.packets > 50, "Carla is sent something")
            assert {sample for _, sample in carla.heard} == {0}
            guarded.ask("refuse", client="Carla")
            soon(lambda: carla.exits == 2, "and told to go")
        guarded.ask("patch", mode="full-mix")
        with Musician(guarded.port, "Berta", level=300):
            assert not guarded.active("Berta")["held"]  # she was admitted before
            soon(lambda: anna.hears == 900, "Berta is heard at once")
        assert guarded.ask("waiting-room", on=False) == {"on": False, "held": 0}
        with Musician(guarded.port, "Emil", level=300):
            soon(lambda: anna.hears == 900, "Emil need not wait")
        guarded.ask("waiting-room", on=True)
        with Musician(guarded.port, "Fritz", level=300):
            assert guarded.active("Fritz")["held"]
    guarded.empty()


def test_the_lock_is_for_newcomers(guarded: LiveHub) -> None:
    with Musician(guarded.port, "Dora"):
        guarded.active("Dora")
        guarded.ask("admit", client="Dora")
        assert guarded.ask("lock") == {"locked": True, "changed": True}
    guarded.empty()
    try:
        assert say_hello(guarded.port, "Mallory") is None
        with Musician(guarded.port, "Dora"):
            assert not guarded.active("Dora")["held"]
    finally:
        guarded.ask("unlock")
    guarded.empty()
    hub = guarded.state()["hub"]
    assert hub["hellos_refused"]["locked"] == 1
    assert hub["turned_away"][-1]["conditions"][0]["condition"] == "locked"


def test_who_is_not_wanted_or_not_proved_is_sent_nothing(guarded: LiveHub) -> None:
    """Neither over TCP nor over UDP, and at no port of the hub's."""
    assert bytes_from(guarded, DENIED, pack_hello(4464, "Mallory")) == b""
    assert bytes_from(guarded, "127.0.0.1", b"\1\2") == b""  # let go before it said its port
    assert guarded.state()["hub"]["hellos_refused"]["denied"] == 1

    audio = pack_header(AudioHeader(0, 0, 16, 3, 8, 1, 16)) + bytes(16)  # wants much, brings little
    other_rate = pack_header(AudioHeader(0, 0, 16, 2, 8, 1, 16)) + bytes(16)
    with (
        Musician(guarded.port, "Anna") as anna,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        active = guarded.active("Anna")
        waiting = say_hello(guarded.port, "Ghost")
        assert waiting is not None
        stranger.bind((STRANGER, 0))
        for port in (anna.port, waiting, guarded.udp_port + 23):
            for said in (audio, other_rate, EXIT_PACKET, b"", bytes(63), bytes(1500)) * 20:
                with contextlib.suppress(ConnectionError):
                    stranger.sendto(said, ("127.0.0.1", port))
        found = guarded.find("Ghost")
        assert found is not None
        soon(lambda: guarded.active("Anna")["received"]["foreign"] >= 120, "all was looked at")
        assert guarded.active("Anna")["session"] == active["session"]
        stranger.settimeout(0.3)
        with pytest.raises(TimeoutError):
            stranger.recv(65536)
        guarded.ask("kick", client="Ghost")
    guarded.empty()


def test_a_source_has_so_many_places_only(guarded: LiveHub) -> None:
    with contextlib.ExitStack() as stack:
        for k in range(6):
            stack.enter_context(Musician(guarded.port, f"m{k}"))
        assert say_hello(guarded.port, "one too many") is None
        assert say_hello(guarded.port, "elsewhere", address="127.0.0.2") is not None
        assert guarded.state()["hub"]["hellos_refused"]["too-many"] == 1


def test_a_ban_survives_a_restart(start_hub: StartHub, tmp_path: Path) -> None:
    banfile = ("--banfile", str(tmp_path / "bans.json"))
    hub = start_hub(*banfile)
    with (
        Musician(hub.port, "Mallory", address="127.0.0.2") as mallory,
        Musician(hub.port, "Anna") as anna,
    ):
        hub.active("Mallory")
        made = hub.ask("ban", client="Mallory", for_s=3600, reason="plays the vuvuzela")
        assert (made["network"], made["saved"], made["others"]) == ("127.0.0.2", True, 0)
        soon(lambda: mallory.exits == 2, "Mallory is told to go")
        with pytest.raises(ConnectionError):
            say_hello(hub.port, "Mallory", address="127.0.0.2")
        assert anna.exits == 0
    hub.stop()

    hub = start_hub(*banfile)
    assert bytes_from(hub, "127.0.0.2", pack_hello(4464, "Mallory")) == b""
    (ban,) = hub.ask("bans")["bans"]
    assert (ban["name"], ban["reason"]) == ("Mallory", "plays the vuvuzela")
    assert hub.state()["hub"]["door"]["bans"] == 1
    hub.ask("unban", network="127.0.0.2")
    with Musician(hub.port, "Mallory", address="127.0.0.2"):
        hub.active("Mallory")
    hub.stop()
    (tmp_path / "bans.json").write_text("{")
    with pytest.raises(AssertionError, match="banfile: cannot be used"):
        start_hub(*banfile)
