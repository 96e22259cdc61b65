"""The live view: rows by themselves, and the whole of it by Textual's pilot on a control socket."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from hub.client import HubUnreachable
from hub.directory import ClientInfo
from hub.messages.state import Status
from hub.top.app import Top
from hub.top.cells import COLUMNS, cells, meter
from hub.top.link import Link
from hub.top.rows import WINDOW_S, History, Row, arranged
from tests.hub.listening import RecordingHub, directory, listening, make_arena, raised, seat
from tests.hub.loops import in_a_loop

DEADLINE_S = 20.0
INTERVAL_S = 0.25

ANNA = Row(
    slot=3, session=7, name="Anna", state="active", muted=False, gain_db=0.0, level_db=-20.0,
    loss=0.02, jitter_ms=1.5, depth_ms=6.0, wanted_ms=5.5, drift_ppm=-12.0,
    conditions=("losing", "late"), severity="warning",
)  # fmt: skip
BERTA = replace(
    ANNA, slot=1, session=8, name="Berta", muted=True, level_db=None, loss=0.0, conditions=(),
    severity="", drift_ppm=3.0,
)  # fmt: skip
CARL = replace(
    ANNA, slot=2, session=9, name="Carl", state="waiting", level_db=-3.0, loss=None,
    conditions=("no-udp",), severity="error", drift_ppm=None, jitter_ms=None,
)  # fmt: skip
ALL = [BERTA, CARL, ANNA]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("slot", ["Berta", "Carl", "Anna"]),
        ("name", ["Anna", "Berta", "Carl"]),
        ("level", ["Carl", "Anna", "Berta"]),
        ("loss", ["Anna", "Berta", "Carl"]),
        ("jitter", ["Berta", "Anna", "Carl"]),
        ("drift", ["Anna", "Berta", "Carl"]),
        ("condition", ["Carl", "Anna", "Berta"]),
    ],
)
def test_the_worst_is_first(order: str, names: list[str]) -> None:
    assert [row.name for row in arranged(ALL, order, False, "")] == names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ["Berta", "Carl", "Anna"]),
        ("ANN", ["Anna"]),
        ("muted", ["Berta"]),
        ("los active", ["Anna"]),
        ("2", ["Carl"]),
        ("nobody", []),
    ],
)
def test_the_filter_finds_names_states_conditions_and_slots(words: str, names: list[str]) -> None:
    assert [row.name for row in arranged(ALL, "slot", False, words)] == names


def test_backwards_is_the_other_way_round() -> None:
    assert [row.slot for row in arranged(ALL, "slot", True, "")] == [3, 2, 1]


def status(packets: int, lost: int, late: int = 0, *, pid: int = 1) -> Status:
    hub = three()
    hub.directory.hub.pid = pid
    hub.arena.rx[4]["packets"], hub.arena.rx[4]["lost"], hub.arena.rx[4]["late"] = (
        packets, lost, late,
    )  # fmt: skip
    return convert(asyncio.run(hub.status()), Status)


def test_losses_are_those_of_the_last_seconds() -> None:
    history = History()
    assert history.rows(status(1000, 500), 0.0)[-1].loss is None
    assert history.rows(status(1090, 506, 4), 1.0)[-1].loss == pytest.approx(10 / 96)
    for second in range(2, int(WINDOW_S) + 3):
        *_, row = history.rows(status(1000 + 100 * second, 506, 4), float(second))
    assert row.loss == 0.0
    assert history.rows(status(10, 5, pid=2), 99.0)[-1].loss is None, "another hub's client"


def test_a_hostile_name_is_text() -> None:
    name = cells(replace(ANNA, name="[red]x[/]\x1b[31m\n"))[1]
    assert name.plain.startswith("[red]x[/]")
    assert "\x1b" not in name.plain
    assert not name.spans


def test_the_meter_is_empty_full_and_between() -> None:
    assert meter(None).plain == " " * 10 + "     –"
    assert meter(-30.0).plain.startswith("█████     ")
    assert meter(6.0).plain.startswith("█" * 10)
    assert meter(-0.5).spans[0].style == "red"


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/control"


@pytest.fixture
def hub(endpoint: str) -> Iterator[RecordingHub]:
    with listening(endpoint, three()) as hub:
        yield hub


def three() -> RecordingHub:
    """A hub with Anna, Berta and [b]Carl[/b]."""
    clients = [
        ClientInfo(slot=0, session=10, name="Anna", address="192.0.2.1", port=61002, joined_s=0.0),
        ClientInfo(slot=1, session=11, name="Berta", address="192.0.2.2", port=61003, joined_s=0.0),
        ClientInfo(
            slot=4, session=14, name="[b]Carl[/b]", address="192.0.2.3", port=61004, joined_s=0.0,
            conditions=raised("silent-input"),
        ),
    ]  # fmt: skip
    arena = make_arena()
    for client in clients:
        seat(arena, client.slot, client.session, packets=100)
    return RecordingHub(arena, directory(*clients))


class Screen:
    """What is on the screen, as its user would name it."""

    def __init__(self, pilot: Pilot[None]) -> None:
        self.pilot, self.app = pilot, pilot.app
        self.base = self.app.screen_stack[0]

    @property
    def table(self) -> DataTable[Any]:
        return self.base.query_one(DataTable)

    @property
    def names(self) -> list[str]:
        return [str(self.table.get_row_at(k)[1]) for k in range(self.table.row_count)]

    @property
    def chosen(self) -> str:
        return self.names[self.table.cursor_row]

    @property
    def trouble(self) -> str:
        banner = self.base.query_one("#trouble", Static)
        return str(banner.render()) if banner.has_class("shown") else ""

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, what
            await self.pilot.pause(0.01)


def test_a_small_terminal_shows_conditions_and_ctrl_c_ends_it(
    hub: RecordingHub, endpoint: str
) -> None:
    @in_a_loop
    async def test() -> None:
        async with Top(endpoint, INTERVAL_S).run_test(size=(80, 24)) as pilot:
            screen = Screen(pilot)
            await screen.until(lambda: screen.table.row_count == 3, "three rows")
            await pilot.pause()
            columns = screen.table.ordered_columns[: list(COLUMNS).index("condition") + 1]
            assert sum(column.get_render_width(screen.table) for column in columns) <= 80
            await screen.press("ctrl+c")
            await screen.until(lambda: screen.app.return_code == 0, "it ends")

    test()


def test_everybody_is_shown_sorted_filtered_and_followed(hub: RecordingHub, endpoint: str) -> None:
    @in_a_loop
    async def test() -> None:
        async with Top(endpoint, INTERVAL_S).run_test(size=(120, 30)) as pilot:
            screen = Screen(pilot)
            await screen.until(lambda: screen.table.row_count == 3, "three rows")
            assert screen.names == ["Anna", "Berta", "[b]Carl[/b]"]
            assert "silent-input" in str(
                screen.table.get_row_at(2)[list(COLUMNS).index("condition")]
            )
            assert "3 active of 3" in str(screen.base.query_one("#hub", Static).render())

            await screen.press("s", "r")  # by name, backwards; the cursor stays with Anna
            assert screen.names == ["Berta", "Anna", "[b]Carl[/b]"]
            assert screen.chosen == "Anna"

            await screen.press("slash", *"silent")
            assert screen.names == ["[b]Carl[/b]"]
            await screen.press("enter")
            assert screen.app.focused is screen.table
            await screen.press("escape")
            assert len(screen.names) == 3
            assert screen.base.query_one("#filter", Input).value == ""

            hub.arena.rx[0]["lost"] += 5
            hub.arena.rx[0]["packets"] += 5
            del hub.directory.clients[1]
            await screen.until(lambda: len(screen.names) == 2, "Berta has left")
            await screen.until(
                lambda: "50.00" in [str(cell) for cell in screen.table.get_row("0 10")],
                "Anna's losses",
            )

    test()


def test_mute_and_kick_with_a_question_first(hub: RecordingHub, endpoint: str) -> None:
    @in_a_loop
    async def test() -> None:
        async with Top(endpoint, INTERVAL_S).run_test(size=(120, 30)) as pilot:
            screen = Screen(pilot)
            await screen.until(lambda: screen.table.row_count == 3, "three rows")
            await screen.press("down", "m")
            await screen.until(lambda: ("mute", 1, True) in hub.asked, "Berta is muted")
            hub.directory.clients[1].muted = True
            await screen.until(
                lambda: "muted" in [str(cell) for cell in screen.table.get_row("1 11")], "shown"
            )
            await screen.press("m")
            await screen.until(lambda: ("mute", 1, False) in hub.asked, "Berta is unmuted")

            await screen.press("down", "k")
            await screen.until(lambda: len(screen.app.screen_stack) == 2, "a question")
            asked = str(screen.app.screen.query_one(Static).render())
            assert asked == "Kick [b]Carl[/b] (slot 4)?"
            await screen.press("n")
            await screen.until(lambda: len(screen.app.screen_stack) == 1, "answered")
            await screen.press("k")
            await screen.until(lambda: len(screen.app.screen_stack) == 2, "a question")
            assert not [order for order in hub.asked if order[0] == "kick"]
            await screen.press("y")
            await screen.until(lambda: ("kick", 4) in hub.asked, "Carl is kicked")

    test()


def test_an_answer_that_comes_when_its_screens_are_closed_is_passed_over(endpoint: str) -> None:
    @in_a_loop
    async def test() -> None:
        app = Top(endpoint, INTERVAL_S)
        assert not app.screen_stack
        await inspect.unwrap(Top.look)(app)
        await app.on_unmount()

    test()


def test_who_took_the_place_of_the_one_to_be_kicked_stays(hub: RecordingHub, endpoint: str) -> None:
    @in_a_loop
    async def test() -> None:
        async with Top(endpoint, INTERVAL_S).run_test(size=(120, 30)) as pilot:
            screen = Screen(pilot)
            await screen.until(lambda: screen.table.row_count == 3, "three rows")
            await screen.press("k")
            await screen.until(lambda: len(screen.app.screen_stack) == 2, "a question")
            hub.directory.clients[0].session = 99
            await screen.until(lambda: "0 99" in [k.value for k in screen.table.rows], "another")
            await screen.press("y")
            await screen.until(lambda: len(screen.app.screen_stack) == 1, "answered")
            await pilot.pause(0.1)
            assert not [order for order in hub.asked if order[0] == "kick"]

    test()


def test_who_came_into_the_place_of_the_one_to_be_muted_sounds_on(
    hub: RecordingHub, endpoint: str
) -> None:
    @in_a_loop
    async def test() -> None:
        async with Top(endpoint, 60.0).run_test(size=(120, 30)) as pilot:
            screen = Screen(pilot)
            await screen.until(lambda: screen.table.row_count == 3, "three rows")
            dora = replace(hub.directory.clients[1], session=99, name="Dora")
            hub.directory.clients[1] = dora
            await screen.press("down", "m")
            await screen.until(lambda: "Dora" in screen.names, "it has looked again")
            assert hub.asked == []

    test()


def test_it_outlives_the_hub_and_finds_the_next(endpoint: str) -> None:
    @in_a_loop
    async def test() -> None:
        async with Top(endpoint, INTERVAL_S, 0.3).run_test(size=(120, 30)) as pilot:
            screen = Screen(pilot)
            await screen.until(lambda: "no hub answers" in screen.trouble, "nobody is there")
            with listening(endpoint, three()):
                await screen.until(
                    lambda: (len(screen.names), screen.trouble) == (3, ""), "three rows, no trouble"
                )
            await screen.until(lambda: "no hub answers" in screen.trouble, "the hub has ended")
            assert len(screen.names) == 3, "what was known last"
            with listening(endpoint, RecordingHub()):
                await screen.until(
                    lambda: (screen.names, screen.trouble) == ([], ""), "the next hub, with nobody"
                )

    test()


def test_the_end_of_a_hub_is_noticed_at_once(endpoint: str) -> None:
    @in_a_loop
    async def test() -> None:
        link, loop = Link(endpoint, timeout_s=10 * DEADLINE_S), asyncio.get_running_loop()
        for _ in range(2):  # the second is another hub at the same place
            with listening(endpoint, three()):
                assert len((await link.status()).clients) == 3
        began = loop.time()
        with pytest.raises(HubUnreachable):
            await link.status()
        assert loop.time() - began < DEADLINE_S, "it waited for an answer that nobody gives"
        await link.close()

    test()


def test_without_a_terminal_it_says_what_to_do_instead() -> None:
    from click.testing import CliRunner

    from hub.cli import cli

    done = CliRunner().invoke(cli, ["top"])
    assert done.exit_code == 1
    assert "tuttihub status" in done.output
