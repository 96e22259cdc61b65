"""A result in the terminal: one table in groups, findings as sentences, the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.reporting.result import Cost, Result
from loadtest.reporting.words import (
    Verdict,
    allowed,
    floor_sentence,
    grouped,
    halts_sentence,
    measured,
    memory,
    micros,
    plural,
    share,
    spread,
    verdict,
    verdict_sentence,
)

WORST_CLIENTS = 8
FINDINGS = 12
COLOURS = {Verdict.PASSED: "green", Verdict.FAILED: "red", Verdict.UNUSABLE: "yellow"}
_TROUBLES = (
    "lost_by_hub", "shortfall", "duplicates", "wrong", "silent", "missing", "malformed", "foreign",
)  # fmt: skip

Row = tuple[str, str]


def show(result: Result, console: Console) -> None:
    """Print a result."""
    console.print(_table(result))
    if len(result.sections) > 1:
        console.print(_sections(result))
    if result.hub:
        console.print(_processes(result.hub))
    console.print(_service(result))
    for finding in result.findings[:FINDINGS]:
        console.print(f"[red]•[/] {escape(finding.text)}", highlight=False)
    if result.findings_total > FINDINGS:
        console.print(f"  … and {result.findings_total - FINDINGS} more findings")
    for line in worst(result):
        console.print(f"[dim]{escape(line)}", highlight=False)
    for problem in result.problems[:WORST_CLIENTS]:
        console.print(f"[red]•[/] {escape(problem)}", highlight=False)
    if len(result.problems) > WORST_CLIENTS:
        console.print(f"  … and {len(result.problems) - WORST_CLIENTS} more problems")
    for note in result.notes:
        console.print(f"[dim]{escape(note)}", highlight=False)
    colour = COLOURS[verdict(result)]
    console.print(f"[bold {colour}]{escape(verdict_sentence(result))}", highlight=False)


def _table(result: Result) -> Table:
    title = result.scenario.get("title") or result.scenario["name"]
    table = Table(
        title=f"{title}: {result.joined} of {plural(result.clients, 'client')}, "
        f"{result.window_s:g} s",
        show_header=False,
        box=box.ROUNDED,
        title_justify="left",
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for group in (_packets(result), _sound(result), _times(result), _generator(result)):
        for name, text in group:
            table.add_row(name, escape(text))
        table.add_section()
    for name, text in _hub(result):
        table.add_row(name, escape(text))
    return table


def _counts(pairs: dict[str, int]) -> str:
    """What is not zero; 'none' if all is."""
    return ", ".join(f"{name} {grouped(count)}" for name, count in pairs.items() if count) or "none"


def _packets(result: Result) -> Iterator[Row]:
    yield (
        "packets",
        (
            f"sent {grouped(result.sent)}, returned {grouped(result.returned)} of "
            f"{grouped(result.expected)}"
        ),
    )
    yield "troubles", _counts(
        {
            "lost": result.lost, "short": result.shortfall, "duplicates": result.duplicates,
            "reordered": result.reordered, "restarts": result.restarts,
            "malformed": result.malformed, "foreign": result.foreign,
            "unheard": result.unheard, "refused": result.refused,
        }
    )  # fmt: skip
    network = {
        "lost up": result.emulated_up, "lost down": result.emulated_down,
        "delayed": result.delayed_up, "doubled": result.doubled_up, "repaired": result.repaired,
    }  # fmt: skip
    if any(network.values()):
        yield "emulated network", _counts(network)
    if result.line is not None:
        line = result.line
        yield (
            "the kernel's network",
            f"to the hub {grouped(line.carried_up)} carried, {grouped(line.lost_up)} lost; "
            f"back {grouped(line.carried_down)} carried, {grouped(line.lost_down)} lost",
        )


def _sound(result: Result) -> Iterator[Row]:
    bad = {
        "wrong": result.wrong, "own voice": result.leaks, "moved": result.shifts,
        "silent": result.silent, "disturbed": result.disturbed, "concealed": result.concealed,
    }  # fmt: skip
    yield "sound", f"{grouped(result.checked)} packets checked; wrong or silent: {_counts(bad)}"
    yield (
        "voices",
        (
            f"{grouped(result.voices_heard)} frames heard of {grouped(result.voices_expected)}, "
            f"excused {grouped(result.voices_excused)}, missing {grouped(result.missing)}"
        ),
    )
    if result.tuttis_checked:
        yield "sums", f"{result.tuttis_right} of {result.tuttis_checked} passages of all exact"


def _times(result: Result) -> Iterator[Row]:
    yield "in to out", spread(result.latency)
    yield "spacing off by", spread(result.spacing)
    yield "longest gap", f"{result.gap_ms:.4g} ms"
    yield "TCP answer", spread(result.answer_ms, "ms")
    yield "join", spread(result.join_ms, "ms")


def _generator(result: Result) -> Iterator[Row]:
    excused = f" (excusing {share(result.excused)} of the run)" if result.excused else ""
    yield "generator", f"late {spread(result.lateness)}"
    yield (
        "",
        (
            f"stalls {result.stalls}{excused}, skipped {result.skipped}, "
            f"own drops {result.own_drops}, "
            f"send errors {result.send_errors}, load {100 * result.own_load:.0f} %, "
            f"{'real time' if result.realtime else 'no real time'}, stolen {result.steal_s:.2f} s"
        ),
    )
    if sentence := halts_sentence(result):
        yield "machine", sentence


def _hub(result: Result) -> Iterator[Row]:
    if result.hub:
        yield from _cost(result.hub)
        if sentence := floor_sentence(result):
            yield "echo floor", sentence
    if result.counters:
        counters = result.counters
        ticks = {n: counters.counts.get(n, 0) for n in ("ticks", "missed", "overruns", "starved")}
        rest = {name: count for name, count in counters.counts.items() if name not in ticks}
        late = {name: value for name, value in counters.lateness_us.items() if value is not None}
        yield "hub ticks", ", ".join(f"{name} {grouped(count)}" for name, count in ticks.items())
        yield (
            "since its start",
            (
                f"load {100 * counters.load_ratio:.1f} %"
                + "".join(f", late {name} {micros(value)}" for name, value in late.items())
            ),
        )
        yield "hub received", _counts(rest)


def _cost(hub: Cost) -> Iterator[Row]:
    yield (
        "hub CPU",
        (
            f"{hub.cpu_us:.2f} µs a client-period (user {hub.user_us:.2f}, system "
            f"{hub.system_us:.2f}, ± {hub.split_within * hub.cpu_us:.2f} at least); "
            f"{hub.cores:.2f} cores"
        ),
    )
    yield (
        "hub switches",
        (f"{hub.voluntary:.2f} voluntary, {hub.involuntary:.3f} involuntary a client-period"),
    )
    yield (
        "hub memory",
        (
            f"private {memory(hub.private_kib)}, {memory(hub.private_kib_a_client)} a client; "
            f"shared {memory(hub.shared_kib)}, {memory(hub.shared_kib_a_client)} a client"
        ),
    )
    if hub.private_kib_a_receiver is not None:
        yield "– a receiver", f"private {memory(hub.private_kib_a_receiver)}"


def _sections(result: Result) -> Table:
    table = Table(title="sections", box=box.SIMPLE, title_justify="left")
    table.add_column("name", style="bold")
    for name in ("in", "lost", "short", "wrong", "silent", "latency p50", "p99", "spacing p99",
                 "join p99"):  # fmt: skip
        table.add_column(name, justify="right")
    for one in result.sections:
        table.add_row(
            escape(one.name) + (" (optional)" if one.optional else ""),
            f"{one.joined}/{one.clients}",
            *(grouped(count) for count in (one.lost, one.shortfall, one.wrong, one.silent)),
            micros(one.latency.p50), micros(one.latency.p99), micros(one.spacing.p99),
            f"{one.join_ms.p99:.4g} ms",
        )  # fmt: skip
    return table


def _processes(hub: Cost) -> Table:
    """What each kind of process used; CPU and switches a client-period."""
    table = Table(title="the hub's processes, CPU µs and switches a client-period", box=box.SIMPLE,
                  title_justify="left")  # fmt: skip
    table.add_column("kind", style="bold")
    for name in ("processes", "CPU", "user", "system", "voluntary", "involuntary", "private",
                 "shared"):  # fmt: skip
        table.add_column(name, justify="right")
    for name, kind in hub.kinds.items():
        table.add_row(
            escape(name), grouped(kind.processes), f"{kind.cpu_us:.2f}", f"{kind.user_us:.2f}",
            f"{kind.system_us:.2f}", f"{kind.voluntary:.3f}", f"{kind.involuntary:.4f}",
            memory(kind.private_kib), memory(kind.shared_kib),
        )  # fmt: skip
    return table


def _service(result: Result) -> Table:
    table = Table(title="service level", box=box.SIMPLE, title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("what", style="bold")
    table.add_column("measured", justify="right")
    table.add_column("allowed", justify="right")
    for check in result.service:
        sign = "[green]✓" if check.passed else "[red]✗"
        if not check.judged or (check.measured is None and check.passed):
            sign = "[dim]–"
        table.add_row(sign, check.name, measured(check), allowed(check))
    return table


def worst(result: Result) -> list[str]:
    """Lines for the clients with the most faults."""
    columns = result.columns
    names = [name for name in _TROUBLES if name in columns]
    sections = [section.name for section in result.sections]
    who = [
        f"client {client} ({sections[section]})"
        for client, section in zip(
            columns.get("client", []), columns.get("section", []), strict=True
        )
    ]
    rows = list(zip(who, *(columns[name] for name in names), strict=True))
    odd = sorted((row for row in rows if any(row[1:])), key=lambda row: -sum(row[1:]))
    words = ["lost" if name == "lost_by_hub" else name for name in names]
    return [
        f"{row[0]}: "
        + ", ".join(f"{name} {count}" for name, count in zip(words, row[1:], strict=True) if count)
        for row in odd[:WORST_CLIENTS]
    ]
