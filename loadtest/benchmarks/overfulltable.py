"""The table of docs/limits.md on hubs beyond their core."""

from __future__ import annotations

from collections import Counter

from loadtest.benchmarks.kept import Kept
from loadtest.benchmarks.overfull import Row, Span, ends_s, play_of, spans
from loadtest.benchmarks.render import markdown, where

_NOTHING = "–"
_WORDS = {
    "door": "a crowd, as the hub is by itself",
    "crowd": "a crowd that is let in",
    "mixes": "mixes of their own for all",
    "halt": "its core is taken for 100 ms",
    "stumbles": "its core is taken for 2 ms, four times a second",
}


def overfull_table(found: Kept[Row] | None) -> str:
    """What a hub did, and what it helped."""
    if found is None:
        return "Not measured yet: `python -m loadtest.benchmarks.overfull` does."
    body = []
    for row in found.rows:
        before, until, after = spans(row, ends_s(play_of(row)))
        body.append([
            f"{_WORDS[row.name]}{'' if row.usable else ' †'}",
            f"{row.there} + {row.crowd}" if row.crowd else str(row.there),
            str(sum(row.seconds[-1].refused.values()) or _NOTHING),
            str(len(row.gone_s) or _NOTHING),
            str(row.paused_s or _NOTHING),
            f"{until.from_s:.0f}–{until.to_s:.0f}",
            *(_of(each) for each in (before, until, after)),
        ])  # fmt: skip
    doubts = [f"- {_WORDS[row.name]}: {'; '.join(row.reasons)}" for row in found.rows
              if not row.usable]  # fmt: skip
    return "\n\n".join([
        f"Measured {where(found.provenance)} (`{found.provenance.get('command', '')}`). Of ticks, "
        "those missed / of the packets due to those who stay, those lost or not right:",
        markdown(
            ["what comes", "clients", "refused", "let go", "paused, s", "too much, s", "before",
             "meanwhile", "then, with all who are left"],
            body, left=1,
        ),
        "What was left out, and when:",
        "\n".join(f"- {_WORDS[row.name]}: {_steps(row)}" for row in found.rows),
        *(["† the generator was late in this run:\n\n" + "\n".join(doubts)] if doubts else []),
    ])  # fmt: skip


def _of(part: Span) -> str:
    return f"{_share(part.missed)} / {_share(part.bad)}"


def _share(value: float) -> str:
    return f"{100 * value:.2g} %"


def _steps(row: Row) -> str:
    told, before = [], 0
    for step in row.steps:
        left_out = step.left_out
        what = f"+ {left_out[-1]}" if len(left_out) > before else f"back to {len(left_out)}"
        told.append(f"{step.at_s:.0f} s {what if left_out else 'nothing any more'}")
        before = len(left_out)
    for at_s, gone in Counter(int(each) for each in row.gone_s).items():
        told.append(f"{at_s} s {gone} let go")
    steps = ", ".join(sorted(told, key=lambda each: float(each.split()[0]))) or "nothing"
    if row.halted_s > 0:
        last = f"the core was given back for the last time at {row.halted_s:.2f} s"
        steps += f"; {last}, the last tenth of a second that was not right ended at "
        steps += f"{row.bad_until_s:.1f} s" if row.bad_until_s > 0 else "no time"
    return steps
