"""Pictures of what the hub does on a bad network: a gap filled, a clock followed, a queue's depth.

    python -m loadtest.benchmarks.pictures
    python -m loadtest.benchmarks.pictures --folder /tmp/pictures --scale 0.1

The hub's own kernels make them, in processes of their own (``tests/kernels/conceal_losses.py``
and ``tests/kernels/hub_stay.py``, for this package never calls the hub's code), at synthetic times
and from a seed: the same pictures each time.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from loadtest.benchmarks import materials
from loadtest.benchmarks.arrivals import FRAMES, RATE_HZ
from loadtest.benchmarks.concealment import WAYS, BenchmarkError, Way, heard, player
from loadtest.reporting.charts import BLUE, GREEN, ORANGE, PURPLE, STYLE, VERMILLION
from shared.limits import Underrun

Doubles = npt.NDArray[np.float64]
Found = Mapping[str, npt.NDArray[Any]]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
HUB = "tests.kernels.hub_stay"
GAP, DRIFT, DEPTH = "gap.png", "drift-lock.png", "depth.png"
COLOURS = 255
SKEW = 208e-6
"""A sound card at 48,010 Hz."""
JITTER_MS = 1.0
DRIFT_S, DEPTH_S = 60.0, 160.0
QUEUE = 4
WIFI_FROM, WIFI_UNTIL, STEP_AT = 30 / 160, 75 / 160, 110 / 160
"""Of the whole time: the bursts of a wireless network; another path."""
STEP_MS = 10.0
MATERIALS = (("bowed", "A bowed string"), ("polyphony", "Four strings and a bass"))
GAP_AT_S, GAP_PACKETS, AHEAD = 2.0, 2, 3
FOLLOWING, LOOKAHEAD = 2, 16
"""Of ``RX.resampling``: a client is resampled to its own clock; and what that needs beforehand."""
_OFFSET = 5000.0
_MS = RATE_HZ / 1e3
_PLAIN = {"grid.color": "#dddddd", "axes.edgecolor": "#777777", "figure.facecolor": "white"}
_SHADE = "#777777"


def _figure(height: float) -> Figure:
    made = Figure(figsize=(9.2, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def _save(made: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    made.savefig(drawn, format="png", dpi=100, facecolor="white")
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)


def hub_over(arrivals: Doubles, queue: int) -> Found:
    """What the hub makes of one client's packets: see ``tests/kernels/hub_stay.py``.

    Args:
        arrivals: (n,) hub frames, in order.
        queue: packets; 0: auto.

    Raises:
        subprocess.CalledProcessError: the hub's kernels could not be run.
    """
    with tempfile.TemporaryDirectory(prefix="tuttihub-pictures-") as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, arrivals=arrivals + _OFFSET, frames=FRAMES, rate_hz=RATE_HZ,
                 period=FRAMES, queue=queue)  # fmt: skip
        subprocess.run([sys.executable, "-m", HUB, str(given), str(found)], cwd=ROOT, check=True)
        with np.load(found) as made:
            return dict(made)


def in_order(sent: Doubles, delay: Doubles) -> Doubles:
    """Arrivals, hub frames, of packets that do not overtake one another."""
    return np.maximum.accumulate(sent + delay)


# -- a gap -----------------------------------------------------------------------------------------


def draw_gap(path: Path, kinds: Sequence[tuple[str, str]] = MATERIALS) -> None:
    """A loss of some packets, and what is heard in their place.

    Args:
        kinds: (name in ``materials``, title), a column each.

    Raises:
        BenchmarkError: the hub's kernels could not be run.
    """
    ways = (
        ("zero", WAYS["zero"], ORANGE),
        ("wavetable", WAYS["wavetable"], PURPLE),
        ("burg, nothing queued", WAYS["burg"], GREEN),
        ("burg, bridging (-q 4)", Way("", Underrun.BURG, AHEAD), VERMILLION),
    )
    first = int(GAP_AT_S * RATE_HZ) // FRAMES
    begin, end = first * FRAMES, (first + GAP_PACKETS) * FRAMES
    shown = slice(begin - 3 * FRAMES, end + 3 * FRAMES)
    time_ms = (np.arange(shown.start, shown.stop) - begin) / _MS
    with mpl.rc_context(STYLE | _PLAIN), player() as process:
        made = _figure(6.6)
        grid = made.subplots(1 + len(ways), len(kinds), sharex=True, sharey=True, squeeze=False)
        for panels, (kind, title) in zip(grid.T, kinds, strict=True):
            sound = materials.make(kind)
            sound = sound[: len(sound) // FRAMES * FRAMES]
            lost = np.zeros(len(sound) // FRAMES, bool)
            lost[first : first + GAP_PACKETS] = True
            rows = [(title, sound, BLUE)]
            rows += [(name, heard(way, sound, lost, process), look) for name, way, look in ways]
            for axes, (name, one, colour) in zip(panels, rows, strict=True):
                axes.axvspan(0, (end - begin) / _MS, color=_SHADE, alpha=0.15, linewidth=0)
                axes.plot(time_ms, sound[shown], color=_SHADE, linewidth=1.0, alpha=0.6)
                axes.plot(time_ms, one[shown], color=colour, linewidth=1.6)
                axes.set_title(name)
            panels[-1].set_xlabel(f"ms since {GAP_PACKETS} lost packets began")
            panels[-1].set_xlim(time_ms[0], time_ms[-1])
        _save(made, path)


# -- a clock ---------------------------------------------------------------------------------------


def drifting(seconds: float, seed: int) -> tuple[Doubles, Doubles]:
    """Packets of a client whose clock is fast, through jitter: when sent and when they come,
    (n,) hub frames; each packet has a delay of its own up to JITTER_MS."""
    count = int(seconds * RATE_HZ / FRAMES)
    sent = (np.arange(count) * (FRAMES / (1 + SKEW))).astype(np.float64)
    delay = np.random.default_rng([seed, 1]).uniform(0, JITTER_MS * _MS, len(sent))
    return sent, in_order(sent, delay)


def delay_error(found: Found, sent: Doubles, arrivals: Doubles) -> Doubles:
    """Frames that sound waits longer than it should, by the client's true clock, (n,).

    It should wait for the margin, a tick, the resampler and the receiver, from when the
    more punctual half of the packets comes.
    """
    delay = np.sort(arrivals - sent)
    wanted = found["margin"] + FRAMES + LOOKAHEAD + found["guard"]
    waited = np.asarray(found["played"] - _OFFSET - sent - delay[: len(delay) // 2].mean())
    return np.asarray(waited - wanted, np.float64)


def draw_drift(path: Path, seconds: float, seed: int) -> Found:
    """What the hub knows of a clock, and what it makes of the delay. Returns what it found."""
    sent, arrivals = drifting(seconds, seed)
    found = hub_over(arrivals, QUEUE)
    error = delay_error(found, sent, arrivals)
    time_s = sent / RATE_HZ
    ratio, sigma = found["ratio"] * 1e6, found["sigma"] * 1e6
    engaged = np.flatnonzero(found["resampling"] == FOLLOWING)
    with mpl.rc_context(STYLE | _PLAIN):
        made = _figure(6.2)
        left, right, below = made.subplots(3, 1, sharex=True)
        left.axhline(SKEW * 1e6, color=_SHADE, linewidth=1.2, linestyle=(0, (1, 2)))
        left.fill_between(time_s, ratio - sigma, ratio + sigma, color=BLUE, alpha=0.25, linewidth=0)
        left.plot(time_s, ratio, color=BLUE)
        left.set_ylim(SKEW * 1e6 - 60, SKEW * 1e6 + 60)
        left.set_title("The clock's ratio, and one standard error around it")
        left.set_ylabel("ppm")
        right.plot(time_s, sigma, color=PURPLE)
        right.set_yscale("log")
        right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        right.set_title("The standard error")
        right.set_ylabel("ppm")
        below.axhline(0, color=_SHADE, linewidth=1.2, linestyle=(0, (1, 2)))
        if engaged.size:
            begin = engaged[0]
            drift = error[begin] + SKEW * (sent[begin:] - sent[begin])
            below.plot(time_s[begin:], drift, color=_SHADE, linestyle="--",
                       label="without resampling")  # fmt: skip
            below.legend(loc="upper right")
        below.plot(time_s, error, color=VERMILLION)
        below.set_ylim(-80, 80)
        below.set_title("How much longer the sound waits than it should")
        below.set_ylabel("frames")
        below.set_xlabel("seconds since the first packet")
        below.set_xlim(0, seconds)
        if engaged.size:
            for axes in (left, right, below):
                axes.axvline(time_s[engaged[0]], color=GREEN, linewidth=1.2)
            left.annotate("resampled from here on", (time_s[engaged[0]], 0.04),
                          xycoords=("data", "axes fraction"), xytext=(6, 0),
                          textcoords="offset points", color=GREEN)  # fmt: skip
        _save(made, path)
    return found


# -- a queue ---------------------------------------------------------------------------------------


def weather(seconds: float, seed: int) -> Doubles:
    """When packets come, (n,) hub frames: all is quiet, then come the bursts of a wireless
    network, quiet again, then the path takes STEP_MS longer, and all is quiet."""
    count = int(seconds * RATE_HZ / FRAMES)
    rng = np.random.default_rng([seed, 2])
    sent = (np.arange(count) * FRAMES).astype(np.float64)
    delay = rng.uniform(0, 0.05 * _MS, count)
    begin, end, step = (int(share * count) for share in (WIFI_FROM, WIFI_UNTIL, STEP_AT))
    burst = np.repeat(rng.uniform(0, 1, count // 20 + 1) < 1 / 3, 20)[:count]
    tail = np.minimum(0.1 * _MS * (1 + rng.pareto(1.2, count)), 3 * _MS)
    bad = np.zeros(count, bool)
    bad[begin:end] = burst[begin:end]
    delay += np.where(bad, tail, 0.0)
    delay[step:] += STEP_MS * _MS
    return in_order(sent, delay)


def draw_depth(path: Path, seconds: float, seed: int) -> Found:
    """Lateness of packets, and the margin that ``-q auto`` keeps. Returns what the hub found."""
    arrivals = weather(seconds, seed)
    found = hub_over(arrivals, 0)
    time_s = arrivals / RATE_HZ
    gaps = np.flatnonzero(np.diff(found["gaps"]) > 0) + 1
    with mpl.rc_context(STYLE | _PLAIN):
        made = _figure(4.2)
        axes: Axes = made.subplots()
        axes.plot(time_s, found["lateness"] / _MS, ".", markersize=1.6, color=BLUE, alpha=0.6,
                  label="a packet's lateness")  # fmt: skip
        axes.plot(time_s, found["margin"] / _MS, color=VERMILLION, label="margin of -q auto")
        axes.plot(time_s[gaps], np.full(len(gaps), -0.5), "x", color=PURPLE, markersize=6,
                  markeredgewidth=1.6, label="a gap opens", clip_on=False)  # fmt: skip
        for share, text in (
            (0.0, "quiet"), (WIFI_FROM, "Wi-Fi bursts"), (WIFI_UNTIL, "quiet"),
            (STEP_AT, f"path {STEP_MS:g} ms longer"),
        ):  # fmt: skip
            axes.axvline(share * seconds, color=_SHADE, linewidth=1.0, linestyle=(0, (1, 2)))
            axes.text(share * seconds, 1.01, f" {text}", color=_SHADE, va="bottom",
                      transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_ylabel("ms")
        axes.set_xlabel("seconds since the first packet")
        axes.set_xlim(0, seconds)
        axes.set_ylim(-0.7, STEP_MS + 1)
        axes.legend(loc="upper center", bbox_to_anchor=(0.58, 1.0), markerscale=1.5)
        _save(made, path)
    return found


@click.command(context_settings={"show_default": True})
@click.option("--folder", default=FOLDER, type=click.Path(file_okay=False, path_type=Path))
@click.option("--scale", default=1.0, help="Of the simulated times: less is quicker.")
@click.option("--seed", default=1, help="Of all that is random.")
def main(folder: Path, scale: float, seed: int) -> None:
    """Draw what the hub does on a bad network."""
    try:
        draw_gap(folder / GAP)
        draw_drift(folder / DRIFT, DRIFT_S * scale, seed)
        draw_depth(folder / DEPTH, DEPTH_S * scale, seed)
    except (BenchmarkError, subprocess.CalledProcessError) as error:
        raise click.ClickException(str(error)) from error
    for name in (GAP, DRIFT, DEPTH):
        print(f"written to {folder / name}, {(folder / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
