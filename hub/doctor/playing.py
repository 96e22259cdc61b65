"""Playing to a hub as a client does, and keeping all that comes back.

One thread sends, a packet a period; another hears. What is heard, and when, is judged when all is
over: nothing is computed meanwhile, so that the interpreter's lock is free for the two.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hub.doctor.line import Arrival, Line
from hub.doctor.mark import encode, mark
from shared.protocol import (
    EXIT_PACKET,
    EXIT_REPEATS,
    AudioHeader,
    PeerError,
    pack_header,
    parse_datagram,
    rate_code,
)

PRIORITY = 10
"""SCHED_FIFO, where permitted: as JACK's own clients play."""
MOST_BYTES = 1 << 28
"""Of what is heard; more comes only from somebody who means harm."""
_ARRIVAL_BYTES = 256
"""That each datagram takes beside what is in it."""
_SWITCH_S = 1e-4
_EAR_S = 0.05


@dataclass(frozen=True, slots=True)
class Form:
    """What we play.

    Attributes:
        frames: samples a channel in each packet.
        channels: both ways.
        redundancy: copies of each packet.
        marked: with the inaudible mark; otherwise silence.
    """

    rate_hz: int = 48_000
    frames: int = 128
    channels: int = 2
    bits: int = 16
    redundancy: int = 1
    marked: bool = True

    @property
    def period_s(self) -> float:
        return self.frames / self.rate_hz

    @property
    def datagram_bytes(self) -> int:
        return self.redundancy * (16 + self.frames * self.channels * (self.bits // 8))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Threads give way to each other within 0.1 ms, and no garbage is collected."""
    before, collects = sys.getswitchinterval(), gc.isenabled()
    sys.setswitchinterval(_SWITCH_S)
    gc.disable()
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        if collects:
            gc.enable()


def _be_punctual() -> None:
    """Run this thread in real time, if we may."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, os.sched_param(PRIORITY))


class Ears:
    """Hears all that comes from the hub's address on a line, until it is closed."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._heard: list[Arrival] = []
        self._last_ns: dict[int, int] = {}
        """When audio came last, by port."""
        self._good_byes: list[Arrival] = []
        self._deaf = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._deaf.set()
        self._thread.join()

    def answers(self, player: Player) -> list[Arrival]:
        """What has come so far from the port that somebody plays to, since he began."""
        return [
            arrival
            for arrival in list(self._heard)
            if arrival.port == player.port and arrival.at_ns >= player.began_ns
        ]

    def last_ns(self, player: Player) -> int | None:
        """When audio has come last for somebody; what is none does not count."""
        last_ns = self._last_ns.get(player.port, 0)
        return last_ns if last_ns >= player.began_ns else None

    def silent_s(self, player: Player) -> float:
        """How long ago that is; infinite: none has come."""
        last_ns = self.last_ns(player)
        return math.inf if last_ns is None else (time.monotonic_ns() - last_ns) / 1e9

    def sent_away(self, player: Player, for_s: float = 0.0) -> bool:
        """Whether the hub has said good-bye, so long ago or longer."""
        last_ns = time.monotonic_ns() - round(for_s * 1e9)
        return any(
            each.port == player.port and player.began_ns <= each.at_ns <= last_ns
            for each in list(self._good_byes)
        )

    def _listen(self) -> None:
        _be_punctual()
        room = MOST_BYTES
        while not self._deaf.is_set():
            arrival = self._line.receive(_EAR_S)
            if arrival is None or room <= 0:
                continue
            self._heard.append(arrival)
            room -= len(arrival.data) + _ARRIVAL_BYTES
            if arrival.data == EXIT_PACKET:
                self._good_byes.append(arrival)
            elif _is_audio(arrival.data):
                self._last_ns[arrival.port] = arrival.at_ns


def _is_audio(data: bytes) -> bool:
    try:
        parse_datagram(data)
    except PeerError:
        return False
    return True


class Player:
    """Plays to one port of the hub from its making until it is stopped."""

    def __init__(self, line: Line, port: int, form: Form, longest_s: float) -> None:
        """Begin at once.

        longest_s: after which it falls silent by itself.
        """
        self.form, self.port = form, port
        self.began_ns = time.monotonic_ns()
        self.sent: list[tuple[int, int]] = []
        """When each packet left, and should have left, in ns of CLOCK_MONOTONIC."""
        self.unsent = 0
        self._line = line
        self._packets = round(longest_s / form.period_s) + 1
        self._signs = mark(self._packets * form.frames)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    @property
    def signs(self) -> npt.NDArray[np.int8]:
        """All that there is to play."""
        return self._signs

    @property
    def playing(self) -> bool:
        return self._thread.is_alive()

    def stop(self, good_bye: bool) -> None:
        """Fall silent, and let the hub know.

        good_bye: only to a hub that has heard us. If it is the first that arrives, it is taken for
        audio: JackTrip 1.7's hub makes a client of 255 channels of it, and later ones hang.
        """
        self._stop.set()
        self._thread.join()
        if good_bye:
            for _ in range(EXIT_REPEATS):
                self._line.send(EXIT_PACKET, self.port)

    def _play(self) -> None:
        _be_punctual()
        form = self.form
        began_ns = time.monotonic_ns()
        before = [bytes(form.datagram_bytes // form.redundancy)] * (form.redundancy - 1)
        for number in range(self._packets):
            packet = self._packet(number)
            due_ns = began_ns + round(number * form.period_s * 1e9)
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            if self._stop.is_set():
                return
            self.sent.append((time.monotonic_ns(), due_ns))
            if not self._line.send(b"".join((packet, *before)), self.port):
                self.unsent += 1
            before = [packet, *before][: form.redundancy - 1]

    def silence(self, number: int = 0) -> bytes:
        """A packet without a sound."""
        form = self.form
        return self._header(number) + bytes(form.frames * form.channels * (form.bits // 8))

    def _packet(self, number: int) -> bytes:
        form = self.form
        if not form.marked:
            return self.silence(number)
        signs = self._signs[number * form.frames : (number + 1) * form.frames]
        return self._header(number) + encode(signs, form.channels, form.bits)

    def _header(self, number: int) -> bytes:
        form = self.form
        return pack_header(
            AudioHeader(
                time.time_ns() // 1000, number & 0xFFFF, form.frames, rate_code(form.rate_hz),
                form.bits, form.channels, form.channels,
            )
        )  # fmt: skip


@dataclass(slots=True)
class Take:
    """What was played to a port, and what came back from it.

    Attributes:
        sent_ns, due_ns: of each packet of ours, CLOCK_MONOTONIC.
        signs: the mark that was played.
        headers, at_ns, data: of each packet of the hub's that is one, in the order of coming.
        redundancy: copies that the hub's datagrams had; 0: nothing came.
        good_bye_ns: when the hub said good-bye; None: it did not.
        odd: datagrams of the hub's that were neither.
        unsent: packets that this machine did not let go.
        overflowed: that this machine had no room for.
    """

    form: Form
    sent_ns: npt.NDArray[np.int64]
    due_ns: npt.NDArray[np.int64]
    signs: npt.NDArray[np.int8]
    headers: list[AudioHeader] = field(default_factory=list)
    at_ns: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    good_bye_ns: int | None = None
    redundancy: int = 0
    odd: int = 0
    unsent: int = 0
    overflowed: int = 0


def take(player: Player, ears: Ears, line: Line) -> Take:
    """All of it, as facts; what is no audio packet is counted."""
    sent_ns, due_ns = np.array(list(player.sent), np.int64).reshape(-1, 2).T
    made = Take(
        player.form,
        sent_ns,
        due_ns,
        player.signs,
        unsent=player.unsent,
        overflowed=line.overflowed,
    )
    for arrival in ears.answers(player):
        if arrival.data == EXIT_PACKET:
            made.good_bye_ns = made.good_bye_ns or arrival.at_ns
            continue
        try:
            header, redundancy = parse_datagram(arrival.data)
        except PeerError:
            made.odd += 1
            continue
        made.redundancy = max(made.redundancy, redundancy)
        made.headers.append(header)
        made.at_ns.append(arrival.at_ns)
        made.data.append(arrival.data)
    return made
