"""A hub whose clients share receivers: who comes, goes, comes back, and what a death costs."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack

import pytest

from tests.hub.conftest import DEADLINE_S, LiveHub
from tests.hub.musicians import Musician
from tests.hub.test_living_hub import soon

pytestmark = pytest.mark.living

SHARING = 4
NAMES = ("Anna", "Berta", "Clara", "Doris", "Emma", "Frida")
LEVELS = {name: 100 * 2**k for k, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def hubs() -> Iterator[list[LiveHub]]:
    hubs: list[LiveHub] = []
    try:
        yield hubs
        for hub in hubs:
            if hub.process.running:
                hub.stop()
    finally:
        for hub in hubs:
            hub.kill()


@pytest.fixture
def hub(hubs: list[LiveHub], tmp_path_factory: pytest.TempPathFactory) -> LiveHub:
    """One for all tests but those that end it."""
    if not hubs or not hubs[-1].process.running:
        options = ("--max-clients", "24", "--clients-per-worker", str(SHARING))
        hubs.append(LiveHub(tmp_path_factory.mktemp("hub"), options=options))
    return hubs[-1]


Ensemble = dict[str, Musician]


@pytest.fixture
def ensemble(hub: LiveHub) -> Iterator[Ensemble]:
    """Six who share two receivers."""
    with ExitStack() as stage:
        players: Ensemble = {}
        for name in NAMES:
            players[name] = stage.enter_context(Musician(hub.port, name, level=LEVELS[name]))
            hub.active(name)
        all_hear(players, sum(LEVELS.values()))
        yield players
    if hub.process.running:
        hub.empty()


def pids(hub: LiveHub) -> dict[str, int]:
    return {client["name"]: client["receiver_pid"] for client in hub.present()}


def all_hear(players: Ensemble, level: int) -> None:
    soon(
        lambda: all(player.hears == level for player in players.values()),
        f"all hear {level}",
    )


def all_are_received(hub: LiveHub, names: Collection[str]) -> None:
    """Of those who were away their level tells nothing: a constant is an offset, and taken out."""

    def packets() -> dict[str, int]:
        return {one["name"]: one["received"]["packets"] for one in hub.present()}

    before = packets()
    soon(lambda: all(packets()[name] > before[name] + 20 for name in names), "all are received")


def restarts(hub: LiveHub) -> int:
    return sum(client["receiver_restarts"] for client in hub.present())


def test_clients_share_receivers_and_places_are_taken_again(
    hub: LiveHub, ensemble: Ensemble
) -> None:
    before = pids(hub)
    assert sorted(Counter(before.values()).values()) == [len(NAMES) - SHARING, SHARING]

    ensemble.pop("Berta").leave()
    soon(lambda: hub.find("Berta") is None, "Berta has left")
    hub.ask("kick", client="Clara")
    soon(lambda: hub.find("Clara") is None, "Clara is gone")
    soon(lambda: ensemble["Clara"].exits == 2, "and was told")
    del ensemble["Clara"]
    rest = sum(LEVELS.values()) - LEVELS["Berta"] - LEVELS["Clara"]
    all_hear(ensemble, rest)
    with Musician(hub.port, "Gina", level=7) as gina:
        hub.active("Gina")
        all_hear(ensemble | {"Gina": gina}, rest + 7)
        after = pids(hub)
        assert after.pop("Gina") == before["Anna"]  # there was room
        assert after == {name: before[name] for name in ensemble}
        assert restarts(hub) == 0
        for player in ensemble.values():
            assert player.skipped() <= hub.missed_ticks()


def test_who_comes_back_to_a_shared_receiver_has_its_place_again(
    hub: LiveHub, ensemble: Ensemble
) -> None:
    doris = ensemble.pop("Doris")
    slot = hub.active("Doris")["slot"]
    port = doris.udp_port
    doris.fall_silent()
    doris.leave()
    with Musician(hub.port, "Doris", level=LEVELS["Doris"], udp_port=port) as again:
        soon(lambda: again.hears is not None, "Doris hears again")
        all_hear(ensemble | {"Doris": again}, sum(LEVELS.values()))
        assert hub.active("Doris")["slot"] == slot
        assert len(pids(hub)) == len(NAMES)
        assert restarts(hub) == 0


def test_when_a_shared_receiver_is_killed_its_clients_share_others(
    hub: LiveHub, ensemble: Ensemble
) -> None:
    """One that lives, as far as it has room, and a new one."""
    before = pids(hub)
    died = before["Anna"]
    zygote = hub.state()["hub"]["zygote"]["pid"]
    os.kill(died, signal.SIGKILL)

    soon(lambda: not {died, None} & set(pids(hub).values()), "other receivers")

    after = pids(hub)
    moved = {name for name in NAMES if before[name] == died}
    assert len(moved) == SHARING
    assert sorted(Counter(after.values()).values()) == [len(NAMES) - SHARING, SHARING]
    assert {name: after[name] for name in NAMES if name not in moved} == {
        name: before[name] for name in NAMES if name not in moved
    }
    all_hear(ensemble, sum(LEVELS.values()))
    assert restarts(hub) == SHARING
    assert hub.state()["hub"]["zygote"]["pid"] == zygote


def test_a_shared_receiver_that_hangs_is_noticed_and_all_go_on(
    hub: LiveHub, ensemble: Ensemble
) -> None:
    before = pids(hub)
    hung = before["Anna"]
    lost = restarts(hub)
    os.kill(hung, signal.SIGSTOP)

    soon(lambda: not {hung, None} & set(pids(hub).values()), "other receivers")

    all_are_received(hub, NAMES)
    after = pids(hub)
    moved = [name for name in NAMES if before[name] == hung]
    assert len({after[name] for name in moved}) == len(moved) == SHARING
    assert restarts(hub) == lost + SHARING
    assert {name: after[name] for name in NAMES if name not in moved} == {
        name: before[name] for name in NAMES if name not in moved
    }
    assert "receiver is stuck and is replaced" in hub.process.log()


def test_who_plays_at_another_rate_gets_a_receiver_of_its_own(
    hub: LiveHub, ensemble: Ensemble
) -> None:
    before = pids(hub)
    with Musician(hub.port, "Gina", level=7, rate_code=2):
        hub.active("Gina")
        after = pids(hub)
        assert after.pop("Gina") not in before.values()
        assert after == before
        assert restarts(hub) == 0


def test_a_shared_receiver_takes_newcomers_while_there_is_no_zygote(
    hub: LiveHub, ensemble: Ensemble
) -> None:
    shared = pids(hub)["Frida"]
    zygote = hub.state()["hub"]["zygote"]["pid"]
    os.kill(zygote, signal.SIGKILL)
    with Musician(hub.port, "Gina", level=7) as gina:
        hub.active("Gina")
        all_hear(ensemble | {"Gina": gina}, sum(LEVELS.values()) + 7)
        assert pids(hub)["Gina"] == shared


def test_a_stopped_hub_says_goodbye_to_all_who_share(hub: LiveHub, ensemble: Ensemble) -> None:
    hub.process.send(signal.SIGTERM)
    assert hub.process.wait(DEADLINE_S) == 0
    soon(lambda: all(player.exits == 2 for player in ensemble.values()), "exit packets")
    assert hub.process.tree() == []
