"""Whose clock an endpoint runs by: its sample rate and its period, before anything else."""

from __future__ import annotations

import structlog

from hub.endpoint.cards import NoSound, check_card
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


class ClockChanged(RuntimeError):
    """JACK runs with another rate or period than it did when the endpoint began: this one."""

    def __init__(self, clock: JackClock) -> None:
        super().__init__()
        self.clock = clock


class Misfit:
    """Notices that JACK's clock has become another one, and stays so."""

    def __init__(self, config: EndpointConfig, arena: Arena) -> None:
        self._config, self._arena = config, arena
        self._since_s: float | None = None

    def look(self, now_s: float) -> JackClock | None:
        """The new clock, if the endpoint could live by it; to be asked often.

        One by which it cannot is as none: it goes on by its own until JACK's fits again.
        """
        jack = self._arena.jack[0]
        if jack["state"] != JackState.MISFIT:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        if self._since_s is None or now_s - self._since_s < MISFIT_S:
            return None
        clock = JackClock(int(jack["rate_hz"]), int(jack["period_frames"]))
        try:
            _check_jack(self._config, clock)
            _check_datagram(self._config, clock.period_frames)
        except (ConfigError, NoSound):
            return None
        return clock


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
        check_card(config, clock.rate_hz)
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
    _check_jack(config, clock)
    return clock


def _check_jack(config: EndpointConfig, clock: JackClock) -> None:
    """What JACK has must be what an endpoint can have, and what was asked for."""
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
