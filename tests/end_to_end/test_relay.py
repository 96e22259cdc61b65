"""The relay does to datagrams what it says, and says what it did."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.end_to_end.processes import wait_until
from tests.end_to_end.relay import HERE, Relay, Way
from tests.end_to_end.weather import PERFECT, Fate, Path, Weather

HEADER = struct.Struct("<QHHBBBB")
DEADLINE_S = 20.0
BURST = 20
MS_NS = 1_000_000


class Mirror:
    """In the hub's place: answers hellos, and sends each datagram back where it came from."""

    def __init__(self) -> None:
        self.tcp = socket.create_server((HERE, 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((HERE, 0))
        self.port: int = self.tcp.getsockname()[1]
        self.sources: list[int] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=target, daemon=True) for target in (self._answer, self._reflect)
        ]
        for each in (self.tcp, self.udp):
            each.settimeout(0.05)
        for thread in self._threads:
            thread.start()

    def _answer(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError), self.tcp.accept()[0] as near:
                near.recv(68, socket.MSG_WAITALL)
                near.sendall(struct.pack("<i", self.udp.getsockname()[1]))

    def _reflect(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                datagram, sender = self.udp.recvfrom(65536)
                self.sources.append(sender[1])
                self.udp.sendto(datagram, sender)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self.tcp.close()
        self.udp.close()


class Player:
    """In a client's place."""

    def __init__(self, relay: Relay) -> None:
        with socket.create_connection((HERE, relay.port), DEADLINE_S) as tcp:
            tcp.sendall(bytes(68))
            self.target = HERE, struct.unpack("<i", tcp.recv(4, socket.MSG_WAITALL))[0]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((HERE, 0))
        self.udp.settimeout(DEADLINE_S)

    def send(self, numbers: range) -> None:
        for number in numbers:
            if number % BURST == 0:
                time.sleep(0.005)  # a socket's buffer holds fewer than 300 datagrams
            self.udp.sendto(HEADER.pack(number, number % 65536, 128, 3, 16, 1, 1), self.target)

    def hear(self, count: int) -> list[int]:
        """The numbers of the next so many packets."""
        return [HEADER.unpack(self.udp.recv(65536))[0] for _ in range(count)]

    def close(self) -> None:
        self.udp.close()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with closing(Mirror()) as mirror:
        yield mirror


def passages(relay: Relay, way: Way, count: int) -> NDArray[Any]:
    """All that came by in one direction, once they are `count` and what passed has gone."""

    def complete() -> bool:
        found = relay.passages()
        found = found[found["down"] == way]
        return len(found) == count and not found["held"].any()

    wait_until(complete, DEADLINE_S, f"{count} datagrams at the relay")
    everything = relay.passages()
    found: NDArray[Any] = everything[everything["down"] == way]
    return found


def test_what_is_lost_and_repeated_is_told_exactly(mirror: Mirror) -> None:
    with Relay(mirror.port, seed=3) as relay, closing(Player(relay)) as player:
        relay.impair(up=Path(loss=0.2, duplicate=0.1), down=Path(loss=0.1))
        first = 65_400
        player.send(range(first, first + 300))
        up = passages(relay, Way.UP, 300)
        down = passages(relay, Way.DOWN, int(up["copies"].sum()))

        assert up["sequence"].tolist() == list(range(first, first + 300))
        lost = int(np.count_nonzero(up["fate"] == Fate.LOST))
        assert 30 < lost < 90
        assert np.count_nonzero(up["copies"] == 2) > 10
        passed = down[down["fate"] == Fate.PASSED]
        assert player.hear(len(passed)) == passed["sequence"].tolist()


def test_the_same_seed_loses_the_same_datagrams(mirror: Mirror) -> None:
    found = []
    for seed in (5, 5, 6):
        with Relay(mirror.port, seed) as relay, closing(Player(relay)) as player:
            relay.impair(up=Path(loss=0.1, burst_begin=0.02, burst_end=0.5))
            player.send(range(200))
            found.append(passages(relay, Way.UP, 200)["fate"].tolist())

    assert found[0] == found[1] != found[2]
    assert {Fate.LOST, Fate.IN_BURST} < set(found[0])


def test_nothing_comes_early_and_held_datagrams_are_overtaken(mirror: Mirror) -> None:
    with Relay(mirror.port) as relay, closing(Player(relay)) as player:
        relay.impair(up=Path(delay_ms=30, jitter_ms=2, reorder=0.2, reorder_ms=50))
        player.send(range(100))
        heard = player.hear(100)
        up = passages(relay, Way.UP, 100)

    assert sorted(heard) == list(range(100)) != heard
    assert (up["sent_ns"] >= up["due_ns"]).all()
    assert (up["due_ns"] - up["arrival_ns"] >= 30 * MS_NS).all()


def test_blackout_and_another_port(mirror: Mirror) -> None:
    with Relay(mirror.port) as relay, closing(Player(relay)) as player:
        player.send(range(5))
        assert player.hear(5) == list(range(5))
        relay.black_out(up=True)
        player.send(range(5, 9))
        passages(relay, Way.UP, 9)
        relay.black_out()
        old, new = relay.change_port()
        player.send(range(9, 12))

        assert player.hear(3) == [9, 10, 11]
        assert mirror.sources == [old] * 5 + [new] * 3
        relay.forget()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hub:
            hub.sendto(b"late", (HERE, old))
        assert passages(relay, Way.DOWN, 1)["fate"].tolist() == [Fate.STRAY]


def test_clients_have_weather_of_their_own(mirror: Mirror) -> None:
    with (
        Relay(mirror.port) as relay,
        closing(Player(relay)) as one,
        closing(Player(relay)) as other,
    ):
        relay.impair(up=Path(loss=0.3))
        for player in (one, other):
            player.send(range(100))
        found = passages(relay, Way.UP, 200)

    fates = [found[found["client"] == k]["fate"].tolist() for k in range(2)]
    assert fates[0] != fates[1]


def test_bursts_are_as_long_and_as_frequent_as_asked() -> None:
    weather = Weather(Path(burst_begin=0.01, burst_end=0.25), "burst")
    lost = np.array([weather.fate(0)[0] == Fate.IN_BURST for _ in range(200_000)])

    # Of a two-state chain: begin / (begin + end) of the time within, 1 / end datagrams each.
    assert np.mean(lost) == pytest.approx(0.01 / 0.26, rel=0.1)
    begins = np.count_nonzero(lost[1:] & ~lost[:-1])
    assert np.count_nonzero(lost) / begins == pytest.approx(4.0, rel=0.05)


def test_jitter_has_its_mean_and_overtakes_only_where_it_may() -> None:
    for overtaking in (False, True):
        weather = Weather(Path(jitter_ms=3, overtaking=overtaking), "jitter")
        arrivals = np.arange(20_000) * 2 * MS_NS
        times = np.array([weather.fate(int(at))[1][0] for at in arrivals])

        assert bool((np.diff(times) >= 0).all()) is not overtaking
        if overtaking:
            assert np.mean(times - arrivals) == pytest.approx(3 * MS_NS, rel=0.05)


def test_a_perfect_network_changes_nothing() -> None:
    weather = Weather(PERFECT, "calm")
    assert [weather.fate(at) for at in range(3)] == [(Fate.PASSED, [at]) for at in range(3)]
