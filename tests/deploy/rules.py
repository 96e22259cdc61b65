"""What is in deploy/prometheus, for tests to judge."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
_THRESHOLD = re.compile(r"\s(?:[<>]=?|==|!=)\s*[-+.0-9e]+\s*$")


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """All rules of a kind, 'record' or 'alert', by name."""
    text = (PROMETHEUS / "tuttihub.rules.yml").read_text()
    groups = yaml.safe_load(text)["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def without_threshold(expression: str) -> str:
    """What an alert watches, without what it is compared with."""
    watched, cuts = _THRESHOLD.subn("", expression.strip())
    assert cuts == 1, f"no threshold at the end of {expression!r}"
    return watched


def metrics_in(expression: str) -> set[str]:
    """Names of the hub's own metrics in PromQL; recorded ones have colons and are left out."""
    return set(re.findall(r"(?<![\w:])tuttihub_\w+(?![\w:])", expression))
