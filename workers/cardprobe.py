"""``python -m workers.cardprobe RATE INPUTS OUTPUTS [CARD]``: what a sound card has, as JSON.

``{"name": ..., "inputs": 2, "outputs": 2}``, or ``{"error": ..., "lacks": ...}``: what has to be
installed, or nothing where it is the card that is not there; then ``cards`` has those that are.
Without arguments: ``{"cards": [{"number": 0, "name": ..., ...}, ...]}``. It loads no compiler.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

MODULE, LIBRARY = "python-sounddevice", "PortAudio"


@dataclass(frozen=True, slots=True)
class Found:
    """A card that has what is wanted of it.

    Attributes:
        name: as PortAudio calls it.
        devices, channels: for input and output; of a way that it has not: None, 0.
    """

    name: str
    devices: tuple[int | None, int | None]
    channels: tuple[int, int]


class CardUnavailable(RuntimeError):
    """There is no such card, or it does not do what is wanted; the text says why."""


def find_card(portaudio: Any, name: str, rate_hz: int, wanted: tuple[int, int]) -> Found:
    """Choose a card.

    Args:
        portaudio: the module sounddevice.
        name: its number, or a part of its name that no other has; empty: the system's.
        wanted: channels from it and to it; who has fewer does what it can.

    Raises:
        CardUnavailable: there is none.
    """
    device = int(name) if name.isdecimal() else name or None
    found: list[Any] = []
    why = ""
    for kind in ("input", "output"):
        try:
            found.append(portaudio.query_devices(device, kind))
        except (portaudio.PortAudioError, ValueError) as error:
            why = _first_line(error)
            if isinstance(device, str) and _fitting(portaudio, device, kind):
                raise CardUnavailable(why) from None  # there are several
            found.append(None)
    if found == [None, None]:
        raise CardUnavailable(why)
    channels = tuple(
        0 if card is None else min(int(card[f"max_{kind}_channels"]), most)
        for card, kind, most in zip(found, ("input", "output"), wanted, strict=True)
    )
    checks = (portaudio.check_input_settings, portaudio.check_output_settings)
    for card, check, count in zip(found, checks, channels, strict=True):
        if not count:
            continue
        try:
            check(card["index"], count, "float32", samplerate=rate_hz)
        except (portaudio.PortAudioError, ValueError) as error:
            raise CardUnavailable(f"{card['name']}: {_first_line(error)}") from None
    used = [card for card, count in zip(found, channels, strict=True) if count]
    if not used:
        raise CardUnavailable("it has no channels")
    return Found(
        " and ".join(dict.fromkeys(str(card["name"]) for card in used)),
        (_index(found[0], channels[0]), _index(found[1], channels[1])),
        (channels[0], channels[1]),
    )


def _fitting(portaudio: Any, name: str, kind: str) -> bool:
    """Whether there is a card of this name that has this way."""
    return any(
        name.lower() in str(card["name"]).lower() and card[f"max_{kind}_channels"]
        for card in portaudio.query_devices()
    )


def _index(card: Any, count: int) -> int | None:
    return int(card["index"]) if count else None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def load() -> Any:
    """The module sounddevice, which begins with PortAudio.

    Raises:
        ImportError: it is not installed.
        OSError: PortAudio is not.
    """
    import sounddevice

    return sounddevice


def list_cards(portaudio: Any) -> list[dict[str, Any]]:
    """All that there are: number, name, channels each way and usual sample rate."""
    return [
        {
            "number": int(card["index"]),
            "name": str(card["name"]),
            "inputs": int(card["max_input_channels"]),
            "outputs": int(card["max_output_channels"]),
            "rate_hz": round(card["default_samplerate"]),
        }
        for card in portaudio.query_devices()
    ]


def probe(wanted: tuple[int, int, int] | None, name: str = "") -> dict[str, Any]:
    """What is to be said.

    Args:
        wanted: sample rate, channels from a card and to it; None: all cards are asked for.
    """
    try:
        portaudio = load()
    except ImportError as error:
        return {"error": str(error), "lacks": MODULE}
    except OSError as error:
        return {"error": str(error), "lacks": LIBRARY}
    if wanted is None:
        return {"cards": list_cards(portaudio)}
    try:
        found = find_card(portaudio, name, wanted[0], wanted[1:])
    except CardUnavailable as error:
        return {"error": str(error), "lacks": "", "cards": list_cards(portaudio)}
    return {"name": found.name, "inputs": found.channels[0], "outputs": found.channels[1]}


if __name__ == "__main__":
    wanted = None
    if len(sys.argv) > 1:
        wanted = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(probe(wanted, "".join(sys.argv[4:5]))))
