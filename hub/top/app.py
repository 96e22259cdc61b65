"""The live view: a table of everybody, the hub's own line above it, keys below.

Once a second it asks for the status over the control socket. When nobody answers it says so,
shows what it knew last in grey, and goes on asking.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.coordinate import Coordinate
from textual.screen import ModalScreen
from textual.widgets import Button, DataTable, Footer, Input, Static

from hub.client import ControlError
from hub.messages.state import HubState
from hub.status import CONDITION_STYLES
from hub.status import span as time_span
from hub.top.cells import COLUMNS, cells
from hub.top.link import TIMEOUT_S, Link
from hub.top.rows import ORDERS, History, Row, arranged

INTERVAL_S = 1.0


class Confirm(ModalScreen[bool]):
    """Asks once more; anything but yes is no."""

    CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical { width: auto; max-width: 70; height: auto; border: thick $warning;
                         padding: 1 2; background: $surface; }
    Confirm Horizontal { height: auto; width: auto; margin-top: 1; }
    Confirm Button { margin-right: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(self._question))
            with Horizontal():
                yield Button("No (n)", id="no")
                yield Button("Yes (y)", id="yes", variant="warning")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")


class Top(App[None]):
    """The application.

    Args:
        endpoint: of the hub's control socket.
        interval_s: between two looks.
        timeout_s: how long the hub may take to reply.
    """

    TITLE = "tuttihub top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #hub, #trouble { height: auto; padding: 0 1; }
    #trouble { display: none; background: $error; color: $text; }
    #trouble.shown { display: block; }
    #filter { display: none; }
    #filter.shown { display: block; }
    DataTable { height: 1fr; }
    DataTable.stale { opacity: 50%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("s", "sort", "Sort by next"),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "show_all", "Show all", show=False),
        Binding("m", "mute", "Mute / unmute"),
        Binding("k", "kick", "Kick"),
    ]

    def __init__(
        self, endpoint: str, interval_s: float = INTERVAL_S, timeout_s: float = TIMEOUT_S
    ) -> None:
        super().__init__()
        self._link, self._interval_s = Link(endpoint, timeout_s), interval_s
        self._history = History()
        self._rows: list[Row] = []
        self._answered = False
        self._order, self._backwards, self._words = "slot", False, ""
        self._asking = asyncio.Lock()

    def compose(self) -> ComposeResult:
        yield Static(id="hub")
        yield Static(id="trouble")
        yield Input(placeholder="name, state, condition or slot; Enter keeps it", id="filter")
        yield DataTable[Text](cursor_type="row", zebra_stripes=True)
        yield Footer()

    async def on_mount(self) -> None:
        for key, heading in COLUMNS.items():
            self._table.add_column(heading, key=key)
        self._mark_order()
        self._table.focus()
        self.look()
        self.set_interval(self._interval_s, self.look)

    async def on_unmount(self) -> None:
        await self._link.close()

    @property
    def _table(self) -> DataTable[Text]:
        return self.screen_stack[0].query_one(DataTable)

    @work(group="look", exit_on_error=True)
    async def look(self) -> None:
        """Ask for the state and show it, unless an answer is still due."""
        if self._asking.locked():
            return
        async with self._asking:
            trouble, status = "", None
            try:
                status = await self._link.status()
            except ControlError as error:
                trouble = str(error)
        if not self.screen_stack:  # the answer came while the screens were being closed
            return
        self._tell_trouble(trouble)
        if status is None:
            return
        self._rows = self._history.rows(status, time.monotonic())
        self.screen_stack[0].query_one("#hub", Static).update(hub_line(status.hub))
        self._show()

    def _tell_trouble(self, why: str) -> None:
        banner = self.screen_stack[0].query_one("#trouble", Static)
        banner.set_class(bool(why), "shown")
        self._table.set_class(bool(why), "stale")
        self._answered = not why
        if why:
            banner.update(Text(f"{why}; trying again every {self._interval_s:g} s"))

    def _show(self) -> None:
        """Bring the table up to date; the cursor stays on its client, not on its line."""
        table, chosen = self._table, self._chosen()
        shown = arranged(self._rows, self._order, self._backwards, self._words)
        position = {_key(row): k for k, row in enumerate(shown)}
        present = {str(key.value) for key in table.rows}
        for gone in present - position.keys():
            table.remove_row(gone)
        for row in shown:
            key, texts = _key(row), cells(row)
            if key not in present:
                table.add_row(*texts, key=key)
                continue
            for column, text in zip(COLUMNS, texts, strict=True):
                if table.get_cell(key, column) != text:
                    table.update_cell(key, column, text, update_width=True)
        slots = {str(row.slot): k for k, row in enumerate(shown)}
        table.sort("slot", key=lambda cell: slots[str(cell)])
        if chosen is not None and _key(chosen) in position:
            table.move_cursor(row=position[_key(chosen)], animate=False)

    def _chosen(self) -> Row | None:
        """The client under the cursor."""
        table = self._table
        if not table.is_valid_coordinate(table.cursor_coordinate):
            return None
        key = table.coordinate_to_cell_key(Coordinate(table.cursor_row, 0)).row_key.value
        return next((row for row in self._rows if _key(row) == key), None)

    def _mark_order(self) -> None:
        arrow = " ▲" if self._backwards else " ▼"
        for key, column in self._table.columns.items():
            text = COLUMNS[str(key.value)] + (arrow if key.value == self._order else "")
            column.label = Text(text)
        self._table.refresh()

    def _arrange(self, order: str, backwards: bool) -> None:
        self._order, self._backwards = order, backwards
        self._mark_order()
        self._show()

    def action_sort(self) -> None:
        """Sort by the next column that can be sorted by."""
        names = list(ORDERS)
        self._arrange(names[(names.index(self._order) + 1) % len(names)], False)

    def action_reverse(self) -> None:
        """The other way round."""
        self._arrange(self._order, not self._backwards)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        order = str(event.column_key.value)
        if order in ORDERS:
            self._arrange(order, self._order == order and not self._backwards)

    def action_filter(self) -> None:
        """Ask for words that must occur."""
        line = self.query_one("#filter", Input)
        line.add_class("shown")
        line.focus()

    def action_show_all(self) -> None:
        """No filter any more."""
        line = self.query_one("#filter", Input)
        line.value = ""
        line.remove_class("shown")
        self._table.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._words = event.value
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.input.set_class(bool(event.value), "shown")
        self._table.focus()

    @work
    async def action_mute(self) -> None:
        """Mute who is under the cursor, or unmute."""
        row = self._chosen()  # by name: the slot may be another's by now
        if row is not None:
            await self._order_done(self._link.set_muted(row.name, not row.muted))

    @work
    async def action_kick(self) -> None:
        """Kick who is under the cursor, after a question."""
        row = self._chosen()
        if row is None:
            return
        if not await self.push_screen_wait(Confirm(f"Kick {row.name} (slot {row.slot})?")):
            return
        if not any(_key(other) == _key(row) for other in self._rows):
            self.notify(f"{row.name} has left already", markup=False)
            return
        await self._order_done(self._link.kick(row.name))

    async def _order_done(self, order: Any) -> None:
        try:
            await order
        except ControlError as error:
            self.notify(str(error), severity="error", markup=False)
        self.look()


def _key(row: Row) -> str:
    return f"{row.slot} {row.session}"


def hub_line(hub: HubState) -> Text:
    """The hub in a line, and its own conditions."""
    mixer = hub.mixer
    late_us = mixer.lateness_us.p99
    text = Text(
        f"tuttihub {hub.version}  TCP {hub.tcp_port}  up {time_span(hub.uptime_s)}  "
        f"{hub.patch}  {hub.clients_active} active of {hub.clients}  "
        f"load {100 * mixer.load_ratio:.1f}\N{NO-BREAK SPACE}%  "
        f"late {'–' if late_us is None else f'{late_us:.0f} µs'} (p99)  "
        f"missed {mixer.missed}"
    )
    for entry in hub.conditions:
        text.append(f"  {entry.condition}", CONDITION_STYLES[entry.severity])
    return text
