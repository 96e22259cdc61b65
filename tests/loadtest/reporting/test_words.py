"""Scenarios in words."""

from __future__ import annotations

from loadtest.reporting.words import memory, section_sentence
from loadtest.scenario.library import ready


def test_who_churns_stays_as_long_as_at_home() -> None:
    sections = ready("rolling-churn").to_json()["sections"]
    comers = next(section for section in sections if section["name"] == "comers-and-goers")

    assert (comers["home_s"], comers["away_s"]) == (8, 2)
    assert (
        section_sentence(comers) == "stay 8 s, leave and come back after 2 s, again and again"
    )  # fmt: skip


def test_memory_that_cannot_be_told_is_a_dash() -> None:
    assert [memory(kib) for kib in (None, 900.0, 20480.0)] == ["–", "900 KiB", "20.0 MiB"]
