"""What the hub is to reach beside what it reaches, as a table.

A target has a bound and a figure from the newest ``benchmarks.targets``; what is missed says why,
and what would be next. Bounds are upper ones unless ``least``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import NamedTuple

from loadtest.benchmarks.record import WholeRow
from loadtest.benchmarks.render import markdown, where
from loadtest.benchmarks.targets import ALONE, AUTO, CONNECTED, FEWER, SHARED, ServerRow, Targets

_PERIOD_MS = 128 / 48
_NOTHING = "–"


LOST = 0.01
"""Share of ticks or return packets missed, beyond which a hub was too full to say what a client
costs: what is not done costs nothing."""


class Reached(NamedTuple):
    """A figure; full: of a hub, or an echo, that could not serve all."""

    value: float
    full: bool = False


Figure = Callable[[Targets], Reached | None]


@dataclass(frozen=True, slots=True)
class Target:
    """Something to reach.

    Attributes:
        name: what is measured; bound, unit: until where it may be; least: from where on.
        reached: the figure, None: it could not be measured.
        why, then: of a target that is missed: why, and what would be next.
    """

    name: str
    bound: float
    unit: str
    reached: Figure
    why: str
    then: str
    least: bool = False


def _row(
    rows: Sequence[ServerRow], server: str, clients: int, receivers: str = "", drift: str = "auto"
) -> WholeRow | None:
    for each in rows:
        row = each.row
        if (row.server, row.clients, each.receivers, each.drift) == (
            server, clients, receivers, drift,
        ):  # fmt: skip
            return None if row.failed or not row.cpu_us else row
    return None


def _full(*rows: WholeRow) -> bool:
    return any(
        row.joined < row.clients
        or row.lost + row.shortfall > LOST * row.expected
        or (row.ticks_missed or 0) > LOST * (row.ticks or 1)
        for row in rows
    )


def _ratio(row: WholeRow | None, other: WholeRow | None) -> Reached | None:
    return Reached(row.cpu_us / other.cpu_us, _full(row, other)) if row and other else None


def _beside_echo(clients: int, receivers: str, drift: str = "auto") -> Figure:
    return lambda found: _ratio(
        _row(found.cost, "tuttihub", clients, receivers, drift), _row(found.cost, "echo", clients)
    )


def _beside_jacktrip(receivers: str) -> Figure:
    return lambda found: _ratio(
        _row(found.original, "tuttihub", 24, receivers), _row(found.original, "jacktrip", 24)
    )


def _grown(found: Targets) -> Reached | None:
    few, many = (_row(found.cost, "tuttihub", clients, SHARED) for clients in (50, 400))
    return _ratio(many, few)


def _capacity(receivers: str) -> Figure:
    def of(found: Targets) -> Reached | None:
        # a search that ran out of probes before any number held has found nothing
        rows = (row for row in found.capacity if row.receivers == receivers and row.clients)
        return next((Reached(row.clients) for row in rows), None)

    return of


def _join_p99(connected: int, receivers: str) -> Figure:
    def of(found: Targets) -> Reached | None:
        for row in found.joins:
            if (row.connected, row.receivers) == (connected, receivers):
                return Reached(row.join_ms.p99 if row.joined == row.newcomers else inf)
        return None

    return of


def _storm(receivers: str) -> Figure:
    def of(found: Targets) -> Reached | None:
        for row in found.joins:
            if (row.connected, row.receivers) == (1, receivers):
                return Reached(row.served_s if row.joined == row.newcomers else inf)
        return None

    return of


def _start(name: str) -> Figure:
    return lambda found: Reached(found.start_s[name]) if name in found.start_s else None


def _memory(clients: int, receivers: str) -> Figure:
    def of(found: Targets) -> Reached | None:
        row = _row(found.cost, "tuttihub", clients, receivers)
        return Reached(row.private_kib_a_client / 1024) if row else None

    return of


def _later(found: Targets) -> Reached | None:
    few, many = (_row(found.cost, "tuttihub", clients, SHARED) for clients in (2, 250))
    if few is None or many is None or not few.latency.count or not many.latency.count:
        return None
    return Reached((many.latency.p50 - few.latency.p50) / 1000, _full(many))


def _spacing(clients: int, receivers: str) -> Figure:
    def of(found: Targets) -> Reached | None:
        row = _row(found.cost, "tuttihub", clients, receivers)
        return Reached(row.spacing.p99, _full(row)) if row else None

    return of


_WAKE = "a wake-up a client-period, and two system calls where the echo has two and fewer wake-ups"
_CORE = "one core is full before: nothing that is measured beyond says what a client costs"
_LANES = "fewer microseconds: the table above says where they are"
TARGETS = (
    Target("CPU a client-period ÷ bare echo, 50 clients, a process each", 2.0, "×",
           _beside_echo(50, ALONE), _WAKE, "sharing, as the default does from 64 clients a core"),
    Target("…, 250 clients, a process each", 2.0, "×", _beside_echo(250, ALONE), _CORE,
           "sharing; or more cores"),
    Target("…, 50 clients, shared", 1.3, "×", _beside_echo(50, SHARED),
           "the echo neither decodes, mixes, encodes nor measures", _LANES),
    Target("…, 250 clients, shared", 1.3, "×", _beside_echo(250, SHARED),
           "the echo finds many packets a wake-up here, and all memory is far", _LANES),
    Target("…, 50 clients, a process each, drift correction on", 2.3, "×",
           _beside_echo(50, ALONE, "on"), _WAKE, "sharing"),
    Target("…, 50 clients, shared, drift correction on", 1.6, "×",
           _beside_echo(50, SHARED, "on"), "as without", _LANES),
    Target("…, 250 clients, shared, drift correction on", 1.6, "×",
           _beside_echo(250, SHARED, "on"), "as without", _LANES),
    Target("CPU ÷ JackTrip hub and jackd, 24 clients, full mix, a process each", 0.4, "×",
           _beside_jacktrip(ALONE), _WAKE, "sharing"),
    Target("…, 24 clients, full mix, shared", 0.25, "×", _beside_jacktrip(SHARED),
           "with 24 clients what the hub does by the clock is divided among few", _LANES),
    Target("clients on a core, a process each", 250, "clients", _capacity(ALONE),
           "10 µs a client-period fill 2,667 µs at 260; the kernel's real-time share comes before",
           "sharing; or more cores", least=True),
    Target("clients on a core, shared", 450, "clients", _capacity(SHARED),
           "450 want 5.3 µs a client-period with a tenth left free; two system calls take 3.6, all "
           "5.3 to 6, as the machine is just then",
           "more cores; on one, a way past Linux's UDP (`AF_XDP`)", least=True),
    Target("cost a client at 400 ÷ at 50, shared", 1.1, "×", _grown, _CORE, "more cores, lanes"),
    Target("join p99, 300 connected, receivers as the hub chooses", 50, "ms",
           _join_p99(CONNECTED, AUTO),
           "300 are beyond this core, and the supervisor comes after all audio",
           "a core for the supervisor"),
    Target("…, all sharing receivers", 50, "ms", _join_p99(CONNECTED, SHARED), "the same",
           "the same"),
    Target("…, 100 connected, all sharing receivers", 50, "ms", _join_p99(FEWER, SHARED),
           "the same, though there is room", "the same"),
    Target("300 joining within a second, until the last is served", 2, "s", _storm(AUTO),
           "they come to a core that they fill, and the supervisor comes after all audio",
           "a core for the supervisor"),
    Target("…, all of them sharing receivers", 2, "s", _storm(SHARED), "the same", "the same"),
    Target("start, kernels cached", 1.5, "s", _start("warm"),
           "Python and numba load for most of it", "zygote and supervisor loading side by side"),
    Target("start, kernels to be compiled", 20, "s", _start("cold"),
           "numba's front end for one half, LLVM for the other, on two cores",
           "kernels compiled when installed (`make setup`)"),
    Target("private memory a client, a process each, 50 clients", 2, "MiB", _memory(50, ALONE),
           "pages that a receiver has written to since it was cloned", "fewer of them"),
    Target("private memory a client, shared, 250 clients", 2, "MiB", _memory(250, SHARED),
           "the same", "the same"),
    Target("in → out with 250 clients, more than with 2, p50", round(_PERIOD_MS / 2, 2), "ms",
           _later, "queues that halts of the machine have filled stay longer",
           "a machine of one's own"),
    Target("spacing of returns, p99, 50 clients, shared", 100, "µs", _spacing(50, SHARED),
           "the mixer sends all after one tick; how long before a listener's turn comes varies "
           "with who else is there", "lanes on other cores"),
    Target("spacing of returns, p99, 250 clients, shared", 100, "µs", _spacing(250, SHARED),
           "the same", "the same"),
)  # fmt: skip


def targets_table(found: Targets | None) -> str:
    """Target, what is reached, and of what is missed why and what next."""
    if found is None:
        return "Not measured yet: `python -m loadtest.benchmarks.targets` does."
    body = []
    for one in TARGETS:
        figure = one.reached(found)
        sign = "≥" if one.least else "≤"
        reached, missed = _NOTHING, False
        if figure is not None:
            value = figure.value
            missed = figure.full or (value < one.bound if one.least else value > one.bound)
            reached = f"{_number(value)} {one.unit}" if not isinf(value) else "not all"
            reached += " ‡" * figure.full
        body.append([
            one.name, f"{sign} {one.bound:g} {one.unit}", f"**{reached}**" if missed else reached,
            one.why if missed else ("" if figure is not None else "not measured"),
            one.then if missed else "",
        ])  # fmt: skip
    made = ", ".join(f"{part} {when[11:16] or when}" for part, when in found.made.items())
    notes = [
        f"- {_who(each)}: {each.row.failed or '; '.join(each.row.reasons)}"
        for each in (*found.cost, *found.original)
        if not each.row.measured
    ]
    parts = [
        f"Measured {where(found.provenance)} (`{found.provenance.get('command', '')}`; {made} "
        "UTC). What is missed is **bold**. ‡: of a server that missed, or lost, more than "
        f"{LOST:.0%}, or did not let all in, and so has not shown that it can.",
        markdown(["what", "target", "reached", "why not", "what next"], body, left=5),
        "The servers behind it:",
        _servers(found),
    ]
    if notes:
        parts.append("† the generator was late:\n\n" + "\n".join(notes))
    return "\n\n".join(parts)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _who(each: ServerRow) -> str:
    sharing = f", {each.receivers}" if each.receivers else ""
    drift = ", drift on" if each.drift == "on" else ""
    return f"{each.row.server}{sharing}{drift}, {each.row.clients} clients"


def _servers(found: Targets) -> str:
    body = []
    for each in (*found.cost, *found.original):
        row = each.row
        kinds = row.cpu_us_by_kind
        receivers = sum(us for kind, us in kinds.items() if "rx" in kind)
        body.append([
            _who(each) + ("" if row.measured else " †"),
            f"{row.cpu_us:.1f}",
            f"{receivers:.1f} / {kinds.get('tutti-mixer', 0.0):.1f}" if receivers else _NOTHING,
            f"{row.voluntary + row.involuntary:.2f}",
            f"{row.latency.p50 / 1e3:.2f} / {row.latency.p99 / 1e3:.2f}" if row.latency.count
            else _NOTHING,
            f"{row.spacing.p99:.0f}",
            f"{100 * (row.lost + row.shortfall) / max(1, row.expected):.2g} %",
            f"{row.ticks_missed} of {row.ticks}" if row.ticks else _NOTHING,
        ])  # fmt: skip
    return markdown(
        ["server", "CPU, µs", "receivers / mixer", "switches", "in → out ms p50 / p99",
         "spacing p99, µs", "lost", "ticks missed"],
        body, left=1,
    )  # fmt: skip
