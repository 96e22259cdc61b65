"""Sound files and a tone: what may be played, and what takes a recording."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hub.setting import ConfigError
from shared.protocol import RATES_HZ

TONE_PEAK = 0.1
_GROWING = {"WAV", "WAVEX"}
_HEADERLESS = "RAW"
_RF64_AUTO_DOWNGRADE = 0x1210
"""SFC_RF64_AUTO_DOWNGRADE of libsndfile: what stays below 4 GiB becomes a WAV file."""

Block = npt.NDArray[np.float32]


class Source(Protocol):
    """What is played."""

    rate_hz: int | None
    """None: any."""

    @property
    def frames(self) -> int | None:
        """None: it never ends."""

    def read(self, frames: int) -> Block:
        """(channels, up to so many frames); fewer at its end alone; raises Broken."""

    def close(self) -> None: ...


class SoundFile:
    """A file to play.

    Attributes:
        channels: of the file.

    Raises:
        ConfigError: it cannot be read, or has a rate that JackTrip does not know.
    """

    def __init__(self, path: Path) -> None:
        import soundfile  # only who plays files needs it

        try:
            path.open("rb").close()  # libsndfile does not say why it cannot
        except OSError as error:
            raise ConfigError("--play", str(path), f"cannot be read: {error.strerror}") from None
        try:
            self._file = soundfile.SoundFile(path)
        except (OSError, RuntimeError) as error:
            raise ConfigError("--play", str(path), f"cannot be read: {error}") from None
        self.rate_hz: int | None = int(self._file.samplerate)
        self.channels = int(self._file.channels)
        if self.rate_hz not in RATES_HZ:
            rates = ", ".join(map(str, RATES_HZ))
            self._file.close()
            raise ConfigError(
                "--play",
                str(path),
                f"is sampled at {self.rate_hz} Hz, which no peer knows ({rates})",
            )

    @property
    def frames(self) -> int | None:
        return int(self._file.frames)

    def read(self, frames: int) -> Block:
        try:
            block: Block = self._file.read(frames, dtype="float32", always_2d=True)
        except (OSError, RuntimeError) as error:
            raise Broken(str(error)) from None
        return block.T

    def close(self) -> None:
        self._file.close()


class Tone:
    """A sine for ever."""

    rate_hz: int | None = None
    frames: int | None = None

    def __init__(self, hz: float, rate_hz: int) -> None:
        self._cycles_a_frame = hz / rate_hz
        self._at = 0

    def read(self, frames: int) -> Block:
        cycles = (self._at + np.arange(frames)) * self._cycles_a_frame
        self._at += frames
        tone: Block = (TONE_PEAK * np.sin(2 * np.pi * (cycles % 1.0))).astype(np.float32)
        return tone[np.newaxis]

    def close(self) -> None: ...


class Broken(RuntimeError):
    """A file cannot be read on or written on; the text says why."""


class Recorder:
    """A file that takes what is heard, as exactly as its format can; made by ``open``.

    A WAV file that grows beyond 4 GiB becomes one of its 64-bit kind, RF64.

    Args:
        overwrite: may replace a recording.

    Raises:
        ConfigError: it cannot be written, or is there already.
    """

    def __init__(self, path: Path, rate_hz: int, channels: int, *, overwrite: bool = False) -> None:
        import soundfile

        self.path = path
        self._file: Any = None
        self._exclusive = not overwrite
        kind = path.suffix.removeprefix(".").upper()
        if kind not in soundfile.available_formats() or kind == _HEADERLESS:
            raise ConfigError(
                "--record", str(path), "has no ending that names a sound format (.wav, .flac, ...)"
            )
        exact = [sub for sub in ("FLOAT", "PCM_24") if soundfile.check_format(kind, sub)]
        self._form = {
            "samplerate": rate_hz,
            "channels": channels,
            "subtype": exact[0] if exact else soundfile.default_subtype(kind),
            "format": "RF64" if kind in _GROWING else kind,
        }
        try:
            soundfile.SoundFile(io.BytesIO(), "w", **self._form).close()
        except (OSError, RuntimeError):
            raise ConfigError(
                "--record",
                str(path),
                f"cannot hold {channels} channels at {rate_hz} Hz in this format; .wav can",
            ) from None
        self._check_place()

    def _check_place(self) -> None:
        """See to it that nothing foreseeable goes wrong once somebody plays."""
        path, there = self.path, self.path.exists()
        if there and path.is_file() and self._exclusive:
            raise ConfigError(
                "--record", str(path), "is there already: say --overwrite, or take another name"
            )
        if there and not path.is_dir():
            problem = "" if os.access(path, os.W_OK) else "no permission"
        elif there:
            problem = "it is a directory"
        elif not path.parent.is_dir():
            problem = "there is no such directory"
        else:
            problem = "" if os.access(path.parent, os.W_OK | os.X_OK) else "no permission"
        if problem:
            raise ConfigError("--record", str(path), f"cannot be written: {problem}")

    def open(self) -> None:
        """Make the file.

        Raises:
            Broken: it cannot be.
        """
        import soundfile

        exclusive = os.O_EXCL if self._exclusive and not _is_device(self.path) else os.O_TRUNC
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | exclusive, 0o666)
        except OSError as error:
            raise Broken(error.strerror) from None
        try:
            file = soundfile.SoundFile(fd, "w", closefd=True, **self._form)
        except (OSError, RuntimeError) as error:
            why = _why(error)
            with contextlib.suppress(OSError):
                os.close(fd)
            raise Broken(why) from None
        if self._form["format"] == "RF64":
            soundfile._snd.sf_command(
                file._file, _RF64_AUTO_DOWNGRADE, soundfile._ffi.NULL, soundfile._snd.SF_TRUE
            )
        self._file = file

    def write(self, block: Block) -> None:
        """Append (channels, frames) to an open file.

        Raises:
            Broken: it takes no more.
        """
        try:
            self._file.write(block.T)
        except (OSError, RuntimeError, AssertionError) as error:  # soundfile asserts full writes
            raise Broken(_why(error)) from None

    def close(self) -> None:
        """Complete the file, if it was opened.

        Raises:
            Broken: it cannot be.
        """
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except (OSError, RuntimeError) as error:
            raise Broken(_why(error)) from None


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _why(error: Exception) -> str:
    """What the system said to libsndfile, which does not hand it on."""
    import soundfile

    number = int(soundfile._ffi.errno)
    return os.strerror(number) if number else str(error) or type(error).__name__
