"""The cells of a client's line."""

from __future__ import annotations

from rich.text import Text

from hub.status import CONDITION_STYLES
from hub.top.rows import Row

COLUMNS = {
    "slot": "slot",
    "name": "name",
    "state": "state",
    "condition": "condition",
    "level": "level dB",
    "loss": "loss %",
    "jitter": "jitter ms",
    "depth": "depth ms",
    "drift": "drift ppm",
    "gain": "gain dB",
}
"""Headings by the column's key."""

METER_CELLS, METER_DB = 10, 60.0
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LOUD_DB, _FULL_DB = -12.0, -1.0
_STATE_STYLES = {"active": "green", "ended": "dim"}
_BAD_LOSS, _SOME_LOSS = 0.01, 0.001


def cells(row: Row) -> list[Text]:
    """One text a column; names are texts, never markup."""
    condition = " ".join(
        [*row.conditions[:1], *([f"+{len(row.conditions) - 1}"] if len(row.conditions) > 1 else [])]
    )
    return [
        Text(str(row.slot)),
        Text(
            "".join(
                char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in row.name
            )
        ),
        Text(row.state, _STATE_STYLES.get(row.state, "yellow")),
        Text(condition, CONDITION_STYLES.get(row.severity, "")),
        meter(row.level_db),
        _loss(row.loss),
        _right(row.jitter_ms, "{:.1f}"),
        Text(
            "–"
            if row.depth_ms is None or row.wanted_ms is None
            else f"{row.depth_ms:.1f}/{row.wanted_ms:.1f}",
            justify="right",
        ),
        _right(row.drift_ppm, "{:+.1f}"),
        _gain(row),
    ]


def meter(level_db: float | None) -> Text:
    """A bar from −60 dBFS to full scale, and the number."""
    share = 0.0 if level_db is None else min(1.0, max(0.0, 1.0 + level_db / METER_DB))
    whole, part = divmod(round(share * METER_CELLS * 8), 8)
    bar = "█" * whole + (_EIGHTHS[part] if part else "")
    number = "–" if level_db is None else f"{level_db:.1f}"
    style = "green"
    if level_db is not None and level_db > _LOUD_DB:
        style = "red" if level_db > _FULL_DB else "yellow"
    return Text.assemble((bar.ljust(METER_CELLS), style), f"{number:>6}")


def _loss(loss: float | None) -> Text:
    if loss is None:
        return Text("–", justify="right")
    style = "bold red" if loss > _BAD_LOSS else "yellow" if loss > _SOME_LOSS else ""
    return Text(f"{100 * loss:.2f}", style, justify="right")


def _right(value: float | None, form: str) -> Text:
    return Text("–" if value is None else form.format(value), justify="right")


def _gain(row: Row) -> Text:
    if row.muted:
        return Text("muted", "bold yellow", justify="right")
    return Text("off" if row.gain_db is None else f"{row.gain_db:+.1f}", justify="right")
