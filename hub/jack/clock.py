"""Whose clock: the JACK server's rate and period, which a hub with ``--jack`` has to have."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.config import DEFAULT_PERIOD_FRAMES, DEFAULT_RATE_HZ, SETTINGS
from hub.given import Given
from hub.setting import ConfigError
from hub.values import Refused

ASK_S = 8.0
"""A JACK server that takes longer, twice, is as good as none."""


@dataclass(frozen=True, slots=True)
class JackClock:
    """What a JACK server runs with."""

    rate_hz: int
    period_frames: int


def ask_server(name: str | None) -> JackClock | None:
    """Rate and period of a JACK server; None when it does not run.

    Another process asks: libjack starts threads, which the supervisor is to be free of.

    Raises:
        ConfigError: libjack is not there.
    """
    command = [sys.executable, "-m", "workers.jackprobe", *([name] if name is not None else [])]
    told = _told_by(command)
    if told is None:  # libjack may hang on a busy machine
        told = _told_by(command) or {}
    if "error" in told:
        raise ConfigError("--jack", True, f"needs libjack, and {told['error']}", switch=True)
    return JackClock(**told) if told else None


def _told_by(command: list[str]) -> dict[str, Any] | None:
    """What the process said, or None if it hung."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
        told: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return None
    except (OSError, ValueError):
        return {}
    return told


def complete_clock(
    values: dict[str, Any],
    written: Mapping[str, Given],
    ask: Callable[[str | None], JackClock | None],
) -> None:
    """Fill in rate and period, which are the JACK server's where there is one.

    Args:
        values: parsed settings; None: 'auto'.
        written: what they were parsed from.

    Raises:
        ConfigError: what was said is not what the JACK server has, or the hub cannot have that.
    """
    clock = ask(values["jack_server"]) if values["jack"] else None
    for name, default, unit in (
        ("rate_hz", DEFAULT_RATE_HZ, "Hz"),
        ("period_frames", DEFAULT_PERIOD_FRAMES, "frames"),
    ):
        has = None if clock is None else getattr(clock, name)
        said = values[name]
        if said is None:
            values[name] = default if has is None else _accepted(name, has, unit)
        elif has not in (None, said):
            entry = written[name]
            raise ConfigError(
                entry.origin,
                entry.value,
                f"is not what the JACK server has: {has} {unit}; say that, or nothing",
            )


def _accepted(name: str, has: int, unit: str) -> int:
    """What JACK has, if the hub may have it, too."""
    try:
        SETTINGS[name].kind.parse(has)
    except Refused as refused:
        raise ConfigError(
            "--jack", True, f"finds a JACK server with {has} {unit}, which {refused}", switch=True
        ) from None
    return has
