"""What hubs and endpoints alike can be told of their processes: a part of both their settings."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hub.setting import Setting, described
from hub.values import Choice, Switch


# no slots: two bases that have them cannot be bases of one class
@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """Settings of how audio processes run, and of the log.

    Attributes:
        log_format: 'auto', 'text' or 'json'.
        log_level: of the least important events.
    """

    realtime: bool = field(
        metadata=described(
            "realtime",
            Switch(),
            True,
            "Real-time scheduling and locked memory for audio, as far as permitted.",
        )
    )
    log_format: str = field(
        metadata=described(
            "log-format",
            Choice("a log format", ("auto", "text", "json"), "FORMAT"),
            "auto",
            "Log lines on stderr for people (text), or as JSON objects for machines. "
            "auto: text on a terminal, else JSON.",
        )
    )
    log_level: str = field(
        metadata=described(
            "log-level",
            Choice("a log level", ("debug", "info", "warning", "error"), "LEVEL"),
            "info",
            "The least important events that are logged.",
        )
    )


def described_settings(config: type[Any]) -> dict[str, Setting]:
    """Settings by field name, in the order of documentation: a class's own, then its bases'."""
    found = {f.name: f.metadata["setting"] for f in fields(config) if "setting" in f.metadata}
    bases = [base for base in config.__bases__ if is_dataclass(base)]
    inherited = [name for base in bases for name in described_settings(base)]
    own = [name for name in found if name not in inherited]
    return {name: found[name] for name in (*own, *inherited)}
