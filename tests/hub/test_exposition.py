"""Which format a scraper gets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.exposition import Format, Labels, negotiate


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/plain", Format.TEXT),
        ("text/html, */*;q=0.1", Format.TEXT),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", Format.OPENMETRICS),
        ('application/openmetrics-text;version="0.0.1"', Format.OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format.TEXT),
        ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.3", Format.TEXT),
        ("text/plain;q=0.3, application/openmetrics-text;q=0.9", Format.OPENMETRICS),
        ("application/openmetrics-text;q=0", Format.TEXT),
        ("application/openmetrics-text;q=nan", Format.TEXT),
        ("application/openmetrics-text;q=7", Format.TEXT),
        ("application/vnd.google.protobuf;q=1,text/plain;version=0.0.4;q=0.5", Format.TEXT),
    ],
)
def test_the_format_that_is_wanted_most_is_chosen(accept: str, form: Format) -> None:
    assert negotiate(accept) is form


@given(st.text(alphabet=' ,;=/"*qtexplainvrs.01', max_size=80))
def test_any_header_has_an_answer(accept: str) -> None:
    assert negotiate(accept) in Format


def test_spread_labels_are_made_once() -> None:
    labels = Labels(slot="3")
    assert [one.text for one in labels.spread("le", ["1", "2"])] == [
        '{slot="3",le="1"}',
        '{slot="3",le="2"}',
    ]
    assert labels.spread("le", ["1", "2"]) is labels.spread("le", ["1", "2"])
