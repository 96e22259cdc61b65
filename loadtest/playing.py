"""Where a run plays - a hub that is there, one of our own, one behind an emulated network - and
the run itself, whatever happens to the hub meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import click
from rich.console import Console

from loadtest.scenario.model import Network, Scenario

if TYPE_CHECKING:
    from loadtest.conduct.halts import Halts
    from loadtest.conduct.outcome import Line, Outcome
    from loadtest.reporting.result import Cost, Result

EXIT_FAULTS, EXIT_USAGE = 1, 2
REACHED_S = 5.0
"""Patience with the first connection to a hub."""
MOST_WATCHED = 8
"""On a machine of more cores, unless hub and generator keep to a few, nobody watches for halts."""


class Unplayable(click.ClickException):
    """There is no hub, or no way to it; or a file cannot be written."""

    exit_code = EXIT_USAGE


class HubEnded(click.ClickException):
    """The hub ended before there was anything to measure."""

    exit_code = EXIT_FAULTS


@dataclass(frozen=True, slots=True)
class Place:
    """Where the hub is, and what may be asked of it."""

    host: str = "127.0.0.1"
    port: int = 4464
    pids: tuple[int, ...] = ()
    control: str | None = None
    version: str = ""
    base: tuple[int, int] | None = None
    """First two bytes of the clients' addresses, if they are not of the loopback."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How to play.

    Attributes:
        place: where; None: at a hub of our own.
        hub_cpus: cores of that; guest_cpus: where hostile guests run.
        netem: through a network that the kernel emulates.
        echo: measure afterwards what a bare echo costs with the same packets.
        realtime: ask for real-time scheduling.
    """

    place: Place | None
    hub_cpus: tuple[int, ...]
    guest_cpus: tuple[int, ...]
    netem: bool
    echo: bool
    realtime: bool


def play(plan: Scenario, setting: Setting, console: Console) -> Result:
    """Do the run. A hub that ends in it has failed, and what was measured until then counts.

    Raises:
        Unplayable: there was no run.
        HubEnded: the hub ended before there was one.
    """
    from loadtest.conduct.halts import Halts
    from loadtest.conduct.servers import ServerEnded
    from loadtest.reporting.evaluate import evaluate
    from loadtest.reporting.lacks import window_ns

    outcome: Outcome | None = None
    halts = Halts()
    lines: list[Line] = []
    try:
        with contextlib.ExitStack() as stack:
            place = setting.place
            if place is None:
                place = stack.enter_context(_served(plan, setting.hub_cpus, console))
            if setting.netem:
                plan, place = stack.enter_context(_through_netem(plan, place, lines))
            halts = stack.enter_context(_watched(setting))
            outcome = _session(plan, place, setting, console)
    except ServerEnded as error:
        if outcome is None:
            raise HubEnded(str(error)) from error
        outcome.problems.append(f"the hub ended by itself: {error}")
    except (RuntimeError, OSError) as error:  # SessionError, ServerError, NoEmulation
        if outcome is None:
            raise Unplayable(str(error)) from error
        outcome.own_faults.append(str(error))
    outcome.line = lines[0] if lines else None
    outcome.halted = halts.summary(*window_ns(outcome))
    result = evaluate(outcome)
    if setting.echo and not outcome.interrupted:
        result.floor = _floor(plan, setting, console)
        if result.floor is None:
            result.notes.append("the echo's cost is not known: the generator was late")
    return result


@contextlib.contextmanager
def _watched(setting: Setting) -> Iterator[Halts]:
    """A watch on the generator's cores, and those of a hub of our own."""
    from loadtest.conduct.halts import Halts, watching_cores

    cores = {*os.sched_getaffinity(0), *(setting.hub_cpus if setting.place is None else ())}
    if not setting.realtime or len(cores) > MOST_WATCHED:
        yield Halts()
        return
    with watching_cores(cores) as halts:
        yield halts


def found(plan: Scenario, address: str, port: int, pids: tuple[int, ...]) -> Place:
    """A hub that runs already; of one on this machine, its processes and control socket.

    Raises:
        Unplayable: there is none, or it does something else than the scenario takes it to do.
        click.BadParameter: one of the processes is not there.
    """
    from loadtest.conduct.addresses import is_loopback
    from loadtest.conduct.control import ask_status, find_control, hub_pid, mismatches
    from loadtest.conduct.procfs import PROC, listener_pid

    if gone := [pid for pid in pids if not (PROC / str(pid)).exists()]:
        raise click.BadParameter(f"{gone[0]}: no such process", param_hint="--hub-pid")
    try:
        socket.create_connection((address, port), REACHED_S).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise Unplayable(
            f"no hub on port {port} of {address}: {why}. With --serve one is started for the run; "
            "elsewhere --host and --port say where it is"
        ) from error
    local = is_loopback(address)
    control = find_control(port) if local else None
    status = ask_status(control)
    if status is not None and (differences := mismatches(plan.hub, status)):
        raise Unplayable(
            f"the hub on port {port} does something else than is expected of it: "
            f"{'; '.join(differences)}. Say what it does (--mode, --period, --rate, --upmix, or "
            "[hub] in the scenario), or have one with the scenario's settings (--serve)"
        )
    if local and not pids:
        pid = hub_pid(status) or listener_pid(port)
        pids = () if pid is None else (pid,)
    return Place(address, port, pids, control)


def the_line(plan: Scenario) -> tuple[Network, Network]:
    """The network up and down that all sections have, if netem can be it.

    Raises:
        ScenarioError: netem cannot do what it asks for.
        click.UsageError: they have different ones.
    """
    from loadtest.conduct.netem import netem

    networks = {(section.up, section.down) for section in plan.sections}
    if len(networks) > 1:
        raise click.UsageError("--netem: one line for all; these sections have different networks")
    ((up, down),) = networks
    netem(up)
    netem(down)
    return up, down


@contextlib.contextmanager
def _served(plan: Scenario, cpus: Collection[int], console: Console) -> Iterator[Place]:
    """A hub of our own with the scenario's options."""
    from loadtest.conduct import servers

    console.print("[dim]starting a hub: " + " ".join(servers.hub_options(plan.hub)))
    with servers.tuttihub(plan.hub, cpus=cpus) as server:
        yield Place(server.host, server.port, server.pids, server.control, server.version)


@contextlib.contextmanager
def _through_netem(
    plan: Scenario, place: Place, lines: list[Line]
) -> Iterator[tuple[Scenario, Place]]:
    """The same ensemble behind a network of the kernel's, which impairs what we would have.

    lines: what it did is appended to it.
    """
    from loadtest.conduct.netns import emulated_network, inside
    from loadtest.conduct.outcome import Line

    up, down = the_line(plan)
    plain = tuple(replace(section, up=Network(), down=Network()) for section in plan.sections)

    with emulated_network(up, down, plan.seed) as net:
        first, second, *_ = (int(part) for part in net.client_base.split("."))
        with inside(net):
            yield (
                replace(plan, sections=plain),
                replace(place, host=net.hub_address, base=(first, second)),
            )
        to_hub, back = net.traffic()
        perfect = up.perfect and down.perfect
        lines.append(Line(to_hub.passed, to_hub.lost, back.passed, back.lost, perfect))


def _floor(plan: Scenario, setting: Setting, console: Console) -> Cost | None:
    from loadtest.floor import echo_floor, floor_scenario
    from loadtest.reporting.progress import live

    console.print("[dim]the floor: a bare echo of the same packets")
    try:
        with live(floor_scenario(plan), console) as progress:
            return echo_floor(
                plan, cpus=setting.hub_cpus, realtime=setting.realtime, progress=progress
            )
    except (RuntimeError, OSError) as error:  # ServerError, SessionError
        console.print(f"[dim]no floor: {error}")
        return None


def _session(plan: Scenario, place: Place, setting: Setting, console: Console) -> Outcome:
    from loadtest.clients.wires import BASE
    from loadtest.conduct.director import Director
    from loadtest.conduct.session import Session
    from loadtest.reporting.progress import live

    with live(plan, console) as progress:
        session = Session(
            plan,
            host=place.host,
            port=place.port,
            hub_pids=place.pids,
            control=place.control,
            realtime=setting.realtime,
            progress=progress,
            director=partial(Director, guest_cpus=setting.guest_cpus),
            base=place.base or BASE,
        )
        outcome = session.run()
    if place.version:
        outcome.versions["hub"] = place.version
    return outcome
