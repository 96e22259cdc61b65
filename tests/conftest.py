"""Settings that hold for all tests."""

from __future__ import annotations

import signal
from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.machine import NOISES, Noise, to_oneself
from tests.own_shm import own_shared_memory

# The same examples every time, and no database: a test that passes here passes there. No
# deadline either, since a kernel's first call loads or compiles it.
settings.register_profile(
    "tuttihub",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile(
    "fuzz", settings.get_profile("tuttihub"), derandomize=False, max_examples=100_000
)
settings.load_profile("tuttihub")

# A shell starts what it leaves in the background deaf to Ctrl-C, and so are its children then:
# tests that send it would wait for nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)  # there must be a terminal
def pytest_configure(config: pytest.Config) -> None:
    """Each of several processes that test, and all that it starts, shares memory with no other."""
    own_shared_memory()
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(_AtOnce(terminal))


class _AtOnce:
    """A run says what failed when it does: its report at the end may be ten minutes away."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = str(report.longrepr if crash is None else crash.message).strip()
            line = f"FAILED {report.when} of {report.nodeid}: {why.partition(chr(10))[0][:300]}"
            self._terminal.ensure_newline()
            self._terminal.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that is marked `alone` has the machine to itself."""
    if item.get_closest_marker("alone") is None:
        return (yield)
    with to_oneself():
        return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes hands over how noisy it was for its tests."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["noises"] = {kind: asdict(noise) for kind, noise in NOISES.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for kind, noise in getattr(node, "workeroutput", {}).get("noises", {}).items():
        NOISES[kind].add(Noise(**noise))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for kind, noise in NOISES.items():
        if not noise.takes:
            continue
        terminalreporter.write_line(
            f"{kind}: {noise.takes} takes, {len(noise.repeated)} repeated, "
            f"{noise.in_windows} channels judged by their undisturbed windows"
        )
        for reason in noise.repeated:
            terminalreporter.write_line(f"  repeated: {reason[:300]}")
