"""Hubs in processes of their own that have too little of something."""

from __future__ import annotations

import contextlib

import pytest

from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, LiveHub, StartHub
from tests.hub.musicians import Musician, say_hello
from tests.hub.steadily import steadily

pytestmark = pytest.mark.living

MBIT = 4
"""Two clients of 1.8 Mbit/s each way are more than 80 % of it, one is not."""
STORM = 20


def overload(hub: LiveHub) -> dict[str, object]:
    found: dict[str, object] = hub.state()["hub"]["overload"]
    return found


def refuses(hub: LiveHub, *reasons: str) -> None:
    wait_until(
        lambda: set(overload(hub)["refuses"]) >= set(reasons),  # type: ignore[call-overload]
        DEADLINE_S,
        f"newcomers are refused for {reasons}",
    )


def test_a_full_line_takes_no_newcomers_and_costs_who_plays_nothing(start_hub: StartHub) -> None:
    hub = start_hub("--line-speed", str(MBIT), "--admit-load", "0.8")
    with contextlib.ExitStack() as stack:
        anna = stack.enter_context(Musician(hub.port, "Anna", level=600))
        berta = Musician(hub.port, "Berta", level=300, udp_port=0)
        stack.callback(berta.leave)
        for name in ("Anna", "Berta"):
            hub.active(name)
        refuses(hub, "line-full")
        with steadily(hub, 900, anna, berta):
            for k in range(STORM):
                assert say_hello(hub.port, f"Carla {k}") is None
        state = hub.state()
        assert state["hub"]["hellos_refused"] == {"line-full": STORM}
        assert [client["name"] for client in state["clients"]] == ["Anna", "Berta"]
        assert "hub-refuses" in {each["condition"] for each in state["hub"]["conditions"]}
        away = state["hub"]["turned_away"][-1]
        assert (away["times"], away["conditions"][0]["condition"]) == (STORM, "no-bandwidth")
        counters = hub.counters()
        assert counters['tuttihub_handshakes_total{result="line-full"}'] == STORM
        assert counters['tuttihub_admission_shut{reason="line-full"}'] == 1
        assert "newcomers" in hub.process.log()

        berta.leave()
        wait_until(lambda: hub.find("Berta") is None, DEADLINE_S, "Berta has left")
        back = stack.enter_context(Musician(hub.port, "Berta", level=300))
        hub.active("Berta")
        wait_until(lambda: back.hears == anna.hears == 900, DEADLINE_S, "both hear both again")


def test_a_hub_that_may_do_nothing_lets_nobody_in(start_hub: StartHub) -> None:
    """To tick is more than a thousandth of what any machine has."""
    hub = start_hub("--admit-load", "0.001")
    wait_until(lambda: overload(hub)["refuses"], DEADLINE_S, "newcomers are refused")
    assert say_hello(hub.port, "Anna") is None
    (reason,) = hub.state()["hub"]["hellos_refused"]
    assert reason in ("ticks-full", "cpu-full", "ticks-late")


def test_a_hub_with_too_much_to_do_leaves_out_one_thing_after_the_other(
    start_hub: StartHub,
) -> None:
    """To tick is more than a thousandth of what any machine has."""
    hub = start_hub("--shed-load", "0.001", "--admit-load", "off")
    with (
        Musician(hub.port, "Anna", level=600) as anna,
        Musician(hub.port, "Berta", level=300) as berta,
    ):
        for name in ("Anna", "Berta"):
            hub.active(name)
        hub.ask("gain", source="Berta", listener="Anna", gain=0.5)
        steps: list[list[str]] = []

        def all_left_out() -> bool:
            sheds = overload(hub)["sheds"]
            if not steps or steps[-1] != sheds:
                steps.append(sheds)  # type: ignore[arg-type]
            return len(steps[-1]) == 3

        wait_until(all_left_out, DEADLINE_S, "all is left out", poll_s=0.01)
        every = ["meters", "mixes", "concealment"]
        assert all(each == every[: len(each)] for each in steps)
        wait_until(lambda: anna.hears == 900, DEADLINE_S, "Anna hears what the patch says")
        client = hub.find("Anna")
        assert client is not None
        assert client["input"]["peak_db"] is client["output"]["peak_db"] is None
        assert "hub-sheds" in {each["condition"] for each in hub.state()["hub"]["conditions"]}
        wait_until(lambda: berta.exits > 0, DEADLINE_S, "the newest is let go")
        wait_until(lambda: hub.find("Berta") is None, DEADLINE_S, "Berta has left")
        state = hub.state()["hub"]
        assert state["sessions"]["ended"] == {"overload": 1}
        assert state["departures"][-1]["conditions"][0]["condition"] == "let-go"
        assert hub.counters()['tuttihub_sheddings_total{step="meters"}'] == 1
        assert anna.exits == 0
