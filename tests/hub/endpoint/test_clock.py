"""Whose rate and period an endpoint has, and what of its settings does not fit to them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from hub.endpoint import clock
from hub.endpoint.cards import NoSound
from hub.endpoint.clock import MISFIT_S, Misfit, clock_of
from hub.endpoint.config import EndpointConfig, Role
from hub.endpoint.link import make_arena
from hub.endpoint.resolving import make_endpoint
from hub.endpoint.run import _after
from hub.endpoint.soundfiles import SoundFile
from hub.jack.clock import JackClock
from hub.setting import ConfigError
from shared.jacklayout import JackState


def client(**values: Any) -> EndpointConfig:
    return make_endpoint(Role.CLIENT, "127.0.0.1", **values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"channels": 16, "period_frames": 1024, "bits": 32},
            "--sendchannels: 16 of 1024 frames and 32 bits have no room in a datagram",
        ),
        (
            {"channels": 8, "period_frames": 512, "bits": 24, "redundancy": 6},
            "--redundancy: 6 copies have no room in a datagram, at 8 channels of 512 frames and "
            "24 bits (1..5)",
        ),
    ],
)
def test_what_no_datagram_holds_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        clock_of(client(audio="files", **values), None)
    assert str(caught.value).startswith(said)


def test_the_fullest_datagram_is_not_refused() -> None:
    config = client(audio="files", channels=8, period_frames=512, bits=24, redundancy=5)
    assert clock_of(config, None) == JackClock(48000, 512)


def test_with_jack_what_is_jacks_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "ask_server", lambda name: JackClock(48000, 64))
    assert clock_of(client(rate_hz=48000, period_frames=64), None) == JackClock(48000, 64)
    for values, said in (
        ({"rate_hz": 44100}, "--srate: 44100 is not JACK's, which runs with 48000"),
        ({"period_frames": 128}, "--bufsize: 128 is not JACK's, which runs with 64"),
    ):
        with pytest.raises(ConfigError, match=said):
            clock_of(client(**values), None)


def test_a_file_beside_jack_has_jacks_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(clock, "ask_server", lambda name: JackClock(48000, 64))
    for rate_hz in (48000, 44100):
        path = tmp_path / f"{rate_hz}.wav"
        soundfile.write(path, np.zeros((10, 2)), rate_hz)
        config = client(audio="jack", play=str(path))
        if rate_hz == 48000:
            assert clock_of(config, SoundFile(path)) == JackClock(48000, 64)
            continue
        with pytest.raises(ConfigError, match="is sampled at 44100 Hz, and JACK runs with 48000"):
            clock_of(config, SoundFile(path))


def test_another_clock_of_jacks_is_one_that_stays() -> None:
    config = client(audio="jack")
    fd, arena = make_arena(config, 48000, 128)
    os.close(fd)
    misfit, jack = Misfit(config, arena), arena.jack[0]
    jack["rate_hz"], jack["period_frames"] = 44100, 256
    for state, now_s, changed in (
        (JackState.RUNNING, 1.0, False),
        (JackState.MISFIT, 2.0, False),
        (JackState.WAITING, 2.0 + MISFIT_S, False),
        (JackState.MISFIT, 4.0, False),
        (JackState.MISFIT, 4.0 + MISFIT_S, True),
    ):
        jack["state"] = state
        assert misfit.look(now_s) == (JackClock(44100, 256) if changed else None)


@pytest.mark.parametrize(
    ("values", "rate_hz", "period"),
    [
        ({"period_frames": 128}, 48000, 256),
        ({"rate_hz": 48000}, 44100, 128),
        ({}, 48000, 2048),
        ({"channels": 16, "bits": 32}, 48000, 1024),
    ],
)
def test_a_clock_that_an_endpoint_cannot_have_is_waited_out(
    values: dict[str, Any], rate_hz: int, period: int
) -> None:
    config = client(audio="jack", **values)
    fd, arena = make_arena(config, 48000, 128)
    os.close(fd)
    misfit, jack = Misfit(config, arena), arena.jack[0]
    jack["state"], jack["rate_hz"], jack["period_frames"] = JackState.MISFIT, rate_hz, period
    assert [misfit.look(now_s) for now_s in (1.0, 1.0 + MISFIT_S, 100.0)] == [None] * 3


def test_files_do_not_outlive_jacks_clock_and_a_duration_goes_on(tmp_path: Path) -> None:
    old: Any = SimpleNamespace(tape=SimpleNamespace(running=True, played_s=4.0))
    assert _after(client(audio="jack", duration_s=10), old).duration_s == 6.0
    assert _after(client(audio="jack"), old).duration_s is None
    with pytest.raises(NoSound, match="with which the files cannot go on"):
        _after(client(audio="jack", record=str(tmp_path / "x.wav")), old)


@pytest.mark.parametrize(
    ("rate_hz", "channels", "said"),
    [(48000, 1, []), (48000, 2, []), (48000, 3, ["channels"]), (44100, 4, ["channels", "rate"])],
)
def test_what_may_surprise_of_a_played_file_is_said(
    tmp_path: Path, rate_hz: int, channels: int, said: list[str]
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((10, channels)), rate_hz)
    with capture_logs() as logs:
        assert clock_of(client(play=str(path)), SoundFile(path)).rate_hz == rate_hz
    assert len(logs) == len(said)
    for line, word in zip(logs, said, strict=True):
        assert word in line["event"]
