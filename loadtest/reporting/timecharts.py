"""Charts of what happened when: the timeline of a run, and each client's troubles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from loadtest.conduct.outcome import Event, EventKind
from loadtest.reporting.charts import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RULE,
    SKY,
    VERMILLION,
    figure,
)
from loadtest.reporting.result import Result, SectionFigures, Timeline

TROUBLES = {
    "concealed": ("spoilt by the emulated network (no fault)", SKY),
    "missing": ("a voice was missing", PURPLE),
    "lost": ("lost on the way back", ORANGE),
    "silent": ("silence in place of a voice", BLUE),
    "wrong": ("wrong sound", VERMILLION),
}
"""From what matters least to what matters most: in a cell that has several, the last shows."""
HERE = "#80808030"
MAX_MARKS = 300
"""Of a kind of event; more would be one band anyhow."""
_EVENTS = {
    EventKind.JOIN: ("joins", "^", GREEN),
    EventKind.LEAVE: ("leaves", "v", FAINT),
    EventKind.REFUSED: ("refused", "X", VERMILLION),
    EventKind.FAULT: ("broken on purpose", "D", ORANGE),
    EventKind.RECOVERED: ("recovered", "o", BLUE),
}


def timeline(result: Result) -> Figure:
    """Clients in, troubles in each bin, and events, above one another."""
    line = result.timeline
    kinds = [kind for kind in TROUBLES if any(line.totals.get(kind, ()))]
    events = [event for event in result.events if event.at_s <= result.window_s]
    lanes = [kind for kind in _EVENTS if any(event.kind is kind for event in events)]
    heights = (2.0, 0.5 + 0.75 * max(1, len(kinds)), 0.5 + 0.32 * max(1, len(lanes)))
    made = figure(sum(heights))
    top, *rows = made.subplots(
        2 + max(1, len(kinds)),
        1,
        sharex=True,
        height_ratios=(heights[0], *[0.75] * max(1, len(kinds)), heights[2]),
    )
    _playing(top, line)
    _troubles(rows[:-1], line, kinds)
    _events(rows[-1], events, lanes)
    begin_s = min([0.0, *(at_s for at_s, _ in line.playing), *(event.at_s for event in events)])
    top.set_xlim(begin_s - 0.2, result.window_s * 1.01 + 0.1)
    for axes in (top, *rows):
        if begin_s < -0.5:
            axes.axvspan(begin_s - 0.2, 0, color=RULE, alpha=0.5, linewidth=0)
    rows[-1].set_xlabel("seconds since the window opened")
    return made


def _playing(axes: Axes, line: Timeline) -> None:
    axes.set_title("Clients in")
    if line.playing:
        when, count = np.array(line.playing).T
        when = np.append(when, max(when[-1], line.bins * line.bin_s))
        axes.fill_between(when, np.append(count, count[-1]), step="post", color=BLUE, alpha=0.15)
        axes.step(when, np.append(count, count[-1]), where="post", color=BLUE)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _troubles(rows: Sequence[Axes], line: Timeline, kinds: list[str]) -> None:
    if not kinds:
        rows[0].set_yticks([])
        rows[0].set_title("Troubles")
        rows[0].text(0.5, 0.5, "none: nothing was lost, wrong or silent", ha="center",
                     va="center", transform=rows[0].transAxes, color=FAINT)  # fmt: skip
        return
    for axes, kind in zip(rows, kinds, strict=True):
        title, colour = TROUBLES[kind]
        counts = np.array(line.totals[kind], float)
        edges = line.bin_s * np.arange(len(counts) + 1)
        axes.stairs(counts, edges, fill=True, color=colour)
        unit = "voice frames" if kind == "missing" else "packets"
        axes.set_title(f"{title[0].upper()}{title[1:]}, {unit} in {line.bin_s:g} s", fontsize=9.5,
                       fontweight="normal")  # fmt: skip
        axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        axes.set_ylim(bottom=0)


def _events(axes: Axes, events: list[Event], lanes: list[EventKind]) -> None:
    axes.set_title("Events")
    axes.grid(axis="y", visible=False)
    names = []
    for row, kind in enumerate(lanes):
        name, marker, colour = _EVENTS[kind]
        when = _apart([event.at_s for event in events if event.kind is kind])
        axes.plot(when, [row] * len(when), marker, color=colour, markersize=6, alpha=0.9,
                  markeredgewidth=0)  # fmt: skip
        names.append(name)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, max(0.6, len(lanes) - 0.4))
    axes.invert_yaxis()
    if not lanes:
        axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes,
                  color=FAINT)  # fmt: skip


def heat_map(result: Result) -> Figure:
    """Client × time: who was in, and what befell them."""
    line = result.timeline
    kinds = [kind for kind in TROUBLES if kind in line.matrices]
    made = figure(float(np.clip(1.2 + 0.09 * line.clients, 2.4, 7.0)))
    axes = made.subplots()
    extent = (0.0, line.bins * line.bin_s, line.clients - 0.5, -0.5)
    axes.imshow(_painted(line, kinds), aspect="auto", interpolation="none", extent=extent)
    axes.grid(visible=False)
    axes.set_xlabel("seconds since the window opened")
    axes.set_xlim(0, result.window_s or None)
    _section_names(axes, result.sections)
    patches = [Patch(facecolor=HERE, label="in, and all right")]
    patches += [Patch(facecolor=TROUBLES[kind][1], label=TROUBLES[kind][0]) for kind in kinds]
    made.legend(handles=patches, loc="outside upper left", ncols=3, handlelength=1.2)
    return made


def _painted(line: Timeline, kinds: list[str]) -> npt.NDArray[np.uint8]:
    """(clients, bins, 4) RGBA; nothing where a client is not in."""
    picture = np.zeros((line.clients, line.bins, 4))
    picture[line.matrix("present") > 0] = to_rgba(HERE)
    for kind in kinds:
        picture[line.matrix(kind) > 0] = to_rgba(TROUBLES[kind][1])
    return (255 * picture).round().astype(np.uint8)


def _section_names(axes: Axes, sections: list[SectionFigures]) -> None:
    """Sections as labels where there is room for them, else client numbers."""
    if not 1 < len(sections) <= 20:
        axes.set_ylabel("client")
        axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        return
    ends = np.cumsum([section.clients for section in sections])
    middles = ends - np.array([section.clients for section in sections]) / 2 - 0.5
    axes.set_yticks(middles, [section.name for section in sections])
    axes.tick_params(axis="y", length=0)
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color=INK, linewidth=0.6, alpha=0.5)


def _apart(when_s: list[float]) -> list[float]:
    """Times of which none would be drawn upon another."""
    if len(when_s) <= MAX_MARKS:
        return when_s
    step_s = (max(when_s) - min(when_s)) / MAX_MARKS or 1.0
    return [step_s * n for n in sorted({round(at_s / step_s) for at_s in when_s})]
