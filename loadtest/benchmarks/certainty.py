"""How soon a client's drift is certain, and how often one without is taken to have one.

    python -m loadtest.benchmarks.certainty

The hub's own clock over packets made from seeds, in a process of its own
(``tests/kernels/certainty.py``), for this package never calls the hub's code. Seven minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from loadtest.benchmarks import kept, record
from loadtest.benchmarks.kept import Kept
from loadtest.benchmarks.render import insert, markdown, where
from loadtest.reporting.plain import from_plain

ROOT = Path(__file__).resolve().parents[2]
MODULE, CLOCKS = "loadtest.benchmarks.certainty", "tests.kernels.certainty"
KIND = "certainty"
PAGE = ROOT / "docs" / "networks.md"
SOON = "<!-- certainty:begin -->", "<!-- certainty:end -->"
MISTAKEN = "<!-- mistaken:begin -->", "<!-- mistaken:end -->"


@dataclass(frozen=True, slots=True)
class Row:
    """Clients on one kind of network.

    Attributes:
        ppm: that their clocks are off by; 0: they are the hub's.
        clients: how many; certain: of how many a drift was certain in the end.
        half_s, nine_s, last_s: when it was of half of them, of nine of ten, and of the last; None:
            never.
        off_ppm: by which the ratio was mistaken then, in nine of ten.
    """

    network: str
    ppm: float
    clients: int
    certain: int
    half_s: float | None = None
    nine_s: float | None = None
    last_s: float | None = None
    off_ppm: float = 0.0


def found(clients: int, drifters: int) -> Iterator[Row]:
    """Follow so many clients without a drift, and so many with one, of each kind.

    Raises:
        click.ClickException: the clock could not be run.
    """
    command = [sys.executable, "-m", CLOCKS, str(clients), str(drifters)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield from_plain(Row, json.loads(line))
    if process.returncode:
        raise click.ClickException(f"{CLOCKS} ended with {process.returncode}")


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"


def soon_table(made: Kept[Row] | None) -> str:
    """Of clients that drift."""
    rows = [row for row in made.rows if row.ppm] if made else []
    if made is None or not rows:
        return f"Not measured yet: `python -m {MODULE}`."
    steps = sorted({row.ppm for row in rows})
    by = {(row.network, row.ppm): row for row in rows}
    body = [
        [
            network,
            *(
                f"{_seconds(row.half_s)} / {_seconds(row.nine_s)} / {_seconds(row.last_s)} s, "
                f"{row.off_ppm:.0f} ppm"
                for row in (by[network, ppm] for ppm in steps)
            ),
        ]
        for network in dict.fromkeys(row.network for row in rows)
    ]
    text = (
        f"Simulated {where(made.provenance)} (`{made.provenance['command']}`). After so many "
        f"seconds half of {rows[0].clients} clients with packets of 128 frames were known to "
        f"drift, nine of ten, and the last; and so many ppm the ratio was mistaken by, then, in "
        f"nine of ten:"
    )
    return f"{text}\n\n{markdown(['jitter', *(f'{ppm:g} ppm' for ppm in steps)], body, left=4)}"


def mistaken_table(made: Kept[Row] | None) -> str:
    """Of clients that do not."""
    if made is None:
        return f"Not measured yet: `python -m {MODULE}`."
    rows: Sequence[Row] = [row for row in made.rows if not row.ppm]
    body = [[row.network, f"{row.certain} of {row.clients}"] for row in rows]
    return markdown(["network", "said to drift"], body, left=1)


def rendered(text: str, made: Kept[Row] | None) -> str:
    """The page with both tables."""
    return insert(insert(text, soon_table(made), *SOON), mistaken_table(made), *MISTAKEN)


@click.command(context_settings={"show_default": True})
@click.option("--clients", type=click.IntRange(1), default=1000, help="Without a drift, each kind.")
@click.option("--drifting", type=click.IntRange(1), default=200, help="With one, of each kind.")
@click.option("--page/--no-page", "write_page", default=True, help="Write the page's tables.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path),
              help="JSON file.  [default: loadtest/results/certainty-DATE.json]")  # fmt: skip
def main(clients: int, drifting: int, write_page: bool, output: Path | None) -> None:
    """How soon a drift is certain, and how often none is taken for one."""
    provenance = record.made_by(MODULE)
    rows = []
    for row in found(clients, drifting):
        rows.append(row)
        click.echo(
            f"{row.network}, {row.ppm:g} ppm: {row.certain} of {row.clients}, "
            f"{_seconds(row.half_s)} / {_seconds(row.nine_s)} / {_seconds(row.last_s)}"
        )
    made = Kept(provenance, rows)
    kept.finish(KIND, made, output, click.echo)
    if write_page:
        PAGE.write_text(rendered(PAGE.read_text(), made))


if __name__ == "__main__":
    main()
