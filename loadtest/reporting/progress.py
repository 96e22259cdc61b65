"""How a run is getting on, while it does: a live block in a terminal, lines elsewhere.

Both only look: at the clients' memory, which the generator's thread writes. They look twice
a second and at little of it, for they share the machine with the generator.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from loadtest.clients.state import LATENESS, PLAY, State
from loadtest.reporting.words import grouped, micros, plural
from loadtest.scenario.model import Scenario

REFRESH_HZ = 2
LINE_EVERY_S = 5.0
_BUCKETS = 8192
"""Of the lateness histogram that are looked at; beyond 8 ms the figure says '8 ms or more'."""


@dataclass(frozen=True, slots=True)
class Look:
    """A run at one moment."""

    clients: int
    playing: int
    hearing: int
    sent: int
    lost: int
    wrong: int
    silent: int
    late_p99_us: float
    stalls: int

    @property
    def troubles(self) -> int:
        """Packets that were lost or held no right sound."""
        return self.lost + self.wrong + self.silent

    def text(self) -> str:
        """All of it in a line."""
        late = f"{'≥ ' if self.late_p99_us >= _BUCKETS - 1 else ''}{micros(self.late_p99_us)}"
        return (
            f"{self.hearing} of {self.clients} in, {grouped(self.sent)} sent, "
            f"{grouped(self.lost)} lost, {grouped(self.wrong)} wrong, "
            f"{grouped(self.silent)} silent; generator p99 {late} late, {self.stalls} stalls"
        )


def look(state: State) -> Look:
    """What a glance at the clients' memory tells."""
    clients, run = state.clients, state.run[0]
    playing = clients["stage"] == PLAY
    lateness = state.histograms[:, LATENESS, :_BUCKETS].sum(axis=0)
    upto = np.cumsum(lateness)
    late = int(np.searchsorted(upto, int(np.ceil(0.99 * int(upto[-1]))))) if upto[-1] else 0
    lost = int(np.maximum(clients["lost"] - clients["dropped_down"], 0).sum())
    return Look(
        clients=len(clients),
        playing=int(playing.sum()),
        hearing=int((playing & (clients["first_ns"] > 0)).sum()),
        sent=int(clients["sent"].sum()),
        lost=lost,
        wrong=int(clients["wrong"].sum()),
        silent=int(clients["silent"].sum()),
        late_p99_us=float(late),
        stalls=int(run["stalls"]),
    )


class Quiet:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def phase(self, text: str, seconds: float = 0.0) -> None:
        """A part of the run has begun."""

    def watch(self, state: State) -> None:
        """The clients' memory."""

    def note(self, text: str) -> None:
        """Something happened."""


class Lines(Quiet):
    """A line a phase and note, and what the window looked like when the next phase begins."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state: State | None = None
        self._since_s = time.monotonic()

    def phase(self, text: str, seconds: float = 0.0) -> None:
        """Say what the last one came to, and what begins."""
        took_s = time.monotonic() - self._since_s
        if self._state is not None and took_s >= LINE_EVERY_S:
            self._say(look(self._state).text())
        self._since_s = time.monotonic()
        self._say(f"{text} ({seconds:g} s)" if seconds else text)

    def watch(self, state: State) -> None:
        """Look at this from now on, when a phase ends."""
        self._state = state

    def note(self, text: str) -> None:
        """Say it, on a line of its own."""
        if text:
            self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)


class Screen(Quiet):
    """A spinner or bar for the phase, a line of figures, notes above."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state: State | None = None
        self._began_s = time.monotonic()
        self._seconds = 0.0
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._live = Live(
            get_renderable=self._draw,
            console=console,
            refresh_per_second=REFRESH_HZ,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def phase(self, text: str, seconds: float = 0.0) -> None:
        """Begin a new bar."""
        self._began_s, self._seconds = time.monotonic(), seconds
        self._bar.reset(self._task, description=escape(text), total=seconds or None)

    def watch(self, state: State) -> None:
        """Draw this from now on."""
        self._state = state

    def note(self, text: str) -> None:
        """Say it, above the bar."""
        if text:
            self._live.console.print(escape(text), highlight=False)

    def _draw(self) -> Group:
        if self._seconds:
            done_s = min(self._seconds, time.monotonic() - self._began_s)
            self._bar.update(self._task, completed=done_s)
        if self._state is None:
            return Group(self._bar)
        now = look(self._state)
        style = "red" if now.troubles else "green"
        return Group(self._bar, Text("  " + now.text(), style=style))


def live(scenario: Scenario, console: Console) -> Quiet:
    """What suits this console, to be used with ``with``; it begins with what will be played."""
    if console.quiet:
        return Quiet()
    console.print(
        f"[bold]{escape(scenario.title or scenario.name)}[/]: "
        f"{plural(scenario.clients, 'client')}, {scenario.seconds:g} s",
        highlight=False,
    )
    return Screen(console) if console.is_terminal else Lines(console)
