"""docs/metrics.md is what the exporter exports."""

from __future__ import annotations

from pathlib import Path

from hub.metricsdoc import catalogue, metrics_markdown

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == metrics_markdown(), (
        "run: python -m hub.metricsdoc > docs/metrics.md"
    )


def test_every_metric_has_a_meaning_and_every_empty_one_its_labels() -> None:
    for one in catalogue():
        assert one.help
        assert one.series[0].labels or one.names, f"{one.name}: no sample, and no names of labels"
