"""What is in a dashboard's JSON, for tests to judge."""

from __future__ import annotations

from typing import Any


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """All panels, those in rows among them."""
    found: list[dict[str, Any]] = []
    for panel in board["panels"]:
        found += panel["panels"] if panel["type"] == "row" else [panel]
    return [panel for panel in found if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> list[str]:
    """PromQL of all panels."""
    return [target["expr"] for panel in panels(board) for target in panel["targets"]]


def marks(board: dict[str, Any]) -> dict[str, str]:
    """PromQL of the annotations, by name."""
    return {one["name"]: one["expr"] for one in board["annotations"]["list"]}
