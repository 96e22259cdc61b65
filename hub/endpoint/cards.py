"""The sound cards of this machine, as ``--card`` knows them.

Another process asks PortAudio for them: it starts threads, which the supervisor is to be free of.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import structlog

from hub.endpoint.config import EndpointConfig
from hub.setting import ConfigError

log = structlog.get_logger()

ASK_S = 20.0
"""A sound card that takes longer to be found is none."""
EXTRA = "soundcard"
_INSTALL = {
    "python-sounddevice": f"pip install 'tuttihub[{EXTRA}]'",
    "PortAudio": "apt install libportaudio2, or as your system calls it",
}
"""What a sound card needs, as ``workers.cardprobe`` calls it."""


class NoSound(RuntimeError):
    """There is nowhere that sound could come from and go to; the text says what to do."""


def check_card(config: EndpointConfig, rate_hz: int) -> None:
    """See to it that the sound card is there.

    Raises:
        NoSound: it is not.
        ConfigError: what sound cards need is not installed.
    """
    told = _ask(rate_hz, config.send_channels, config.receive_channels, config.card)
    _check_installed(told, "--audio", "card")
    if "error" in told:
        which = f" {config.card!r}" if config.card else ""
        cards = ", ".join(repr(card["name"]) for card in told.get("cards", ())) or "none"
        raise NoSound(
            f"no sound card{which} that does {rate_hz} Hz: {told['error']} (there are: {cards})"
        )
    log.info("sound card", name=told["name"], inputs=told["inputs"], outputs=told["outputs"])


def cards_table() -> str:
    """All cards, a line of each: number, inputs, outputs, sample rate, name.

    Raises:
        NoSound: PortAudio does not answer.
        ConfigError: what sound cards need is not installed.
    """
    told = _ask()
    _check_installed(told, "--listdevices", True)
    if "error" in told:
        raise NoSound(told["error"])
    rows = [
        (f"{card['number']}", f"{card['inputs']}", f"{card['outputs']}", f"{card['rate_hz']}",
         card["name"])
        for card in told["cards"]
    ]  # fmt: skip
    if not rows:
        return "no sound card\n"
    rows.insert(0, ("--card", "inputs", "outputs", "Hz", "name"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([*(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))][:-1])
        + f"  {row[-1]}\n"
        for row in rows
    )
    return "".join(lines)


def _check_installed(told: dict[str, Any], flag: str, value: object) -> None:
    if lacks := told.get("lacks"):
        problem = f"needs {lacks}: {_INSTALL[lacks]} ({told['error']})"
        raise ConfigError(flag, value, problem, switch=value is True)


def _ask(*words: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "workers.cardprobe", *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": "it does not answer"}
    except (OSError, ValueError, IndexError):
        return {"error": "PortAudio fails"}
    return told
