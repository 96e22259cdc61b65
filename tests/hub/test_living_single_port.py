"""A hub whose clients all come to one UDP port, in its processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hub.exits import EXIT_PORT_IN_USE
from loadtest.conduct.ports import PORTS
from shared.protocol import AudioHeader, pack_header
from tests.end_to_end.hubs import tuttihub_command
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, LiveHub
from tests.hub.doctor.networks import (
    Internet,
    entered,
    forwarding,
    lacking,
    run,
    translating,
)
from tests.hub.musicians import Musician, say_hello

pytestmark = pytest.mark.living

SHARED = [("--clients-per-worker", "1"), ("--clients-per-worker", "8", "--transmit-lanes", "2")]


def soon(condition: object, what: str) -> None:
    wait_until(condition, DEADLINE_S, what, poll_s=0.01)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=SHARED, ids=["alone", "sharing"])
def hub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveHub]:
    options = ("--single-port", "--max-clients", "24", *request.param)
    hub = LiveHub(tmp_path_factory.mktemp("single"), options=options)
    try:
        yield hub
        hub.stop()
    finally:
        hub.kill()


def lobby(hub: LiveHub, result: str) -> float:
    return hub.counters()[f'tuttihub_lobby_datagrams_total{{result="{result}"}}']


def test_all_hear_each_other_through_one_port(hub: LiveHub) -> None:
    addresses = ["127.0.0.2", "127.0.0.3", "127.0.0.4", "::1", "127.0.0.2", "127.0.0.2"]
    with contextlib.ExitStack() as stack:
        players = []
        for k, address in enumerate(addresses):
            players.append(
                stack.enter_context(Musician(hub.port, f"m{k}", level=100 * 2**k, address=address))
            )
            assert hub.active(f"m{k}")["port"] == hub.udp_port
        total = sum(player.level for player in players)
        soon(lambda: all(p.hears == total for p in players), "all hear all")
        assert [player.port for player in players] == [hub.udp_port] * len(players)
        assert [player.strangers for player in players] == [0] * len(players)
        assert hub.state()["hub"]["single_port"] == hub.udp_port
        # of one that leaves, and one that is sent away, nothing is left
        players[0].leave()
        soon(lambda: players[1].hears == total - 100, "the first has left")
        hub.ask("kick", client="m1")
        soon(lambda: players[1].exits == 2, "the second is told to go")
        soon(lambda: players[2].hears == total - 300, "and is not heard")
        # a dead receiver's successor has the same socket
        victim = hub.active("m2")
        os.kill(victim["receiver_pid"], signal.SIGKILL)
        soon(lambda: hub.active("m2")["receiver_restarts"] == 1, "it is replaced")
        soon(lambda: players[3].hears == total - 300, "and all is as before")
    hub.empty()


def test_two_of_one_address_are_not_confused_before_they_are_heard(hub: LiveHub) -> None:
    """The second has another port, until the first has been heard."""
    before = hub.counters()["tuttihub_own_ports_total"]
    first = say_hello(hub.port, "first", 45_001, "127.0.0.9")
    second = say_hello(hub.port, "second", 45_002, "127.0.0.9")
    elsewhere = say_hello(hub.port, "elsewhere", 45_003, "127.0.0.10")
    assert first == elsewhere == hub.udp_port
    assert second is not None
    assert second > hub.udp_port
    assert hub.counters()["tuttihub_own_ports_total"] == before + 1
    assert "client has a port of its own" in hub.process.log()
    for name in ("first", "second", "elsewhere"):
        hub.ask("kick", client=name)
    hub.empty()


def test_who_was_killed_comes_back_from_the_same_port(hub: LiveHub) -> None:
    """And from another one, while another client of its address plays."""
    with Musician(hub.port, "neighbour", level=40, address="127.0.0.2") as neighbour:
        hub.active("neighbour")
        with Musician(hub.port, "Anna", level=100, address="127.0.0.2") as anna:
            was = hub.active("Anna")
            soon(lambda: neighbour.hears == 140, "both are heard")
            anna.fall_silent()
            anna._socket.close()
            time.sleep(0.2)
            with Musician(
                hub.port, "Anna", level=300, address="127.0.0.2", udp_port=anna.udp_port
            ) as again:
                soon(lambda: neighbour.hears == 340, "she is back")
                soon(lambda: again.hears == 340, "and hears")
                here = hub.active("Anna")
                assert (here["slot"], here["port"]) == (was["slot"], hub.udp_port)
                assert here["session"] != was["session"]
                assert neighbour.exits == again.exits == 0
            soon(lambda: len(hub.present()) == 1, "she has left")
        assert neighbour.skipped() <= hub.missed_ticks()
    hub.empty()


def test_junk_in_the_lobby_costs_nobody_anything(hub: LiveHub) -> None:
    """Newcomers are let in meanwhile, from the address that it comes from, too."""
    audio = pack_header(AudioHeader(0, 9000, 64, 3, 16, 2, 2)) + bytes(256)
    stop = threading.Event()

    def flood(address: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))
            while not stop.is_set():
                for said in (audio, b"junk", b"", bytes(63), bytes(1400)) * 4:
                    with contextlib.suppress(OSError):
                        sock.sendto(said, (address, hub.udp_port))
                time.sleep(0.002)

    def heard(level: int) -> bool:
        return all(player.hears == level for player in (anna, berta))

    floods = [threading.Thread(target=flood, args=(a,)) for a in ("127.0.0.2", "127.0.0.30")]
    with Musician(hub.port, "Anna", level=100, address="127.0.0.2") as anna:
        hub.active("Anna")
        for each in floods:
            each.start()
        try:
            soon(lambda: lobby(hub, "malformed") > 2000, "much has come")
            with Musician(hub.port, "Berta", level=40, address="127.0.0.2") as berta:
                soon(lambda: heard(140), "she is heard, and hears")
                assert hub.active("Berta")["port"] == hub.udp_port
                assert hub.active("Anna")["received"]["foreign"] == 0
        finally:
            stop.set()
            for each in floods:
                each.join()
        assert hub.counters()["tuttihub_lobby_pauses_total"] > 0
        assert lobby(hub, "nobody") > 100
        assert anna.skipped() <= hub.missed_ticks()
    hub.empty()


def test_a_second_hub_cannot_have_the_port(hub: LiveHub) -> None:
    done = subprocess.run(
        [
            *tuttihub_command(), "serve", "--bindport", str(PORTS.take()), "--single-port",
            str(hub.udp_port), "--max-clients", "4", "--udpbaseport", "50000",
            "--metrics", "off", "--control", "off",
            "--banfile", "off", "--scenefile", "off",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == EXIT_PORT_IN_USE
    assert f"port={hub.udp_port}" in done.stderr or str(hub.udp_port) in done.stderr
    assert "--single-port" in done.stderr


class Mover(Musician):
    """A client with a clock, whose router may give it another port."""

    def __init__(self, hub_port: int, name: str, **details: Any) -> None:
        self.moves = threading.Event()
        super().__init__(hub_port, name, **details)

    def _send(self) -> None:
        if self.moves.is_set():
            self.moves.clear()
            here = self._socket.getsockname()[0]
            self._socket.close()
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((here, 0))
        super()._send()

    def stamp_us(self) -> int:
        return time.time_ns() // 1000


def test_a_client_is_followed_to_another_port(hub: LiveHub) -> None:
    """While others of its address play, and one has yet to be heard."""
    with contextlib.ExitStack() as stack:
        neighbour = Musician(hub.port, "neighbour", level=40, address="127.0.0.2")
        stack.enter_context(neighbour)
        hub.active("neighbour")
        anna = stack.enter_context(Mover(hub.port, "Anna", level=100, address="127.0.0.2"))
        soon(lambda: neighbour.hears == 140, "both are heard")
        session = hub.active("Anna")["session"]
        time.sleep(2.5)  # until her clock is known
        assert say_hello(hub.port, "late", 45_000, "127.0.0.2") == hub.udp_port
        heard = anna.packets
        anna.moves.set()
        soon(lambda: hub.active("Anna")["peer_port"] == anna._socket.getsockname()[1], "followed")
        soon(lambda: neighbour.hears == 140, "she is heard")
        soon(lambda: anna.packets > heard + 100, "and hears")
        assert hub.active("Anna")["session"] == session
        assert lobby(hub, "followed") == 1
        assert neighbour.skipped() <= hub.missed_ticks()
        hub.ask("kick", client="late")
    hub.empty()


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Internet, LiveHub]]:
    """A hub whose clients are behind routers."""
    if reason := lacking():
        pytest.skip(reason)
    internet = Internet()
    hub: LiveHub | None = None
    try:
        with entered(internet.hub):
            hub = LiveHub(tmp_path_factory.mktemp("nat"), options=("--single-port",))
        yield internet, hub
        hub.stop()
    finally:
        if hub is not None:
            hub.kill()
        internet.remove()


def test_those_behind_one_router_play_through_one_port(routed: tuple[Internet, LiveHub]) -> None:
    """Both from port 4464, as all clients have it; the router makes ports up."""
    internet, hub = routed
    way = internet.way(translating('oifname "wide" masquerade fully-random'))
    run("ip", "-n", way.client, "address", "add", f"10.200.{way.number}.3/24", "dev", "home")
    with contextlib.ExitStack() as stack:
        players = []
        for k in range(4):
            with entered(way.client):
                address = f"10.200.{way.number}.{2 + k % 2}"
                players.append(
                    stack.enter_context(
                        Musician(
                            hub.port, f"m{k}", level=100 * 2**k, address=address,
                            host=way.hub_address, udp_port=4464 + k // 2,
                        )
                    )
                )  # fmt: skip
            assert hub.active(f"m{k}")["port"] == hub.udp_port
        soon(lambda: all(p.hears == 1500 for p in players), "all hear all")
        for k, player in enumerate(players):
            client = hub.active(f"m{k}")
            assert client["address"] == f"10.201.{way.number}.2"
            assert client["peer_port"] not in (4464, 4465)
            assert player.strangers == client["received"]["foreign"] == 0
        hub.ask("patch", mode="loopback")
        soon(lambda: all(p.hears == p.level for p in players), "each hears itself, and only it")
        hub.ask("patch", mode="full-mix")
    hub.empty()


DROPPED_ON_ITS_WAY_BACK = forwarding('iifname "wide" meta l4proto udp drop')


@pytest.mark.parametrize(
    ("rules", "fault"),
    [(translating('oifname "wide" masquerade fully-random'), ""),
     (DROPPED_ON_ITS_WAY_BACK, "udp-in-swallowed")],
    ids=["nothing", "deaf"],
)  # fmt: skip
def test_the_doctor_is_right_about_such_a_hub(
    routed: tuple[Internet, LiveHub], rules: str, fault: str
) -> None:
    """That one port serves all is no sign of anything broken, nor of a port that is kept."""
    internet, hub = routed
    way = internet.way(rules)
    with entered(way.client):
        done = subprocess.run(
            [*tuttihub_command(), "doctor", way.hub_address, "-P", str(hub.port), "--json",
             "--seconds", "1"],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    found = json.loads(done.stdout)["findings"]
    errors = [each["fault"] for each in found if each["severity"] == "error"]
    assert errors == ([fault] if fault else [])
