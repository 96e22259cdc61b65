"""docs/troubles.md and the conditions say the same."""

from __future__ import annotations

import re
from pathlib import Path

from hub.conditions.endings import ENDED
from hub.conditions.refusals import REFUSED
from hub.conditions.watch import SLUGS

DOC = Path(__file__).parents[2] / "docs" / "troubles.md"
SEARCHED = (
    "waiting for peer", "peer buffer", "no sound", "robot voice", "glitches", "echo",
    "one-sided sound", "mismatch", "udp waiting too long", "peer stopped", "latency",
)  # fmt: skip


def rows() -> list[str]:
    """Second cells of the rows of all tables."""
    lines = [line for line in DOC.read_text().splitlines() if line.startswith("| ")]
    return [line.split("|")[2].strip() for line in lines]


def test_every_condition_has_a_row_and_every_row_a_condition() -> None:
    found = {cell.strip("`") for cell in rows() if re.fullmatch(r"`[a-z0-9-]+`", cell)}
    assert found == {*SLUGS, *(condition.slug for condition in (*ENDED, *REFUSED))}


def test_words_that_users_search_for_are_there() -> None:
    text = DOC.read_text().lower()
    assert [word for word in SEARCHED if word not in text] == []
