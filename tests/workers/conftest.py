"""How noisy the machine was for tests in real time: a pass after repetitions is worth a look."""

from __future__ import annotations

import pytest

from tests.workers.takes import REPEATED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if REPEATED:
        terminalreporter.write_line(f"data plane: {len(REPEATED)} disturbed takes repeated")
        for reason in REPEATED:
            terminalreporter.write_line(f"  {reason[:240]}")
