"""The pictures of the receive side: one is made anew, and the pages show them all."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from loadtest.benchmarks import pictures

MOST_BYTES = 120 * 1024


def drawn(path: Path) -> None:
    assert 5_000 < path.stat().st_size < MOST_BYTES
    with Image.open(path) as image:
        assert image.size[0] == 920


def test_gap_is_drawn(tmp_path: Path) -> None:
    pictures.draw_gap(tmp_path / "gap.png", pictures.MATERIALS[:1])
    drawn(tmp_path / "gap.png")


@pytest.mark.parametrize("name", [pictures.GAP, pictures.DRIFT, pictures.DEPTH])
def test_pages_show_them(name: str) -> None:
    drawn(pictures.FOLDER / name)
    pages = (pictures.ROOT / "docs").glob("*.md")
    assert any(f"(pictures/{name})" in page.read_text() for page in pages)
