"""The tables of docs/limits.md, from the newest kept results.

python -m loadtest.benchmarks.limitspage           writes them between the markers
python -m loadtest.benchmarks.limitspage --check   exit code 1 when they are not what is there
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from loadtest.benchmarks import (
    kept,
    microseconds,
    modelcheck,
    overfull,
    record,
    sampling,
    serial,
    targets,
)
from loadtest.benchmarks.kept import Kept
from loadtest.benchmarks.microseconds import MIXER, RECEIVER, Row
from loadtest.benchmarks.overfulltable import overfull_table
from loadtest.benchmarks.render import bring_up_to_date, insert, markdown, where
from loadtest.benchmarks.targetstable import targets_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "limits.md"
TIME = "<!-- microseconds:begin -->", "<!-- microseconds:end -->"
TARGETS = "<!-- targets:begin -->", "<!-- targets:end -->"
MODEL = "<!-- model:begin -->", "<!-- model:end -->"
OVERFULL = "<!-- overfull:begin -->", "<!-- overfull:end -->"
SERIAL = "<!-- serial:begin -->", "<!-- serial:end -->"
_NOTHING = "–"
LEAST_US = 0.05
"""Parts that are less than this at every load stand together."""
SHOWN_US = 0.005
_GROUPS = {"receivers": (RECEIVER,), "mixer": (MIXER, "tutti-lane")}
_REST = "the rest"
_WORDS = {
    sampling.RECEIVE: "`recvmmsg`: UDP and copying",
    sampling.SEND: "`sendto`: UDP and IP",
    sampling.LOOPBACK: "`sendto`: loopback, to the other end's socket",
    sampling.WAKE: "`sendto`: waking the other end",
    sampling.WAIT: "`ppoll`, `clock_nanosleep`: looking, setting timers",
    sampling.SWITCH: "scheduler: going to sleep and waking",
    sampling.INTERRUPT: "interrupts, what follows on them included",
    sampling.ENTRY: "entering and leaving the kernel",
    sampling.FAULT: "page faults",
    sampling.OTHER_KERNEL: "kernel, other",
}


def _group(kind: str) -> str:
    return next((name for name, kinds in _GROUPS.items() if kind in kinds), _REST)


def _of_group(row: Row, group: str) -> dict[str, float]:
    """Parts of all processes of a group; of the rest, kinds of process."""
    total: dict[str, float] = {}
    for kind, parts in row.parts_us.items():
        if _group(kind) != group:
            continue
        for part, us in parts.items():
            name = kind if group == _REST else part
            total[name] = total.get(name, 0.0) + us
    return total


def time_tables(found: Kept[Row] | None) -> str:
    """Where each microsecond goes."""
    if found is None:
        return "Not measured yet: `python -m loadtest.benchmarks.microseconds` does."
    rows = found.rows
    doubts = [
        f"- {_label(row)}: {'; '.join(row.reasons)}" for row in rows if not row.usable
    ]  # fmt: skip
    notes = ["† the generator was late in this run:\n\n" + "\n".join(doubts)] if doubts else []
    return "\n\n".join(
        [
            f"Measured {where(found.provenance)} (`{found.provenance.get('command', '')}`). µs of "
            "the hub's CPU a client-period:",
            _division(rows),
            "Off the CPU, and how often:",
            _off_cpu(rows),
            "System calls a client-period, of a receiver and of the mixer, by `strace -c`:",
            _calls([row for row in rows if row.calls]),
            *notes,
        ]
    )


def _label(row: Row) -> str:
    sharing = "a process each" if row.sharing == 1 else f"{row.sharing} a receiver"
    return f"{row.clients}, {sharing}{'' if row.usable else ' †'}"


def _division(rows: Sequence[Row]) -> str:
    body = []
    for group in (*_GROUPS, _REST):
        parts = [_of_group(row, group) for row in rows]
        body.append([f"**{group}**", *(f"**{sum(each.values()):.2f}**" for each in parts)])
        names = list(dict.fromkeys(name for each in parts for name in each))
        shown = [name for name in names if any(each.get(name, 0) >= LEAST_US for each in parts)]
        shown.sort(key=lambda name: -sum(each.get(name, 0.0) for each in parts[1:]))
        for name in shown:
            body.append([_WORDS.get(name, name), *(_us(each.get(name, 0.0)) for each in parts)])
        if little := [name for name in names if name not in shown]:
            sums = [sum(each.get(name, 0.0) for name in little) for each in parts]
            if max(sums) >= SHOWN_US:
                body.append([f"{len(little)} more", *map(_us, sums)])
    totals = [sum(row.cpu_us.values()) for row in rows]
    body.append(["**all**", *(f"**{total:.2f}**" for total in totals)])
    return markdown(["clients", *map(_label, rows)], body, left=1)


def _us(value: float) -> str:
    return f"{value:.2f}" if value >= SHOWN_US else _NOTHING


def _off_cpu(rows: Sequence[Row]) -> str:
    body = []
    for name, kind in (("receivers", RECEIVER), ("mixer", MIXER)):
        body.append([
            f"{name}: ready to run, waiting for the core, µs",
            *(_us(row.waited_us.get(kind, 0.0)) for row in rows),
        ])  # fmt: skip
        body.append([
            f"{name}: context switches, voluntary / not",
            *(" / ".join(f"{each:.2f}" for each in row.switches.get(kind, [0.0, 0.0]))
              for row in rows),
        ])  # fmt: skip
    body.append(["ticks missed (perf and strace included)",
                 *(f"{row.missed} of {row.ticks}" for row in rows)])  # fmt: skip
    body.append(["samples of the hub", *(str(row.samples) for row in rows)])
    return markdown(["clients", *map(_label, rows)], body, left=1)


def _calls(rows: Sequence[Row]) -> str:
    body = []
    for name, kind in (("receiver", RECEIVER), ("mixer", MIXER)):
        calls = list(dict.fromkeys(each for row in rows for each in row.calls.get(kind, {})))
        for call in calls:
            values = [row.calls.get(kind, {}).get(call, 0.0) for row in rows]
            if max(values) >= SHOWN_US:
                body.append([f"{name}: `{call}`", *map(_us, values)])
    return markdown(["clients", *map(_label, rows)], body, left=1)


def serial_table(found: Kept[serial.Row] | None) -> str:
    """What one process does for all, and with how many clients it is at its end."""
    if found is None:
        return "Not measured yet: `python -m loadtest.benchmarks.serial` does."
    body = [
        [part.name, part.unit, f"{part.base_us:.1f}", f"{part.client_us:.2f}",
         f"{part.limit_us:.0f}", f"{part.ends}" if part.ends is not None else "does not grow"]
        for part in serial.parts(found.rows)
    ]  # fmt: skip
    few = min(found.rows, key=lambda row: row.clients)
    many = max(found.rows, key=lambda row: row.clients)
    late = [str(row.clients) for row in found.rows if not row.usable]
    doubt = f" The generator was late with {' and '.join(late)}." if late else ""
    return "\n\n".join(
        [
            f"Measured {where(found.provenance)} with {few.clients} and {many.clients} clients "
            f"(`{found.provenance.get('command', '')}`); the line through both.{doubt}",
            markdown(["part", "µs of", "by itself", "a client", "may take", "ends at, clients"],
                     body, left=2),
        ]
    )  # fmt: skip


def _share(value: float | None) -> str:
    return f"{100 * value:+.0f} %" if value is not None else _NOTHING


def model_table(found: Kept[modelcheck.Row] | None) -> str:
    """What the model says beside what was measured."""
    if found is None:
        return "Not checked yet: `python -m loadtest.benchmarks.modelcheck` does."
    body = [
        [
            f"{row.cores}{'' if row.usable else ' †'}", str(row.clients),
            f"{row.model_receive_us:.0f} / {row.receive_us:.0f}",
            f"{row.model_mix_us:.0f} / {row.mix_us:.0f}",
            f"{row.model_other_us:.0f} / {row.other_us:.0f}", _share(row.off),
            _share(modelcheck.off_by_one_core(found.rows, row)),
            f"{row.generator:.2f}", f"{row.missed} of {row.ticks}", f"{100 * row.lost:.2g} %",
        ]
        for row in found.rows
    ]  # fmt: skip
    late = any(not row.usable for row in found.rows)
    return "\n\n".join(
        [
            f"The model fitted to the search of {found.more['model_date']}, checked "
            f"{where(found.provenance)} (`{found.provenance.get('command', '')}`). µs of CPU a "
            "period, as the model says / as measured; of two cores the generator had a part of "
            "one. *A line*: through what one core used in this very run:",
            markdown(
                ["cores", "clients", "receivers", "mixer", "the rest", "model off by",
                 "a line off by", "generator, cores", "ticks missed", "lost"],
                body,
            ),
            *(["† the generator was late."] if late else []),
        ]
    )  # fmt: skip


def rendered(page: Path = PAGE, results: Path = record.RESULTS) -> str:
    """The page as it should be.

    Raises:
        RenderError: it has no markers.
        RecordError: a result cannot be read.
    """
    times = kept.newest(microseconds.KIND, Row, results)
    text = insert(page.read_text(), time_tables(times), *TIME)
    text = insert(text, targets_table(targets.newest(results)), *TARGETS)
    text = insert(text, model_table(kept.newest(modelcheck.KIND, modelcheck.Row, results)), *MODEL)
    text = insert(
        text, overfull_table(kept.newest(overfull.KIND, overfull.Row, results)), *OVERFULL
    )
    return insert(text, serial_table(kept.newest(serial.KIND, serial.Row, results)), *SERIAL)


def bring_page_up_to_date(check: bool = False) -> None:
    """Write the page, or only look."""
    bring_up_to_date(PAGE, rendered, check, "tables")


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when it is out of date.")
def main(check: bool) -> None:
    """Write the tables of docs/limits.md."""
    bring_page_up_to_date(check)


if __name__ == "__main__":
    main()
