"""How many clients other machines would carry, from what one client costs on this one.

A prediction is the largest number of clients for which every one of these stays below its limit,
less the headroom: CPU of all processes together, the mixer's own part (one process, which cannot
use a second core), the network card's bits and packets a second, memory, the hub's own maximum.
What is assumed, and not measured, stands in ``Assumptions`` and is printed beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from loadtest.capacity.fit import Costs, Model
from loadtest.scenario.model import Format

ETHERNET_BYTES = 14 + 4 + 8 + 12
"""Header, check sequence, preamble, and the gap to the next frame."""
UDP_BYTES = 8
IP_BYTES = {4: 20, 6: 40}
MTU = 1500
MOST = 100_000
"""No prediction looks further."""
FAR_CLIENTS, FAR_CORES = 2.0, 4.0
"""Beyond so many times what was measured, a straight line is a guess."""
SIGMAS = 2.0


@dataclass(frozen=True, slots=True)
class Card:
    """A network card, full duplex.

    Attributes:
        gbits: line rate, Gbit/s each way.
        mpps: million packets a second each way that it, its driver and whoever rents it
            out let through.
    """

    gbits: float
    mpps: float

    @property
    def name(self) -> str:
        return f"{self.gbits:g} Gbit/s"


CARDS = (Card(1, 1.0), Card(10, 2.0), Card(25, 4.0))


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What was not measured.

    Attributes:
        headroom: share of every resource that is left free.
        realtime_share: of a core, which the kernel lets real-time processes have.
        speed: of one core, relative to this machine's.
        send_share: of the mixer's cost a client, what transmit lanes take off it.
        cores_a_lane: the hub starts one lane for so many cores (0 below 4).
        max_lanes, max_clients: of the hub.
        memory_mib: of the machine; 0: enough.
        ip: version of the protocol.
    """

    headroom: float = 0.2
    realtime_share: float = 0.95
    speed: float = 1.0
    send_share: float = 0.8
    cores_a_lane: int = 4
    max_lanes: int = 16
    max_clients: int = 1024
    memory_mib: float = 0.0
    ip: int = 4

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.headroom:.0%} of every resource is left free",
            f"the hub's processes may use {self.realtime_share:.0%} of a core",
            f"a core is {self.speed:g} times as fast as here, and work spreads evenly over them; "
            "memory bandwidth and caches are not what limits",
            "the mixer is one process on one core at most; "
            f"one transmit lane for every {self.cores_a_lane} cores takes {self.send_share:.0%} of "
            "its cost a client (not measured here)",
            "a packet costs the CPU what it costs on the loopback, both ways: a card's driver and "
            "interrupts may cost more or less",
            f"cards: {', '.join(f'{card.name} {card.mpps:g} million packets/s' for card in CARDS)} "
            "each way (rented machines often allow fewer); "
            f"Ethernet, IPv{self.ip}, UDP, {MTU} bytes a frame",
            f"the hub admits {self.max_clients} clients",
        ]

    def lanes(self, cores: int) -> int:
        """As the hub chooses them."""
        return min(self.max_lanes, cores // self.cores_a_lane)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one client is for the network, each way.

    Attributes:
        packets_s: datagrams a second; frames_s: Ethernet frames.
        up_bytes, down_bytes: a datagram with all that surrounds it, on the wire.
    """

    packets_s: float
    frames_s: float
    up_bytes: int
    down_bytes: int

    @property
    def mbits(self) -> float:
        """In the direction that has more, Mbit/s."""
        return self.packets_s * max(self.up_bytes, self.down_bytes) * 8 / 1e6


def traffic(format_: Format, ip: int = 4) -> Traffic:
    """Of a client of some format."""
    up = format_.packet_bytes * format_.redundancy
    down = format_.return_bytes * format_.redundancy
    packets_s = 1e9 / format_.period_ns
    frames = max(_frames(up, ip), _frames(down, ip))
    return Traffic(packets_s, packets_s * frames, _wire_bytes(up, ip), _wire_bytes(down, ip))


def _frames(payload: int, ip: int) -> int:
    """Ethernet frames of a datagram: what is longer than one is sent in fragments."""
    return ceil((payload + UDP_BYTES) / (MTU - IP_BYTES[ip]))


def _wire_bytes(payload: int, ip: int) -> int:
    frames = _frames(payload, ip)
    return payload + UDP_BYTES + frames * (IP_BYTES[ip] + ETHERNET_BYTES)


@dataclass(frozen=True, slots=True)
class Prediction:
    """For one machine and format.

    Attributes:
        cores, card: of the machine.
        lanes: that the hub would start.
        clients: that it would carry; low, high: within the fit's uncertainty.
        limit: what gives out first there.
        cpu_share: of all cores; mixer_share: of a period, of the mixer.
        mbits: each way; memory_mib: private, of the hub.
        warnings: where this is more than the measurements can carry.
    """

    format: Format
    cores: int
    card: Card
    lanes: int
    clients: int
    low: int
    high: int
    limit: str
    cpu_share: float
    mixer_share: float
    mbits: float
    memory_mib: float
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def predict(
    model: Model,
    format_: Format,
    cores: int,
    card: Card,
    assumptions: Assumptions = Assumptions(),
    measured_cores: int = 1,
) -> Prediction:
    """How many clients a machine would carry.

    Args:
        model: as fitted here.
        format_: of all clients; the hub's period is theirs.
        cores: of the machine predicted.
        card: its network card.
        measured_cores: that the hub had here.
    """
    loads = _loads(model, format_, cores, card, assumptions)
    clients = _most(loads, 0.0)
    limit = max(loads, key=lambda name: loads[name](clients + 1, 0.0))
    costs = model.costs(format_, clients)
    lanes = assumptions.lanes(cores)
    period_us = format_.period_ns / 1000
    return Prediction(
        format=format_,
        cores=cores,
        card=card,
        lanes=lanes,
        clients=clients,
        low=_most(loads, SIGMAS),
        high=_most(loads, -SIGMAS),
        limit=limit if clients < MOST else "none found",
        cpu_share=round(costs.total_us / (assumptions.speed * cores * period_us), 4),
        mixer_share=round(_mixer_us(costs, lanes, assumptions) / period_us, 4),
        mbits=round(clients * traffic(format_, assumptions.ip).mbits, 1),
        memory_mib=round(model.memory_mib(clients), 1),
        warnings=_warnings(model, format_, cores, lanes, clients, measured_cores),
    )


Load = Callable[[int, float], float]
"""(clients, sigmas) -> use of a resource; 1.0 is what may be used of it."""


def _loads(
    model: Model, format_: Format, cores: int, card: Card, assumptions: Assumptions
) -> dict[str, Load]:
    period_us = format_.period_ns / 1000
    free = 1 - assumptions.headroom
    core_us = period_us * assumptions.speed * assumptions.realtime_share * free
    lanes = assumptions.lanes(cores)
    one = traffic(format_, assumptions.ip)

    def cpu(clients: int, sigmas: float) -> float:
        costs = model.costs(format_, clients)
        return (costs.total_us + sigmas * costs.deviation_us) / (cores * core_us)

    def mixer(clients: int, sigmas: float) -> float:
        costs = model.costs(format_, clients)
        us = costs.mix_us + sigmas * costs.mix_deviation_us
        return _mixer_us(costs, lanes, assumptions) * us / max(costs.mix_us, 1e-9) / core_us

    def lane(clients: int, sigmas: float) -> float:
        if not lanes:
            return 0.0
        costs = model.costs(format_, clients)
        us = costs.mix_us - costs.mix_tick_us + sigmas * costs.mix_deviation_us
        return assumptions.send_share * us / lanes / core_us

    def memory(clients: int, sigmas: float) -> float:
        if not assumptions.memory_mib:
            return 0.0
        return model.memory_mib(clients) / (assumptions.memory_mib * free)

    return {
        "CPU": cpu,
        "mixer": mixer,
        "lanes": lane,
        "bandwidth": lambda clients, _: clients * one.mbits / (card.gbits * 1000 * free),
        "packets": lambda clients, _: clients * one.frames_s / (card.mpps * 1e6 * free),
        "memory": memory,
        "max-clients": lambda clients, _: clients / assumptions.max_clients,
    }


def mixer_end(model: Model, format_: Format, assumptions: Assumptions = Assumptions()) -> int:
    """Clients with which the mixer alone is at its limit, whatever cores, card and lanes."""
    core_us = (
        format_.period_ns / 1000 * assumptions.speed * assumptions.realtime_share
        * (1 - assumptions.headroom)
    )  # fmt: skip

    def mixer(clients: int, sigmas: float) -> float:
        return _mixer_us(model.costs(format_, clients), 1, assumptions) / core_us

    return _most({"mixer": mixer}, 0.0)


def _mixer_us(costs: Costs, lanes: int, assumptions: Assumptions) -> float:
    """Of a period, what the mixer process itself has to do."""
    if not lanes:
        return costs.mix_us
    return costs.mix_us - assumptions.send_share * (costs.mix_us - costs.mix_tick_us)


def _most(loads: dict[str, Load], sigmas: float) -> int:
    """The largest number with no load above 1; loads grow with the number."""
    low, high = 0, MOST + 1
    while high - low > 1:
        middle = (low + high) // 2
        if max(load(middle, sigmas) for load in loads.values()) <= 1.0:
            low = middle
        else:
            high = middle
    return low


def _warnings(
    model: Model, format_: Format, cores: int, lanes: int, clients: int, measured_cores: int
) -> tuple[str, ...]:
    samples = format_.frames * (format_.sends + format_.wants) // 2
    found: list[str] = []
    if clients > FAR_CLIENTS * model.most_clients:
        found.append(
            f"far extrapolated: more than {FAR_CLIENTS:g} x the clients measured "
            f"({model.most_clients})"
        )
    if cores > FAR_CORES * measured_cores:
        found.append(
            f"far extrapolated: more than {FAR_CORES:g} x the cores measured ({measured_cores})"
        )
    if not model.samples[0] <= samples <= model.samples[-1]:
        found.append(
            f"{format_.frames} frames x {format_.sends} channels lie outside what was measured"
        )
    if lanes and not model.lanes:
        found.append("transmit lanes were not measured")
    return tuple(found)


def predictions(
    model: Model,
    formats: Sequence[Format],
    cores: Sequence[int],
    cards: Sequence[Card] = CARDS,
    assumptions: Assumptions = Assumptions(),
    measured_cores: int = 1,
) -> list[Prediction]:
    """For all combinations, formats first."""
    return [
        predict(model, format_, count, card, assumptions, measured_cores)
        for format_ in formats
        for count in cores
        for card in cards
    ]
