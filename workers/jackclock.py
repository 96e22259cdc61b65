"""A JACK client whose process callback is machine code: no Python, no GIL on the audio path.

JACK-Client opens the client, registers its ports and makes its connections; what JACK calls once a
period is a kernel (``shared.callbacks``), to which an array of words says where everything is::

    words of a call, int64
    0  the client             1  jack_port_get_buffer   2  jack_last_frame_time
    3  jack_frames_since_cycle_start                    4  inputs     5  outputs
    6  address of the user's own data                   7  sample rate
    8  scratch of cycle_ns (2 words)       10 1: freewheel
    16 ports: inputs, then outputs
    the last: address of the call that has rate and freewheel; 0: this one

    @process_callback
    def copy(frames, argument):
        call = array_at(address_of(argument), CALL_WORDS, np.int64)
        memmove(output_port(call, 0, frames), input_port(call, 0, frames), 4 * frames)
        return 0

    with JackClient("wire", copy, inputs=["in"], outputs=["out"]) as wire:
        wire.activate()

A process can be the client of one JACK server only; libjack is loaded when the first client is
opened, and a server is never started.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from shared.callbacks import (
    Callback,
    array_at,
    call_buffer_getter,
    call_clock,
)
from shared.kernels import kernel
from shared.libc import CLOCK_MONOTONIC, SECOND_NS, clock_ns

MAX_PORTS = 512
"""Of one client."""
_CLIENT, _GET_BUFFER, _FRAME_TIME, _SINCE, _INPUTS, _OUTPUTS, DATA, _RATE, _SCRATCH = range(9)
_FREEWHEEL = 10
_PORTS = 16
_CLOCK = _PORTS + MAX_PORTS
CALL_WORDS = _CLOCK + 1
_TAKEN = "with another running client"
"""What libjack says of a name that it cannot make another of."""
_QUIET_LINES = 8
"""Of what libjack said, for an error's text."""


class JackUnavailable(RuntimeError):
    """No libjack on this machine, no server, or one that does not let this client in."""


class NameTaken(JackUnavailable):
    """Too many have that name for JACK to tell them apart."""


@kernel
def input_port(call, k, frames):
    """Where the period is that came in by the k-th input: an address in JACK's own memory.

    (Of a card, which has no such function, the port is the address.)
    """
    if call[_GET_BUFFER] == 0:
        return call[_PORTS + k]
    return call_buffer_getter(call[_GET_BUFFER], call[_PORTS + k], np.int64(frames))


@kernel
def output_port(call, k, frames):
    """Address for the k-th output's period, to be written to the last frame."""
    port = call[_PORTS + call[_INPUTS] + k]
    if call[_GET_BUFFER] == 0:
        return port
    return call_buffer_getter(call[_GET_BUFFER], port, np.int64(frames))


@kernel
def frame_time(call):
    """JACK's clock at the beginning of this cycle, frames modulo 2^32: the same for all clients."""
    if call[_FRAME_TIME] == 0:
        return call[_CLIENT] & 0xFFFFFFFF  # a card's own count
    return call_clock(call[_FRAME_TIME], call[_CLIENT])


@kernel
def cycle_ns(call):
    """CLOCK_MONOTONIC at which this cycle began, as its driver was woken: to a frame.

    (What ``jack_get_cycle_times`` tells is smoothed, and far behind for minutes after xruns.)
    """
    since = call_clock(call[_SINCE], call[_CLIENT]) if call[_SINCE] != 0 else np.int64(0)
    now_ns = clock_ns(CLOCK_MONOTONIC, call[_SCRATCH : _SCRATCH + 2])
    return now_ns - since * SECOND_NS // call[_RATE]


@kernel
def elapsed_ns(call):
    """Since this cycle began, to a frame."""
    if call[_SINCE] == 0:
        return np.int64(0)
    return call_clock(call[_SINCE], call[_CLIENT]) * SECOND_NS // call[_RATE]


@kernel
def keeps_time(call, rate_hz):
    """Whether JACK's frames are those of a clock of this rate: not at another, nor freewheeling."""
    if call[_CLOCK] != 0:
        told = array_at(call[_CLOCK], CALL_WORDS, np.int64)
        return told[_RATE] == rate_hz and told[_FREEWHEEL] == 0
    return call[_RATE] == rate_hz and call[_FREEWHEEL] == 0


@dataclass(slots=True)
class JackFacts:
    """What JACK has told since a client was opened; written by a thread of JACK's.

    Attributes:
        xruns: cycles that were late, of anybody.
        period_frames, rate_hz: as they are now.
        period_changes: times that the period changed.
        freewheel: whether it computes as fast as it can.
        gone: why the server is no more, or None.
    """

    period_frames: int
    rate_hz: int
    xruns: int = 0
    period_changes: int = 0
    freewheel: bool = False
    gone: str | None = None


@dataclass(slots=True)
class _Library:
    """libjack as this process has it."""

    jack: Any
    addresses: dict[int, int]
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_QUIET_LINES))


_library: _Library | None = None


def _load() -> _Library:
    """Load libjack, once.

    Raises:
        JackUnavailable: it is not there.
    """
    global _library
    if _library is None:
        try:
            import jack
        except (ImportError, OSError) as error:
            raise JackUnavailable(f"libjack cannot be loaded: {error}") from None
        name = ctypes.util.find_library("jack")
        direct = ctypes.CDLL(name)
        wanted = {
            _GET_BUFFER: direct.jack_port_get_buffer,
            _FRAME_TIME: direct.jack_last_frame_time,
            _SINCE: direct.jack_frames_since_cycle_start,
        }
        addresses = {
            at: ctypes.cast(call, ctypes.c_void_p).value or 0 for at, call in wanted.items()
        }
        _library = _Library(jack, addresses)
        # it would write to stderr whatever it does not like, a missing server above all
        jack.set_error_function(_library.said.append)
        jack.set_info_function(lambda line: None)
    return _library


class Client(Protocol):
    """What the bridge wants of a JACK client, or of what stands in for it."""

    name: str
    facts: JackFacts

    def activate(self) -> None: ...
    def connect(self, source: str, destination: str) -> bool: ...
    def disconnect(self, source: str, destination: str) -> None: ...
    def ports(self, **wanted: bool) -> list[str]: ...
    def close(self) -> None: ...


class JackClient:
    """A client of a JACK server that is running; its callback runs once it is activated.

    Args:
        name: it is made unique by JACK, which appends -01 and so on.
        callback: of ``shared.callbacks.process_callback``; None: ports that nobody serves.
        inputs, outputs: short names of its ports, in the callback's order.
        server: the JACK server's name; None: the default one.
        data: address of whatever the callback works on (word ``DATA`` of its call); it must live
            as long as the client.
        clock: another client of this process, which is told of the rate, of freewheeling, of xruns
            and periods for this one as well: of that, JACK tells each client by a message.

    Attributes:
        name: as JACK has assigned it.
        facts: JackFacts.
        client: JACK-Client's, for all that is not done once a period.

    Raises:
        NameTaken: JACK finds no name for it.
        JackUnavailable: no libjack, no server, no room for one more client or its ports.
    """

    def __init__(
        self,
        name: str,
        callback: Callback | None = None,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        server: str | None = None,
        data: int = 0,
        clock: JackClient | None = None,
    ) -> None:
        if len(inputs) + len(outputs) > MAX_PORTS:
            raise JackUnavailable(f"{len(inputs) + len(outputs)} ports; at most {MAX_PORTS}")
        library = _load()
        library.said.clear()
        self._library = library
        try:
            self.client = library.jack.Client(name, no_start_server=True, servername=server)
        except library.jack.JackOpenError as error:
            if _TAKEN in self._said():  # its status does not tell
                raise NameTaken(f"too many are called {name}") from None
            raise JackUnavailable(self._why(error)) from None
        self.name: str = self.client.name
        self.facts = JackFacts(int(self.client.blocksize), int(self.client.samplerate))
        self.call: npt.NDArray[np.int64] = np.zeros(CALL_WORDS, np.int64)
        self._callback = callback
        self._clock = clock or self
        try:
            self._listen()
            self._register(inputs, outputs)
            self._install(data)
        except library.jack.JackError as error:
            why = self._why(error)
            self.close()
            raise JackUnavailable(why) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def activate(self) -> None:
        """From now on the callback is called.

        Raises:
            JackUnavailable: the server is gone, or does not want it.
        """
        try:
            self.client.activate()
        except self._library.jack.JackError as error:
            raise JackUnavailable(self._why(error)) from None

    def connect(self, source: str, destination: str) -> bool:
        """Connect two ports by their full names; False when one of them is not there.

        That they are connected already is no failure.
        """
        jack, client = self._library.jack, self.client
        try:
            client.connect(source, destination)
        except jack.JackErrorCode as error:
            return bool(error.code == 17)  # EEXIST
        except jack.JackError:
            return False
        return True

    def disconnect(self, source: str, destination: str) -> None:
        """Disconnect two ports, if they are there and connected."""
        with contextlib.suppress(self._library.jack.JackError):
            self.client.disconnect(source, destination)

    def ports(self, **wanted: bool) -> list[str]:
        """Full names of audio ports, in JACK's order; ``is_physical=True, is_output=True``.

        Raises:
            JackUnavailable: the server is gone.
        """
        if self.facts.gone is not None:
            raise JackUnavailable(self.facts.gone)
        found: Iterable[Any] = self.client.get_ports(is_audio=True, **wanted)
        return [port.name for port in found]

    def close(self) -> None:
        """Leave the graph; the callback is not called any more."""
        self.client.close()

    def _why(self, error: Exception) -> str:
        """An error of JACK's in words that help."""
        status = getattr(error, "status", None)
        if status is not None and (status.server_failed or "Cannot connect" in self._said()):
            return "no JACK server is running under that name, for this user"
        if status is not None and status.server_error:
            return "the JACK server has no room for another client, or does not answer"
        return f"{error}{f' ({self._said()})' if self._said() else ''}"

    def _said(self) -> str:
        return "; ".join(self._library.said)

    def _listen(self) -> None:
        """Have JACK tell what happens; it does so in a thread of its own."""
        facts, call = self.facts, self.call

        def gone(status: Any, reason: str) -> None:
            facts.gone = reason or "the JACK server has gone"

        def xrun(delayed_us: float) -> None:
            facts.xruns += 1

        def period(frames: int) -> None:
            if frames != facts.period_frames:
                facts.period_frames = frames
                facts.period_changes += 1

        def rate(rate_hz: int) -> None:
            facts.rate_hz = call[_RATE] = rate_hz

        def freewheel(starting: bool) -> None:
            facts.freewheel = starting
            call[_FREEWHEEL] = int(starting)

        self.client.set_shutdown_callback(gone)
        if self._clock is not self:
            return
        self.client.set_xrun_callback(xrun)
        self.client.set_blocksize_callback(period)
        self.client.set_samplerate_callback(rate)
        self.client.set_freewheel_callback(freewheel)

    def _register(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        address = self._library.jack._ffi.cast
        ports = [self.client.inports.register(port) for port in inputs]
        ports += [self.client.outports.register(port) for port in outputs]
        self.call[_CLIENT] = int(address("intptr_t", self.client._ptr))
        self.call[_INPUTS], self.call[_OUTPUTS] = len(inputs), len(outputs)
        for k, port in enumerate(ports):
            self.call[_PORTS + k] = int(address("intptr_t", port._ptr))
        for at, function in self._library.addresses.items():
            self.call[at] = function

    def _install(self, data: int) -> None:
        """Give JACK the callback, by address."""
        if self._callback is None:
            return
        jack = self._library.jack
        self.call[DATA], self.call[_RATE] = data, self.facts.rate_hz
        if self._clock is not self:
            self.call[_CLOCK] = self._clock.call.ctypes.data
        function = jack._ffi.cast("JackProcessCallback", self._callback.address)
        words = jack._ffi.cast("void *", self.call.ctypes.data)
        if jack._lib.jack_set_process_callback(self.client._ptr, function, words):
            raise jack.JackError("the process callback is refused")
