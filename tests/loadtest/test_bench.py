"""The benchmark from end to end, with the real hub; no figure of it is judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.end_to_end
@pytest.mark.timeout(400)  # a cold start compiles the hub's kernels
def test_hub_and_echo_are_measured_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    command = [sys.executable, "-m", "loadtest.bench", "--clients", "2", "--seconds", "0.5"]

    done = subprocess.run(
        [*command, "--attempts", "1", "--output", str(path)],
        capture_output=True, text=True, cwd=ROOT, timeout=390, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(path.read_text())
    (row,) = report["rows"]
    assert row["hub"]["joined"] == row["echo"]["joined"] == row["clients"] == 2
    assert row["hub"]["voices_heard"] > 0
    assert row["hub"]["counters"]["counts"]["ticks"] > 0
    assert any("rx" in kind for kind in row["hub"]["hub"]["cpu_us_by_kind"])
    assert row["echo"]["hub"]["cpu_us"] > 0
    assert report["provenance"]["command"].startswith("python -m loadtest.bench")
    assert "2 clients done" in done.stdout
