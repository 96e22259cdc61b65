"""What networks, clients and schedulers do to a stream: events for ``streams.take``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from tests.workers.streams import DATAGRAM, END, RESUME, SLEEP, Event, Format

START_NS = 10_000_000
BATCH_NS = 20_000
"""Datagrams this close are read in one go."""

SIZES = (16, 32, 64, 100, 120, 128, 240, 256, 441, 480, 512, 960, 1024)


@dataclass(frozen=True, slots=True)
class Network:
    """A way from a client to the hub, and how both behave.

    Attributes:
        seed: of all that is random.
        loss, duplication: probability for each datagram.
        jitter_packets: greatest random delay, in packets: more than 1 reorders.
        stalls, stall_packets: how often nothing passes for so many packets, and then all at once.
        redundancy: packets a datagram.
        restarts: how often the client begins to count anew, anywhere.
        sleeps, sleep_ns: how often the receiver gets no CPU for up to so long.
        deaths: how often the receiver is replaced by another.
        first: number of the first packet.
    """

    seed: int = 0
    loss: float = 0.0
    duplication: float = 0.0
    jitter_packets: float = 0.0
    stalls: int = 0
    stall_packets: int = 0
    redundancy: int = 1
    restarts: int = 0
    sleeps: int = 0
    sleep_ns: int = 0
    deaths: int = 0
    first: int = 0


def formats(
    *, bits: tuple[int, ...] = (8, 16, 24, 32), max_channels: int = 3
) -> st.SearchStrategy[Format]:
    """Every packet size with every hub period."""
    return st.builds(
        Format,
        frames=st.sampled_from(SIZES),
        period=st.sampled_from(SIZES),
        queue=st.integers(1, 8),
        channels=st.integers(1, max_channels),
        bits=st.sampled_from(bits),
        rate_hz=st.sampled_from([48000, 44100, 96000]),
    )


quiet = st.builds(Network, first=st.sampled_from([0, 1, 40_000, 65_530]))
"""Nothing goes wrong."""

lossy = st.builds(
    Network,
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.4]),
    duplication=st.sampled_from([0.0, 0.1]),
    first=st.sampled_from([0, 65_500, 30_000]),
    redundancy=st.integers(1, 3),
)
"""Datagrams vanish or come twice; what comes is punctual."""

stormy = st.builds(
    Network,
    seed=st.integers(0, 1 << 32),
    loss=st.sampled_from([0.0, 0.02, 0.2]),
    duplication=st.sampled_from([0.0, 0.1]),
    jitter_packets=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
    stalls=st.integers(0, 3),
    stall_packets=st.integers(2, 40),
    redundancy=st.integers(1, 3),
    restarts=st.integers(0, 2),
    sleeps=st.integers(0, 2),
    sleep_ns=st.sampled_from([1_000_000, 20_000_000, 150_000_000]),
    deaths=st.integers(0, 1),
    first=st.sampled_from([0, 65_500, 30_000]),
)
"""All of it at once."""


def packets_for(fmt: Format, frames: int = 20_000) -> int:
    """How many packets make a stream of about so many frames."""
    return int(np.clip(frames // fmt.frames, 40, 400))


def through(network: Network, fmt: Format, packets: int) -> list[Event]:
    """What a receiver sees of so many packets."""
    rng = np.random.default_rng(network.seed)
    packet_ns = fmt.ns(fmt.frames)
    numbers = network.first + np.arange(packets)
    for _ in range(network.restarts):
        at = int(rng.integers(10, packets))
        numbers[at:] += int(rng.integers(0, 65536))
    delay = rng.uniform(0, 1, packets) * network.jitter_packets * packet_ns
    arrival = START_NS + np.arange(packets) * packet_ns + delay
    for _ in range(network.stalls):
        at = int(rng.integers(5, packets))
        held = slice(at, min(at + network.stall_packets, packets))
        end = START_NS + held.stop * packet_ns
        spacing = packet_ns * float(rng.choice([0.001, 0.1, 0.4]))
        arrival[held] = np.maximum(end + np.arange(held.stop - at) * spacing, arrival[held])
    came = rng.uniform(0, 1, packets) >= network.loss
    came[0] = True
    again = came & (rng.uniform(0, 1, packets) < network.duplication)

    def parts(k: int) -> tuple[tuple[int, int] | None, ...]:
        return tuple(
            (int(numbers[k - age]), (k - age) * fmt.frames) if k >= age else None
            for age in range(network.redundancy)
        )

    seen = [(float(arrival[k]), parts(k)) for k in np.flatnonzero(came).tolist()]
    for k in np.flatnonzero(again).tolist():
        seen.append((float(arrival[k] + rng.uniform(0, 3) * packet_ns), parts(k)))
    seen.sort(key=lambda one: one[0])
    last_ns = int(seen[-1][0])

    def moment() -> int:
        return START_NS + int(rng.uniform(0.1, 1) * (last_ns - START_NS))

    naps = [(moment(), int(rng.uniform(0, 1) * network.sleep_ns)) for _ in range(network.sleeps)]
    events = [Event(SLEEP, at, at + length) for at, length in naps]
    events += [Event(RESUME, moment(), 0) for _ in range(network.deaths)]
    events += [
        Event(DATAGRAM, -(-int(at) // BATCH_NS) * BATCH_NS, int(at), part) for at, part in seen
    ]
    events = [_after_naps(event, naps) for event in events]
    events.sort(key=lambda event: event.now_ns)
    return events


def _after_naps(event: Event, naps: list[tuple[int, int]]) -> Event:
    """A sleeping receiver takes note when it wakes."""
    now = event.now_ns
    for at, length in sorted(naps):
        if event.kind != SLEEP and at <= now < at + length:
            now = at + length
    return event._replace(now_ns=now)


def ended(events: list[Event], fmt: Format) -> list[Event]:
    """The same, and then the session ends: the account is settled."""
    last = max(event.now_ns for event in events)
    return [*events, Event(END, last + fmt.ns(fmt.frames), 0)]
