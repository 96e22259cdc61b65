"""The way out: what a tick costs for each of N clients, and what a scrape of the counters costs."""

from __future__ import annotations

import itertools
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hub.directory import ClientInfo
from hub.exposition import Format
from hub.hearing import Heard
from hub.levels import Levels
from hub.machine import Machine
from hub.metrics import Exporter
from shared.arena import Arena, create_arena
from shared.layout import PatchMode
from tests.hub.listening import directory, make_arena, seat
from tests.kernels.loops import limit_many, mix_many, serve_many
from tests.kernels.orchestra import orchestra

CLIENTS = (10, 100, 300)
SCRAPED = 500
COUNT = 200


def ticks(clients: int) -> int:
    """Ticks a call, so that it takes milliseconds whatever the number of clients."""
    return max(1, 1000 // clients)


@pytest.mark.parametrize("clients", CLIENTS)
def test_mix(benchmark: BenchmarkFixture, clients: int) -> None:
    """Rings to strips, strips to buses."""
    count = ticks(clients)
    benchmark.extra_info["units"] = count * clients
    with orchestra(clients) as all_of_them:
        each = all_of_them

        sounding = benchmark(mix_many, each.arena, each.sources, each.tick, count)

        assert sounding == count * clients
        assert each.arena.buses[:, :2].any()


@pytest.mark.parametrize("mode", [1, 2, 4])
@pytest.mark.parametrize("clients", CLIENTS)
def test_transmit(benchmark: BenchmarkFixture, clients: int, mode: int) -> None:
    """A listener's mix, its encoding and its packet, up to the system call."""
    count = ticks(clients)
    benchmark.extra_info["units"] = count * clients
    with orchestra(clients, mode=PatchMode(mode)) as each:
        served = benchmark(serve_many, each.arena, each.lane, each.tick, count)

        assert served == count * clients
        assert np.all(each.arena.tx["sequence"] > 0)
        assert np.all(each.arena.tx["clipped"] == 0)


@pytest.fixture
def advised(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether arenas ask for pages of 2 MiB."""
    if not request.param:
        return False
    allowed = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    if not allowed.exists() or "[advise]" not in allowed.read_text():
        pytest.skip(f"{allowed} is not 'advise'")
    mapped = mmap.mmap

    def huge(*arguments: int) -> mmap.mmap:
        memory = mapped(*arguments)
        memory.madvise(mmap.MADV_HUGEPAGE)
        return memory

    monkeypatch.setattr(mmap, "mmap", huge)
    return True


@pytest.mark.parametrize("advised", [False, True], ids=["small", "huge"], indirect=True)
def test_pages(benchmark: BenchmarkFixture, advised: bool) -> None:
    """A tick of 300 clients, mixed and encoded, with the arena in pages of 4 KiB or 2 MiB."""
    clients = 300
    benchmark.extra_info["units"] = clients
    with orchestra(clients) as each:

        def tick() -> int:
            mix_many(each.arena, each.sources, each.tick, 1)
            return int(serve_many(each.arena, each.lane, each.tick, 1))

        served = benchmark(tick)

        assert served == clients
        if advised:
            lines = Path("/proc/self/smaps").read_text().splitlines()
            huge = [int(line.split()[1]) for line in lines if line.startswith("ShmemPmdMapped:")]
            assert max(huge) > 0


@pytest.mark.parametrize("moving", [False, True], ids=["still", "switch"])
def test_pairwise(benchmark: BenchmarkFixture, moving: bool) -> None:
    """A listener's mix of which every source has a level of its own: 300 of 300, in one tick.

    ``switch``: in the tick after one message has changed all of them.
    """
    clients = 300
    benchmark.extra_info["units"] = clients
    rng = np.random.default_rng(1)
    with orchestra(clients) as each:
        arena, rows = each.arena, each.lane.rows
        arena.slots["overrides"] = clients

        def change() -> None:
            arena.pair[:] = rng.uniform(0.1, 0.9, (clients, clients))
            arena.slots["row_changes"] += 1
            arena.clock[0]["levels"][:] += 2

        change()
        serve_many(arena, each.lane, each.tick, 2)
        if moving:
            served = benchmark.pedantic(  # type: ignore[no-untyped-call]
                serve_many, (arena, each.lane, each.tick, 1), setup=change, rounds=40
            )
        else:
            served = benchmark(serve_many, arena, each.lane, each.tick, 1)

        assert served == clients
        assert np.all(rows.counts == clients)
        assert np.all(arena.tx["clipped"] == 0)


@pytest.mark.parametrize("change", ["still", "rule", "scene"])
def test_sections(benchmark: BenchmarkFixture, change: str) -> None:
    """As above, by rules between eight sections: each hears the others at −12 dB, and placed.

    ``rule``: in the tick after one of them has changed; ``scene``: after all of them have, and
    everybody hears its own voice at another level.
    """
    clients, gains = 300, itertools.cycle((0.25, 0.5))
    benchmark.extra_info["units"] = clients
    with orchestra(clients) as each:
        arena, levels = each.arena, divided(each.arena, clients)
        monitors = each.lane.monitors

        def order() -> None:
            gain = next(gains)
            with levels.together():
                levels.set_heard("0", "1", Heard(gain=gain, pan=40.0))
                if change == "scene":
                    for listener in range(clients):
                        levels.set_pair(listener, listener, gain)
                    for who, what in itertools.permutations(levels.hearing.sections, 2):
                        levels.set_heard(who, what, Heard(gain=gain))
            arena.clock[0]["levels"][:] = arena.control[0]["levels"]

        order()
        serve_many(arena, each.lane, each.tick, 2)
        if change == "still":
            served = benchmark(serve_many, arena, each.lane, each.tick, 1)
        else:
            served = benchmark.pedantic(  # type: ignore[no-untyped-call]
                serve_many, (arena, each.lane, each.tick, 1), setup=order, rounds=40
            )

        assert served == clients
        assert np.count_nonzero(monitors.turned) == clients
        assert each.lane.rows.counts.max() == (1 if change == "scene" else 0)
        assert np.all(arena.tx["clipped"] == 0)


def test_join(benchmark: BenchmarkFixture) -> None:
    """What it costs the supervisor that somebody joins a section of eight that all are heard by,
    300 clients who have each set the level of their own voice."""
    clients = 300
    benchmark.extra_info |= {"units": 1, "unit": "join and leave"}
    with orchestra(clients) as each:
        levels = divided(each.arena, clients)
        with levels.together():
            for listener in range(clients):
                levels.set_pair(listener, listener, 0.5)

        def join() -> None:
            members = levels.hearing.sections["3"]
            levels.set_members("3", members - {3})
            levels.set_members("3", members | {3})

        benchmark(join)
        assert len(levels.row(0)) == clients - len(levels.hearing.sections["0"]) + 1


def divided(arena: Arena, clients: int) -> Levels:
    """A hub's levels: eight sections, each of which hears the others softly and placed."""
    levels = Levels(arena)
    with levels.together():
        for section in range(8):
            levels.set_members(str(section), range(section, clients, 8))
        for who, what in itertools.permutations(levels.hearing.sections, 2):
            levels.set_heard(who, what, Heard(gain=0.25, pan=-30.0))
    return levels


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_limit(benchmark: BenchmarkFixture, level: float) -> None:
    """A listener's stereo period through the limiter: below its threshold, and far above."""
    benchmark.extra_info["units"] = COUNT
    arena = make_arena(slots=1)
    blocks = np.random.default_rng(1).normal(0, level, (COUNT, 2, 128))
    blocks = np.clip(blocks, -0.8, 0.8) if level < 0.5 else blocks

    cut = benchmark(limit_many, blocks, np.empty((2, 128)), 1, arena.tx, COUNT)

    assert (cut > 0.0) == (level > 0.5)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_encode(benchmark: BenchmarkFixture, bits: int) -> None:
    """As above, fan-out, by depth."""
    clients = 100
    count = ticks(clients)
    benchmark.extra_info["units"] = count * clients
    with orchestra(clients, mode=PatchMode.FAN_OUT_NO_SELF, bits=bits) as each:
        served = benchmark(serve_many, each.arena, each.lane, each.tick, count)

        assert served == count * clients


@pytest.mark.parametrize("clients", CLIENTS)
def test_send(benchmark: BenchmarkFixture, clients: int) -> None:
    """As above, and through the kernel's UDP to a loopback socket that drops it."""
    count = ticks(clients)
    benchmark.extra_info["units"] = count * clients
    with orchestra(clients, mode=PatchMode.FAN_OUT_NO_SELF, send=True) as each:
        served = benchmark(serve_many, each.arena, each.lane, each.tick, count)

        assert served == count * clients
        assert np.all(each.arena.tx["errors"] == 0)
        assert np.all(each.arena.tx["packets"] > 0)


def test_scrape(benchmark: BenchmarkFixture) -> None:
    """All metrics of 500 clients, memory of as many processes among them, as OpenMetrics."""
    benchmark.extra_info |= {"units": SCRAPED, "unit": "client"}
    fd, arena = create_arena(slots=SCRAPED, rate_hz=48000, period_frames=128)
    for slot in range(SCRAPED):
        seat(arena, slot, slot + 100)
    known = directory(
        *(
            ClientInfo(
                slot,
                slot + 100,
                f"player {slot}",
                "192.0.2.1",
                61002 + slot,
                joined_s=1.0,
                receiver_pid=os.getpid(),
                round_trip_s=0.02,
            )
            for slot in range(SCRAPED)
        )
    )
    exporter = Exporter(arena, known, machine=Machine(fd, [Path.cwd()]))
    text = benchmark(exporter.render, Format.OPENMETRICS)
    os.close(fd)

    assert text.count(b"tuttihub_client_info{") == SCRAPED
