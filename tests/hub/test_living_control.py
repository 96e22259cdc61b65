"""A living hub is told this and that, and by many: what its clients hear, sample by sample."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import numpy as np
import pytest
import zmq

from hub.client import HubRefused
from loadtest.conduct.director import Stage
from loadtest.conduct.outcome import FindingKind
from loadtest.conduct.ports import PORTS
from loadtest.conduct.session import Session
from loadtest.scenario.model import Hub, Scenario, Section
from shared.layout import PatchMode
from tests.end_to_end.processes import wait_until
from tests.hub.concerts import EXACT, Concert
from tests.hub.conftest import DEADLINE_S, LiveHub, StartHub
from tests.hub.flooding import flooding
from tests.hub.musicians import say_hello
from tests.machine import to_oneself
from tests.workers.hearing import Mask, runs
from tests.workers.players import Player, noise
from tests.workers.takes import ATTEMPTS, Take, Voices, repeat_if_disturbed, take

pytestmark = pytest.mark.living

SLOTS = 64
MATRIX = "matrix of 50 by 50"
HAUNT_S = 9.0
"""A ghost may be gone soon."""
PATIENCE_MS = 5000
"""How long a client of ours waits for an answer."""


class Line:
    """Some control client's, by the wire alone."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvtimeo = PATIENCE_MS
        self._socket.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def send(self, request: dict[str, Any]) -> None:
        self._socket.send(json.dumps({"v": 1, **request}).encode())

    def ask(self, **request: Any) -> Any:
        self.send(request)
        return self.answer()

    def answer(self) -> Any:
        reply = json.loads(self._socket.recv())
        assert reply["ok"], reply
        return reply["result"]


@pytest.fixture(scope="module")
def concert(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Concert]:
    """A full mix for many."""
    hub = LiveHub(
        tmp_path_factory.mktemp("hub"),
        options=("--max-clients", str(SLOTS), *EXACT),
        udp_port=PORTS.take(SLOTS),
    )
    try:
        yield Concert(hub)
        hub.stop()
    finally:
        hub.kill()


def players(count: int, level: float = 0.2) -> list[Player]:
    return [Player(noise(128 * 375, seed=1 + k, level=level)) for k in range(count)]


FLOODS = (("garbage",), ("pings",), ("matrices",), ("half-open",), ("deaf", "eventful"))


@repeat_if_disturbed
def test_who_floods_or_dies_disturbs_no_sample(concert: Concert) -> None:
    """Others are answered and let in meanwhile. Who is killed was just sending."""
    trio = players(3)
    newcomers = [Player(np.zeros((2, 128), np.int64)) for _ in FLOODS]
    control = concert.hub.control
    with Line(control) as line, take(concert, *trio) as played:
        for kinds, newcomer in zip(FLOODS, newcomers, strict=True):
            with flooding(control, *kinds):
                line.ask(op="ping")
                played.add(newcomer)
                played.play(0.3)
                line.ask(op="ping")
        for _ in range(3):
            with flooding(control, "large"):
                line.ask(op="ping")
                played.play(0.05)
        played.play(0.1)
    for listener in (*trio, *newcomers):
        played.assert_hears(listener, dict.fromkeys(trio, 1.0))
        played.assert_numbered(listener)
    for one in trio:
        played.assert_counters(one, dict.fromkeys(("lost", "late", "underruns", "restarts"), 0))
    assert played.missed == 0 or played.witnessed


@contextmanager
def ghosts(hub: LiveHub, count: int, played: Take) -> Iterator[list[int]]:
    """Slots of some who never send a sound, which they may hold for ten seconds."""
    before = {one["slot"] for one in hub.present()}
    began = time.monotonic()
    for k in range(count):
        assert say_hello(hub.port, f"ghost {k}", 20_000 + k) is not None
    slots = {one["slot"] for one in hub.present()} - before
    try:
        yield sorted(slots)
    finally:
        if (took_s := time.monotonic() - began) > HAUNT_S:
            played.disturbances.append(f"the ghosts were needed for {took_s:.1f} s")
        for slot in slots:
            with suppress(HubRefused):  # it is gone already
                hub.ask("kick", client=slot)
    wait_until(lambda: len(hub.present()) <= len(before), DEADLINE_S, "the ghosts are gone")


def changes(anna: Player, berta: Player, everybody: list[int]) -> dict[str, Any]:
    """What is told and taken back, and what Anna hears in between."""
    a, b, count = anna.slot, berta.slot, len(everybody)

    def matrix(gain: float | None) -> dict[str, Any]:
        gains = [[gain] * count] * count
        return {"op": "matrix", "listeners": everybody, "sources": everybody, "gains": gains}

    one = {"op": "gain", "source": b}
    heard = {"op": "hear", "listener": a, "source": b}
    left = np.array([[1.0], [0.0]])
    half = {anna: 0.5, berta: 0.5}
    return {
        "gain": (one | {"gain": 0.5}, one | {"gain": None}, {anna: 1.0, berta: 0.5}),
        "mute": (
            {"op": "mute", "client": b, "muted": True},
            {"op": "mute", "client": b, "muted": False},
            {anna: 1.0},
        ),
        "pan": (
            {"op": "pan", "client": b, "pan": -100},
            {"op": "pan", "client": b, "pan": None},
            {anna: 1.0, berta: left},
        ),
        "hear": (heard | {"gain": 0.25}, heard | {"gain": None}, {anna: 1.0, berta: 0.25}),
        "master": ({"op": "master", "gain": 0.5}, {"op": "master", "gain": None}, half),
        "patch": ({"op": "patch", "mode": 2}, {"op": "patch", "mode": 4}, {berta: 1.0}),
        MATRIX: (matrix(0.5), matrix(None), half),
    }


def tell(concert: Concert, line: Line, request: dict[str, Any]) -> tuple[int, int]:
    """The newest tick when the hub was told, and when its orders were there to be read.

    It is told just after a tick, so that it has read before the next.
    """
    control, newest = concert.arena.control[0], concert.clock("tick")
    while concert.clock("tick") == newest:
        time.sleep(0.0001)
    before, told = int(control["levels"]), concert.clock("tick")
    line.send(request)
    end = time.monotonic() + PATIENCE_MS / 1e3
    while int(control["levels"]) < before + 2:
        assert time.monotonic() < end, "nothing was ordered"
        time.sleep(0.0001)
    ordered = concert.clock("tick")
    line.answer()
    return told, ordered


@repeat_if_disturbed
def test_every_change_is_heard_within_two_periods_and_as_a_ramp(concert: Concert) -> None:
    anna, berta = players(2)
    told: list[tuple[str, int, int, Voices, Voices]] = []
    with (
        Line(concert.hub.control) as line,
        take(concert, anna, berta) as played,
        ghosts(concert.hub, 48, played) as there,
    ):
        full: Voices = {anna: 1.0, berta: 1.0}
        everybody = [*there, anna.slot, berta.slot]
        assert len(everybody) == 50
        for name, (order, back, voices) in changes(anna, berta, everybody).items():
            for request, before, after in 2 * ((order, full, voices), (back, voices, full)):
                played.play(0.03)
                told.append((name, *tell(concert, line, request), before, after))
        end = played.play(0.03)
    starts = [ticks[1] * concert.period for ticks in told]
    took: dict[str, list[int]] = {}
    for (name, at, ordered, before, after), low, high in zip(
        told, starts, [*starts[1:], end], strict=True
    ):
        begun = played.ramps(anna, before, after, low, high) // concert.period
        assert begun - ordered <= 2, f"{name}: ordered in tick {ordered}, heard in {begun}"
        took.setdefault(name, []).append(begun - at)
    for name, ticks in took.items():  # the supervisor may have waited for a cpu, but not always
        if name != MATRIX:  # which takes some milliseconds to read
            assert min(ticks) <= 2, f"{name}: heard {ticks} ticks after it was told"


@repeat_if_disturbed
def test_what_ctl_tells_is_heard_as_a_ramp(concert: Concert) -> None:
    """At once over a period, or as a scene that is faded to."""
    anna, berta = players(2)
    fade_s = 0.2
    with take(concert, anna, berta) as played:
        hub, berta_s = concert.hub, f"source={concert.names[berta]}"
        hub.tell("scene-save", "name=whole")
        marks = [played.play(0.03)]
        hub.tell("gain", berta_s, "gain=0.5")
        marks.append(played.play(0.03))
        hub.tell("scene-recall", "name=whole", f"seconds={fade_s}")
        marks.append(played.play(fade_s + 0.03))
    full: Voices = {anna: 1.0, berta: 1.0}
    half: Voices = {anna: 1.0, berta: 0.5}
    ticks = round(fade_s * concert.rate / concert.period)
    begun, changed, ended = marks
    for listener in (anna, berta):
        played.ramps(listener, full, half, begun, changed)
        played.ramps(listener, half, full, changed, ended, ticks)


def perform(concert: Concert, *names: str, told: bool = False) -> tuple[int, int, list[int]]:
    """One who only listens, and one whose packets get lost in fours: what the first hears.

    Args:
        told: to limit what the listener is sent, and to leave the other's gaps empty.

    Returns:
        The loudest sample, how many gaps are silent, and their slots.
    """
    listener = Player(np.zeros((2, 128), np.int64))
    player = Player(
        noise(128 * 375, level=0.5), route=lambda k: () if k % 40 in range(20, 24) else (k,)
    )
    concert.names |= dict(zip((listener, player), names, strict=True))
    with take(concert, listener, player, expected={"starved"}) as played:
        if told:
            concert.hub.ask("limiter", client=names[0], on=True)
            concert.hub.ask("conceal", client=names[1], underrun="zero")
        begun = played.play(0.2)
        ended = played.play(0.6)
    heard = played.heard[listener].part(begun, ended)
    silent: Mask = heard.any(axis=0) == 0
    gaps = sum(end - start >= 128 for start, end in runs(silent))
    return int(np.abs(heard).max()), gaps, [listener.slot, player.slot]


def test_an_own_limiter_and_concealment_are_heard_and_stay_their_owners(
    start_hub: StartHub,
) -> None:
    concert = Concert(start_hub("--max-clients", "2", *EXACT))
    concert.hub.ask("master", gain=4)

    @repeat_if_disturbed
    def are_heard_and_stay() -> None:
        loudest, silent, slots = perform(concert, "Anna", "Berta", told=True)
        assert loudest < 32767
        assert silent >= 4

        loudest, silent, others = perform(concert, "Carl", "Dora")
        assert sorted(others) == sorted(slots)
        assert (loudest, silent) == (32767, 0)

        loudest, silent, back = perform(concert, "Anna", "Berta")
        assert back == slots
        assert loudest < 32767
        assert silent >= 4

    are_heard_and_stay()


class Teller:
    """A director who has ``tuttihub ctl`` set a gain while all play, and soon ends the run."""

    def __init__(self, plan: Scenario, stage: Stage, hub: LiveHub) -> None:
        self.problems: list[str] = []
        self._stage, self._hub = stage, hub

    async def run(self) -> None:
        while time.monotonic_ns() < self._stage.opened_ns:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(self._hub.tell, "gain", "source=solo 1", "gain_db=-6.0206")
        await asyncio.sleep(1.5)
        signal.raise_signal(signal.SIGINT)


def test_a_gain_that_ctl_sets_is_measured_by_virtual_clients(concert: Concert) -> None:
    """To them it is a fault that has a name. Where a generator was late, they say nothing."""
    hub = concert.hub
    plan = Scenario(
        hub=Hub(mode=PatchMode.FULL_MIX), seconds=60.0, settle_s=0.1, join_rate=0.0,
        sections=(Section(name="solo", clients=1), Section(name="others", clients=2)),
    )  # fmt: skip
    for _ in range(ATTEMPTS):
        session = Session(plan, port=hub.port, director=lambda plan, at: Teller(plan, at, hub))
        with to_oneself():
            outcome = session.run()
        found = [one for one in outcome.findings if one.kind is FindingKind.WRONG_GAIN]
        halves = [one for one in found if one.gain_db == pytest.approx(-6.02, abs=0.05)]
        if halves or not outcome.state.run[0]["stalls"]:
            break
    assert halves, outcome.findings
    assert {one.source for one in found} == {0}
