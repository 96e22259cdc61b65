"""Fixtures for the tests with real peers: everything started here is ended here, by pid.

A test gets a `Stage` (see `stage.py`). After a test that passed the hub is stopped with
Ctrl-C, which must leave nothing behind; after a failure the logs of all processes of
the test are attached to the report.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.peers import missing_programs
from tests.end_to_end.processes import tail
from tests.end_to_end.stage import Jacks, Stage

_FAILED = pytest.StashKey[bool]()
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.end_to_end)
            # Room for the repetitions on a busy machine, and for the first hub to compile.
            item.add_marker(pytest.mark.timeout(300))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    """Attach the logs of all processes of a failed test."""
    report = (yield).get_result()
    if not report.failed:
        return
    item.stash[_FAILED] = True
    stage = getattr(item, "funcargs", {}).get("stage")
    if isinstance(stage, Stage):
        logs = [*stage.directory.glob("*.log"), *stage.jacks.directory.glob("jackd-*.log")]
        for path in sorted(logs):
            report.sections.append((path.name, tail(path.read_text(errors="replace"))))


@pytest.fixture(scope="session", autouse=True)
def real_peers() -> None:
    """The real programs, or a loud skip; where CI=true, a failure."""
    missing = missing_programs()
    if not missing:
        return
    reason = f"end-to-end tests need {', '.join(missing)} (make setup installs them)"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(f"NOT TESTED AGAINST REAL JACKTRIP: {reason}")


@pytest.fixture(scope="session")
def jacks(real_peers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jacks]:
    servers = Jacks(tmp_path_factory.mktemp("jack"))
    yield servers
    servers.stop()


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path, jacks: Jacks) -> Iterator[Stage]:
    stage = Stage(tmp_path, jacks)
    yield stage
    failed = request.node.stash.get(_FAILED, False)
    stage.close(failed)
    if not failed:
        shutil.rmtree(tmp_path, ignore_errors=True)
