"""Slow, obviously right twins of linear prediction and concealment, in NumPy and float64."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shared.limits import Underrun

Doubles = npt.NDArray[np.float64]

FADE, SIDE, BRIDGE = 128, 1024, 1024


def burg(rows: list[Doubles], order: int) -> Doubles:
    """Coefficients a_1.. of one model for all rows, as the textbook has it; fewer for silence."""
    ahead = [row.copy() for row in rows]
    behind = [row.copy() for row in rows]
    a = np.ones(1)
    for m in range(order):
        ahead, behind = [f[1:] for f in ahead], [b[:-1] for b in behind]
        product = sum(float(f @ b) for f, b in zip(ahead, behind, strict=True))
        squares = sum(float(f @ f + b @ b) for f, b in zip(ahead, behind, strict=True))
        if squares <= 1e-10:
            break
        k = np.clip(-2 * product / (squares * (1 + 2e-6)), 2e-6 - 1, 1 - 2e-6)
        pairs = [(f + k * b, b + k * f) for f, b in zip(ahead, behind, strict=True)]
        ahead, behind = [f for f, _ in pairs], [b for _, b in pairs]
        longer = np.append(a, 0.0)
        a = longer + k * longer[::-1]
        assert len(a) == m + 2
    return a[1:]


def errors(history: Doubles, a: Doubles) -> Doubles:
    """What drives a prediction: what the model leaves unexplained, newest first, attenuated."""
    p = len(a)
    if p == len(history):
        return np.zeros(0)
    size = np.abs(history[p:]).sum()
    left = np.convolve(history, np.append(1.0, a))[p : len(history)]
    noisy = min(np.abs(left).sum() / max(size, 1e-9), 1.0)
    usual = min(np.abs(left).mean(), 2 * np.abs(left[-512:]).mean())
    return np.asarray(np.clip(left[::-1], -2 * usual, 2 * usual) * (0.25 + 0.75 * noisy))


def predict(history: Doubles, a: Doubles, drive: Doubles, count: int, limit: float) -> Doubles:
    """So many frames after the history; the drive goes to and fro."""
    sound = list(history)
    both = np.concatenate([drive, drive[::-1]]) if len(drive) else np.zeros(1)
    for error in np.resize(both, count):
        recent = np.array(sound[: -len(a) - 1 : -1])
        sound.append(float(np.clip(error - recent @ a, -limit, limit)))
    return np.array(sound[len(history) :])


def rise(x: npt.ArrayLike) -> Doubles:
    x = np.clip(np.asarray(x, np.float64), 0, 1)
    return np.asarray(3 * x**2 - 2 * x**3)


def envelope(count: int, rate_hz: int) -> Doubles:
    """1 for 20 ms, then down to 0 at 60 ms."""
    hold, silence = rate_hz * 0.02, rate_hz * 60 // 1000
    return 1 - rise((np.arange(count) + 1 - hold) / (silence - hold))


def mirror(history: Doubles, count: int) -> Doubles:
    result = np.zeros(count)
    if len(history):
        for i in range(min(count, FADE)):
            result[i] = history[::-1][min(i, len(history) - 1)]
            result[i] *= 1 - rise((i + 1) / (FADE + 1))
    return result


def repeat(history: Doubles, packet: int, count: int) -> Doubles:
    """The last packet over and over; each seam is a cross-fade."""
    n = len(history)
    if n < 64:
        return mirror(history, count)
    fade = min(FADE, packet, n // 3)
    loop = min(packet, n - fade)
    fade = min(FADE, loop, n - loop)
    up = rise((np.arange(fade) + 1) / (fade + 1))
    turn = history[n - loop :].copy()
    turn[loop - fade :] += up * (history[n - loop - fade : n - loop] - turn[loop - fade :])
    result = np.resize(turn, max(count, fade))
    result[:fade] = history[::-1][:fade] * (1 - up) + up * result[:fade]
    return result[:count]


@dataclass
class Twin:
    """One gap, from its first call on; ``history`` is what was known then, (channels, n)."""

    method: Underrun
    rate_hz: int
    packet: int
    max_order: int
    history: Doubles
    models: list[Doubles] = field(default_factory=list)

    def _pair(self, channel: int, after: Doubles) -> list[Doubles]:
        """Rows that a channel's model is made of, at one scale; empty: silence."""
        pair = slice(channel // 2 * 2, channel // 2 * 2 + 2)
        rows = [*self.history[pair], *after[pair]]
        peak = max((np.abs(row).max() for row in rows if len(row)), default=0.0)
        return [row / peak for row in rows] if peak >= 1e-9 else []

    def _order(self, past: int, future: int) -> int:
        return min(self.max_order, 1024 // len(self.history), max(past, future) // 2)

    def _continue(
        self, before: Doubles, a: Doubles, drive: Doubles, limit: float, count: int
    ) -> Doubles:
        if self.method is Underrun.WAVETABLE:
            return repeat(before, self.packet, count)
        if self.method is Underrun.ZERO or not len(a):
            return mirror(before, count)
        return predict(before, a, drive, count, 8 * limit)

    def fill(self, gap: int, start: int, until: int, after: Doubles | None) -> Doubles:
        """What a call writes, (channels, ...).

        Args:
            gap, start, until: as of ``conceal.fill``.
            after: (channels, future) of the sound that follows a gap to be bridged, which then
                begins at ``until``; None: unknown.
        """
        channels, past = self.history.shape
        known = np.zeros((channels, 0)) if after is None else after[:, :SIDE]
        wanted = self._order(past, known.shape[1])
        orders = [n if n >= 8 else 0 for n in (min(wanted, past), min(wanted, known.shape[1]))]
        if not self.models:
            for c in range(channels):
                rows = self._pair(c, known)
                self.models.append(burg(rows, orders[0]) if rows else np.zeros(0))
        end = until if after is not None else until + FADE
        result = np.zeros((channels, end - start))
        for c in range(channels):
            past, model = self.history[c], self.models[c]
            drive = errors(past, model) if len(model) else np.zeros(0)
            peak, other = (float(np.abs(x).max(initial=0.0)) for x in (past, known[c]))
            limit = 2 * peak
            silence = self.rate_hz * 60 // 1000
            ahead = np.zeros(end - gap)
            count = min(end - gap, silence)
            ahead[:count] = self._continue(past, model, drive, limit, count)
            ahead *= envelope(end - gap, self.rate_hz)
            result[c] = ahead[start - gap :]
            if after is not None:
                limit = 2 * max(peak, other)
                zone = min(end - start, BRIDGE)
                rows = self._pair(c, known)
                a = burg(rows, orders[1]) if rows else np.zeros(0)
                drive = drive * min(1.0, other / peak) if peak else drive
                back = self._continue(known[c, ::-1], a, drive, limit, zone)
                up = (np.arange(zone) + 1) / (zone + 1)
                back *= envelope(zone, self.rate_hz)
                result[c, -zone:] += (back[::-1] - result[c, -zone:]) * up
            result[c] = np.clip(result[c], -limit, limit)
        return result
