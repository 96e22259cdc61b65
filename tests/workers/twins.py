"""Slow, obviously right twins of the kernels, in NumPy and plain Python.

The timeline's twin has a module of its own, ``timeline_twin``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.layout import PatchMode
from shared.protocol import HEADER_BYTES, MAX_DATAGRAM_BYTES, AudioHeader, pack_header

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

AUDIO_LIMIT, TINY = 8.0, 1e-25
MAX_GAP_PACKETS = 900
SILENCE = np.zeros(16)


def decode(data: bytes, bits: int) -> tuple[Floats, int]:
    """Samples of one channel, and how many were no audio."""
    if bits == 32:
        raw = np.frombuffer(data, "<f4").astype(np.float64)
        audio = np.isfinite(raw) & (np.abs(raw) <= AUDIO_LIMIT)
        kept = audio & (np.abs(raw) >= np.float64(np.float32(TINY)))
        return np.where(kept, raw, 0.0).astype(np.float32), int(np.sum(~audio))
    values = []
    for i in range(0, len(data), bits // 8):
        word = data[i : i + bits // 8]
        if bits == 24:
            word = bytes([word[2], word[0], word[1]])  # the low byte comes last
        values.append(int.from_bytes(word, "little", signed=True) / (1 << (bits - 1)))
    return np.array(values, np.float32), 0


def encode(samples: Doubles, bits: int) -> tuple[bytes, int]:
    """Wire bytes of one channel, and how many samples were beyond full scale."""
    clipped = sum(abs(x) > 1.0 for x in samples.tolist())
    if bits == 32:
        return samples.astype("<f4").tobytes(), clipped
    out = bytearray()
    for x in samples.tolist():
        if bits == 24:
            value = min(max(math.floor(x * (1 << 23)), -(1 << 23)), (1 << 23) - 1)
            low, mid, high = value & 0xFF, value >> 8 & 0xFF, value >> 16 & 0xFF
            out += bytes([mid, high, low])
        else:
            full = (1 << (bits - 1)) - 1
            scaled = min(max(x * full, -full), full)
            value = int(math.copysign(math.floor(abs(scaled) + 0.5), scaled))
            out += value.to_bytes(bits // 8, "little", signed=True)
    return bytes(out), clipped


def level(samples: npt.NDArray[Any]) -> tuple[float, float]:
    """Peak and sum of squares."""
    x = samples.astype(np.float64)
    return float(np.max(np.abs(x), initial=0.0)), float(np.sum(x * x))


def slope(start: float, end: float, frames: int) -> Doubles:
    """A gain that moves in a straight line and arrives with the last frame."""
    if start == end:
        return np.full(frames, end)
    return start + (end - start) / frames * np.arange(1, frames + 1, dtype=np.float64)


def source_channel(channels: int, channel: int, upmix: bool) -> int | None:
    """The channel of a source that is heard in a listener's channel."""
    if channel < channels:
        return channel
    return 0 if upmix and channels == 1 and channel == 1 else None


def preset(mode: PatchMode) -> tuple[float, float]:
    """Level of the others, and of one's own voice beyond that."""
    return {
        PatchMode.LOOPBACK: (0.0, 1.0),
        PatchMode.FAN_OUT_NO_SELF: (1.0, -1.0),
        PatchMode.FULL_MIX: (1.0, 0.0),
    }.get(mode, (0.0, 0.0))


def resample(
    line: npt.NDArray[Any], table: Floats, frame: int, phase: int, step: int, count: int
) -> Doubles:
    """(channels, count): a ring read at frame + phase / 2^32 + i·(1 + step / 2^32)."""
    output = np.zeros((len(line), count))
    phases, taps = table.shape[0] - 1, table.shape[1]
    for i in range(count):
        whole, part = divmod((frame << 32) + phase + i * ((1 << 32) + step), 1 << 32)
        row, between = divmod(part * phases / (1 << 32), 1)
        weights = (1 - between) * table[int(row)].astype(float) + between * table[int(row) + 1]
        window = (whole - taps // 2 + 1 + np.arange(taps)) % line.shape[1]
        output[:, i] = line[:, window].astype(float) @ weights
    return output


class Mixer:
    """The mixer's twin: sources in, strips and buses out.

    Attributes:
        live: by slot: (session, gains in channels 1, 2 and beyond at the end of the last tick,
            whether it was mono and placed, last sample of each strip).
        places: by slot: gains in channels 1 and 2, of those that have a place of their own.
        mono_place: the same for all other mono sources, if they have one.
    """

    def __init__(self, period: int, *, upmix: bool) -> None:
        self.period, self.upmix = period, upmix
        self.live: dict[int, tuple[int, tuple[float, float, float], bool, Floats]] = {}
        self.places: dict[int, tuple[float, float]] = {}
        self.mono_place: tuple[float, float] | None = None

    def tick(
        self, sources: dict[int, tuple[int, float, Floats]]
    ) -> tuple[dict[int, Floats], Doubles]:
        """One period.

        Args:
            sources: by slot, those with samples in time: (session, strip gain, (channels,
                period) float32).

        Returns:
            Strips by slot, and the (16, period) buses.
        """
        strips: dict[int, Floats] = {}
        live: dict[int, tuple[int, tuple[float, float, float], bool, Floats]] = {}
        for slot, (session, gain, samples) in sources.items():
            known = self.live.get(slot)
            before, was_placed = (0.0, 0.0, 0.0), False
            if known is not None and known[0] == session:
                _, before, was_placed, _ = known
            mono = len(samples) == 1
            place = self.places.get(slot, self.mono_place if mono else None)
            left, right = place or (1.0, float(self.upmix) if mono else 1.0)
            placed = mono and place is not None
            if placed or (mono and was_placed):
                samples = np.vstack([samples, samples])
            after = (gain * left, gain * right, gain)
            strips[slot] = np.array(
                [
                    row * slope(before[min(k, 2)], after[min(k, 2)], self.period).astype(np.float32)
                    for k, row in enumerate(samples)
                ]
            )
            strips_left = strips[slot][: 2 if placed else 1] if mono else strips[slot]
            live[slot] = (session, after, placed, strips_left[:, -1])
        for slot in self.live.keys() - sources.keys():  # these vanished: they glide to silence
            phase = [math.cos(math.pi * (i + 1) / self.period) for i in range(self.period)]
            fall = (0.5 + 0.5 * np.array(phase)).astype(np.float32)
            strips[slot] = self.live[slot][3][:, None] * fall
        buses = np.zeros((16, self.period))
        for slot in sorted(strips):
            for channel in range(16):
                heard = source_channel(len(strips[slot]), channel, self.upmix)
                if heard is not None:
                    buses[channel] += strips[slot][heard]
        self.live = live
        return strips, buses


class Listener:
    """A return stream's twin: from strips and levels to datagrams.

    Args:
        frames, bits, wants, sends, rate_code: of the client (``sends`` is what it sends).
        period: of the hub.
    """

    def __init__(
        self,
        slot: int,
        *,
        frames: int,
        bits: int,
        wants: int,
        sends: int,
        rate_code: int,
        period: int,
        upmix: bool,
    ) -> None:
        self.slot, self.frames, self.bits, self.wants = slot, frames, bits, wants
        self.sends, self.rate_code, self.period, self.upmix = sends, rate_code, period, upmix
        self.downmix = 0.0
        self.bus_gain = self.own_gain = 0.0
        self.extras: dict[int, float] = {}
        self.levels: dict[int, float] = {}
        self.sequence = 0
        self.filling: list[Doubles] = []
        self.older: list[bytes] = []
        self.copies = 0
        self.last_tick: int | None = None

    def set_levels(self, levels: dict[int, float]) -> None:
        """From the next tick on these sources have levels of their own."""
        self.levels = dict(levels)

    def mix(self, mode: PatchMode, strips: dict[int, Floats], buses: Doubles) -> Doubles:
        """(wants, period) of what is heard; every coefficient arrives with the last frame."""
        if self.wants == 1 and self.downmix:
            sides = self._mix(mode, strips, buses, 2)
            folded: Doubles = self.downmix * sides.sum(axis=0, keepdims=True)
            return folded
        return self._mix(mode, strips, buses, self.wants)

    def _mix(
        self, mode: PatchMode, strips: dict[int, Floats], buses: Doubles, channels: int
    ) -> Doubles:
        bus_to, own_to = preset(mode)
        goal = {
            source: level - bus_to - (own_to if source == self.slot else 0.0)
            for source, level in self.levels.items()
        }
        out = np.zeros((channels, self.period))
        for channel in range(channels):
            out[channel] = buses[channel] * slope(self.bus_gain, bus_to, self.period)
            parts = [(self.slot, self.own_gain, own_to)]
            parts += [
                (source, self.extras.get(source, 0.0), goal.get(source, 0.0))
                for source in sorted(self.extras.keys() | goal.keys())
            ]
            for source, before, after in parts:
                if source not in strips or before == after == 0:
                    continue
                heard = source_channel(len(strips[source]), channel, self.upmix)
                if heard is not None:
                    strip = strips[source][heard].astype(np.float64)
                    out[channel] += strip * slope(before, after, self.period)
        self.bus_gain, self.own_gain, self.extras = bus_to, own_to, goal
        return out

    def tick(self, tick: int, mixed: Doubles, wall_us: int, redundancy: int) -> list[bytes]:
        """The datagrams that leave in a tick."""
        size = HEADER_BYTES + self.frames * self.wants * (self.bits // 8)
        copies = max(1, min(redundancy, MAX_DATAGRAM_BYTES // size))
        if copies != self.copies:
            self.copies, self.older = copies, [bytes(size)] * (copies - 1)
        sent: list[bytes] = []
        if self.last_tick is not None and tick > self.last_tick + 1:
            missed = (tick - self.last_tick - 1) * self.period
            sent += self.leave_out(missed, wall_us, copies)
        self.last_tick = tick
        return sent + self.fill(mixed, wall_us, copies)

    def leave_out(self, left: int, wall_us: int, copies: int) -> list[bytes]:
        """So many frames are a gap in the stream."""
        size = HEADER_BYTES + self.frames * self.wants * (self.bits // 8)
        sent: list[bytes] = []
        if self.filling and len(self.filling) + left >= self.frames:
            left -= self.frames - len(self.filling)
            self.filling += [SILENCE] * (self.frames - len(self.filling))
            sent += self.packet(wall_us, copies)
        if left // self.frames <= MAX_GAP_PACKETS:
            if left >= self.frames:
                self.sequence += left // self.frames
                self.older = [bytes(size)] * (copies - 1)
            self.filling += [SILENCE] * (left % self.frames)
        return sent

    def fill(self, samples: Doubles, wall_us: int, copies: int) -> list[bytes]:
        """The datagrams that leave when so many frames are added."""
        sent: list[bytes] = []
        for frame in samples.T:
            self.filling.append(frame)
            sent += self.packet(wall_us, copies)
        return sent

    def packet(self, wall_us: int, copies: int) -> list[bytes]:
        """The datagram that is full, if one is."""
        if len(self.filling) < self.frames:
            return []
        header = AudioHeader(
            wall_us, self.sequence & 0xFFFF, self.frames, self.rate_code, self.bits,
            self.sends, self.wants,
        )  # fmt: skip
        packet = pack_header(header)
        for channel in range(self.wants):
            samples = [frame[channel] for frame in self.filling]
            packet += encode(np.array(samples, np.float64), self.bits)[0]
        datagram = packet + b"".join(self.older)
        self.older = [packet, *self.older][: copies - 1]
        self.filling = []
        self.sequence += 1
        return [datagram]
