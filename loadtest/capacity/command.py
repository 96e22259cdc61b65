"""``tuttihub capacity``: how many clients does this machine carry, and what gives out first?"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from loadtest.capacity.limits import Surroundings, first_to_give_out, realtime_share
from loadtest.capacity.measure import Bench, Case, Target
from loadtest.capacity.model import Assumptions
from loadtest.capacity.probe import Probe
from loadtest.capacity.report import (
    Capacity,
    CapacityFileError,
    Searched,
    earlier_probes,
    need_same_machine,
    other_searches,
    show,
)
from loadtest.capacity.search import Ending, Measure, Rules, Search
from loadtest.commandline import (
    EXIT_INTERRUPTED,
    Numbers,
    interruptible,
    listed,
    need_writable,
    pinned,
)
from loadtest.commandline import cores as listed_cores
from loadtest.conduct import servers
from loadtest.conduct.servers import ServerError
from loadtest.scenario.model import ScenarioError, Service
from shared.layout import PatchMode

EXIT_NOT_FOUND, EXIT_USAGE, EXIT_GENERATOR = 1, 2, 3
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
LEVEL = Service()
HUB_CLIENTS = 1024
"""The most that a tuttihub admits."""
JACKTRIP_CLIENTS = 200
"""Beyond, jackd has no ports for stereo with its own and no time for anything else."""
JACKTRIP_MESH = 24
"""The same where all are connected with all: JACK takes twice as long for each further client of
such a graph, so that a probe of the 27th would take minutes."""
JACKTRIP_START = 16
TYPICAL_FRAMES = 128
SCREENED_S = 10.0
"""Numbers that are to hold for longer are looked at with shorter probes first."""
OVERHEAD_S = 6.0
"""Start, joins, settling, good-byes and end of a server, roughly."""
TYPICAL_PROBES = (8, 5)
"""Short and full ones of a search that meets no mishap."""


class NotMeasured(click.ClickException):
    """A server could not be started, or a file could not be used."""

    exit_code = EXIT_USAGE


@click.command(
    context_settings=_SETTINGS,
    epilog="""\b
Exit codes: 0 every search found its number; 1 one did not (nothing held, or too many probes);
2 a wrong option, or a server that does not start; 3 the load generator gave out first;
130 interrupted.

\b
Examples:
  tuttihub capacity --quick                        one format, short probes: a first idea
  tuttihub capacity --json capacity.json           64, 128 and 256 frames, mono and stereo
  tuttihub capacity --json capacity.json --resume  goes on with it after Ctrl-C
  tuttihub capacity --frames 128 --channels 2 --against jacktrip
  tuttihub capacity --hub-cpu 0,2-3 --load-cpu 1   the hub on three cores
  tuttihub capacity --missed-ticks 3 --loss 1e-4   a softer service level
""",
)
@click.option("--frames", type=Numbers(16, 1024),
              help="Packet sizes and hub periods.  [default: 64,128,256; quick: 128]")  # fmt: skip
@click.option("--channels", type=Numbers(1, 16),
              help="Channels, both ways.  [default: 1,2; quick: 2]")  # fmt: skip
@click.option("--mode", type=click.Choice(["1", "2", "4"]), default="2", show_default=True,
              help="The hub's patch mode: 1 loopback, 2 the others, 4 all.")  # fmt: skip
@click.option("--queue", default="4", show_default=True, help="The hub's -q.")
@click.option("--seconds", type=click.FloatRange(1, 3600),
              help="How long a number must hold.  [default: 30; quick: 5]")  # fmt: skip
@click.option("--quick", is_flag=True, help="One format, short probes, coarse steps.")
@click.option("--start", type=click.IntRange(1, 1024), default=16, show_default=True,
              help="First number tried, at 128 frames; for others in proportion.")  # fmt: skip
@click.option("--most", type=click.IntRange(1, 1024), default=HUB_CLIENTS, show_default=True,
              help="Largest number tried.")  # fmt: skip
@click.option("--step", type=click.FloatRange(0, 50),
              help="Found to this many percent.  [default: 3; quick: 10]")  # fmt: skip
@click.option("--probes", type=click.IntRange(1, 1000), default=60, show_default=True,
              help="Runs a search may take at most.")  # fmt: skip
@click.option("--burst/--spread", default=False, show_default=True,
              help="Arrivals all at once, or over the period.")  # fmt: skip
@click.option("--hub-cpu", help="Cores of the hub, as 0 or 0,2-3.  [default: the first]")
@click.option("--load-cpu", type=int, help="Core of the load generator.  [default: the last]")
@click.option("--hub-option", "hub_options", multiple=True,
              help="Further option of tuttihub serve; may be repeated.")  # fmt: skip
@click.option("--realtime/--no-realtime", default=True, show_default=True,
              help="Real-time scheduling for servers and generator.")  # fmt: skip
@click.option("--loss", type=click.FloatRange(0, 1), default=LEVEL.return_loss,
              show_default=True, help="Service level: share of return packets lost.")  # fmt: skip
@click.option("--spacing", type=click.FloatRange(0, 100), default=LEVEL.spacing_p99,
              show_default=True, help="Service level: p99 deviation, in periods.")  # fmt: skip
@click.option("--wrong", type=click.FloatRange(0, 1), default=LEVEL.wrong, show_default=True,
              help="Service level: share of packets with a wrong sample.")  # fmt: skip
@click.option("--missed-ticks", type=click.IntRange(-1), default=LEVEL.missed_ticks,
              show_default=True, help="Service level: ticks the hub missed; -1: any.")  # fmt: skip
@click.option("--join-ms", type=click.FloatRange(0), default=LEVEL.join_p99_ms,
              show_default=True, help="Service level: p99 of joins; 0: any.")  # fmt: skip
@click.option("--gap-ms", type=click.FloatRange(0), default=LEVEL.gap_ms, show_default=True,
              help="Service level: longest interruption; 0: any.")  # fmt: skip
@click.option("--findings", type=click.IntRange(-1), default=LEVEL.findings, show_default=True,
              help="Service level: faults such as packets twice or a client later than its like; "
              "-1: any.")  # fmt: skip
@click.option("--against", type=click.Choice(["jacktrip"]),
              help="Also search the original hub, with jackd, on the same cores.")  # fmt: skip
@click.option("--echo", is_flag=True,
              help="Also what a bare echo of the packets costs with the number found.")  # fmt: skip
@click.option("--cores", type=Numbers(1, 256), default="1,2,4,8,16,32,64", show_default=True,
              help="Machines to predict for.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True,
              help="Of the clients' voices.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path),
              help="Write everything here, after every run.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with what --json holds.")
def capacity(json_path: Path | None, resume: bool, echo: bool, **asked: Any) -> None:
    """Search the largest number of clients that this machine serves well.

    A number holds the service level when two of at most three runs do: no missed tick, return
    loss at most 1e-5, p99 deviation of return spacing at most half a period, every checked sample
    right, for --seconds. Starts and ends its own servers; needs two cores, and quiet.
    """
    console = Console(width=None if sys.stdout.isatty() else 140)
    if resume and json_path is None:
        raise click.UsageError("--resume: needs --json, to go on with what it holds")
    measurement, generator_cpu = plan(os.sched_getaffinity(0), **asked)
    if asked["against"] and (lacking := servers.missing_programs()):
        raise click.UsageError(f"--against jacktrip: not installed: {', '.join(lacking)}")
    need_writable(json_path, "--json")
    with interruptible(), pinned(generator_cpu):
        code = measure_all(measurement, Bench, console, json_path, resume, echo)
    sys.exit(code)


def plan(
    ours: set[int],
    *,
    frames: tuple[int, ...] | None,
    channels: tuple[int, ...] | None,
    mode: str,
    queue: str,
    seconds: float | None,
    quick: bool,
    start: int,
    most: int,
    step: float | None,
    probes: int,
    burst: bool,
    hub_cpu: str | None,
    load_cpu: int | None,
    hub_options: tuple[str, ...],
    realtime: bool,
    loss: float,
    spacing: float,
    wrong: float,
    missed_ticks: int,
    join_ms: float,
    gap_ms: float,
    findings: int,
    against: str | None,
    cores: tuple[int, ...],
    seed: int,
) -> tuple[Capacity, int]:
    """What the options ask for, and the generator's core.

    Args:
        ours: cores that we may use; the rest are the command's options.

    Raises:
        click.UsageError: they do not go together.
    """
    if start > most:
        raise click.BadParameter(f"{start} is more than --most {most}", param_hint="--start")
    hub_cpus, generator_cpu = _cores(ours, hub_cpu, load_cpu)
    full_s = seconds if seconds is not None else 5.0 if quick else 30.0
    rules = Rules(
        start=start,
        highest=most,
        seconds=full_s,
        screen_s=full_s if full_s <= SCREENED_S else max(5.0, full_s / 3),
        step_share=(step if step is not None else 10.0 if quick else 3.0) / 100,
        most=probes,
    )
    try:
        case = Case(
            mode=PatchMode(int(mode)),
            queue=queue,
            hub_options=(*hub_options, *(() if realtime else ("--no-realtime",))),
            hub_cpus=hub_cpus,
            burst=burst,
            realtime=realtime,
            seed=seed,
            service=Service(
                return_loss=loss,
                spacing_p99=spacing,
                wrong=wrong,
                missed_ticks=missed_ticks,
                join_p99_ms=join_ms,
                gap_ms=gap_ms,
                findings=findings,
            ),
        )
        cases = [
            replace(case, target=target, frames=size, channels=count)
            for target in Target
            if target is Target.TUTTIHUB or target == against
            for size in frames or ((128,) if quick else (64, 128, 256))
            for count in channels or ((2,) if quick else (1, 2))
        ]
        for each in cases:
            each.scenario(1, full_s)
    except ScenarioError as error:
        raise click.UsageError(str(error)) from error
    share = realtime_share() if realtime else 1.0
    measurement = Capacity(
        [Searched(each, _rules(each, rules)) for each in cases],
        cores=cores,
        assumptions=Assumptions(realtime_share=share),
    )
    return measurement, generator_cpu


def measure_all(
    measurement: Capacity,
    bench: Callable[[Case], Measure],
    console: Console,
    json_path: Path | None = None,
    resume: bool = False,
    echo: bool = False,
) -> int:
    """Do all searches, write and show them; the exit code.

    Args:
        bench: makes what probes a case.
        echo: measure the floor, too.

    Raises:
        NotMeasured: a server does not start, or the file cannot be gone on with.
    """
    from loadtest.conduct.session import SessionError
    from loadtest.reporting.provenance import provenance

    searches = measurement.searches
    measurement.provenance = provenance(
        seed=searches[0].case.seed, realtime=searches[0].case.realtime, hub={}
    )
    known: dict[int, list[Probe]] = {}
    try:
        if resume and json_path is not None:
            need_same_machine(json_path, measurement.provenance)
            for index, each in enumerate(searches):
                # kept in the new file as well, until the search has used them
                known[index] = earlier_probes(json_path, each.case, each.rules)
                each.probes = list(known[index])
            measurement.others = other_searches(json_path, [each.case for each in searches])
        console.print(_forecast(searches))
        for index, each in enumerate(searches):
            _search(measurement, each, known.get(index, []), bench, console, json_path)
            if echo and each.found and each.found.clients:
                console.print("the floor: a bare echo of the same packets", style="dim")
                each.floor_us = Bench(each.case).floor_us(each.found.clients, each.rules.screen_s)
    except (ServerError, SessionError, CapacityFileError, OSError) as error:
        raise NotMeasured(str(error)) from error
    except KeyboardInterrupt:
        _conclude(measurement, console, json_path)
        console.print(
            f"interrupted; go on with: --json {json_path} --resume" if json_path else "interrupted"
        )
        return EXIT_INTERRUPTED
    _conclude(measurement, console, json_path)
    if json_path is not None:
        console.print(f"written to {json_path}")
    return exit_code(searches)


def _conclude(measurement: Capacity, console: Console, json_path: Path | None) -> None:
    """Show what is known, and keep it.

    Raises:
        NotMeasured: the file cannot be written.
    """
    measurement.conclude()
    show(measurement, console)
    if json_path is not None:
        try:
            measurement.write(json_path)
        except OSError as error:
            raise NotMeasured(f"{json_path}: {error.strerror}") from error


def exit_code(searches: list[Searched]) -> int:
    """What the endings mean to a script."""
    endings = {each.found.ending for each in searches if each.found}
    if Ending.GENERATOR in endings:
        return EXIT_GENERATOR
    return EXIT_NOT_FOUND if endings & {Ending.NOTHING, Ending.UNSETTLED} else 0


def _search(
    measurement: Capacity,
    each: Searched,
    known: list[Probe],
    bench: Callable[[Case], Measure],
    console: Console,
    json_path: Path | None,
) -> None:
    """One case, with its file kept up to date."""
    measure = bench(each.case)
    console.rule(escape(each.case.label), align="left")

    def progress(text: str, probe: Probe | None) -> None:
        if probe is None:
            console.print(f"{time.strftime('%H:%M:%S')} {text}", style="dim")
            return
        console.print("  " + _line(probe))
        if len(searching.probes) > len(each.probes):
            each.probes = list(searching.probes)
        each.version = getattr(measure, "version", "") or each.version
        measurement.provenance["hub"] = {
            str(one.case.target): one.version for one in measurement.searches if one.version
        }
        if json_path is not None:
            measurement.write(json_path)

    searching = Search(measure, each.rules, progress=progress, known=known)
    with console.status("") as status:
        if isinstance(measure, Bench):
            measure.told = status.update
        each.found = searching.run()
    each.probes = each.found.probes
    around = Surroundings.here(cores=len(each.case.hub_cpus), max_clients=_admitted(each.case))
    if not each.case.realtime:
        around = replace(around, realtime=False)
    each.limit = first_to_give_out(each.found, around)
    if each.found.ending is Ending.HIGHEST and each.case.target is Target.JACKTRIP:
        why = " More were not tried: JACK takes ever longer to let one more in."
        each.limit = replace(each.limit, text=each.limit.text + why)
    console.print(escape(f"{each.found.meaning} {each.limit.text}"))


def _line(probe: Probe) -> str:
    """A probe in a line."""
    if not probe.usable:
        return f"[yellow]not usable[/]: {escape('; '.join(probe.reasons))}"
    figures = probe.figures
    cost = f"{figures.cores():.2f} cores, spacing p99 {figures.spacing_p99_us:.0f} µs"
    if figures.halts:
        cost += f", the machine stood still {figures.halts} times, {figures.halted_ms:.0f} ms"
    if probe.passed:
        return f"[green]held[/]: {cost}"
    return f"[red]failed[/]: {escape('; '.join(probe.failed))}; {cost}"


def _rules(case: Case, rules: Rules) -> Rules:
    """Shorter periods carry fewer. For the original, small numbers: it takes seconds to let one
    more client in."""
    start = min(rules.highest, max(1, rules.start * case.frames // TYPICAL_FRAMES))
    if case.target is Target.TUTTIHUB:
        return replace(rules, start=start)
    highest = min(rules.highest, JACKTRIP_MESH if case.is_mesh else JACKTRIP_CLIENTS)
    return replace(rules, start=min(rules.start, JACKTRIP_START, highest), highest=highest)


def _admitted(case: Case) -> int:
    """--max-clients of the server."""
    if case.target is Target.JACKTRIP:
        return sys.maxsize
    words = case.hub_options
    given = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--max-clients"]
    given += [word.partition("=")[2] for word in words if word.startswith("--max-clients=")]
    return int(given[-1]) if given and given[-1].isdigit() else HUB_CLIENTS


def _forecast(searches: list[Searched]) -> str:
    """How long all of it will take, roughly."""
    short, full = TYPICAL_PROBES
    seconds = sum(
        short * (each.rules.screen_s + OVERHEAD_S) + full * (each.rules.seconds + OVERHEAD_S)
        for each in searches
    )
    done = sum(len(each.probes) for each in searches)
    kept = f", {done} of them done already" if done else ""
    return (
        f"{len(searches)} searches of about {short + full} runs each{kept}: "
        f"some {max(1, round(seconds / 60))} minutes, more where runs have to be repeated"
    )


def _cores(
    allowed: set[int], hub_cpu: str | None, load_cpu: int | None
) -> tuple[tuple[int, ...], int]:
    """Cores of the hub, and of the generator."""
    ours = sorted(allowed)
    generator = load_cpu if load_cpu is not None else ours[-1]
    if generator not in ours:
        raise click.BadParameter(f"{generator}: cores are {listed(ours)}", param_hint="--load-cpu")
    if hub_cpu is None:
        hub = {next((core for core in ours if core != generator), generator)}
    else:
        hub = listed_cores(hub_cpu, "--hub-cpu", ours)
    if generator in hub:
        raise click.UsageError(
            f"core {generator} cannot be the hub's and the generator's: one would disturb the "
            f"other; cores are {listed(ours)} (--hub-cpu, --load-cpu)"
        )
    return tuple(sorted(hub)), generator
