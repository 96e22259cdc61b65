"""The networks between the clients and the hub, as the generator emulates them.

Every datagram's fate is drawn from numbers that are computed from (seed, client, direction,
serial, purpose) alone, by the finaliser of splitmix64: two runs of one scenario lose the same
datagrams, whatever the timing and the order of the clients. Only two things are remembered of
each path: whether it is in a burst of losses, and when it last let something out::

    lost?  loss by itself, or in a burst            Gilbert-Elliott, one step a datagram
      |
    later  delay + step + jitter                    where the datagram would come out
      |    not before the one ahead of it           if ordered
      |    not within a stall, but at its end
    held   + reorder_ms, past those behind it       a share of them
      |
    twice  the copy goes the same way, with jitter of its own

Stalls and steps are timed from the opening of the window; before it there are none.
Written by the generator's thread alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import F64, I64
from loadtest.scenario.model import SECOND_NS, Jitter, Network, Scenario
from shared.kernels import kernel

UP, DOWN = 0, 1
"""Directions: to the hub, and from it."""
JITTERS = (Jitter.NONE, Jitter.UNIFORM, Jitter.NORMAL, Jitter.EXPONENTIAL, Jitter.PARETO)
"""By their number in a record."""
_UNIFORM, _NORMAL, _EXPONENTIAL, _PARETO = 1, 2, 3, 4
PARETO_CUT = 100.0
"""No jitter is longer than so many times its scale."""

PURPOSES = 16
"""Numbers that can be drawn for one datagram; those of a copy are the next ones of their kind."""
LOSS, BURST_LOSS, BURST_STEP, HELD, TWICE, PHASE = range(6)
CHOSEN, JITTER, JITTER_ANGLE = 6, 8, 10

NETWORK = np.dtype(
    [
        ("perfect", I64),  # 1: nothing befalls a datagram
        ("key", np.uint64),  # of its random numbers
        ("loss", F64),  # share
        ("burst_begin", F64),  # probability a datagram; 0: there are no bursts
        ("burst_end", F64),
        ("burst_loss", F64),
        ("delays", I64),  # 0: nothing is ever late
        ("delay_ns", I64),
        ("jitter", I64),  # index into JITTERS
        ("jitter_ns", F64),  # scale
        ("jitter_shape", F64),
        ("jitter_share", F64),
        ("ordered", I64),
        ("reorder", F64),
        ("reorder_ns", I64),
        ("duplicate", F64),
        ("stall_ns", I64),  # 0: never
        ("stall_every_ns", I64),
        ("stall_phase_ns", I64),  # of the first stall, from the opening
        ("step_ns", I64),
        ("step_at_ns", I64),
        ("bad", I64),  # 1: within a burst of losses
        ("last_ns", I64),  # when it last let something out
    ]
)
"""The path of one client in one direction."""

_U = np.uint64
_WORD = (1 << 64) - 1


class Networks(NamedTuple):
    """The paths of all clients.

    Attributes:
        paths: (2, N) NETWORK, UP and DOWN.
    """

    paths: npt.NDArray[Any]


@kernel
def draw(key, serial, purpose):
    """A number in [0, 1), the same for the same three whenever it is asked for."""
    x = key + (_U(serial) * _U(PURPOSES) + _U(purpose) + _U(1)) * _U(0x9E3779B97F4A7C15)
    x = (x ^ (x >> _U(30))) * _U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U(27))) * _U(0x94D049BB133111EB)
    x ^= x >> _U(31)
    return np.float64(x >> _U(11)) * 2.0**-53


@kernel
def loses(path, serial):
    """Whether the path loses this datagram; goes one step through good and bad states."""
    lost = path.loss > 0 and draw(path.key, serial, LOSS) < path.loss
    if path.burst_begin > 0:
        turn = draw(path.key, serial, BURST_STEP)
        if path.bad:
            if draw(path.key, serial, BURST_LOSS) < path.burst_loss:
                lost = True
            path.bad = 0 if turn < path.burst_end else 1
        else:
            path.bad = 1 if turn < path.burst_begin else 0
    return lost


@kernel
def jitter_ns(path, serial, copy):
    """Delay of a datagram, or its copy (1), beyond that of the path."""
    if path.jitter_share < 1 and draw(path.key, serial, CHOSEN + copy) >= path.jitter_share:
        return 0
    u = draw(path.key, serial, JITTER + copy)
    if path.jitter == _UNIFORM:
        scaled = 2 * u
    elif path.jitter == _NORMAL:
        angle = 2 * np.pi * draw(path.key, serial, JITTER_ANGLE + copy)
        scaled = abs(np.sqrt(-2 * np.log(1 - u)) * np.cos(angle))
    elif path.jitter == _EXPONENTIAL:
        scaled = -np.log(1 - u)
    else:
        scaled = min((1 - u) ** (-1 / path.jitter_shape) - 1, PARETO_CUT)
    return np.int64(path.jitter_ns * scaled)


@kernel
def past_stall(path, release_ns, opened_ns):
    """The time, or the end of the stall that it falls into."""
    since_first = release_ns - opened_ns - path.stall_phase_ns
    if path.stall_ns == 0 or since_first < 0:
        return release_ns
    return release_ns + max(path.stall_ns - since_first % path.stall_every_ns, 0)


@kernel
def release(path, serial, copy, now_ns, opened_ns):
    """When the path lets out a datagram that enters it now."""
    out_ns = now_ns + path.delay_ns
    if path.step_ns and now_ns - opened_ns >= path.step_at_ns:
        out_ns += path.step_ns
    if path.jitter:
        out_ns += jitter_ns(path, serial, copy)
    if path.ordered:
        # By at least 1 ns, so that any queue by time keeps the order too.
        out_ns = max(out_ns, path.last_ns + 1)
    if path.reorder > 0 and draw(path.key, serial, HELD) < path.reorder:
        return past_stall(path, out_ns + path.reorder_ns, opened_ns)
    out_ns = past_stall(path, out_ns, opened_ns)
    path.last_ns = out_ns
    return out_ns


@kernel
def fate(networks, direction, index, serial, now_ns, opened_ns):
    """What becomes of a client's datagram on its path.

    direction: UP or DOWN. index: which client. serial: number of the datagram on this path,
    >= 0, each asked for once, ascending, and not begun anew when a client comes back. now_ns:
    when it enters the path, not descending. opened_ns: opening of the window, or NEVER.

    Returns: (copies, delay_ns, second_delay_ns): 0, 1 or 2 copies, and how long after now_ns
        the first and the second one come out; 0 of copies that there are not. What is delayed
        must be queued by its time with all others even if that has come: something that is to
        go before it may still wait there.
    """
    path = networks.paths[direction, index]
    if path.perfect:
        return 1, 0, 0
    if loses(path, serial):
        return 0, 0, 0
    copies = 1
    if path.duplicate > 0 and draw(path.key, serial, TWICE) < path.duplicate:
        copies = 2
    first_ns, second_ns = now_ns, now_ns
    if path.delays:
        first_ns = release(path, serial, 0, now_ns, opened_ns)
        if copies == 2:
            second_ns = release(path, serial, 1, now_ns, opened_ns)
    return copies, first_ns - now_ns, second_ns - now_ns


def mix64(number: int) -> int:
    """The finaliser of splitmix64: 64 bits that depend on all bits of the number."""
    x = number & _WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _WORD
    return x ^ x >> 31


def path_key(seed: int, direction: int, client: int) -> int:
    """What the random numbers of one path are computed from."""
    return mix64(mix64(seed + 0x9E3779B97F4A7C15) + (client << 1 | direction) + 1)


def describe(paths: npt.NDArray[Any], network: Network) -> None:
    """Fill in records alike, all but their keys and the phases of their stalls."""

    def ns(milliseconds: float) -> int:
        return round(milliseconds * 1e6)

    jitters = network.jitter_ms > 0 and network.jitter_share > 0
    stalls = network.stall_every_s > 0 and network.stall_ms > 0
    paths["perfect"] = network.perfect
    for name in ("loss", "burst_begin", "burst_end", "burst_loss", "jitter_shape", "jitter_share",
                 "ordered", "reorder", "duplicate", "delays"):  # fmt: skip
        paths[name] = getattr(network, name)
    paths["delay_ns"] = ns(network.delay_ms)
    paths["jitter"] = JITTERS.index(network.jitter) if jitters else 0
    paths["jitter_ns"] = ns(network.jitter_ms)
    paths["reorder_ns"] = ns(network.reorder_ms)
    paths["stall_ns"] = ns(network.stall_ms) if stalls else 0
    paths["stall_every_ns"] = round(network.stall_every_s * SECOND_NS)
    paths["step_ns"] = ns(network.step_ms)
    paths["step_at_ns"] = round(network.step_at_s * SECOND_NS)


def make_networks(scenario: Scenario) -> Networks:
    """The paths of a scenario's clients, nothing sent yet.

    A client's first stall begins at a time of its own, since musicians at home have a wireless
    network each; ``stall_together`` gives all of a section the same, as in a room with one
    access point.
    """
    paths = np.zeros((2, scenario.clients), NETWORK)
    for section in scenario.sections:
        members = scenario.members(section.name)
        for direction, network in ((UP, section.up), (DOWN, section.down)):
            describe(paths[direction, members.start : members.stop], network)
            for client in members:
                path = paths[direction, client]
                path["key"] = path_key(scenario.seed, direction, client)
                drawer = members.start if network.stall_together else client
                share = draw(paths[direction, drawer]["key"], 0, PHASE)
                path["stall_phase_ns"] = int(share * path["stall_every_ns"])
    return Networks(paths)
