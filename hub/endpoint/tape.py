"""Sound without a sound card: a file or a tone is what we say, a file takes what we hear.

The device's ring and line (``shared.layout.EndpointSlot``) hold more than a second at 48 kHz.
``Tape`` fills the one and empties the other from an ordinary thread that may be late: the
clock that both are counted by is the mixer's. What is played and what is recorded begin with the
same hub sample.
"""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import numpy.typing as npt
import structlog

from hub.endpoint.soundfiles import Block, Broken, Recorder, Source
from shared.arena import Arena
from shared.layout import RING_FRAMES, EndpointSlot

log = structlog.get_logger()

DEVICE = EndpointSlot.DEVICE
LEAD_S = 0.5
"""From when the peer is first heard to the first frame: a hub may take a while to connect a
newcomer with the others."""
TAIL_S = 1.0
"""Recorded beyond the end of what is played, for it to come back."""
TURN_S = 0.025
CLOSE_S = 5.0
"""How long an end waits for a disk."""
TELL_S = 5.0
"""Gaps are told of so often, at most."""
_AHEAD_FRAMES = RING_FRAMES // 2


class Tape:
    """Carries sound between files and the device's ring and line.

    Args:
        source: what is said; None: silence.
        recorder: takes what is heard, or None.

    Attributes:
        lost_frames: that were neither played nor recorded, since this thread was late.
        failed: what could not be read or written on; empty: nothing.
    """

    def __init__(self, arena: Arena, source: Source | None, recorder: Recorder | None) -> None:
        self._arena, self._source, self._recorder = arena, source, recorder
        header = arena.header[0]
        self._rate, self._period = int(header["rate_hz"]), int(header["period_frames"])
        self._start: int | None = None
        self._said = self._heard = 0
        self._source_over = source is None
        self.lost_frames = 0
        self.failed = ""
        self._told_frames, self._tell_s = 0, 0.0

    @property
    def running(self) -> bool:
        return self._start is not None

    @property
    def played_s(self) -> float:
        """Since the first frame."""
        return 0.0 if self._start is None else max(0, self._now - self._start) / self._rate

    @property
    def over(self) -> bool:
        """Whether all was played, and its tail recorded."""
        if self._start is None or self._source is None or not self._source_over:
            return False
        tail = self._rate * TAIL_S if self._recorder is not None else 0
        return self._now >= self._said + tail

    @property
    def _now(self) -> int:
        """The hub sample that is mixed next."""
        return (int(self._arena.clock[0]["tick"]) + 1) * self._period

    def start(self) -> None:
        """Let both begin, a moment from now."""
        if self._start is None:
            if self._recorder is not None:
                try:
                    self._recorder.open()
                except Broken as broken:
                    self._end_recording(self._recorder, broken)
            start = self._now + int(LEAD_S * self._rate) // self._period * self._period
            self._start = self._said = self._heard = start
            self.turn()

    def turn(self) -> None:
        """Fill and empty; to be called several times a second."""
        if self._start is None:
            return
        self._say()
        if self._recorder is not None:
            try:
                self._hear(self._recorder)
            except Broken as broken:
                self._end_recording(self._recorder, broken)
        if self.lost_frames > self._told_frames and time.monotonic() >= self._tell_s:
            self._tell_lost()

    def close(self) -> None:
        """Write what was heard up to now, and close the files."""
        self.turn()
        if self._source is not None:
            self._source.close()
        if self._recorder is not None:
            try:
                self._recorder.close()
            except Broken as broken:
                self._end_recording(self._recorder, broken)

    def _tell_lost(self) -> None:
        lost = self.lost_frames - self._told_frames
        self._told_frames, self._tell_s = self.lost_frames, time.monotonic() + TELL_S
        log.warning(
            "files came too late",
            lost_ms=round(1000 * lost / self._rate),
            lost_s_so_far=round(self.lost_frames / self._rate, 1),
        )

    def _end_recording(self, recorder: Recorder, broken: Broken) -> None:
        """Go on without; what was written stays, completed as far as that is possible."""
        self._recorder = None
        self.failed = f"recording ended: {broken}"
        log.error("recording ended", path=str(recorder.path), why=str(broken))
        with contextlib.suppress(Broken):
            recorder.close()

    def _say(self) -> None:
        device = self._arena.rx[DEVICE]
        if self._source_over:
            if self._now >= self._said:
                device["resting"] = 1
            return
        assert self._source is not None
        late = self._now - self._said
        if late > 0:  # this thread was away for longer than the ring holds
            self.lost_frames += late
            self._read(self._source, late)
            self._said += late
        wanted = self._now + _AHEAD_FRAMES - self._said
        if wanted <= 0:
            return
        block = self._read(self._source, wanted)
        frames = block.shape[1]
        for channel in range(int(device["channels"])):
            ring = self._arena.rings[DEVICE, channel]
            if channel < len(block) or len(block) == 1:
                _put(ring, self._said, block[channel if channel < len(block) else 0])
            else:
                _put(ring, self._said, np.zeros(frames, np.float32))
        self._said += frames
        self._source_over = frames < wanted
        end = self._said
        if self._source_over:  # the period that it ends in, in full
            end += -end % self._period
            for channel in range(int(device["channels"])):
                rest = np.zeros(end - self._said, np.float32)
                _put(self._arena.rings[DEVICE, channel], self._said, rest)
        device["watermark"] = end
        device["resting"] = 0

    def _read(self, source: Source, frames: int) -> Block:
        """What follows; nothing where the file is broken."""
        try:
            return source.read(frames)
        except Broken as broken:
            self.failed = f"playing ended: {broken}"
            log.error("playing ended", why=str(broken))
            return np.zeros((1, 0), np.float32)

    def _hear(self, recorder: Recorder) -> None:
        end = (int(self._arena.tx[DEVICE]["last_tick"]) + 1) * self._period
        frames = end - self._heard
        if frames <= 0:
            return
        channels = int(self._arena.rx[DEVICE]["wants"])
        gone = max(0, frames - (RING_FRAMES - 2 * self._period))
        if gone:
            self.lost_frames += gone
            recorder.write(np.zeros((channels, gone), np.float32))
            self._heard += gone
        at = np.arange(self._heard, end) % RING_FRAMES
        recorder.write(self._arena.lines[DEVICE, :channels][:, at])
        self._heard = end


def _put(ring: npt.NDArray[np.float32], position: int, block: npt.NDArray[np.float32]) -> None:
    """Write frames into a ring from a hub sample on."""
    at = position % RING_FRAMES
    first = min(len(block), RING_FRAMES - at)
    ring[at : at + first] = block[:first]
    ring[: len(block) - first] = block[first:]


class Deck:
    """Runs a tape in a thread of its own: a disk that hangs holds up nothing else."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start the tape, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tape", daemon=True)
            self._thread.start()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Close the tape; wait no longer than this."""
        if self._thread is None:
            self._tape.close()
            return
        self._closing.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._tape.failed = "the disk does not answer"
            log.error("files could not be closed", why="the disk does not answer")

    def _run(self) -> None:
        try:
            self._tape.start()
            while not self._closing.wait(TURN_S):
                self._tape.turn()
        finally:
            self._tape.close()
