"""The hub in a local JACK graph: ports, cables, every sample both ways; and JACK that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.end_to_end.hubs import Hub, own_hub_only
from tests.end_to_end.measuring import (
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    Stalled,
    Take,
    assert_hears,
    assert_silent,
    undisturbed,
)
from tests.end_to_end.peers import JackServer
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import Exact, explain, noise
from tests.end_to_end.stage import Stage

pytestmark = own_hub_only

PERIOD = 256
EVENT = LEAD_FRAMES + 12_000
FRAMES = 264_000
BEFORE = 4_800
RETURN = 36_000
"""Frames in which the hub is asked whether JACK is back."""


@dataclass
class HubPorts:
    """A client's ports at the hub, played into and recorded as a client's own are."""

    server: JackServer
    name: str
    sends: int
    receives: int
    bits: int = 32
    process: Any = field(default_factory=lambda: SimpleNamespace(running=False))

    def send_port(self, channel: int) -> str:
        return f"{self.name}:send_{channel}"

    def receive_port(self, channel: int) -> str:
        return f"{self.name}:receive_{channel}"

    def statistics(self) -> list[dict[str, int]]:
        return []


def jack_state(hub: Hub) -> dict[str, Any]:
    told: dict[str, Any] = hub.status()["hub"]["jack"]
    return told


def conditions(hub: Hub) -> set[str]:
    return {entry["condition"] for entry in hub.status()["hub"]["conditions"]}


def clock_of(hub: Hub) -> tuple[str, str]:
    """How JACK is, and whose clock holds."""
    told = jack_state(hub)
    return told["state"], told["clock"]


def control(server: JackServer, *command: str) -> None:
    """Run one of JACK's tools."""
    subprocess.run(command, env=server.environment, capture_output=True, timeout=20, check=True)


def wait_for_jack(hub: Hub, clients: int) -> None:
    """Until JACK is the hub's clock, and so many have ports."""

    def there() -> bool:
        told = jack_state(hub)
        return bool(told["clock"] == "jack" and told["clients"] == clients)

    wait_until(there, 30.0, f"{clients} clients in JACK", poll_s=0.1)


def cables(server: JackServer) -> dict[str, set[str]]:
    """All ports of a JACK server, and what each is connected to."""
    told = subprocess.run(
        ["jack_lsp", "-c"],
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    ).stdout
    found: dict[str, set[str]] = {}
    port = ""
    for line in told.splitlines():
        if line.startswith("   "):
            found[port].add(line.strip())
        else:
            port = line
            found[port] = set()
    return found


def test_mode_0_connects_as_jacktrip_does_and_passes_every_sample(stage: Stage) -> None:
    server = stage.jacks(128)
    hub = stage.hub(0, options=["--jack", "--jack-server", server.name, "--broadcast", "8"])
    anna = stage.client(hub, "anna", 2, 2, remote_name="hall")
    bert = stage.client(hub, "bert", 1, 1, remote_name="hall")
    clients = stage.everybody_in(hub)
    wait_for_jack(hub, 2)
    found = cables(server)

    names = ("hall", "hall-01")
    at_hub = {name: sum(port.startswith(f"{name}:") for port in found) for name in names}
    assert sorted(at_hub.values()) == [3, 6]
    (stereo,) = [name for name, ports in at_hub.items() if ports == 6]
    (mono,) = set(names) - {stereo}
    assert found[f"{stereo}:send_2"] == {"system:capture_2"}
    assert found[f"{stereo}:receive_2"] == {"system:playback_2"}
    assert "system:playback_1" in found[f"{mono}:receive_1"]
    assert found["system:playback_2"] == {f"{stereo}:receive_2"}
    assert f"{stereo}:broadcast_2" in found

    ports = [HubPorts(server, stereo, 2, 2), HubPorts(server, mono, 1, 1)]
    voices = {
        ("anna", 1): noise(1, SIGNAL_FRAMES, 0.3, lead=LEAD_FRAMES),
        ("anna", 2): noise(2, SIGNAL_FRAMES, 0.3, lead=LEAD_FRAMES),
        (stereo, 1): noise(3, SIGNAL_FRAMES, 0.3, lead=LEAD_FRAMES),
        (mono, 1): noise(4, SIGNAL_FRAMES, 0.3, lead=LEAD_FRAMES),
    }

    def judge(take: Take) -> None:
        for k in (1, 2):
            assert_hears(take, ports[0], k, [voices["anna", k].in_hub])  # type: ignore[arg-type]
        assert_hears(take, anna, 1, [voices[stereo, 1].played.astype(np.float64)])
        assert_hears(take, bert, 1, [voices[mono, 1].played.astype(np.float64)])
        assert_silent(take, anna, 2)
        assert_silent(take, ports[1], 1)  # type: ignore[arg-type]

    everywhere: Any = [*clients, *ports]
    undisturbed(lambda: stage.record(hub, voices, everywhere), judge)

    hub.tell("patch", "4")
    wait_until(lambda: cables(server)[f"{stereo}:send_2"] == set(), 10.0, "mode 4 needs no cables")


def test_jackd_dies_in_the_middle_of_the_song_and_comes_back(stage: Stage) -> None:
    """Two who hear each other by the hub lose not a sample, whoever is the clock."""
    own = stage.jack_to_lose(PERIOD)
    hub = stage.hub(4, PERIOD, options=["-i", "--jack", "--jack-server", own.name])
    one = stage.client(hub, "one", period=PERIOD)
    other = stage.client(hub, "other", period=PERIOD)
    clients = stage.everybody_in(hub)
    wait_for_jack(hub, 2)
    voices = {
        ("one", 1): noise(61, FRAMES, 0.4, lead=LEAD_FRAMES),
        ("other", 1): noise(62, FRAMES, 0.4, lead=LEAD_FRAMES),
    }
    ends: list[int] = []

    def die_and_return(wait_position: Callable[[int], int]) -> None:
        wait_position(EVENT)
        own.process.send(signal.SIGKILL)
        own.process.wait(10.0)
        own.restart()
        wait_for_jack(hub, 2)
        ends.append(wait_position(0))

    def take() -> Take:
        wait_for_jack(hub, 2)
        taken = stage.record(hub, voices, clients, frames=FRAMES, meanwhile=die_and_return)
        if ends[-1] + BEFORE >= FRAMES:
            raise Stalled("jackd was not back before the song's end")
        return taken

    def judge(take: Take) -> None:
        for listener in (one, other):
            exact = [voice.in_hub for voice in voices.values()]
            heard = take.at(listener, 1)
            spans = [(EVENT - BEFORE, ends[-1] + BEFORE)]
            mixture = explain(heard, exact, listener.bits, *spans[0])
            if mixture.wrong and take.disturbed:  # perhaps in between, where nothing happens
                spans = [(EVENT - BEFORE, EVENT + BEFORE), (ends[-1] - RETURN, ends[-1] + BEFORE)]
            for span in spans:
                mixture = explain(heard, exact, listener.bits, *span)
                assert not mixture.wrong, f"{listener.name} in {span}: {mixture.report}"

    undisturbed(take, judge)
    told = jack_state(hub)
    assert told["deaths"] >= 1
    assert told["lost"] >= 1
    assert told["taken"] >= 2

    control(own, "jack_freewheel", "y")
    wait_until(lambda: clock_of(hub) == ("freewheel", "own"), 10.0, "JACK freewheels")
    control(own, "jack_freewheel", "n")
    wait_until(lambda: clock_of(hub) == ("running", "jack"), 20.0, "JACK has the world's time")
    own.rate_hz = 44_100
    own.restart()
    wait_until(lambda: clock_of(hub) == ("misfit", "own"), 20.0, "JACK's rate does not fit")
    before = jack_state(hub)["taken"]
    time.sleep(50 * PERIOD / 44_100)
    assert clock_of(hub) == ("misfit", "own")
    assert jack_state(hub)["taken"] == before


def test_bridge_and_mixer_are_killed_while_jack_is_the_clock(stage: Stage) -> None:
    """The bridge's death costs those who play over the network nothing; the mixer's is a gap.

    After either JACK is the clock again, and its listeners hear what is played.
    """
    own = stage.jack_to_lose(PERIOD)
    hub = stage.hub(4, PERIOD, options=["-i", "--jack", "--jack-server", own.name])
    one = stage.client(hub, "one", period=PERIOD, remote_name="one")
    other = stage.client(hub, "other", period=PERIOD, remote_name="other")
    clients = stage.everybody_in(hub)
    wait_for_jack(hub, 2)
    voices = {
        ("one", 1): noise(71, FRAMES, 0.4, lead=LEAD_FRAMES),
        ("other", 1): noise(72, FRAMES, 0.4, lead=LEAD_FRAMES),
    }
    exact = [voice.in_hub for voice in voices.values()]
    events: list[int] = []

    def kill(wait_position: Callable[[int], int]) -> None:
        wait_position(EVENT)
        for name in ("tutti-jack", "tutti-mixer"):
            (victim,) = workers(hub, name)
            os.kill(victim, signal.SIGKILL)
            events.append(wait_position(0))
            wait_until(lambda: workers(hub, name) not in ([], [victim]), 10.0, f"another {name}")  # noqa: B023
            wait_until(lambda: takes_jack(hub, 2), 20.0, "JACK is the clock again")
            events.append(wait_position(0))

    def take() -> Take:
        wait_for_jack(hub, 2)
        events.clear()
        taken = stage.record(hub, voices, clients, frames=FRAMES, meanwhile=kill)
        if events[-1] + BEFORE >= FRAMES:
            raise Stalled("JACK was not the clock again before the song's end")
        return taken

    def judge(take: Take) -> None:
        for listener in (one, other):
            heard = take.at(listener, 1)
            span = EVENT - BEFORE, events[1]
            mixture = explain(heard, exact, listener.bits, *span)
            if mixture.wrong and take.disturbed:  # perhaps in between, where nothing happens
                span = EVENT - BEFORE, EVENT + BEFORE
                mixture = explain(heard, exact, listener.bits, *span)
            assert not mixture.wrong, f"{listener.name} in {span}: {mixture.report}"
            after = explain(heard, exact, listener.bits, events[3], FRAMES - BEFORE)
            assert not after.wrong or take.disturbed, f"{listener.name} later: {after.report}"

    before = hub.counters()
    undisturbed(take, judge)
    restarts = "tuttihub_worker_restarts_total"
    rose = rises_of(before, hub.counters(), restarts, "tuttihub_jack_deaths", "tuttihub_jack_clock")
    assert rose[f'{restarts}{{worker="bridge",reason="killed"}}'] >= 1
    assert rose[f'{restarts}{{worker="mixer",reason="killed"}}'] >= 1
    assert rose["tuttihub_jack_clock_taken_total"] >= 2
    assert "tuttihub_jack_deaths_total" not in rose

    ports: Any = [HubPorts(own, "one", 1, 1), HubPorts(own, "other", 1, 1)]
    said = noise(73, SIGNAL_FRAMES, 0.3, lead=LEAD_FRAMES)

    def judge_jack(take: Take) -> None:
        assert_hears(take, ports[0], 1, [])
        assert_hears(take, ports[1], 1, [said.in_hub])

    undisturbed(lambda: stage.record(hub, {("other", 1): said}, [other, *ports]), judge_jack)


def workers(hub: Hub, name: str) -> list[int]:
    """Pids of a hub's processes of this name."""
    found = []
    for pid in hub.process.tree():
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
    return found


def takes_jack(hub: Hub, clients: int) -> bool:
    """Whether JACK is a hub's clock, and so many have ports; to be asked often."""
    counters = hub.counters()
    wanted = {"tuttihub_jack_clock": 1, "tuttihub_jack_clients": clients}
    return all(counters[name] == value for name, value in wanted.items())


def rises_of(
    before: Mapping[str, float], after: Mapping[str, float], *names: str
) -> dict[str, float]:
    """Counters whose names begin so, and that have risen."""
    rose = {name: after[name] - before.get(name, 0) for name in after if name.startswith(names)}
    return {name: count for name, count in rose.items() if count > 0}


def test_the_server_joins_in_and_may_change_or_hang(stage: Stage) -> None:
    """Modes 2 and 4 with JACK's sound; then its period changes, and jackd stops for a while."""
    own = stage.jack_to_lose(128)
    hub = stage.hub(2, options=["-i", "-u", "--jack", "--jack-server", own.name])
    mono = stage.client(hub, "mono", 1, 2)
    stereo = stage.client(hub, "stereo", 2, 2, remote_name="choir")
    clients = stage.everybody_in(hub)
    wait_for_jack(hub, 2)
    choir: Any = HubPorts(own, "choir", 2, 2)
    one, two, local = (noise(k, SIGNAL_FRAMES, 0.15, lead=LEAD_FRAMES) for k in (1, 2, 3))
    voices = {("mono", 1): one, ("stereo", 2): two, ("choir", 1): local}

    def play(patch: str, own_one: list[Exact], own_two: list[Exact]) -> None:
        hub.tell("patch", patch)
        due: list[tuple[Any, int, list[Exact]]] = [
            (mono, 1, own_one),
            (mono, 2, [*own_one, two.in_hub]),
            (stereo, 1, [one.in_hub, local.played.astype(np.float64)]),
            (stereo, 2, [one.in_hub, *own_two]),
            (choir, 1, []),
            (choir, 2, [two.in_hub]),
        ]

        def judge(take: Take) -> None:
            for listener, channel, sounds in due:
                assert_hears(take, listener, channel, sounds)

        undisturbed(lambda: stage.record(hub, voices, [*clients, choir]), judge)

    play("2", [], [])
    play("4", [one.in_hub], [two.in_hub])

    control(own, "jack_bufsize", "256")
    wait_until(lambda: clock_of(hub) == ("misfit", "own"), 10.0, "JACK's period does not fit")
    control(own, "jack_bufsize", "128")
    wait_until(lambda: clock_of(hub) == ("running", "jack"), 20.0, "JACK's period fits again")

    own.process.send(signal.SIGSTOP)
    wait_until(lambda: clock_of(hub) == ("hung", "own"), 10.0, "JACK hangs")
    wait_until(lambda: "jack-hung" in conditions(hub), 5.0, "it is told so")
    ticks = hub.status()["hub"]["mixer"]["ticks"]
    time.sleep(0.5)
    assert hub.status()["hub"]["mixer"]["ticks"] > ticks + 100
    own.process.send(signal.SIGCONT)
    wait_until(lambda: clock_of(hub) == ("running", "jack"), 20.0, "JACK goes on")
    told = jack_state(hub)
    assert (told["deaths"], told["period_changes"], told["left_out"]) == (0, 2, 0)
