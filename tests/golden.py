"""Real payloads of the original programs, captured from JackTrip 1.7.0."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PATH = Path(__file__).parent / "data" / "jacktrip-golden-vectors.json"

TEST_SIGNAL = np.array(
    [
        [0, 1, -1, 0.5, -0.5, 0.1, 1.5, -1.5],
        [0.25, -0.25, 0.3, -0.3, 1 / 3, -1 / 3, 0.99999, -0.00001],
        [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08],
    ],
    np.float32,
)
"""What was played into the client's channels, over and over."""


@dataclass(frozen=True, slots=True)
class Vector:
    """One captured payload.

    Attributes:
        name: unique.
        data: the complete TCP payload or UDP datagram.
        decoded: its fields as read by hand.
    """

    name: str
    data: bytes
    decoded: dict[str, Any]

    @property
    def is_audio(self) -> bool:
        return "BitResolution" in self.decoded

    @property
    def bits(self) -> int:
        return int(self.decoded["BitResolution"])

    @property
    def channels(self) -> int:
        return int(self.decoded["payload_channels"])

    @property
    def frames(self) -> int:
        return int(self.decoded["BufferSize"])

    def sent_signal(self) -> npt.NDArray[np.float32]:
        """(channels, frames) float32 that was encoded: silence at first, then the test signal."""
        if not self.name.startswith("udp_signal"):
            return np.zeros((self.channels, self.frames), np.float32)
        return np.tile(TEST_SIGNAL[: self.channels], self.frames // TEST_SIGNAL.shape[1])


def load() -> list[Vector]:
    """All vectors."""
    return [
        Vector(entry["name"], bytes.fromhex(entry["hex"]), entry["decoded"])
        for entry in json.loads(PATH.read_text())["vectors"]
    ]


VECTORS = {vector.name: vector for vector in load()}
AUDIO = [vector for vector in VECTORS.values() if vector.is_audio]
