"""Every metric that is named anywhere is one that the exporter has."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.metricsdoc import metric_names
from tests.deploy.rules import ROOT, metrics_in

FILES = sorted(
    path
    for folder in ("deploy", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".json", ".md", ".py", ".yml", ".yaml")
)


@pytest.mark.parametrize("path", [*FILES, ROOT / "README.md"], ids=lambda path: path.name)
def test_metrics_that_are_named_there_are(path: Path) -> None:
    known = metric_names()
    known |= {name.removesuffix("_bucket") for name in known}
    named = {name for name in metrics_in(path.read_text()) if not name.endswith("_")}
    assert named <= known
