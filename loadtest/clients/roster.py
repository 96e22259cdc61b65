"""From a scenario to the records of its clients: who sends what, when, and how exactly.

Also decides what the scenario leaves open: the lengths of turns, and how much is remembered
of them (the budgets are constants here; ``limits`` says what they left out).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import (
    BIN_KINDS,
    BUCKETS,
    CAPTURE,
    CLIENT,
    DELAY,
    I64,
    LOST_NS,
    NEVER,
    NOBODY,
    RUN,
    STAMPS,
    TURN,
    TURNS,
    UNKNOWN,
    Expectation,
    State,
)
from loadtest.scenario.model import SECOND_NS, Format, Jitter, Network, Scenario, Section
from shared.layout import PatchMode
from shared.protocol import rate_code

TUTTI_PEAK = 16383
"""Most that all parts of a tutti may add up to, so that a 16-bit hub passes it exactly."""
EIGHT_BIT_MASK, ALL_BITS = ~255, -1
EIGHT_BIT_STEP = 256
EIGHT_BIT_TOLERANCE = 130
"""Half a step of an 8-bit sample (32768 / 127), rounded up."""
MOST_CHECKED = 2048
"""Clients beyond which delays of pairs are not kept, and nobody sings together."""
TUTTI_BYTES, FIRSTS_BYTES = 256 << 20, 64 << 20
EVIDENCE = 4096
DELAY_RECORDS = 1 << 20
MOST_BINS, LEAST_BIN_NS = 600, SECOND_NS // 10
TIMELINE_BYTES = 128 << 20
TALK_FRAMES, PAUSE_FRAMES, TUTTI_FRAMES = 768, 1024, 1024
"""Least lengths, when the scenario does not say."""
BEAT_FRAMES = 128
"""A solo begins at a multiple of this (``voices.BEAT``, whose module takes long to import)."""
FADE_SLACK = 64
"""A hub that fades in a new stream over a period may delay it by so much, as a converter does."""
STEPS = 16
"""Wakings of the generator in the shortest period."""
LEAST_STEP_NS, MOST_STEP_NS = 50_000, 250_000
_PICO = 1000


def expectation(scenario: Scenario) -> Expectation:
    """What the checker must know of the hub and the plan."""
    return Expectation(
        mode=int(scenario.hub.mode),
        upmix=int(scenario.hub.upmix),
        clients=scenario.clients,
        tutti_every=scenario.tutti_every if scenario.clients <= MOST_CHECKED else 0,
        step_ns=step_ns(scenario),
        burst=int(scenario.burst),
        fade_frames=scenario.hub.period + FADE_SLACK,
    )


def step_ns(scenario: Scenario) -> int:
    """Between two wakings of the generator, at least.

    Each costs as much as sending several packets; the longer it sleeps, the later is what it sends:
    by a quarter of the quarter of the shortest period that may be.
    """
    if scenario.step_us:
        return 1000 * scenario.step_us
    shortest_ns = min(each.format.period_ns for each in scenario.sections)
    return int(min(max(shortest_ns / STEPS, LEAST_STEP_NS), MOST_STEP_NS))


def limits(scenario: Scenario) -> list[str]:
    """What cannot be checked in a scenario as large as this, a line each."""
    notes = []
    if scenario.clients > MOST_CHECKED:
        notes.append(
            f"{scenario.clients} clients: beyond {MOST_CHECKED} there are no tuttis, and the "
            "delays of pairs are not kept"
        )
    elif (stride := capture_stride(scenario)) > 1:
        notes.append(f"a tutti is taken apart for one listener in {stride}")
    return notes


def nominal_ps(each: Format) -> int:
    """Picoseconds between two packets."""
    return round(_PICO * each.period_ns)


def phases_ns(scenario: Scenario) -> list[int]:
    """Where in its own period each client sends: those of one period evenly spread over it.

    The groups of different periods begin at different shares of theirs (golden ratio), so
    that not all of them begin with one packet at once.
    """
    if scenario.burst:
        return [0] * scenario.clients
    periods = [
        nominal_ps(section.format) for section in scenario.sections for _ in range(section.clients)
    ]
    sizes: dict[int, int] = defaultdict(int)
    for period in periods:
        sizes[period] += 1
    offsets = {period: rank * 0.618034 % 1.0 for rank, period in enumerate(sizes)}
    seen: dict[int, int] = defaultdict(int)
    phases = []
    for period in periods:
        share = (seen[period] + offsets[period]) / sizes[period]
        seen[period] += 1
        phases.append(int(period * share) // _PICO)
    return phases


def checkable(scenario: Scenario, section: Section) -> bool:
    """Whether what a section sends and hears can be told exactly: at the hub's rate."""
    return section.format.rate_hz == scenario.hub.rate_hz


def tutti_level(scenario: Scenario, bits: int) -> int:
    """Greatest value of one part in a tutti, in 16-bit steps; 0: it rests."""
    talkers = sum(each.clients for each in scenario.sections if checkable(scenario, each))
    level = TUTTI_PEAK // max(1, talkers)
    return level // EIGHT_BIT_STEP * EIGHT_BIT_STEP if bits == 8 else level


def jitter_frames(scenario: Scenario, network: Network) -> int:
    """By how much an emulated network may delay one client more than others, frames of the hub.

    Longer tails than this are as good as lost: hubs do not wait for them.
    """
    tails = {
        Jitter.NONE: 0.0,
        Jitter.UNIFORM: 2.0,
        Jitter.NORMAL: 4.0,
        Jitter.EXPONENTIAL: 8.0,
        Jitter.PARETO: 15.0,
    }
    jitter_ms = tails[network.jitter] * network.jitter_ms if network.jitter_share else 0.0
    stall_ms = network.stall_ms if network.stall_every_s else 0.0
    held_ms = network.reorder_ms if network.reorder else 0.0
    varying_ms = min(jitter_ms + stall_ms + held_ms, 250.0)
    return math.ceil((network.delay_ms + network.step_ms + varying_ms) * scenario.hub.rate_hz / 1e3)


def packet_frames(scenario: Scenario) -> list[int]:
    """Every section's packet, in frames of the hub's rate."""
    return [
        math.ceil(each.format.frames * scenario.hub.rate_hz / each.format.rate_hz)
        for each in scenario.sections
    ]


def talk_frames(scenario: Scenario) -> int:
    """Length of a solo."""
    return scenario.talk_frames or max(TALK_FRAMES, *packet_frames(scenario), scenario.hub.period)


def tutti_frames(scenario: Scenario) -> int:
    """Length of a tutti."""
    return scenario.tutti_frames or max(TUTTI_FRAMES, *packet_frames(scenario))


def pause_frames(scenario: Scenario) -> int:
    """Silence after a turn, so that no packet holds the end of one voice and the next one's begin.

    Clients differ by their networks, and by the hub's queues: of so many of their own packets.
    A voice begins up to a packet (of its own) and a beat late, ends at the end of a packet, and
    may share the hub's period, and the listener's packet, with what comes next; a packet is left
    between, so that all that sounds is one voice's or the other's.
    """
    if scenario.pause_frames:
        return scenario.pause_frames
    sizes = packet_frames(scenario)
    largest, smallest = max(sizes), min(sizes)
    talk = talk_frames(scenario)
    rounding = max(-(-talk // size) * size - talk for size in sizes)
    differ = queued(scenario) * (largest - smallest) + 4 * largest + rounding
    differ += BEAT_FRAMES + scenario.hub.period
    return max(PAUSE_FRAMES, differ) + max(
        jitter_frames(scenario, each.up) for each in scenario.sections
    )


def queued(scenario: Scenario) -> int:
    """Packets of each client that wait in the hub, at most."""
    return min(int(scenario.hub.queue), 16) if scenario.hub.queue.isdigit() else 4


def turn_frames(scenario: Scenario) -> int:
    """From turn to turn."""
    voice = talk_frames(scenario)
    if expectation(scenario).tutti_every:
        voice = max(voice, tutti_frames(scenario))
    return voice + pause_frames(scenario)


def _ns(scenario: Scenario, frames: int) -> int:
    return frames * SECOND_NS // scenario.hub.rate_hz


def tuttis(scenario: Scenario) -> int:
    """How many there may be in the window, at most."""
    every = expectation(scenario).tutti_every
    if every == 0 or scenario.hub.mode == PatchMode.LOOPBACK:
        return 0
    count = int(scenario.seconds * SECOND_NS / _ns(scenario, turn_frames(scenario)) / every) + 2
    return max(1, min(count, FIRSTS_BYTES // (8 * scenario.clients)))


def widest(scenario: Scenario) -> int:
    """Samples of the largest packet that returns."""
    return max(each.format.frames * each.format.wants for each in scenario.sections)


def tutti_packets(scenario: Scenario) -> int:
    """Returned packets that touch a tutti, over the window, if all listeners are captured."""
    on_the_way = queued(scenario) * max(packet_frames(scenario))
    seconds = (turn_frames(scenario) + on_the_way) / scenario.hub.rate_hz
    return tuttis(scenario) * sum(
        each.clients * (int(seconds * each.format.rate_hz / each.format.frames) + 3)
        for each in scenario.sections
        if checkable(scenario, each)
    )


def capture_stride(scenario: Scenario) -> int:
    """A tutti is captured for one listener in so many, that the budget suffices."""
    return max(1, math.ceil(tutti_packets(scenario) * 2 * widest(scenario) / TUTTI_BYTES))


def bin_ns(scenario: Scenario) -> int:
    """Length of the timeline's bins."""
    row = 4 * len(BIN_KINDS) * scenario.clients
    most = max(1, min(MOST_BINS, TIMELINE_BYTES // row))
    return max(LEAST_BIN_NS, math.ceil(scenario.seconds * SECOND_NS / most))


def make_clients(scenario: Scenario) -> npt.NDArray[Any]:
    """A record each, all absent."""
    clients = np.zeros(scenario.clients, CLIENT)
    first = 0
    for number, section in enumerate(scenario.sections):
        own, each = clients[first : first + section.clients], section.format
        first += section.clients
        own["section"] = number
        for name in ("frames", "bits", "sends", "wants", "redundancy"):
            own[name] = getattr(each, name)
        own["rate_code"] = rate_code(each.rate_hz)
        own["nominal_ps"] = nominal_ps(each)
        own["period_ps"] = round(_PICO * each.period_ns / (1 + section.skew_ppm * 1e-6))
        own["drifts"] = section.skew_ppm != 0
        own["checkable"] = checkable(scenario, section)
        own["optional"] = section.optional
        own["rests"] = not section.talks
        own["mask"] = EIGHT_BIT_MASK if each.bits == 8 else ALL_BITS
        own["tutti_level"] = tutti_level(scenario, each.bits) if section.talks else 0
        own["tolerance"] = EIGHT_BIT_TOLERANCE if each.bits == 8 else 0
    clients["phase_ns"] = phases_ns(scenario)
    clients["talker"] = NOBODY
    clients["turn"] = clients["voice_turn"] = -1
    clients["voice_from"] = NEVER
    clients["delay"] = clients["next_delay"] = UNKNOWN
    return clients


def make_run(scenario: Scenario) -> npt.NDArray[Any]:
    """The run's record; its window is not yet known."""
    run = np.zeros(1, RUN)
    run["opened_ns"] = run["closed_ns"] = NEVER
    run["settle_ns"] = int(scenario.settle_s * SECOND_NS)
    run["turn_ns"] = _ns(scenario, turn_frames(scenario))
    run["talk_ns"] = _ns(scenario, talk_frames(scenario))
    run["tutti_ns"] = _ns(scenario, tutti_frames(scenario))
    run["longest_ns"] = max(round(each.format.period_ns) for each in scenario.sections)
    run["bin_ns"] = bin_ns(scenario)
    run["capture_stride"] = capture_stride(scenario)
    run["turn"] = -1
    run["stall_ns"] = -NEVER
    return run


def make_state(scenario: Scenario, sockets: int = 1) -> State:
    """Fresh records for a scenario; large arrays take memory only as they are written,
    unless all that is taken is kept resident (``realtime.resident``)."""
    n, sections = scenario.clients, len(scenario.sections)
    clients = make_clients(scenario)
    if sockets > 1:
        clients["socket"] = range(n)
    bins = max(1, math.ceil(scenario.seconds * SECOND_NS / bin_ns(scenario)))
    pairs = n if n <= MOST_CHECKED else 0
    wide, most = widest(scenario), tutti_packets(scenario)
    kept = min(most // capture_stride(scenario) + n, max(1, TUTTI_BYTES // (2 * wide)))
    turns = np.zeros(TURNS, TURN)
    turns["number"] = turns["tutti"] = -1
    turns["talker"] = NOBODY
    turns["first"] = turns["until"] = NEVER
    turns["settled"] = 1
    return State(
        clients=clients,
        run=make_run(scenario),
        turns=turns,
        sent_ns=np.full((n, STAMPS), LOST_NS, I64),
        histograms=np.zeros((sections, 3, BUCKETS), I64),
        timeline=np.zeros((n, bins, len(BIN_KINDS)), np.int32),
        heard=np.zeros((n, TURNS), np.int32),
        excused=np.zeros((n, TURNS), np.int32),
        delays=np.full((pairs, pairs), UNKNOWN, np.int32),
        delay_log=np.zeros(min(DELAY_RECORDS, 4096 + 4 * n * n), DELAY),
        tutti_first=np.full((tuttis(scenario), n), NEVER, I64),
        tutti_log=np.zeros(kept if most else 0, CAPTURE),
        tutti_pcm=np.zeros((kept if most else 0, wide), np.int16),
        evidence=np.zeros(EVIDENCE, CAPTURE),
        evidence_pcm=np.zeros((EVIDENCE, wide), np.int16),
        drops=np.zeros(sockets, I64),
        timespec=np.zeros(2, I64),
    )
