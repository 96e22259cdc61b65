"""Rendering of the settings."""

from __future__ import annotations

from pathlib import Path

from hub.config import SETTINGS
from hub.options import options_markdown
from hub.resolving import read_file, resolve

DOCUMENT = Path(__file__).parents[2] / "docs" / "options.md"


def test_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == options_markdown(), "run: tuttihub options > docs/options.md"


def test_document_has_every_setting() -> None:
    for setting in SETTINGS.values():
        assert f"`{setting.flag}`" in options_markdown()


def test_example_file_of_the_document_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(options_markdown().split("```toml\n")[1].split("```")[0])
    assert str(resolve(read_file(path), usable_cpus=set(range(8))).queue) == "auto"
