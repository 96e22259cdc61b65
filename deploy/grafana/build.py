"""Writes the dashboards: python -m deploy.grafana.build, from the project's root.

What is in ``dashboards/`` is made by this alone; a test says so when it is out of date.
"""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.boards import BOARDS

FOLDER = Path(__file__).parent / "dashboards"


def rendered(name: str) -> str:
    """A dashboard's file."""
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    return encoder.encode(BOARDS[name]().build()) + "\n"


if __name__ == "__main__":
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(rendered(name))
