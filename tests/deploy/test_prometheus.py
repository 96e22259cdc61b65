"""A real Prometheus scrapes real hubs under the load test's load: every expression of rules and
dashboards finds something, and what befalls the clients is told of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.grafana.boards import BOARDS
from deploy.grafana.build import FOLDER
from hub.metricsdoc import metric_names
from tests.deploy.boards import expressions, marks
from tests.deploy.rules import rules, without_threshold
from tests.deploy.scraping import Prometheus, at_once
from tests.end_to_end.hubs import tuttihub_command
from tests.end_to_end.processes import ManagedProcess, wait_until
from tests.hub.conftest import LiveHub
from tests.hub.musicians import Musician

pytestmark = pytest.mark.living

FOUND_S = 90.0
"""By then even a clock's drift is known, on a busy machine."""
LOAD = Path(__file__).with_name("load.toml")
MUSICIAN = "Anna 1"
"""Whoever had to knock twice is called so and more."""
BEFALLS = {
    "lost_packets": "wifi .*", "late_packets": "wifi .*", "reordered_packets": "wifi .*",
    "duplicate_packets": "wifi .*", "repaired_packets": "safe .*", "concealed_frames": "wifi .*",
    "silent_windows": "mute 1.*", "full_scale_windows": "loud.*", "clipped_samples": "Anna 1.*",
}  # fmt: skip
"""Counters, and somebody of whom they tell."""
ONLY_IN_TROUBLE = {"tuttihub_client_condition", "tuttihub_hub_condition"}


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LiveHub]]:
    """One with virtual clients of all kinds and one who is too loud, and one that asks for
    passwords.
    """
    if shutil.which("prometheus") is None:
        reason = "prometheus is not installed (Debian: prometheus)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    here = [tmp_path_factory.mktemp(name) for name in ("open", "guarded")]
    certificate, key, users = (here[1] / name for name in ("hub.crt", "hub.key", "users"))
    for words, stdin in (
        (("cert", certificate, key), ""),
        (("passwd", users, "clara"), "secret\n"),
    ):
        command = [*tuttihub_command(), *map(str, words)]
        subprocess.run(command, input=stdin, text=True, check=True, capture_output=True, timeout=60)
    files = ("--certfile", certificate, "--keyfile", key, "--credsfile", users)
    started: list[LiveHub] = []
    try:
        started.append(LiveHub(here[0]))
        limits = ("--admit-load", "0.8", "--shed-load", "0.95")
        started.append(LiveHub(here[1], options=("-A", *map(str, files), *limits)))
        command = [*tuttihub_command(), "loadtest", "run", str(LOAD), "--port"]
        load = ManagedProcess("load", [*command, str(started[0].port)], here[0] / "load.log")
        with ExitStack() as stack:
            stack.callback(load.end, signal.SIGKILL)
            for _ in range(2):
                stack.enter_context(Musician(started[0].port, "loud", level=32767))
            yield started
            assert load.running, load.log()
        for hub in started:
            hub.stop()
    finally:
        for hub in started:
            hub.kill()


@pytest.fixture(scope="module")
def prometheus(
    hubs: list[LiveHub], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    targets = [f"127.0.0.1:{hub.metrics_port}" for hub in hubs]
    started = Prometheus(tmp_path_factory.mktemp("prometheus"), targets)
    yield started
    started.end()


def musician(hub: LiveHub) -> str:
    """The name of whom the musician's dashboard shows."""

    def playing() -> list[str]:
        names = [client["name"] for client in hub.present() if client["state"] == "active"]
        return [name for name in names if name.startswith(MUSICIAN)]

    return wait_until(playing, FOUND_S, f"{MUSICIAN} plays")[0]


def filled_in(expression: str, hub: str, name: str) -> str:
    """As Grafana sends it."""
    for variable, value in (("$__rate_interval", "10s"), ("$hub", hub), ("$musician", name)):
        expression = expression.replace(variable, value)
    assert "$" not in expression, f"a variable that no dashboard has: {expression}"
    return expression


def asked(hubs: list[LiveHub]) -> dict[str, str]:
    """Every expression, and where it stands; alerts and marks without what they are compared with.

    Those of certificates, and of limits of load, are asked of the hub that has some.
    """
    found: dict[str, str] = {}
    open_hub, guarded = (f"127.0.0.1:{hub.metrics_port}" for hub in hubs)
    who = musician(hubs[0])
    for name in BOARDS:
        board = json.loads((FOLDER / f"{name}.json").read_text())
        for expression in expressions(board):
            of_guarded = "certificate" in expression or "_limit_ratio" in expression
            where = guarded if of_guarded else open_hub
            found[filled_in(expression, where, who)] = name
        for mark, expression in marks(board).items():
            if expression.endswith("> 0"):
                expression = without_threshold(expression)
            found[filled_in(expression, open_hub, who)] = f"{name}: {mark}"
    for name, rule in rules("record").items():
        found[at_once(rule["expr"])] = name
        found[name] = name
    for name, rule in rules("alert").items():
        found[without_threshold(rule["expr"])] = name
    return found


def test_every_expression_finds_something(hubs: list[LiveHub], prometheus: Prometheus) -> None:
    left = asked(hubs)

    def nothing_left() -> bool:
        for expression in list(left):
            if prometheus.query(expression):
                del left[expression]
        return not left

    try:
        wait_until(nothing_left, FOUND_S, "every expression finds something", poll_s=0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}\n" + "\n".join(f"{left[e]}: {e}" for e in left)) from None


@pytest.mark.parametrize("counter", BEFALLS)
def test_what_befalls_a_client_is_told_of_it(prometheus: Prometheus, counter: str) -> None:
    who = f'tuttihub_client_info{{name=~"{BEFALLS[counter]}"}}'
    asked = f"tuttihub_client_{counter}_total > 0 and on (instance, slot) {who}"
    wait_until(lambda: prometheus.query(asked), FOUND_S, asked, poll_s=0.2)


def test_what_is_scraped_is_what_is_documented(prometheus: Prometheus) -> None:
    """The other way round: no metric is told of that no hub has."""
    wait_until(
        lambda: prometheus.query("tuttihub_client_clock_drift_ratio"), FOUND_S, "all are there"
    )
    names = {name for name in prometheus.ask("label/__name__/values") if ":" not in name}
    ours = {name for name in names if name.startswith("tuttihub_")}
    assert ours - ONLY_IN_TROUBLE == metric_names() - ONLY_IN_TROUBLE


def test_prometheus_scrapes_and_evaluates_without_a_fault(prometheus: Prometheus) -> None:
    def errors() -> list[str]:
        return [target["lastError"] for target in prometheus.ask("targets")["activeTargets"]]

    wait_until(lambda: len(prometheus.query("up == 1")) == 2, FOUND_S, "both hubs are up")
    wait_until(lambda: not any(errors()), FOUND_S, "no scrape fails")  # but where a machine halts
    for group in prometheus.ask("rules")["groups"]:
        for rule in group["rules"]:
            assert rule["health"] in ("ok", "unknown"), rule
            assert not rule.get("lastError"), rule
