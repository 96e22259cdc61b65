"""Real clients, and something sudden: a router changes a port, the hub is stopped for a while."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from tests.end_to_end.hubs import Hub, own_hub_only
from tests.end_to_end.measuring import LEAD_FRAMES, Take, undisturbed
from tests.end_to_end.peers import RATE_HZ, JackTripClient
from tests.end_to_end.relay import Relay
from tests.end_to_end.sound import Exact, Voice, find_lag, longest_gap, noise, returned, shifted
from tests.end_to_end.stage import Stage

FRAMES = 96_000
EVENT = LEAD_FRAMES + 30_000
SPAN = 9_600
PERIOD = 256


def lags_and_gap(
    take: Take, listener: JackTripClient, voice: Exact, event: int
) -> tuple[int, int, int]:
    """Delays of a voice before an event and at the end, and frames for which it was not heard."""
    heard = take.at(listener, 1)
    spans = (event - SPAN, event - SPAN // 8), (len(heard) - 2 * SPAN, len(heard) - SPAN)
    lags = [find_lag(heard, voice, start, end) for start, end in spans]
    right = np.zeros(len(heard), np.bool_)
    for lag in lags:
        right |= heard == returned(shifted(voice, lag, len(heard)), listener.bits)
    return lags[0], lags[1], longest_gap(right[event - SPAN : len(heard) - SPAN])


@own_hub_only
def test_a_client_behind_a_router_that_changes_its_port(stage: Stage) -> None:
    """It is followed: deaf, and not heard, for little longer than the 100 ms of proof."""
    hub = stage.hub(1, PERIOD)
    with Relay(hub.port) as relay:
        client = stage.client(hub, "moves", period=PERIOD, remote_name="moves", hub_port=relay.port)
        stage.everybody_in(hub)
        voices: dict[tuple[str, int], Voice] = {
            ("moves", 1): noise(61, FRAMES, 0.9, lead=LEAD_FRAMES)
        }
        event, port = 0, 0

        def change(wait_position: Callable[[int], int]) -> None:
            nonlocal event, port
            wait_position(EVENT)
            _, port = relay.change_port()
            event = wait_position(EVENT)

        def judge(take: Take) -> None:
            before, after, gap = lags_and_gap(take, client, voices["moves", 1].in_hub, event)
            print(f"port changed: {gap} frames missed, delay {after - before:+}")
            assert gap <= 0.2 * RATE_HZ
            assert abs(after - before) <= 2 * PERIOD

        undisturbed(
            lambda: stage.record(hub, voices, [client], frames=FRAMES, meanwhile=change), judge
        )
        shown = hub.client("moves")
        assert shown["peer_port"] == port
        assert client.process.running


@contextmanager
def stopped(hub: Hub) -> Iterator[None]:
    """No process of the hub runs."""
    pids = hub.process.tree()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@own_hub_only
def test_the_hub_is_stopped_for_a_while(stage: Stage) -> None:
    """For 300 ms: all hear each other again, with the delay they had."""
    hub = stage.hub(2, PERIOD)
    one, other = (stage.client(hub, name, period=PERIOD) for name in ("one", "other"))
    clients = stage.everybody_in(hub)
    voices: dict[tuple[str, int], Voice] = {
        (name, 1): noise(seed, FRAMES, 0.9, lead=LEAD_FRAMES)
        for seed, name in enumerate(("one", "other"), start=62)
    }
    event = 0

    def stop(wait_position: Callable[[int], int]) -> None:
        nonlocal event
        wait_position(EVENT)
        with stopped(hub):
            time.sleep(0.3)
        event = wait_position(EVENT) - int(0.35 * RATE_HZ)

    def judge(take: Take) -> None:
        for listener, voice in ((one, voices["other", 1]), (other, voices["one", 1])):
            before, after, gap = lags_and_gap(take, listener, voice.in_hub, event)
            print(f"hub stopped: {gap} frames missed, delay {after - before:+}")
            assert gap <= 0.45 * RATE_HZ
            assert abs(after - before) <= 2 * PERIOD

    undisturbed(lambda: stage.record(hub, voices, clients, frames=FRAMES, meanwhile=stop), judge)
    assert all(client.process.running for client in clients)
