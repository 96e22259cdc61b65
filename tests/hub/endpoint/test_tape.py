from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from structlog.testing import capture_logs

from hub.endpoint.config import Role
from hub.endpoint.link import make_arena
from hub.endpoint.resolving import make_endpoint
from hub.endpoint.soundfiles import Recorder, SoundFile, Tone
from hub.endpoint.tape import LEAD_S, TAIL_S, Deck, Tape
from hub.setting import ConfigError
from shared.arena import Arena
from shared.layout import RING_FRAMES, EndpointSlot
from tests.end_to_end.processes import wait_until

DEVICE = EndpointSlot.DEVICE
RATE, PERIOD = 48000, 128
LEAD = int(LEAD_S * RATE) // PERIOD * PERIOD


@pytest.fixture
def arena() -> Iterator[Arena]:
    config = make_endpoint(Role.CLIENT, "127.0.0.1", channels=2)
    fd, arena = make_arena(config, RATE, PERIOD)
    yield arena
    os.close(fd)


def noise(frames: int, channels: int = 2) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(1)
    return rng.uniform(-1, 1, (frames, channels)).astype(np.float32)


class Clock:
    """A mixer that loops the device's sound back, at once or so many frames later."""

    def __init__(self, arena: Arena, delay_ticks: int = 0) -> None:
        self.arena, self.delay, self.tick = arena, delay_ticks, 0

    def run(self, ticks: int) -> None:
        mask = RING_FRAMES - 1
        rings, lines = self.arena.rings[DEVICE], self.arena.lines[DEVICE]
        for _ in range(ticks):
            at = np.arange(self.tick * PERIOD, (self.tick + 1) * PERIOD)
            due = self.arena.rx[DEVICE]["watermark"] >= (self.tick + 1 - self.delay) * PERIOD
            for channel in range(2):
                said = rings[channel][(at - self.delay * PERIOD) & mask]
                lines[channel][at & mask] = said if due else 0.0
            self.arena.tx[DEVICE]["last_tick"] = self.arena.clock[0]["tick"] = self.tick
            self.tick += 1


def play(tape: Tape, clock: Clock, ticks_a_turn: int = 20) -> None:
    clock.run(3)
    tape.start()
    while not tape.over:
        clock.run(ticks_a_turn)
        tape.turn()
    tape.close()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_what_is_played_comes_back_as_late_as_the_loop(
    arena: Arena, tmp_path: Path, channels: int
) -> None:
    said = noise(3 * RATE + 77, channels)
    soundfile.write(tmp_path / "said.wav", said, RATE, subtype="FLOAT")
    source = SoundFile(tmp_path / "said.wav")
    assert source.rate_hz == RATE
    tape = Tape(arena, source, Recorder(tmp_path / "heard.wav", RATE, 2))
    play(tape, Clock(arena, 5))
    assert tape.lost_frames == 0

    heard, rate = soundfile.read(tmp_path / "heard.wav", dtype="float32")
    assert rate == RATE
    assert len(heard) >= len(said) + TAIL_S * RATE
    want = np.repeat(said, 2, axis=1) if channels == 1 else said[:, :2]
    assert (heard[5 * PERIOD : 5 * PERIOD + len(said)] == want).all()
    assert not heard[: 5 * PERIOD].any()
    assert not heard[5 * PERIOD + len(said) :].any()


def test_a_mono_recorder_and_silence_to_say(arena: Arena, tmp_path: Path) -> None:
    arena.rx[DEVICE]["wants"] = 1
    tape = Tape(arena, None, Recorder(tmp_path / "heard.flac", RATE, 1))
    clock = Clock(arena)
    tape.start()
    clock.run((LEAD + RATE) // PERIOD)
    tape.turn()
    assert not tape.over  # nothing says when
    assert tape.played_s == pytest.approx(1.0)
    tape.close()
    assert soundfile.info(tmp_path / "heard.flac").frames == RATE
    assert arena.rx[DEVICE]["resting"] == 1


def test_a_thread_that_slept_loses_what_its_time_was_and_keeps_the_beat(
    arena: Arena, tmp_path: Path
) -> None:
    said = noise(6 * RATE)
    soundfile.write(tmp_path / "said.wav", said, RATE, subtype="FLOAT")
    tape = Tape(arena, SoundFile(tmp_path / "said.wav"), Recorder(tmp_path / "h.wav", RATE, 2))
    clock = Clock(arena)
    tape.start()
    clock.run(300)
    tape.turn()
    clock.run(2 * RING_FRAMES // PERIOD)
    while not tape.over:
        tape.turn()
        clock.run(20)
    tape.close()
    assert tape.lost_frames > 0
    heard, _ = soundfile.read(tmp_path / "h.wav", dtype="float32")
    assert (heard[4 * RATE : 6 * RATE] == said[4 * RATE :]).all()


def test_the_tone_goes_on_without_a_seam() -> None:
    tone = Tone(440.0, RATE)
    block = np.concatenate([tone.read(n)[0] for n in (100, 1, 47899)])
    want = 0.1 * np.sin(2 * np.pi * 440 * np.arange(48000) / RATE)
    assert np.abs(block - want).max() < 1e-6


def test_files_that_cannot_be_are_named_with_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "phone.wav", noise(10), 8000)
    for path, why in (
        (tmp_path / "none.wav", "cannot be read: No such file"),
        (tmp_path / "text.wav", "cannot be read"),
        (tmp_path / "phone.wav", "sampled at 8000 Hz, which no peer knows"),
    ):
        with pytest.raises(ConfigError, match=f"--play: '{path}' .*{why}"):
            SoundFile(path)
    with pytest.raises(ConfigError, match=r"--record: .* has no ending that names a sound format"):
        Recorder(tmp_path / "heard", RATE, 2)
    with pytest.raises(ConfigError, match=r"--record: .* cannot be written"):
        Recorder(tmp_path / "nowhere" / "heard.wav", RATE, 2)


@pytest.mark.parametrize(
    ("name", "channels", "said"),
    [
        ("heard.raw", 2, "has no ending that names a sound format"),
        ("heard.flac", 9, "cannot hold 9 channels at 48000 Hz in this format; .wav can"),
        ("heard.mp3", 4, "cannot hold 4 channels"),
        ("there.wav", 2, "is there already: say --overwrite"),
        ("", 2, "has no ending"),
    ],
)
def test_recordings_that_no_file_can_take(
    tmp_path: Path, name: str, channels: int, said: str
) -> None:
    (tmp_path / "there.wav").write_text("yesterday")
    with pytest.raises(ConfigError, match=said):
        Recorder(tmp_path / name, RATE, channels)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["yesterday"]


def test_yesterdays_recording_stays_until_somebody_is_heard(arena: Arena, tmp_path: Path) -> None:
    path = tmp_path / "heard.wav"
    path.write_text("yesterday")
    never = Deck(Tape(arena, None, Recorder(path, RATE, 2, overwrite=True)))
    never.close()
    assert path.read_text() == "yesterday"
    tape = Tape(arena, None, Recorder(path, RATE, 2, overwrite=True))
    tape.start()
    tape.close()
    assert soundfile.info(path).channels == 2


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.wav", "FLOAT"), ("a.flac", "PCM_24"), ("a.aiff", "FLOAT")]
)
def test_as_exact_as_the_format_can(tmp_path: Path, name: str, subtype: str) -> None:
    recorder = Recorder(tmp_path / name, RATE, 2)
    recorder.open()
    said = noise(1000)
    recorder.write(said.T)
    recorder.close()
    assert soundfile.info(tmp_path / name).subtype == subtype
    assert np.abs(soundfile.read(tmp_path / name)[0] - said).max() < 2**-23


def test_a_wave_file_has_room_to_grow_beyond_4_gib(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.wav", RATE, 2)
    recorder.open()
    recorder.write(noise(10).T)
    recorder.close()
    written = (tmp_path / "a.wav").read_bytes()
    assert written[:4] == b"RIFF"  # as long as it is small
    assert written[12:16] == b"JUNK"  # where 64-bit sizes would stand


@pytest.fixture
def small_disk(arena: Arena) -> Iterator[None]:
    """No file grows beyond 100 kB; the arena is there already."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_recording_and_nothing_else(
    arena: Arena, tmp_path: Path, small_disk: None
) -> None:
    tape = Tape(arena, Tone(440.0, RATE), Recorder(tmp_path / "h.wav", RATE, 2))
    clock = Clock(arena)
    tape.start()
    with capture_logs() as logs:
        for _ in range(20):
            clock.run(50)
            tape.turn()
        tape.close()
    assert [(line["event"], line["why"]) for line in logs] == [
        ("recording ended", os.strerror(errno.EFBIG))
    ]
    assert tape.failed == f"recording ended: {os.strerror(errno.EFBIG)}"
    assert arena.rx[DEVICE]["watermark"] > clock.tick * PERIOD  # the tone goes on
    assert soundfile.info(tmp_path / "h.wav").frames > 12_000


def test_a_file_that_came_to_be_meanwhile_is_not_overwritten(arena: Arena, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "h.wav", RATE, 2)
    (tmp_path / "h.wav").write_text("somebody else's")
    tape = Tape(arena, None, recorder)
    tape.start()
    tape.close()
    assert tape.failed == "recording ended: File exists"
    assert (tmp_path / "h.wav").read_text() == "somebody else's"


def test_a_deck_runs_a_tape_and_tells_of_its_gaps(arena: Arena, tmp_path: Path) -> None:
    tape = Tape(arena, None, Recorder(tmp_path / "h.wav", RATE, 2))
    deck = Deck(tape)
    clock = Clock(arena)
    with capture_logs() as logs:
        deck.begin()
        wait_until(lambda: tape.running, 10.0, "a start")
        clock.run(LEAD // PERIOD + RING_FRAMES // PERIOD * 2)
        deck.close()
    assert tape.lost_frames > 0
    assert logs[0]["event"] == "files came too late"
    assert soundfile.info(tmp_path / "h.wav").frames >= 2 * RING_FRAMES - PERIOD
