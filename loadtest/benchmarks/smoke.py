"""Whether the harness works and the hub sounds right, in less than a minute; time is not judged.

    python -m loadtest.benchmarks.smoke

Clients of mixed formats play to a real hub, with passages in which everybody sounds, and to the
bare echo; two kernels are timed. Exit code 1 when sound was wrong or a tool is broken. On a busy
machine packets are late and ticks are missed, and what is then heard is not what was played: such
a take is repeated. When none was undisturbed, only what lateness cannot cause is a fault.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import click
from rich.console import Console

from loadtest.benchmarks import kernels, whole
from loadtest.conduct import servers
from loadtest.conduct.outcome import FindingKind
from loadtest.conduct.servers import ServerError
from loadtest.conduct.session import SessionError
from loadtest.reporting.result import Result
from loadtest.scenario.model import Format, Hub, Scenario, Section
from shared.layout import PatchMode

TAKES = 3
"""Of each scenario at most."""
PATIENCE_S = 25.0
"""No take is repeated so long after the first that was disturbed."""
KERNELS = "test_parse or test_encode and 24"
TROUBLE = (
    "missed", "starved", "lost", "late", "underruns", "overflows", "restarts", "kernel_drops",
)  # fmt: skip
"""Counters of the hub that say: something did not come in time."""
NEVER_LATENESS = (
    FindingKind.OWN_VOICE, FindingKind.SWAPPED_CHANNELS, FindingKind.MALFORMED,
    FindingKind.FOREIGN,
)  # fmt: skip
"""Faults that no late packet explains."""
_FORMATS = (
    Format(frames=128, bits=16, sends=2, wants=2),
    Format(frames=64, bits=24, sends=2, wants=2),
    Format(frames=128, bits=24, sends=1, wants=1, redundancy=2),
    Format(frames=64, bits=8, sends=2, wants=2, redundancy=3),
    Format(frames=256, bits=16, sends=1, wants=1),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was made of a scenario.

    Attributes:
        faults: why it failed; empty: it did not.
        text: what was heard, a line.
    """

    name: str
    faults: list[str]
    text: str


def ensemble(mode: PatchMode, seconds: float) -> Scenario:
    """Two clients of each format; a deep queue, for the machine may be busy."""
    return Scenario(
        name="smoke",
        seconds=seconds,
        settle_s=0.5,
        tutti_every=2,
        hub=Hub(mode=mode, period=128, queue="16"),
        sections=tuple(
            Section(name=f"section {n}", clients=2, format=form)
            for n, form in enumerate(_FORMATS, 1)
        ),
    )


def disturbed(result: Result) -> str:
    """Why a take says nothing of the hub's sound; empty: it does."""
    if not result.usable:
        return "; ".join(result.reasons)
    counts = result.counters.counts if result.counters else {}
    late = [f"{counts[name]} {name}" for name in TROUBLE if counts.get(name)]
    return f"the hub counted {', '.join(late)}" if late else ""


def faults_of(result: Result, excuse: str) -> list[str]:
    """What was wrong; with an excuse only what lateness does not explain."""
    faults = []
    if result.joined < result.clients or result.unheard:
        faults.append(f"{result.joined} of {result.clients} joined, {result.unheard} heard nothing")
    if not result.checked:
        faults.append("no packet could be checked")
    if result.voices_expected and not result.voices_heard:
        faults.append("no voice was heard rightly")
    if result.tuttis_checked and not result.tuttis_right:
        faults.append(f"none of {result.tuttis_checked} tutti passages was right")
    found = [one for one in result.findings if not excuse or one.kind in NEVER_LATENESS]
    faults += [f"{one.kind}: {one.text}" for one in found[:8]]
    if not excuse and not result.clean and not faults:
        faults.append(
            f"not clean: {result.lost} lost, {result.shortfall} short, {result.wrong} wrong, "
            f"{result.silent} silent, {result.missing} missing; {'; '.join(result.problems[:3])}"
        )
    return faults


def judge(name: str, take: Callable[[], Result], go_on: Callable[[], bool]) -> Verdict:
    """Play until a take was undisturbed, and judge it; else the last.

    Args:
        take: plays once.
        go_on: whether there is time for another.
    """
    for attempt in range(1, TAKES + 1):
        result = take()
        excuse = disturbed(result)
        if not excuse or attempt == TAKES or not go_on():
            break
    text = (
        f"{result.joined} clients, {result.checked} packets checked, {result.wrong} wrong, "
        f"{result.tuttis_right} of {result.tuttis_checked} tutti passages right"
    )
    if excuse:
        text += f"; judged leniently, for even take {attempt} was disturbed: {excuse}"
    return Verdict(name, faults_of(result, excuse), text)


def hub_take(mode: PatchMode, seconds: float) -> Result:
    """Against a hub of its own."""
    plan = ensemble(mode, seconds)
    with servers.tuttihub(plan.hub, cpus=os.sched_getaffinity(0)) as server:
        return whole.play(plan, server)


def echo_take(seconds: float) -> Result:
    """Against the echo, which is a loopback of everything."""
    plan = ensemble(PatchMode.LOOPBACK, seconds)
    with servers.echo(plan.clients, cpus=os.sched_getaffinity(0)) as server:
        return whole.play(plan, server)


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=4.0, help="Measured window of each take.")
def main(seconds: float) -> None:
    """Play a little of everything; fail on wrong sound and on broken tools, never on time."""
    console = Console(width=None if sys.stdout.isatty() else 110)
    began = time.monotonic()
    until: list[float] = []

    def go_on() -> bool:
        if not until:  # the first take may have compiled its kernels, for minutes
            until.append(time.monotonic() + PATIENCE_S)
        return time.monotonic() < until[0]

    takes: dict[str, Callable[[], Result]] = {
        "hub, fan-out-no-self": lambda: hub_take(PatchMode.FAN_OUT_NO_SELF, seconds),
        "echo": lambda: echo_take(seconds / 2),
    }
    failed = False
    try:
        for name, take in takes.items():
            verdict = judge(name, take, go_on)
            console.print(f"{verdict.name}: {verdict.text}", highlight=False)
            for fault in verdict.faults:
                console.print(f"  [red]{fault}", highlight=False)
            failed |= bool(verdict.faults)
        rows = kernels.measure(0.05, choice=KERNELS)
    except (ServerError, SessionError, kernels.KernelsError) as error:
        raise click.ClickException(str(error)) from error
    console.print(f"kernels: {', '.join(f'{row.name} {row.median_us:.3g} µs' for row in rows)}")
    if len(rows) != 2:
        raise click.ClickException(f"two kernels were to be timed, not {len(rows)}")
    console.print(f"{'failed' if failed else 'good'} after {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
