"""A ``Network`` in the words of ``tc ... netem``: the kernel's own network emulation.

netem draws a datagram's delay from a table of 16-bit steps, ``delay + spread × step / 8192``.
Its own tables are not our distributions, and its ``reorder`` lets some go at once where ours
holds some back. So everything that may delay a datagram is laid down in a table of our own:
the jitter's quantiles, nothing for those without jitter, and more for those held back.

netem sits on a line, not at a client: all clients share its bursts, and where datagrams are
ordered, none overtakes any other client's either. A datagram that is both doubled and lost
comes once.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from loadtest.scenario.model import Jitter, Network, ScenarioError

TABLE = 8192
"""Delays in a table: as many as fit one of tc's messages. Shares are exact to one in so many."""
STEPS = 8192
"""Of the spread, in a table; its largest entry is 32767."""
_LARGEST_STEP = 32767
_LARGEST_SPREAD_NS = 2**31 - 1
_PARETO_CUT = 100.0
QUEUE_PACKETS = 1_000_000
"""So many may be under way; netem's own limit of 1000 would lose what it should delay."""
_KEEPS_ORDER = "30gbit"
"""netem lets packets overtake unless it has a rate; this one is too high to matter."""


@dataclass(frozen=True, slots=True)
class Netem:
    """How to set up one side.

    Attributes:
        options: of netem, all but the name of the table, which comes after ``distribution``.
        table: (TABLE,) int16 steps of the delay; None: there is no distribution.
    """

    options: tuple[str, ...]
    table: npt.NDArray[np.int16] | None

    def arguments(self, table_name: str) -> list[str]:
        """Of ``tc qdisc add ... netem``."""
        return [table_name if option == "" else option for option in self.options]

    def table_text(self) -> str:
        """The table as tc reads it."""
        return "".join(f"{step}\n" for step in ([] if self.table is None else self.table.tolist()))


def netem(network: Network, seed: int = 1, rate_mbit: float = 0.0) -> Netem:
    """netem's options for a network.

    seed: of the table; which datagrams netem loses or delays is its own choice. rate_mbit: of
    the line; 0: as fast as the machine.

    Raises:
        ScenarioError: netem cannot do that; says what it cannot.
    """
    _refuse(network, rate_mbit)
    options = ["limit", str(QUEUE_PACKETS)]
    table, spread_ns = _delay_table(network, seed)
    if table is not None:
        options += ["delay", _time(network.delay_ms * 1e6), _time(spread_ns), "distribution", ""]
    elif network.delay_ms > 0:
        options += ["delay", _time(network.delay_ms * 1e6)]
    if network.burst_begin > 0 and network.burst_loss > 0:
        in_burst = 1 - (1 - network.loss) * (1 - network.burst_loss)
        shares = (network.burst_begin, network.burst_end, in_burst, network.loss)
        options += ["loss", "gemodel", *map(_percent, shares)]
    elif network.loss > 0:
        options += ["loss", "random", _percent(network.loss)]
    if network.duplicate > 0:
        options += ["duplicate", _percent(network.duplicate)]
    if rate_mbit > 0:
        options += ["rate", f"{rate_mbit * 1e6:.0f}bit"]
    elif network.ordered and _jitters(network):
        options += ["rate", _KEEPS_ORDER]
    return Netem(tuple(options), table)


def _refuse(network: Network, rate_mbit: float) -> None:
    instead = "leave it to the generator's own emulation"
    if network.stall_every_s > 0 and network.stall_ms > 0:
        raise ScenarioError(f"stall_ms: netem has no stalls; {instead}")
    if network.step_ms > 0:
        raise ScenarioError(f"step_ms: netem's delay has no steps; {instead}")
    if network.reorder > 0 and network.ordered and _jitters(network):
        raise ScenarioError(
            f"reorder: netem cannot hold some back and keep jittered ones ordered; {instead}, "
            "or set ordered = false"
        )
    if rate_mbit < 0:
        raise ScenarioError(f"rate_mbit: {rate_mbit:g} is not 0 or more")
    if rate_mbit > 0 and (network.reorder > 0 or (_jitters(network) and not network.ordered)):
        raise ScenarioError(f"rate_mbit: a line of {rate_mbit:g} Mbit/s keeps the order; set 0")


def _jitters(network: Network) -> bool:
    return network.jitter != Jitter.NONE and network.jitter_ms > 0 and network.jitter_share > 0


def _time(ns: float) -> str:
    """In microseconds with decimals: older versions of tc do not know nanoseconds."""
    return f"{ns / 1000:.3f}us"


def _percent(share: float) -> str:
    return f"{100 * share:.9f}".rstrip("0").rstrip(".") + "%"


def jitter_quantiles(network: Network, shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The jitter that so many stay below, in units of its scale."""
    match network.jitter:
        case Jitter.UNIFORM:
            return 2 * shares
        case Jitter.NORMAL:
            inverse = NormalDist().inv_cdf
            return np.array([inverse((1 + share) / 2) for share in shares.tolist()], np.float64)
        case Jitter.EXPONENTIAL:
            quantiles: npt.NDArray[np.float64] = -np.log1p(-shares)
            return quantiles
        case Jitter.PARETO:
            tail = (1 - shares) ** (-1 / network.jitter_shape) - 1
            cut: npt.NDArray[np.float64] = np.minimum(tail, _PARETO_CUT)
            return cut
        case _:
            return np.zeros_like(shares)


def _delay_table(network: Network, seed: int) -> tuple[npt.NDArray[np.int16] | None, int]:
    """Steps of all delays beyond the path's own, and the spread in ns that they are steps of."""

    def count(share: float) -> int:
        return max(round(TABLE * share), 1) if share > 0 else 0

    later_ns = np.zeros(TABLE)
    jittered = count(network.jitter_share) if _jitters(network) else 0
    shares = (np.arange(jittered) + 0.5) / max(jittered, 1)
    later_ns[:jittered] = jitter_quantiles(network, shares) * network.jitter_ms * 1e6
    if network.reorder > 0:
        # Whether a datagram is held back has nothing to do with its jitter.
        np.random.default_rng(seed).shuffle(later_ns)
        later_ns[: count(network.reorder)] += network.reorder_ms * 1e6
    longest_ns = float(later_ns.max())
    if longest_ns == 0:
        return None, 0
    spread_ns = int(np.ceil(longest_ns * STEPS / _LARGEST_STEP))
    if spread_ns > _LARGEST_SPREAD_NS:
        most_s = _LARGEST_SPREAD_NS * _LARGEST_STEP / STEPS / 1e9
        raise ScenarioError(
            f"jitter_ms: {network.jitter_ms:g} means delays of {longest_ns / 1e9:.1f} s; "
            f"netem's end at {most_s:.1f} s"
        )
    return np.round(later_ns / spread_ns * STEPS).astype(np.int16), spread_ns
