"""A report as musicians read it, and how far the examination has come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from hub.doctor.examination import Progress, Tell
from hub.doctor.findings import CLOCK_PPM
from hub.doctor.report import Finding, Report
from hub.status import CONDITION_STYLES, make_console

OK, BAD, UNKNOWN = "✓", "✗", "–"
_VERDICTS = {
    "fit": ("You are ready to play.", "bold green"),
    "playable": ("You can play, and something could be better.", "bold yellow"),
    "unfit": ("You cannot play like this.", "bold red"),
}
_TCP = {
    "open": "opens",
    "refused": "refuses",
    "no-answer": "does not answer",
    "prohibited": "is forbidden",
    "absent": "is not there",
    "unreachable": "cannot be reached",
}


@contextmanager
def shown_progress(host: str) -> Iterator[Tell]:
    """A line on the error output, if that is a terminal, while the block runs."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
    # refreshed from this thread alone: nothing may run while packets should be sent
    with Bar(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(f"examining the way to {host}", total=1.0)

        def tell(progress: Progress) -> None:
            bar.update(task, completed=progress.share, description=progress.step, refresh=True)

        yield tell


def print_report(report: Report, console: Console | None = None) -> None:
    """Print what was found, what to do, and the recommended settings."""
    console = console or make_console()
    console.print(facts(report))
    for finding in report.findings:
        _print_finding(finding, console)
    if report.advice is not None:
        console.print()
        console.print(settings(report))
    text, style = _VERDICTS[report.verdict]
    console.print()
    console.print(Text(text, style=style))


def facts(report: Report) -> Table:
    """What was examined, one line each: a mark, what, and what came of it."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(style="bold")
    table.add_column()
    for mark, name, value in _lines(report):
        style = {OK: "green", BAD: "bold red"}.get(mark, "dim")
        table.add_row(Text(mark, style=style), name, Text(value))
    return table


def _lines(report: Report) -> Iterator[tuple[str, str, str]]:
    """Mark, name, value."""
    addresses = ", ".join(each.address for each in report.addresses)
    yield _mark(bool(addresses)), "name", addresses or f"{report.host}: no address"
    for each in report.addresses:
        trip = "" if each.round_trip_s is None else f", round trip {_ms(each.round_trip_s)}"
        what = f"{each.address} port {report.port} {_TCP[each.tcp]}{trip}"
        yield _mark(each.tcp == "open"), "TCP", what
    if report.hello is not None:
        port = report.hello.udp_port
        yield (
            _mark(port is not None), "let in",
            f"UDP port {port}" if port else f"no ({report.hello.reply})",
        )  # fmt: skip
    yield from _sound_lines(report)
    yield from _quality_lines(report)
    yield from _path_lines(report)


def _sound_lines(report: Report) -> Iterator[tuple[str, str, str]]:
    udp, hub = report.udp, report.hub
    if udp is not None:
        yield _mark(udp.outgoing), "UDP there", _way_words(udp.outgoing)
        came = _way_words(udp.incoming)
        if udp.first_sound_s is not None:
            came = f"first sound after {_ms(udp.first_sound_s)}"
        if udp.stopped_after_s is not None:
            came += f", and none after {udp.stopped_after_s:.1f} s"
        yield _mark(udp.incoming if udp.stopped_after_s is None else False), "UDP back", came
    if hub is not None:
        rate = "unknown rate" if hub.rate_hz is None else f"{hub.rate_hz} Hz"
        like = {True: "as yours", False: "its own", None: "its own or yours"}[hub.mirrors]
        yield OK, "hub plays", f"{rate}, {hub.bits} bit, {hub.frames} frames ({like})"


def _quality_lines(report: Report) -> Iterator[tuple[str, str, str]]:
    trip, there, back = report.trip, report.there, report.back
    if trip is not None and trip.network_s is not None:
        sound = "" if trip.sound_s is None else f"; your sound is back after {_ms(trip.sound_s)}"
        yield OK, "round trip", f"{_ms(trip.network_s)} on the network{sound}"
    if there is not None and back is not None:
        lost = "cannot be seen from here"
        if there.lost_share is not None:
            lost = f"{100 * there.lost_share:.2g} % of {there.sent} packets"
        yield (
            UNKNOWN if there.lost_share is None else _mark(there.lost_share < 0.001),
            "lost there", lost,
        )  # fmt: skip
    if back is not None:
        total = back.received + back.lost
        yield (
            _mark(back.lost_share <= 0.0005), "lost back",
            f"{100 * back.lost_share:.2g} % of {total} packets"
            + (f", {back.reordered} overtaken" if back.reordered else "")
            + (f", {back.duplicates} doubled" if back.duplicates else ""),
        )  # fmt: skip
        late = back.late
        yield (
            _mark(late.needed_s < 0.01), "late",
            f"half by {_ms(late.typical_s)}, 1 in 100 by {_ms(late.rare_s)}, "
            f"1 in 2000 by {_ms(late.needed_s)}, at most {_ms(late.worst_s)}",
        )  # fmt: skip
        if back.clock_ppm is not None and (back.clock_error_ppm or 0.0) < CLOCK_PPM:
            yield (
                OK, "hub's clock",
                f"{back.clock_ppm:+.1f} ± {back.clock_error_ppm:.1f} ppm beside this computer's",
            )  # fmt: skip
    if there is not None:
        own = there.sent_late
        words = f"sends 1 packet in 100 late by {_ms(own.rare_s)}, at most by {_ms(own.worst_s)}"
        yield OK, "this computer", words


def _path_lines(report: Report) -> Iterator[tuple[str, str, str]]:
    path, router = report.path, report.router
    if path is not None and path.mtu is not None:
        pieces = {True: "longer ones in pieces", False: "longer ones not at all"}
        more = "" if path.fragments is None else f", {pieces[path.fragments]}"
        yield (
            _mark(path.fragments is not False), "long packets",
            f"up to {path.longest_payload} bytes pass whole{more}",
        )  # fmt: skip
    if router is not None:
        words = {
            True: "gives each connection another port", False: "leaves your port alone", None: "",
        }[router.remaps]  # fmt: skip
        if words:
            yield OK, "router", words


def settings(report: Report) -> Table:
    """The recommended settings, each with its reason."""
    advice = report.advice
    assert advice is not None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recommended")
    table.add_column("", style="bold")
    table.add_column("since")
    rows = [
        ("queue", f"-q {advice.queue}", advice.queue_why),
        ("redundancy", f"-r {advice.redundancy}", advice.redundancy_why),
        ("packet size", f"{advice.frames} frames", f"{advice.frames_why} (JACK's Frames/Period)"),
    ]
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    pieces = "" if advice.whole else ", in pieces"
    table.add_row("", "", "")
    table.add_row("start with", Text(advice.command), Text(
        f"packets of {advice.datagram_bytes} bytes{pieces}; "
        f"your own sound would be back after about {_ms(advice.delay_s)}"
    ))  # fmt: skip
    return table


def _print_finding(finding: Finding, console: Console) -> None:
    console.print()
    heading = Text(finding.fault, style=CONDITION_STYLES[finding.severity])
    console.print(heading.append(f"  {finding.detail}" if finding.detail else "", "dim not bold"))
    console.print(Padding(Text(finding.says), (0, 0, 0, 2), expand=False))
    console.print(Padding(Text(f"→ {finding.do}"), (0, 0, 0, 2), expand=False))


def _mark(good: bool | None) -> str:
    return {True: OK, False: BAD, None: UNKNOWN}[good]


def _way_words(works: bool | None) -> str:
    return {True: "passes", False: "does not pass", None: "not known"}[works]


def _ms(seconds: float) -> str:
    ms = 1000 * seconds
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2f} ms"
