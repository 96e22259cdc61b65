"""A hub that gets too full for a process a client: those who are there share receivers, too."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.hub.conftest import LiveHub
from tests.hub.musicians import Musician
from tests.hub.test_living_hub import soon

pytestmark = pytest.mark.living

ALONE = 3
NAMES = ("Anna", "Berta", "Clara", "Doris", "Emma")
LEVELS = {name: 100 * 2**k for k, name in enumerate(NAMES)}
SMALL = f"import hub.sharing; hub.sharing.ALONE_A_CORE = {ALONE}; import hub.cli; hub.cli.main()"
"""A hub for which so few are many."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveHub]:
    monkeypatch.setattr(
        "tests.end_to_end.hubs.tuttihub_command", lambda: [sys.executable, "-c", SMALL]
    )
    hub = LiveHub(tmp_path, options=("--max-clients", "8", "--cpus", "0"))
    monkeypatch.undo()
    try:
        yield hub
        hub.stop()
    finally:
        hub.kill()


def pids(hub: LiveHub) -> dict[str, int]:
    return {client["name"]: client["receiver_pid"] for client in hub.present()}


def test_who_has_a_process_is_gathered_when_others_must_share(hub: LiveHub) -> None:
    with ExitStack() as stage:
        players = {}
        for name in NAMES[:ALONE]:
            players[name] = stage.enter_context(Musician(hub.port, name, level=LEVELS[name]))
            hub.active(name)
        own = pids(hub)
        assert len(set(own.values())) == ALONE
        # a rate that is another's work: it stays with its own
        stage.enter_context(Musician(hub.port, "Rita", level=7, rate_code=2))
        hub.active("Rita")
        for name in NAMES[ALONE:]:
            players[name] = stage.enter_context(Musician(hub.port, name, level=LEVELS[name]))
            hub.active(name)

        soon(lambda: len({pids(hub)[name] for name in NAMES}) == 1, "all but Rita share")

        shared = pids(hub)
        assert shared["Anna"] not in own.values()
        assert shared["Rita"] != shared["Anna"]
        soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in own.values()), "they end")
        assert not sum(client["receiver_restarts"] for client in hub.present())
        assert "clients share receivers from now on" in hub.process.log()
        for player in players.values():
            assert player.skipped() <= hub.missed_ticks()
        hub.ask("kick", client="Berta")
        soon(lambda: players["Berta"].exits == 2, "Berta is told")
        soon(lambda: hub.find("Berta") is None, "and gone")


@pytest.mark.parametrize("blow", [signal.SIGSTOP, signal.SIGKILL])
def test_a_receiver_that_cannot_let_go_is_no_end_of_its_client(
    hub: LiveHub, blow: signal.Signals
) -> None:
    with ExitStack() as stage:
        for name in NAMES[: ALONE - 1]:
            stage.enter_context(Musician(hub.port, name, level=LEVELS[name]))
            hub.active(name)
        last = pids(hub)["Anna"]
        os.kill(last, signal.SIGSTOP)
        for name in NAMES[ALONE - 1 :]:
            stage.enter_context(Musician(hub.port, name, level=LEVELS[name]))
            hub.active(name)
        with suppress(ProcessLookupError):  # on a slow machine it has been replaced by now
            os.kill(last, blow)

        soon(lambda: last not in pids(hub).values(), "Anna has another")

        def packets() -> int:
            return int(hub.active("Anna")["received"]["packets"])

        before = packets()
        soon(lambda: packets() > before + 20, "Anna is received")
        assert hub.find("Anna") is not None
