"""A group's ports without a JACK server: its callback is called, and what is in them is looked at.

libjack's functions are stood in for by C functions of ours: a port's handle is the address of its
buffer, and JACK's clock says what a test wants.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.arena import Arena
from workers import jackclock, jackports
from workers.jackclock import CALL_WORDS
from workers.jackgroup import make_desk
from workers.jackports import MEMBER_WORDS, VOICE, member_words, serve_group
from workers.jacktime import rebase

PERIOD = 64
RATE_HZ = 48000

_now = 0


_buffer = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32)(
    lambda port, frames: port
)
_since = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(lambda client: 0)
_frame_time = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(lambda client: _now)


def address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@dataclass
class Ports:
    """A group's ports and what its callback is told; its arena's clients are ready to be heard."""

    arena: Arena
    receives: int
    sends: int
    alone: bool = True
    delay: int = 0
    kept: list[npt.NDArray[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        voices = np.zeros(len(self.arena.slots), VOICE)
        broadcasts = self.receives if self.delay else 0
        self.inputs = np.zeros((self.sends, PERIOD), np.float32)
        self.outputs = np.full((self.receives + broadcasts, PERIOD), np.nan, np.float32)
        self.members = np.zeros(member_words(4), np.int64)
        self.members[0] = 8
        scratch = np.zeros(PERIOD + 12, np.float32)
        line = np.zeros((max(broadcasts, 1), self.delay + PERIOD), np.float32)
        self.desk = make_desk(self.arena)
        for at, value in {
            jackports.GROUP: 2, jackports.RECEIVES: self.receives, jackports.SENDS: self.sends,
            jackports.ALONE: int(self.alone), jackports.MEMBERS_AT: self.members.ctypes.data,
            jackports.VOICES_AT: voices.ctypes.data,
            jackports.SCRATCH_AT: scratch.ctypes.data, jackports.BROADCASTS: broadcasts,
            jackports.DELAY: self.delay, jackports.DELAYED_AT: line.ctypes.data,
            jackports.DELAYED_FRAMES: line.shape[1],
        }.items():  # fmt: skip
            self.desk[at] = value
        self.call = np.zeros(CALL_WORDS, np.int64)
        self.call[1], self.call[2] = address(_buffer), address(_frame_time)
        self.call[3] = address(_since)
        self.call[4], self.call[5] = self.sends, len(self.outputs)
        self.call[jackclock._RATE] = RATE_HZ
        for k, port in enumerate([*self.inputs, *self.outputs]):
            self.call[jackclock._PORTS + k] = port.ctypes.data
        self.kept = [scratch, line, voices]
        rebase(self.arena.jack[0], 0, 0)

    def seat(self, members: Sequence[tuple[int, int]]) -> None:
        """Slots and sessions of those who are played."""
        self.members[1] = len(members)
        for k, member in enumerate(members):
            self.members[2 + MEMBER_WORDS * k : 4 + MEMBER_WORDS * k] = member

    def cycle(self, tick: int, frames: int = PERIOD) -> npt.NDArray[np.float32]:
        """What the outputs have after a cycle."""
        global _now
        _now = tick * PERIOD
        serve_group(self.call, self.desk, np.int64(frames))
        return self.outputs.copy()
