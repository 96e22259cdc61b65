"""The floor of a run: what a bare echo costs on the same cores, with the same packets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from loadtest.conduct import servers
from loadtest.scenario.model import Hub, Scenario, Section, Service
from shared.layout import PatchMode

if TYPE_CHECKING:
    from loadtest.conduct.outcome import Progress
    from loadtest.reporting.result import Cost

MOST_S = 10.0
"""An echo costs the same all the time."""


def floor_scenario(scenario: Scenario) -> Scenario:
    """The same clients, all in from the beginning, each to itself; both ways packets are those that
    the hub would return."""
    return replace(
        scenario,
        name="floor",
        seconds=min(scenario.seconds, MOST_S),
        hub=Hub(PatchMode.LOOPBACK, period=scenario.hub.period, rate_hz=scenario.hub.rate_hz),
        sections=tuple(
            Section(
                section.name, section.clients, replace(section.format, sends=section.format.wants)
            )
            for section in scenario.sections
        ),
        faults=(),
        service=Service(1.0, 1000.0, 1.0, -1, findings=-1),
    )


def echo_floor(
    scenario: Scenario, *, cpus: Iterable[int], realtime: bool, progress: Progress | None = None
) -> Cost | None:
    """What the echo cost; None: the generator was too late to tell.

    Raises:
        ServerError, SessionError: it could not be done.
        KeyboardInterrupt: it was cut short.
    """
    from loadtest.conduct.session import Session
    from loadtest.reporting.evaluate import evaluate

    plan = floor_scenario(scenario)
    with servers.echo(plan.clients, cpus=cpus, realtime=realtime) as server:
        outcome = Session(
            plan, host=server.host, port=server.port, hub_pids=server.pids, realtime=realtime,
            progress=progress,
        ).run()  # fmt: skip
    if outcome.interrupted:
        raise KeyboardInterrupt
    result = evaluate(outcome)
    return result.hub if result.usable else None
