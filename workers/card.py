"""A sound card without a JACK server: PortAudio's stream, with machine code for a callback.

python-sounddevice finds the card and opens it; what PortAudio calls once a period is a kernel,
which serves the card as if it were JACK's graph: ``workers.jackports`` with one client, which is
group and beat at once. Its ports are buffers of ours, since PortAudio interleaves channels::

    card ──► play_card: send_1..n ──► arena, ring of the peer ──► receive_1..n ──► card
                                        │ beat: mixer's tick

    words of its call, beside ``workers.jackclock``'s
    11 data of the beat   12 inputs, 13 outputs of the card   14 periods with an under- or overrun
    15 periods
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.arena import Arena
from shared.callbacks import Callback, address_of, array_at, stream_callback
from shared.kernels import kernel
from shared.layout import HEADER, EndpointSlot
from shared.libc import memset
from workers import realtime
from workers.cardprobe import CardUnavailable, find_card, load
from workers.jackbridge import Bridge, BridgeSettings
from workers.jackclock import (
    CALL_WORDS,
    DATA,
    Client,
    JackFacts,
    JackUnavailable,
    input_port,
    output_port,
)
from workers.jackports import DESK_WORDS, HEADER_AT, play_beat, serve_beat, serve_group

NAME = "card"
_CLIENT, _INPUTS, _OUTPUTS, _RATE = 0, 4, 5, 7
BEAT, CARD_INPUTS, CARD_OUTPUTS, XRUNS, PERIODS = range(11, 16)
_PORTS = 16
_FLOAT = 4
_TROUBLES = 0xF
"""PortAudio's flags: input or output under- or overrun."""
_LATENCY_PERIODS = 3
"""What PortAudio is asked for: with more it would make the card's periods longer than ours."""
STILL_S = 2.0
"""A card that has asked for nothing for so long is gone."""


@kernel
def serve_card(call, heard, played, frames, flags):
    """One period of a card.

    Args:
        call: (CALL_WORDS,) int64.
        heard, played: addresses of (frames, inputs) and (frames, outputs) float32.
        flags: PortAudio's.
    """
    inputs, outputs = call[CARD_INPUTS], call[CARD_OUTPUTS]
    desk = array_at(call[DATA], DESK_WORDS, np.int64)
    beat = array_at(call[BEAT], DESK_WORDS, np.int64)
    if outputs > 0:
        memset(played, 0, _FLOAT * frames * outputs)
    if frames == array_at(desk[HEADER_AT], 1, HEADER)[0].period_frames:
        if inputs > 0:
            sound = array_at(heard, frames * inputs, np.float32)
            for k in range(inputs):
                port = array_at(input_port(call, k, frames), frames, np.float32)
                for i in range(frames):
                    port[i] = sound[i * inputs + k]
        serve_group(call, desk, frames)
        if outputs > 0:
            sound = array_at(played, frames * outputs, np.float32)
            for k in range(outputs):
                port = array_at(output_port(call, k, frames), frames, np.float32)
                for i in range(frames):
                    sound[i * outputs + k] = port[i]
    serve_beat(call, beat, frames)
    call[XRUNS] += flags & _TROUBLES != 0
    call[PERIODS] += 1
    call[_CLIENT] += frames


@stream_callback
def play_card(heard, played, frames, times, flags, argument):
    """PortAudio's callback."""
    call = array_at(address_of(argument), CALL_WORDS, np.int64)
    serve_card(call, address_of(heard), address_of(played), np.int64(frames), np.int64(flags))
    return 0


class CardPorts:
    """What the callback works on: the words of its call, and buffers for its ports.

    Args:
        inputs, outputs: ports that come from the card and go to it; at least as many as it has.
        channels: of the card, from it and to it.
    """

    def __init__(
        self, rate_hz: int, period_frames: int, ports: tuple[int, int], channels: tuple[int, int]
    ) -> None:
        self.call: npt.NDArray[np.int64] = np.zeros(CALL_WORDS, np.int64)
        self.buffers = np.zeros((sum(ports), period_frames), np.float32)
        self.call[_INPUTS], self.call[_OUTPUTS] = ports
        self.call[CARD_INPUTS], self.call[CARD_OUTPUTS] = channels
        self.call[_RATE] = rate_hz
        for k, buffer in enumerate(self.buffers):
            self.call[_PORTS + k] = buffer.ctypes.data


class Card(CardPorts):
    """A card's stream, in the place of a JACK client: that of group and beat alike.

    Args:
        name: as for ``workers.cardprobe.find_card``.
        ports: as ``CardPorts``.
        real: its thread is to be scheduled in real time.

    Raises:
        JackUnavailable: it is not there.
    """

    def __init__(
        self, name: str, rate_hz: int, period_frames: int, ports: tuple[int, int], real: bool
    ) -> None:
        self.name = NAME
        self._real = real
        try:
            portaudio = _portaudio()
            found = find_card(portaudio, name, rate_hz, ports)
        except (ImportError, OSError, CardUnavailable) as error:
            raise JackUnavailable(str(error)) from None
        super().__init__(rate_hz, period_frames, ports, found.channels)
        self.facts = JackFacts(period_frames, rate_hz)
        self._seen, self._since_s = 0, 0.0
        inputs, outputs = found.channels
        both = inputs > 0 and outputs > 0
        kind = "duplex" if both else "input" if inputs else "output"
        pointer = portaudio._ffi.cast
        try:
            self._stream = portaudio._StreamBase(
                kind,
                samplerate=rate_hz,
                blocksize=period_frames,
                device=found.devices if both else found.devices[not inputs],
                channels=found.channels if both else max(found.channels),
                dtype="float32",
                latency=_LATENCY_PERIODS * period_frames / rate_hz,
                callback=pointer("PaStreamCallback *", play_card.address),
                userdata=pointer("void *", self.call.ctypes.data),
            )
        except (portaudio.PortAudioError, ValueError) as error:
            raise JackUnavailable(str(error)) from None
        self._error: type[Exception] = portaudio.PortAudioError

    def activate(self) -> None:
        """From now on the callback is called, if there is something for it to do.

        Raises:
            JackUnavailable: the card does not want it.
        """
        if not self.call[DATA] or not self.call[BEAT]:
            return
        self._since_s = time.monotonic()
        try:
            with _heirs_hurry() if self._real else nullcontext():
                self._stream.start()
        except self._error as error:
            raise JackUnavailable(str(error)) from None

    def look(self) -> None:
        """Bring ``facts`` up to date; to be called often."""
        periods, now_s = int(self.call[PERIODS]), time.monotonic()
        self.facts.xruns = int(self.call[XRUNS])
        if not self._since_s:
            return
        if periods != self._seen:
            self._seen, self._since_s = periods, now_s
        if not self._stream.active or now_s - self._since_s > STILL_S:
            self.facts.gone = "the sound card has stopped"

    def connect(self, source: str, destination: str) -> bool:
        """Nothing: a card's ports are its own."""
        return True

    def disconnect(self, source: str, destination: str) -> None:
        """Nothing."""

    def ports(self, **wanted: bool) -> list[str]:
        """None that could be connected."""
        return []

    def close(self) -> None:
        """The callback is not called any more."""
        with suppress(self._error):
            self._stream.close(ignore_errors=True)


@contextmanager
def _heirs_hurry() -> Iterator[None]:
    """Threads that are started meanwhile are real-time ones."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(realtime.LANE_PRIORITY))
    except PermissionError:  # said once for the whole endpoint: see realtime.refusals()
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _portaudio() -> Any:
    """python-sounddevice, which knows the cards that are there now."""
    known = "sounddevice" in sys.modules
    portaudio = load()
    if known:  # PortAudio looks for cards when it begins
        portaudio._terminate()
        portaudio._initialize()
    return portaudio


@dataclass(slots=True)
class CardBridge(Bridge):
    """The bridge of an endpoint to a sound card."""

    real: bool = False
    card: Card | None = None

    def _gone(self) -> bool:
        assert self.card is not None
        self.card.look()
        return self.card.facts.gone is not None

    def _client(
        self,
        name: str,
        callback: Callback,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        data: int = 0,
    ) -> Client:
        """The card: its stream is opened for the beat, and starts when it has its group."""
        if callback is play_beat:
            header, device = self.arena.header[0], self.arena.rx[EndpointSlot.DEVICE]
            ports = int(device["channels"]), int(device["wants"])
            rate_hz, period = int(header["rate_hz"]), int(header["period_frames"])
            self.card = Card(self.settings.server or "", rate_hz, period, ports, self.real)
        assert self.card is not None
        self.card.call[BEAT if callback is play_beat else DATA] = data
        return self.card


def prepare_card() -> int:
    """Load the callback's machine code; how many of it had to be compiled."""
    return int(bool(play_card.address) and play_card.anew)


def run_card(arena: Arena, life: int, settings: BridgeSettings, real: bool) -> int:
    """The bridge's life, after its fork; a card's name stands for the JACK server's."""
    if real:
        realtime.lock_arena(arena)
    return CardBridge(arena, life, settings, real=real).run()
