"""Taking what clients hear while others play, and repeating a take that was disturbed.

A dummy JACK server on a shared machine is late now and then; frames are then lost
or repeated before any packet leaves the client, and so is a hub that is not let run
for milliseconds. So the rule is:

- A take that is exact from its first frame to its last passes.
- One that is not, and in which nobody was late (no xrun, no frame lost by JACK, no
  tick missed, no underrun or overflow in a client by its own statistics), fails at once;
  but where a hub that follows clocks says that it resamples somebody, whose JACK server lost time.
- One that is not, but was disturbed, is judged by its windows of `WINDOW_FRAMES`: a
  window without a disturbance must be as exact as a whole take (delays constant,
  every sample equal), and `EXACT_WINDOWS` of them in one take are enough.
- Else it is repeated, a bounded number of times.

What must be silent must be silent from the first frame to the last in any take.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from tests.end_to_end import sound_card as sound_card_script
from tests.end_to_end.hubs import AnyHub, troubles
from tests.end_to_end.peers import RATE_HZ, JackServer, JackTripClient
from tests.end_to_end.processes import ManagedProcess, wait_until
from tests.end_to_end.sound import Exact, Mixture, Samples, Voice, exact_windows, explain
from tests.machine import END_TO_END, to_oneself

T = TypeVar("T")

ATTEMPTS = 6
PATIENCE_S = 8.0
"""Longest rest between them: what disturbs a machine comes and goes."""

# Silence before the signal, and room after it for the delay of any path under test.
LEAD_FRAMES = 6_000
TAIL_FRAMES = 9_600
SIGNAL_FRAMES = 36_000

WINDOW_FRAMES = 4_096
EXACT_WINDOWS = 3

_SCRIPT = Path(sound_card_script.__file__)
_AT = re.compile(r"^at (\d+)$", re.MULTILINE)
_COUNT = itertools.count()

Channel = tuple[JackTripClient, int]


class Stalled(Exception):
    """JACK stopped calling its clients in the middle of a take, or let no sound card in."""


class SoundCard:
    """A process that plays into and records from ports of one JACK server."""

    def __init__(
        self,
        server: JackServer,
        played: Mapping[str, Samples],
        recorded: Sequence[str],
        frames: int,
        directory: Path,
    ) -> None:
        import sys

        stem = f"card{next(_COUNT)}-{server.name}"
        self._result = directory / f"{stem}-result.npz"
        self._ports = list(recorded)
        self._server = server
        play, record = directory / f"{stem}-play.npz", directory / f"{stem}-record.json"
        np.savez(play, **dict(played))  # type: ignore[arg-type]  # its stub mistakes them
        record.write_text(json.dumps({"ports": self._ports, "frames": frames}))
        self.process = ManagedProcess(
            f"sound card on {server.name}",
            [sys.executable, _SCRIPT, play, record, self._result],
            directory / f"{stem}.log",
            server.environment,
            stdin=subprocess.PIPE,
        )

    def wait_ready(self) -> None:
        try:
            self.process.wait_for_log("ready", 30.0)
        except AssertionError:
            self._excuse_jack()
            raise

    def _excuse_jack(self) -> None:
        if self.process.popen.returncode == sound_card_script.STALLED:
            said = [line for line in self.process.log().splitlines() if not _AT.match(line)]
            jackd = self._server.process.log().splitlines()[-3:]
            raise Stalled(f"{self.process.name}: {'; '.join([*said[-3:], 'jackd:', *jackd])}")

    def start(self) -> None:
        stdin = self.process.popen.stdin
        assert stdin is not None
        stdin.write(b"go\n")
        stdin.flush()

    def position(self) -> int:
        """Frames recorded so far, a few hundredths of a second ago."""
        found = _AT.findall(self.process.log())
        return int(found[-1]) if found else 0

    def wait_position(self, frame: int) -> int:
        """Until `frame` is recorded; the frame last seen."""

        def reached() -> bool:
            return self.position() >= frame or not self.process.running

        wait_until(reached, 60.0, f"frame {frame} recorded")
        return self.position()

    def result(self) -> tuple[dict[str, Samples], list[str]]:
        """Recordings by port, and what disturbed them."""
        code = self.process.wait(60.0)
        self._excuse_jack()
        assert code == 0, f"sound card failed:\n{self.process.log()}"
        with np.load(self._result) as archive:
            recorded = dict(zip(self._ports, archive["recorded"], strict=True))
            lost, xruns = int(archive["lost_frames"]), int(archive["xruns"])
        reasons = []
        if lost:
            reasons.append(f"{lost} frames lost by JACK")
        if xruns:
            reasons.append(f"{xruns} xruns")
        return recorded, reasons

    def stop(self) -> None:
        self.process.end()


@dataclass(slots=True)
class Take:
    """What was recorded at one time at several clients.

    Attributes:
        heard: recording of every channel listened to, (frames,) float32.
        disturbances: why this take may say nothing about the hub, as far as known.
    """

    heard: dict[tuple[str, int], Samples]
    disturbances: list[str]
    _ask_clients: Callable[[], list[str]]
    _asked: bool = False

    def at(self, client: JackTripClient, channel: int) -> Samples:
        return self.heard[client.name, channel]

    @property
    def disturbed(self) -> bool:
        """Whether anything but the hub may have disturbed it; may wait a second to know."""
        return bool(self.disturbances or self.all_disturbances())

    def all_disturbances(self) -> list[str]:
        """Those that only clients know of, too; may wait a second to know."""
        if not self._asked:
            self._asked = True
            self.disturbances += self._ask_clients()
        return self.disturbances


def record(
    hub: AnyHub,
    directory: Path,
    voices: Mapping[tuple[str, int], Voice],
    clients: Sequence[JackTripClient],
    frames: int = LEAD_FRAMES + SIGNAL_FRAMES + TAIL_FRAMES,
    meanwhile: Callable[[Callable[[int], int]], None] | None = None,
) -> Take:
    """Play each voice into its (client name, channel) while recording all channels of `clients`.

    Args:
        frames: of a card at 48 kHz; the others record for as long.
        meanwhile: called during the take with a function that waits for a frame and
            returns the position it saw.
    """
    servers = {client.server.name: client.server for client in clients}
    cards: dict[str, SoundCard] = {}
    try:
        for name, server in servers.items():
            here = [client for client in clients if client.server is server]
            cards[name] = SoundCard(
                server,
                {
                    client.send_port(channel): voices[client.name, channel].played
                    for client in here
                    for channel in range(1, client.sends + 1)
                    if (client.name, channel) in voices
                },
                [c.receive_port(k) for c in here for k in range(1, c.receives + 1)],
                frames * server.rate_hz // RATE_HZ,
                directory,
            )
        for card in cards.values():
            card.wait_ready()
        with to_oneself():
            statistics = {client.name: client.statistics()[-1:] for client in clients}
            before = {name: server.disturbances() for name, server in servers.items()}
            counters = hub.counters()
            for card in cards.values():
                card.start()
            if meanwhile is not None:
                meanwhile(next(iter(cards.values())).wait_position)
            results = {name: card.result() for name, card in cards.items()}
            after = hub.counters()
            xruns = {name: server.disturbances() - before[name] for name, server in servers.items()}
        heard: dict[tuple[str, int], Samples] = {}
        reasons: list[str] = []
        for name, (recorded, disturbed) in results.items():
            reasons += [f"{name}: {reason}" for reason in disturbed]
            for client in clients:
                for k in range(1, client.receives + 1):
                    if client.receive_port(k) in recorded and client.server.name == name:
                        heard[client.name, k] = recorded[client.receive_port(k)]
        reasons += [f"{name}: {late} xruns in the log" for name, late in xruns.items() if late]
        reasons += [f"hub: {trouble}" for trouble in troubles(counters, after)]
    finally:
        for card in cards.values():
            card.stop()
    reports = {client.name: len(client.statistics()) for client in clients}
    return Take(heard, reasons, lambda: _client_troubles(clients, statistics, reports))


def _client_troubles(
    clients: Sequence[JackTripClient],
    before: Mapping[str, list[dict[str, int]]],
    reports: Mapping[str, int],
) -> list[str]:
    """What the clients' own statistics say, in the first report after the take.

    Args:
        before: the last report before the take, if there was one.
        reports: how many there were at its end.
    """
    troubles = []
    for client in clients:
        if not client.process.running:
            continue
        if not before[client.name]:
            # The first report sets all counters back.
            troubles.append(f"{client.name}: too young to have statistics")
            continue
        after = wait_until(
            lambda client=client: client.statistics()[reports[client.name] :],  # type: ignore[misc]
            10.0,
            f"statistics of {client.name}",
        )[0]
        troubles += [
            f"{client.name}: {key} +{after[key] - was}"
            for key, was in before[client.name][0].items()
            if after[key] > was
        ]
    return troubles


def undisturbed(take: Callable[[], Take], judge: Callable[[Take], T]) -> T:
    """Repeat a disturbed take, at most `ATTEMPTS` times in all, until `judge` accepts it.

    Between them it rests, longer each time, up to `PATIENCE_S`.
    """
    history: list[str] = []
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(min(2.0 ** (attempt - 1), PATIENCE_S))
        END_TO_END.takes += 1
        try:
            taken = take()
        except Stalled as error:
            history.append(str(error))
            END_TO_END.repeated.append(history[-1])
            continue
        try:
            return judge(taken)
        except AssertionError as error:
            if not taken.disturbed:
                raise
            history.append("; ".join([*taken.disturbances, str(error)]))
        END_TO_END.repeated.append(history[-1])
    raise AssertionError(
        f"no take in {ATTEMPTS} was left undisturbed long enough:\n"
        + "\n".join(f"  {line}" for line in history)
    )


def assert_silent(take: Take, listener: JackTripClient, channel: int) -> None:
    """Every sample of this channel is zero."""
    heard = take.at(listener, channel)
    loud = np.flatnonzero(heard)
    assert not len(loud), (
        f"{listener.name} channel {channel} must be silent, but {len(loud)} samples are not, "
        f"first at {loud[0]}, up to {np.max(np.abs(heard)):.3g}"
    )


def assert_hears(
    take: Take,
    listener: JackTripClient,
    channel: int,
    voices: Sequence[Exact],
) -> Mixture:
    """The listener's channel is exactly the sum of these voices; silence if there are none.

    By the rule at the top of this module for a take that was disturbed.
    """
    if not voices:
        assert_silent(take, listener, channel)
        return Mixture((), 0, "silent")
    heard = take.at(listener, channel)
    mixture = explain(heard, voices, listener.bits)
    if not mixture.wrong:
        return mixture
    message = f"{listener.name} channel {channel}, {len(voices)} voices: {mixture.report}"
    assert take.disturbed, message
    windows = signal_windows(len(heard))
    exact = exact_windows(heard, voices, listener.bits, windows)
    assert exact >= EXACT_WINDOWS, f"{message}; {exact} of {len(windows)} windows exact"
    END_TO_END.in_windows += 1
    return mixture


def signal_windows(frames: int) -> list[tuple[int, int]]:
    """Windows of a recording of this length in which the signal sounds."""
    first, last = LEAD_FRAMES + WINDOW_FRAMES // 2, frames - TAIL_FRAMES
    starts = range(first, last - WINDOW_FRAMES + 1, WINDOW_FRAMES)
    return [(start, start + WINDOW_FRAMES) for start in starts]
