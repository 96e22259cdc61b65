"""Whose clock an endpoint runs by: its sample rate and its period, before anything else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import structlog

from hub.endpoint.config import SETTINGS, Audio, EndpointConfig
from hub.endpoint.soundfiles import SoundFile
from hub.jack.clock import JackClock, ask_server
from hub.setting import ConfigError
from shared.arena import Arena
from shared.jacklayout import JackState
from shared.limits import MAX_PERIOD_FRAMES, MIN_PERIOD_FRAMES
from shared.protocol import HEADER_BYTES, MAX_CHANNELS, MAX_DATAGRAM_BYTES

log = structlog.get_logger()

DEFAULT = JackClock(rate_hz=48000, period_frames=128)
MISFIT_S = 0.5
"""JACK may have another period for a moment."""
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


class ClockChanged(RuntimeError):
    """JACK runs with another rate or period than it did when the endpoint began."""


class Misfit:
    """Notices that JACK's clock has become another one, and stays so."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._since_s: float | None = None

    def look(self, now_s: float) -> bool:
        """Whether it is so; to be asked often."""
        if self._arena.jack[0]["state"] != JackState.MISFIT:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        return self._since_s is not None and now_s - self._since_s >= MISFIT_S


def clock_of(config: EndpointConfig, source: SoundFile | None) -> JackClock:
    """Sample rate and period.

    Args:
        source: the file that is played, if one is.

    Raises:
        NoSound: no JACK server is running, or there is no such sound card.
        ConfigError: what was asked for is not what JACK or the file has, JACK is not there, or
            a datagram has no room for it.
    """
    clock = _of_jack(config) if config.audio is Audio.JACK else _of_files(config, source)
    if source is not None and source.rate_hz != clock.rate_hz:
        raise ConfigError(
            SETTINGS["play"].flag,
            str(config.play),
            f"is sampled at {source.rate_hz} Hz, and JACK runs with {clock.rate_hz}",
        )
    _check_datagram(config, clock.period_frames)
    if config.audio is Audio.CARD:
        _check_card(config, clock.rate_hz)
    return clock


def _of_files(config: EndpointConfig, source: SoundFile | None) -> JackClock:
    rate_hz = config.rate_hz
    if source is not None:
        if rate_hz not in (None, source.rate_hz):
            raise ConfigError(
                SETTINGS["rate_hz"].flag,
                rate_hz,
                f"is not the rate of {config.play}, which is sampled at {source.rate_hz} Hz",
            )
        rate_hz = source.rate_hz
        _tell_of_file(config, source)
    return JackClock(rate_hz or DEFAULT.rate_hz, config.period_frames or DEFAULT.period_frames)


def _tell_of_file(config: EndpointConfig, source: SoundFile) -> None:
    """Say what may surprise of a file that is played."""
    if source.channels > 1 and source.channels != config.send_channels:
        left_out = source.channels > config.send_channels
        log.warning(
            "the played file has other channels than are sent",
            path=str(config.play), file=source.channels, sent=config.send_channels,
            so="its further channels are left out" if left_out else "the further ones are silent",
            advice=f"--sendchannels {min(source.channels, MAX_CHANNELS)}",
        )  # fmt: skip
    if source.rate_hz != DEFAULT.rate_hz:
        log.warning(
            "the played file sets the sample rate of the connection",
            path=str(config.play), rate_hz=source.rate_hz,
            advice="JackTrip's own hubs and peers take no other rate than theirs: convert the file",
        )  # fmt: skip


def _of_jack(config: EndpointConfig) -> JackClock:
    try:
        clock = ask_server(config.jack_server or None)
    except ConfigError as error:
        raise ConfigError("--audio", "jack", error.problem) from None
    if clock is None:
        name = f" {config.jack_server!r}" if config.jack_server else ""
        raise NoSound(
            f"no JACK server{name} is running: start jackd, or take --audio card or --audio files"
        )
    if not MIN_PERIOD_FRAMES <= clock.period_frames <= MAX_PERIOD_FRAMES:
        raise NoSound(
            f"JACK runs with {clock.period_frames} frames a period, of which there may be "
            f"{MIN_PERIOD_FRAMES} to {MAX_PERIOD_FRAMES}: start jackd with -p 128 or the like"
        )
    for name, theirs in (("rate_hz", clock.rate_hz), ("period_frames", clock.period_frames)):
        wanted = getattr(config, name)
        if wanted not in (None, theirs):
            flag = SETTINGS[name].flag
            raise ConfigError(flag, wanted, f"is not JACK's, which runs with {theirs}")
    return clock


def _check_card(config: EndpointConfig, rate_hz: int) -> None:
    """See to it that the sound card is there.

    Another process asks: PortAudio starts threads, which the supervisor is to be free of.
    """
    told = _ask_card(rate_hz, config.send_channels, config.receive_channels, config.card)
    if lacks := told.get("lacks"):
        raise ConfigError("--audio", "card", f"needs {lacks}: {_INSTALL[lacks]} ({told['error']})")
    if "error" in told:
        which = f" {config.card!r}" if config.card else ""
        cards = ", ".join(map(repr, told.get("cards", ()))) or "none"
        raise NoSound(
            f"no sound card{which} that does {rate_hz} Hz: {told['error']} (there are: {cards})"
        )
    log.info("sound card", name=told["name"], inputs=told["inputs"], outputs=told["outputs"])


def _ask_card(*words: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "workers.cardprobe", *map(str, words)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": "it does not answer"}
    except (OSError, ValueError, IndexError):
        return {"error": "PortAudio fails"}
    return told


def _check_datagram(config: EndpointConfig, period_frames: int) -> None:
    """What is sent has to fit into datagrams, as often as was wanted."""
    packet = HEADER_BYTES + config.send_channels * period_frames * config.bits // 8
    room = MAX_DATAGRAM_BYTES // packet
    if not room:
        raise ConfigError(
            SETTINGS["send_channels"].flag,
            config.send_channels,
            f"of {period_frames} frames and {config.bits} bits have no room in a datagram: take "
            "fewer channels, shorter periods or fewer bits",
        )
    if config.redundancy > room:
        raise ConfigError(
            SETTINGS["redundancy"].flag,
            config.redundancy,
            f"copies have no room in a datagram, at {config.send_channels} channels of "
            f"{period_frames} frames and {config.bits} bits (1..{room})",
        )
