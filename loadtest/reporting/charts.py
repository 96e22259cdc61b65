"""How charts look, and how they become part of a page.

Each is inline SVG with real text, drawn on nothing, so that the page's colours show through:
ink, faint ink and lines are the page's own CSS variables, light or dark. Series differ by dash
and marker as well as by colour (Okabe and Ito's eight, which the colour-blind can tell apart).
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from loadtest.reporting.result import Distribution

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW = (
    "#1a80c0", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#c7b600",
)  # fmt: skip
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT, RULE = "#010203", "#040506", "#070809"
"""Stand for the page's own colours; no chart uses these otherwise."""
VARIABLES = {INK: "var(--ink)", FAINT: "var(--faint)", RULE: "var(--rule)"}
WIDTH_INCHES = 9.2
MAX_SERIES = 8
MANY_POINTS = 600
"""More become a picture, since each would be an element of its own."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # names of sections may hold dollar signs
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "savefig.dpi": 160,
    "path.simplify_threshold": 0.5,
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def styled() -> Any:
    """Context in which figures are drawn."""
    return mpl.rc_context(STYLE)


def figure(height_inches: float) -> Figure:
    """An empty figure, as wide as the page. Call it, and draw, inside ``styled()``."""
    made = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
    FigureCanvasSVG(made)
    return made


def to_svg(made: Figure, name: str, about: str) -> str:
    """A figure as an ``<svg>`` element that fits the page's width.

    Args:
        name: its id; also keeps the ids of several charts on a page apart.
        about: for those who cannot see it.
    """
    target = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        made.savefig(target, format="svg", metadata=_NO_METADATA)
    text = target.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # ids of elements that nothing refers to would be the same in every chart
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    for each in used:
        text = text.replace(f'id="{each}"', f'id="{name}-{each}"')
        text = text.replace(f'"#{each}"', f'"#{name}-{each}"')
        text = text.replace(f"url(#{each})", f"url(#{name}-{each})")
    for sentinel, variable in VARIABLES.items():
        text = text.replace(sentinel, variable)
    text = re.sub(r"\n\s*", "\n", text)
    view = re.search(r'viewBox="([^"]*)"', text)
    assert view
    head = (
        f'<svg id="{name}" viewBox="{view[1]}" role="img" aria-label="{_attribute(about)}" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + text[text.index(">") + 1 :]


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def looks(count: int) -> list[dict[str, Any]]:
    """Colour, dash and marker of so many series."""
    dashes, markers, colours = cycle(DASHES), cycle(MARKERS), cycle(SERIES)
    return [
        {"color": next(colours), "linestyle": next(dashes), "marker": next(markers)}
        for _ in range(count)
    ]


def time_axis(axes: Axes, low_us: float, high_us: float) -> None:
    """Make x an axis of times with labels such as '30 µs' and '2 ms': logarithmic, unless
    they are so close together that it would have no labels."""
    if high_us > 30 * low_us:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: time_label(value)))


def time_label(us: float) -> str:
    """A tick's label."""
    if us >= 1e6:
        return f"{us / 1e6:g} s"
    if us >= 1e3:
        return f"{us / 1e3:g} ms"
    return f"{us:g} µs"


def share_label(value: float) -> str:
    """A share for a logarithmic axis: '1 %', '1 in 10 000'."""
    if value >= 0.0099:
        return f"{100 * value:g} %"
    return "1 in " + f"{round(1 / value):,}".replace(",", "\u2009")


def distributions(
    named: Sequence[tuple[str, Distribution]], *, title: str, label: str, limit_us: float = 0.0
) -> Figure:
    """Two views of the same times: how many are below, and how rare the long ones are.

    Args:
        named: the whole first; then parts, of which some are left out if there are many.
        limit_us: drawn as a line, if not 0.
    """
    made = figure(3.5)
    left, right = made.subplots(1, 2)
    shown = [(name, one) for name, one in named[: MAX_SERIES + 1] if one.count]
    for n, ((name, one), look) in enumerate(zip(shown, looks(len(shown)), strict=True)):
        edges = np.maximum(np.array(one.edges_us, float), 1.0)
        upto = np.array(one.cumulative, float) / one.count
        style = {"color": look["color"], "linestyle": look["linestyle"]}
        if n == 0:
            style = {"color": INK, "linestyle": "-", "linewidth": 2.4, "alpha": 0.85}
        left.plot(edges, 100 * upto, label=name, drawstyle="steps-post", **style)
        beyond = 1 - upto[:-1]
        if beyond.size:  # up to the latest, beyond which there is nothing
            right.plot(edges, np.append(beyond, beyond[-1]), drawstyle="steps-post", **style)
    times = [edge for _, one in shown for edge in (one.edges_us[0], one.edges_us[-1])]
    for axes in (left, right):
        time_axis(axes, max(1, min(times)), max(*times, limit_us))
        axes.set_xlabel(label)
        if limit_us:
            axes.axvline(limit_us, color=FAINT, linestyle=(0, (1, 2)), linewidth=1.4)
    if limit_us:
        right.text(limit_us, 0.98, "allowed for 99 % ", color=FAINT, fontsize=9, rotation=90,
                   ha="right", va="top", transform=right.get_xaxis_transform())  # fmt: skip
    left.set_title(f"{title}: share below")
    left.set_ylabel("packets, %")
    left.set_ylim(0, 101)
    right.set_title("and how rare the longest are")
    right.set_ylabel("packets beyond that")
    right.set_yscale("log")
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: share_label(value)))
    right.yaxis.set_minor_formatter(NullFormatter())
    if len(shown) > 1:
        left.legend(loc="lower right")
    return made


def joins(at_s: Sequence[float], join_ms: Sequence[float]) -> Figure:
    """Join times: when, and how they are distributed.

    Args:
        at_s: when each began, seconds since the opening.
        join_ms: until the first audio; negative: none came.
    """
    when, took = np.array(at_s, float), np.array(join_ms, float)
    heard = took >= 0
    made = figure(3.2)
    left, right = made.subplots(1, 2, width_ratios=(3, 2))
    left.plot(when[heard], took[heard], "o", color=BLUE, markersize=4, alpha=0.7,
              label="heard the hub", rasterized=int(heard.sum()) > MANY_POINTS)  # fmt: skip
    if (~heard).any():
        left.plot(when[~heard], np.zeros(int((~heard).sum())), "X", color=VERMILLION,
                  markersize=7, label="never did", clip_on=False)  # fmt: skip
        left.legend(loc="upper right")
    left.set_title("Each join")
    left.set_xlabel("seconds since the window opened")
    left.set_ylabel("until the first audio, ms")
    left.set_ylim(bottom=0)
    left.xaxis.set_major_locator(MaxNLocator(6))
    ordered = np.sort(took[heard])
    if ordered.size:
        right.step(ordered, 100 * np.arange(1, ordered.size + 1) / ordered.size, where="post",
                   color=BLUE)  # fmt: skip
    right.set_title("Share that had joined within")
    right.set_xlabel("ms")
    right.set_ylabel("joins, %")
    right.set_xlim(left=0)
    right.set_ylim(0, 101)
    return made
