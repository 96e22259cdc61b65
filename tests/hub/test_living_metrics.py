"""A live hub over HTTP: ready while its ticks advance, what it exports is OpenMetrics."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, LiveHub
from tests.hub.musicians import Musician

pytestmark = pytest.mark.living
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(hub: LiveHub, path: str, accept: str = "*/*") -> tuple[int, str]:
    """Status and body."""
    url = f"http://127.0.0.1:{hub.metrics_port}{path}"
    try:
        with OPENER.open(urllib.request.Request(url, headers={"Accept": accept})) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_what_a_hub_exports_is_openmetrics(hub: LiveHub) -> None:
    with Musician(hub.port, "Anna"):
        hub.active("Anna")
        status, text = get(hub, "/metrics", "application/openmetrics-text; version=1.0.0")
        families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }
    assert status == 200
    assert 0 < values["tuttihub_client_handshake_round_trip_seconds", "0"] < 1
    assert values["tuttihub_handshakes_total", "welcomed"] >= 1
    assert values["tuttihub_process_memory_bytes", "receivers", "private"] > 0
    assert values["tuttihub_arena_bytes", "used"] > 0
    assert values["tuttihub_work_phase_seconds_total", "mixer", "mix"] > 0
    assert values["tuttihub_config_info", "max-clients", "24"] == 1
    hub.empty()


def test_a_hub_is_ready_while_its_ticks_advance(hub: LiveHub) -> None:
    assert get(hub, "/-/ready") == (200, "ready\n")
    mixer = hub.state()["hub"]["mixer"]["pid"]
    os.kill(mixer, signal.SIGSTOP)
    try:
        wait_until(lambda: get(hub, "/-/ready")[0] == 503, DEADLINE_S, "the hub is not ready")
        assert get(hub, "/-/ready")[1].startswith("the mixer has not ticked for ")
        assert get(hub, "/-/healthy") == (200, "healthy\n")
        assert hub.counters()["tuttihub_ready"] == 0
    finally:
        os.kill(mixer, signal.SIGCONT)
    wait_until(lambda: get(hub, "/-/ready")[0] == 200, DEADLINE_S, "the hub is ready again")


def test_who_killed_a_worker_is_told(hub: LiveHub) -> None:
    name = 'tuttihub_worker_restarts_total{worker="mixer",reason="killed"}'
    before = hub.counters()[name]
    os.kill(hub.state()["hub"]["mixer"]["pid"], signal.SIGKILL)
    wait_until(lambda: hub.counters()[name] == before + 1, DEADLINE_S, "it is counted")
