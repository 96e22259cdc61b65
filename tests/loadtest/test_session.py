"""Whole runs, by the wire, against the echo and against toy hubs that do one thing wrong."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtest import echo
from loadtest.plan import Plan, Sources
from loadtest.report import Result, evaluate
from loadtest.session import Session, SessionError
from shared.layout import PatchMode
from tests.loadtest.toys import Behaviour, Pcm, ToyHub, toy_hub

CLIENTS = 3
ROOT = Path(__file__).resolve().parents[2]


def run(port: int, mode: PatchMode, **changes: Any) -> Result:
    settings = {"clients": CLIENTS, "seconds": 0.8, "settle_s": 0.1, "talk_packets": 4}
    plan = Plan(port=port, mode=mode, **(settings | changes))
    return evaluate(Session(plan).run())


def run_toy(mode: PatchMode, behaviour: Behaviour | None = None, **changes: Any) -> Result:
    with toy_hub(CLIENTS, mode, behaviour=behaviour) as hub:
        return run(hub.port, mode, **changes)


@contextlib.contextmanager
def bare_echo(clients: int) -> Iterator[int]:
    """The echo as a process; its port."""
    command = [sys.executable, "-m", "loadtest.echo", "--port", "0", "--clients", str(clients)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stderr
    try:
        line = process.stderr.readline()
        assert line.startswith(echo.READY), line
        yield int(line.split()[-1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.close()
        assert process.wait(10) == 0


@pytest.fixture(scope="module")
def echo_port() -> Iterator[int]:
    with bare_echo(8) as port:
        yield port


def faults(result: Result) -> dict[str, int]:
    """Every count that a right hub leaves at zero, if it is not."""
    names = (
        "lost", "duplicates", "reordered", "restarts", "malformed", "foreign", "wrong", "silent",
        "leaks", "shifts", "missing", "unheard",
    )  # fmt: skip
    return {name: value for name in names if (value := getattr(result, name))}


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": 2.0, "clients": 8},
        {"burst": True},
        {"sources": Sources.PORTS},
        {"frames": 64, "channels": 1},
        {"frames": 1024, "channels": 4, "rate_hz": 96000, "join_rate": 0.0},
    ],
    ids=lambda changes: ",".join(changes),
)
def test_the_echo_has_no_fault(echo_port: int, changes: dict[str, Any]) -> None:
    result = run(echo_port, PatchMode.LOOPBACK, **changes)

    assert faults(result) == {}
    assert result.joined == result.goodbyes == result.plan["clients"]
    assert result.voices_heard == result.voices_expected == result.sent > 0
    assert result.latency.count == result.voices_heard


def test_the_echo_is_no_full_mix(echo_port: int) -> None:
    result = run(echo_port, PatchMode.FULL_MIX)

    assert result.missing > 0
    assert result.clean is False


def test_the_echo_returns_ones_own_voice(echo_port: int) -> None:
    result = run(echo_port, PatchMode.FAN_OUT_NO_SELF)

    assert result.leaks > 0


@pytest.mark.parametrize(
    "mode", [PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX, PatchMode.NONE]
)
def test_a_right_hub_has_no_fault(mode: PatchMode) -> None:
    result = run_toy(mode)

    assert faults(result) == {}
    assert (result.voices_heard > 0) == (mode != PatchMode.NONE)


def test_clients_say_good_bye() -> None:
    with toy_hub(CLIENTS, PatchMode.NONE) as hub:
        run(hub.port, PatchMode.NONE)

        assert hub.exits == 2 * CLIENTS


class DropsOneInAThousand(Behaviour):
    total = 0

    def packets(self, listener: int, count: int, packet: bytes) -> list[bytes]:
        self.total += 1
        return [] if self.total % 1000 == 0 else [packet]


def test_one_packet_lost_in_a_thousand_is_noticed() -> None:
    behaviour = DropsOneInAThousand()

    result = run_toy(PatchMode.LOOPBACK, behaviour, seconds=2.0)

    assert 1 <= result.lost <= behaviour.total // 1000
    assert result.wrong == 0


class RepeatsAPacket(Behaviour):
    def packets(self, listener: int, count: int, packet: bytes) -> list[bytes]:
        return [packet, packet] if count % 100 == 99 else [packet]


def test_a_repeated_packet_is_noticed() -> None:
    result = run_toy(PatchMode.LOOPBACK, RepeatsAPacket())

    assert set(faults(result)) == {"duplicates"}


class SwapsNeighbours(Behaviour):
    """Every hundredth packet changes places with the next."""

    def __init__(self) -> None:
        self.held: dict[int, bytes] = {}

    def packets(self, listener: int, count: int, packet: bytes) -> list[bytes]:
        if count % 100 == 50:
            self.held[listener] = packet
            return []
        held = self.held.pop(listener, None)
        return [packet] if held is None else [packet, held]


def test_packets_out_of_order_are_noticed_and_still_right() -> None:
    result = run_toy(PatchMode.LOOPBACK, SwapsNeighbours())

    assert set(faults(result)) == {"reordered"}


class RepeatsSamples(Behaviour):
    """Sends old samples under a new number."""

    def __init__(self) -> None:
        self.last: dict[int, Pcm] = {}

    def mix(self, listener: int, count: int, voices: list[Pcm], mode: PatchMode) -> Pcm:
        right = super().mix(listener, count, voices, mode)
        last = self.last.get(listener, right)
        self.last[listener] = right
        return last if count % 100 == 99 else right


def test_repeated_samples_are_noticed() -> None:
    result = run_toy(PatchMode.LOOPBACK, RepeatsSamples())

    assert result.wrong > 0
    assert result.lost == result.duplicates == 0


class SwapsChannels(Behaviour):
    def mix(self, listener: int, count: int, voices: list[Pcm], mode: PatchMode) -> Pcm:
        return super().mix(listener, count, voices, mode)[::-1]


def test_swapped_channels_are_noticed() -> None:
    result = run_toy(PatchMode.FULL_MIX, SwapsChannels())

    assert result.wrong > 0
    assert result.voices_heard == 0


class LeaksOwnVoice(Behaviour):
    """At −60 dB, to one client."""

    def mix(self, listener: int, count: int, voices: list[Pcm], mode: PatchMode) -> Pcm:
        right = super().mix(listener, count, voices, mode)
        return right + voices[listener] // 1000 if listener == 1 else right


def test_own_voice_at_minus_60_db_is_noticed() -> None:
    result = run_toy(PatchMode.FAN_OUT_NO_SELF, LeaksOwnVoice())

    assert result.leaks == result.wrong > 0
    assert np.flatnonzero(result.clients["leaks"]).tolist() == [1]


class TurnsOnePairDown(Behaviour):
    """Client 2 hears client 0 half a decibel too low."""

    def mix(self, listener: int, count: int, voices: list[Pcm], mode: PatchMode) -> Pcm:
        right = super().mix(listener, count, voices, mode)
        return right - voices[0] * 56 // 1000 if listener == 2 else right


def test_a_wrong_gain_of_one_pair_is_noticed() -> None:
    result = run_toy(PatchMode.FULL_MIX, TurnsOnePairDown())

    assert np.flatnonzero(result.clients["wrong"]).tolist() == [2]


class HearsTheWrongOne(Behaviour):
    """Everybody's loopback is client 0's."""

    def mix(self, listener: int, count: int, voices: list[Pcm], mode: PatchMode) -> Pcm:
        return voices[0]


def test_anothers_voice_is_noticed() -> None:
    result = run_toy(PatchMode.LOOPBACK, HearsTheWrongOne())

    assert result.clients["wrong"][0] == 0
    assert min(result.clients["wrong"][1:]) > 0


class LateForOne(Behaviour):
    """Client 1 gets everything 60 packets later than the others."""

    def __init__(self) -> None:
        self.held: list[Pcm] = []

    def mix(self, listener: int, count: int, voices: list[Pcm], mode: PatchMode) -> Pcm:
        right = super().mix(listener, count, voices, mode)
        if listener != 1:
            return right
        self.held.append(right)
        return self.held.pop(0) if len(self.held) > 60 else np.zeros_like(right)


def test_the_delay_of_one_client_is_noticed() -> None:
    result = run_toy(PatchMode.LOOPBACK, LateForOne())

    assert faults(result) == {}
    means = result.clients["latency_mean_ns"]
    assert means[1] - max(means[0], means[2]) > 30 * 2_666_667


class FromAnotherPort(Behaviour):
    """Client 0 hears from a port it was not told of, now and then."""

    hub: ToyHub

    def packets(self, listener: int, count: int, packet: bytes) -> list[bytes]:
        if listener == 0 and count % 50 == 49:
            peer = self.hub.peer(0)
            self.hub.stranger.sendto(packet, peer)
            return []
        return [packet]


def test_packets_from_another_port_are_noticed() -> None:
    behaviour = FromAnotherPort()
    with toy_hub(CLIENTS, PatchMode.LOOPBACK, behaviour=behaviour) as hub:
        behaviour.hub = hub
        result = run(hub.port, PatchMode.LOOPBACK)

    assert result.foreign > 0
    assert result.lost > 0


class WrongHeader(Behaviour):
    def packets(self, listener: int, count: int, packet: bytes) -> list[bytes]:
        return [packet[:12] + b"\0" + packet[13:]] if count % 50 == 49 else [packet]


def test_a_wrong_rate_code_is_noticed() -> None:
    result = run_toy(PatchMode.LOOPBACK, WrongHeader())

    assert result.malformed > 0


def test_a_hub_that_takes_fewer_is_reported() -> None:
    with toy_hub(CLIENTS, PatchMode.LOOPBACK) as hub:
        result = run(hub.port, PatchMode.LOOPBACK, clients=CLIENTS + 2)

    assert (result.joined, len(result.problems)) == (CLIENTS, 2)
    assert result.clean is False
    assert result.lost == 0


def test_no_hub_is_said_at_once() -> None:
    with toy_hub(1, PatchMode.LOOPBACK) as hub:
        port = hub.port

    with pytest.raises(SessionError, match="client 0"):
        run(port, PatchMode.LOOPBACK, clients=1)
