"""The README's performance tables, written from the newest recorded results.

    python -m loadtest.benchmarks.render           writes them between the markers
    python -m loadtest.benchmarks.render --check   exit code 1 when they are not what is there

Nobody edits what lies between the markers; a test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from loadtest.benchmarks import record
from loadtest.benchmarks.record import KernelRow, Kernels, RecordError, Whole, WholeRow
from loadtest.reporting.result import Spread

README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
DOUBT = "†"
_NOTHING = "–"
_NAMES = {"tuttihub": "tuttihub", "jacktrip": "JackTrip", "echo": "echo"}
_RECEIVERS = ("rx", "receiver")
_KIB = 1024


class RenderError(ValueError):
    """A text has no place for the tables."""


def tables(whole: Whole | None, kernels: Kernels | None) -> str:
    """All tables as Markdown; of what was never measured a line that says so."""
    parts = []
    if whole is None:
        parts.append("The whole hub has not been measured yet: `make bench` does.")
    else:
        parts += _whole(whole)
    if kernels is None:
        parts.append("The kernels have not been timed yet: `make bench` does.")
    else:
        parts += _kernels(kernels)
    return "\n\n".join(parts)


def insert(text: str, content: str, begin: str = BEGIN, end: str = END) -> str:
    """A text with other content between its markers.

    Raises:
        RenderError: the markers are not there, once each and in order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise RenderError(f"no place for the tables: {begin} and {end} must be there, once each")
    head, _, rest = text.partition(begin)
    tail = rest.partition(end)[2]
    return f"{head}{begin}\n{content}\n{end}{tail}"


def rendered(readme: Path = README, results: Path = record.RESULTS) -> str:
    """The README as it should be.

    Raises:
        RenderError: it has no markers.
        RecordError: a result cannot be read.
    """
    content = tables(record.newest(Whole, results), record.newest(Kernels, results))
    return insert(readme.read_text(), content)


def _whole(whole: Whole) -> list[str]:
    settings, rows = whole.settings, whole.rows
    parts = [
        f"Measured {where(whole.provenance)}: stereo, {settings.get('bits', 16)} bit, "
        f"{settings.get('rate_hz', 48000) / 1000:g} kHz, {settings.get('frames', 128)} frames, "
        f"{settings.get('seconds', 0):g} s for each row, arrivals "
        f"{'all at once' if settings.get('burst') else 'spread over the period'}."
    ]
    scale = [row for row in rows if row.table == "scale" and row.server == "tuttihub"]
    if scale:
        parts += [
            _scale_title(scale[0]),
            _cost(scale, _floors(rows)),
            "The same clients heard:",
            _sound(scale),
        ]
    original = [row for row in rows if row.table == "original"]
    if original:
        parts += [
            "Beside JackTrip's own hub (`jacktrip -S` on a `jackd -d dummy`, both counted), full "
            f"mix, `-q{original[0].queue}`:",
            _original(original),
        ]
    later: dict[str, list[str]] = {}
    for row in rows:
        if row.made:
            later.setdefault(row.made, []).append(f"{_NAMES[row.server]} with {row.clients}")
    parts += [f"Measured later, {made}: {', '.join(names)}." for made, names in later.items()]
    notes = [
        f"{DOUBT} {_NAMES[row.server]}, {row.clients} clients, mode {row.mode}: "
        f"{row.failed or '; '.join(row.reasons)}"
        for row in [*scale, *_floors(rows), *original]
        if not row.measured
    ]
    if notes:
        parts.append("Rows that cannot be relied on, though tried again:\n" + _list(notes))
    return parts


def _scale_title(row: WholeRow) -> str:
    return (
        f"Mode {row.mode}, `-q{row.queue}`, beside a bare echo of the same packets as the floor "
        "(CPU in µs a client-period, of the whole process tree):"
    )


def _cost(rows: Sequence[WholeRow], floors: Sequence[WholeRow]) -> str:
    """What each number of clients costs, beside the echo."""
    body = []
    for row in rows:
        floor = next((each for each in floors if each.clients == row.clients), None)
        compared = floor is not None and not row.failed and not floor.failed and floor.cpu_us > 0
        body.append(
            [
                _clients(row),
                _cpu(row),
                f"{row.user_us:.1f} / {row.system_us:.1f}" if not row.failed else _NOTHING,
                _by_kind(row),
                _cpu(floor, mark=True) if floor else _NOTHING,
                f"{row.cpu_us / floor.cpu_us:.2f}" if compared and floor else _NOTHING,
                _switches(row),
                _memory(row),
            ]
        )
    return markdown(
        [
            "clients", "hub", "user / system", "receivers / mixer", "echo", "hub ÷ echo",
            "switches vol. / inv.", "private a client",
        ],
        body,
    )  # fmt: skip


def _sound(rows: Sequence[WholeRow]) -> str:
    """What the same clients heard."""
    body = [
        [
            _clients(row), _ms(row.latency), _us(row.spacing), _of_joins(row), _lost(row),
            _wrong(row), _ticks(row),
        ]
        for row in rows
    ]  # fmt: skip
    return markdown(
        [
            "clients", "packet in → out p50 / p99 / max", "spacing off by p99", "join p50 / p99",
            "lost", "wrong", "ticks missed, late p99",
        ],
        body,
    )  # fmt: skip


def _original(rows: Sequence[WholeRow]) -> str:
    body = [
        [
            _clients(row),
            _NAMES[row.server],
            _cpu(row),
            _switches(row),
            _ms(row.latency),
            _us(row.spacing),
            _of_joins(row),
            _lost(row),
            _wrong(row),
            _memory(row),
            _whole_memory(row),
        ]
        for row in sorted(rows, key=lambda row: (row.clients, row.server != "tuttihub"))
    ]
    return markdown(
        [
            "clients", "hub", "CPU", "switches vol. / inv.", "in → out p50 / p99 / max",
            "spacing off by p99", "join p50 / p99", "lost", "wrong", "private a client",
            "memory in all",
        ],
        body,
    )  # fmt: skip


def _floors(rows: Iterable[WholeRow]) -> list[WholeRow]:
    return [row for row in rows if row.table == "scale" and row.server == "echo"]


def _clients(row: WholeRow) -> str:
    return f"{row.clients}{'' if row.measured else ' ' + DOUBT}"


def _cpu(row: WholeRow, *, mark: bool = False) -> str:
    if row.failed:
        return "failed"
    return f"{row.cpu_us:.1f}" + (f" {DOUBT}" if mark and not row.measured else "")


def _switches(row: WholeRow) -> str:
    return _NOTHING if row.failed else f"{row.voluntary:.2f} / {row.involuntary:.2f}"


def _by_kind(row: WholeRow) -> str:
    """Receivers, and mixer with lanes; their names are the hub's process names."""
    if row.failed:
        return _NOTHING
    receivers = sum(us for kind, us in row.cpu_us_by_kind.items() if _is_receiver(kind))
    mixers = sum(us for kind, us in row.cpu_us_by_kind.items() if "mixer" in kind or "lane" in kind)
    return f"{receivers:.1f} / {mixers:.1f}"


def _is_receiver(kind: str) -> bool:
    return any(name in kind for name in _RECEIVERS)


def _ms(spread: Spread) -> str:
    if not spread.count:
        return _NOTHING
    return " / ".join(f"{us / 1000:.2f}" for us in (spread.p50, spread.p99, spread.max)) + " ms"


def _us(spread: Spread) -> str:
    return f"{spread.p99:.0f} µs" if spread.count else _NOTHING


def _of_joins(row: WholeRow) -> str:
    if not row.join_ms.count:
        return _NOTHING
    text = f"{row.join_ms.p50:.0f} / {row.join_ms.p99:.0f} ms"
    return text if row.joined == row.clients else f"{text}, {row.joined} of {row.clients}"


def _lost(row: WholeRow) -> str:
    lost = row.lost + row.shortfall
    if row.failed:
        return _NOTHING
    if not lost:
        return "0"
    share = 100 * lost / max(1, row.expected)
    return f"{lost} ({share:.2g} %)"


def _wrong(row: WholeRow) -> str:
    return _NOTHING if row.failed else str(row.wrong + row.silent)


def _ticks(row: WholeRow) -> str:
    if row.ticks is None:
        return _NOTHING
    late = row.tick_late_us.get("p99")
    return f"{row.ticks_missed} of {row.ticks}" + (f", {late:.0f} µs" if late is not None else "")


def _memory(row: WholeRow) -> str:
    kib = row.private_kib_a_client  # not above zero: what was private has become shared
    return f"{kib / _KIB:.1f} MiB" if kib > 0 else _NOTHING


def _whole_memory(row: WholeRow) -> str:
    """All processes together, shared pages counted once."""
    return _NOTHING if row.failed else f"{(row.private_kib + row.shared_kib) / _KIB:.0f} MiB"


_KERNEL_LINES: tuple[tuple[str, str, str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("receive: parse, place, decode, measure; {} frames, stereo, 16 bit", "receive", "frames",
     (64, 128, 256), {"channels": 2, "bits": 16}),
    ("… mono, 16 bit, {} frames", "receive", "frames", (64, 128, 256), {"channels": 1, "bits": 16}),
    ("… 128 frames, stereo, {} bit", "receive", "bits", (8, 16, 24, 32),
     {"channels": 2, "frames": 128}),
    ("… every other packet missing and concealed, {} frames", "conceal", "frames",
     (64, 128, 256), {}),
    ("resampled at 208 ppm, stereo, {} frames", "resample", "frames", (64, 128, 256),
     {"channels": 2}),
    ("… stereo, 128 frames, from {} Hz", "convert", "rate_hz", (44100, 96000, 192000), {}),
    ("mixer: rings to strips and buses, {} clients", "mix", "clients", (10, 100, 300), {}),
    ("a listener's mix, encoded and packed, loopback, {} clients", "transmit", "clients",
     (10, 100, 300), {"mode": 1}),
    ("… fan-out-no-self, {} clients", "transmit", "clients", (10, 100, 300), {"mode": 2}),
    ("… full mix, {} clients", "transmit", "clients", (10, 100, 300), {"mode": 4}),
    ("… fan-out-no-self, 100 clients, {} bit", "encode", "bits", (8, 16, 24, 32), {}),
    ("… and sent through Linux's UDP, {} clients", "send", "clients", (10, 100, 300), {}),
    ("a hello read ({})", "hello", "kind", ("named", "short"), {}),
    ("metrics of 500 clients rendered, for each", "scrape", "", ("",), {}),
)  # fmt: skip
"""Text with a place for the values, benchmark, its parameter, the values, other parameters."""


def _kernels(kernels: Kernels) -> list[str]:
    lines = [
        [text.format(" / ".join(map(str, values))), found]
        for text, name, parameter, values, others in _KERNEL_LINES
        if (found := _medians(kernels.rows, name, parameter, values, others))
    ]
    return [
        f"The kernels alone, timed {where(kernels.provenance)}; periods of 128 frames, and no "
        "system calls but where it says so:",
        markdown(["kernel", "µs a client-period (median)"], lines, left=1),
    ]


def _medians(
    rows: Sequence[KernelRow],
    name: str,
    parameter: str,
    values: Sequence[Any],
    others: dict[str, Any],
) -> str:
    """Medians by one parameter, the others given; empty when none was measured."""
    found = []
    for value in values:
        wanted = others | ({parameter: value} if parameter else {})
        times = [row.median_us for row in rows if row.name == name and row.parameters == wanted]
        found.append(f"{times[0]:.2f}" if times else _NOTHING)
    return " / ".join(found) if set(found) != {_NOTHING} else ""


def where(provenance: dict[str, Any]) -> str:
    """Date, commit and machine in words."""
    whole = str(provenance.get("commit") or "").partition(" ")[0]
    commit = f"{whole[:7]}{' and changes not yet committed' if whole.endswith('+') else ''}"
    date = str(provenance.get("date", ""))[:10]
    machine = provenance.get("machine", {})
    kind = "virtual cores" if machine.get("virtualised") else "cores"
    return (
        f"on {date}{f' at commit {commit}' if commit else ''} on {machine.get('cores', 0)} {kind} "
        f"of {machine.get('cpu', 'unknown')}, Linux {machine.get('kernel', 'unknown')}"
    )


def _list(items: Iterable[str]) -> str:
    return "\n" + "\n".join(f"- {item}" for item in items)


def markdown(head: Sequence[str], body: Iterable[Sequence[str]], left: int = 0) -> str:
    """A table; the first `left` columns are aligned to the left, the others to the right."""
    rule = ["---" if column < left else "---:" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def bring_up_to_date(page: Path, rendered: Callable[[], str], check: bool, what: str) -> None:
    """Write a page as it should be; or only look, and end with exit code 1 when it is not.

    Raises:
        click.ClickException: it cannot be said how it should be.
    """
    try:
        wanted = rendered()
    except (RenderError, RecordError) as error:
        raise click.ClickException(str(error)) from error
    if wanted == page.read_text():
        click.echo(f"{page.name}: {what} are up to date")
    elif check:
        click.echo(f"{page.name}: {what} are not what loadtest/results say", err=True)
        sys.exit(1)
    else:
        page.write_text(wanted)
        click.echo(f"{page.name}: {what} written")


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when it is out of date.")
def main(check: bool) -> None:
    """Write the README's performance tables from the newest results."""
    bring_up_to_date(README, rendered, check, "performance tables")


if __name__ == "__main__":
    main()
