"""A model of what JackTrip's clients make of losses: offline, of the documented behaviour only.

The Regulator (``--bufstrategy 3``) predicts each missing packet by Burg's method from the
last few packets that it put out, of an order as high as that history allows, and cross-fades
linearly from the packet it predicted beyond that into the next good one. See docs/protocol.md,
section 6.4, for the constants of both versions. The model is kind to it: a lost packet costs
one packet of prediction and no more, while the real one also slips when its queue does.

The default buffer (``--bufstrategy 1``) puts out zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Sound = npt.NDArray[np.float64]
Lost = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Version:
    """Constants of one release, for mono packets of 128 frames.

    Attributes:
        history: packets that the model is made of; lower: by how much the order is below
            their frames.
        weight: of the first energy term, 2 in the textbook.
        precision: of the arithmetic.
        redone: of the frames before the gap, how many the prediction puts in place of the
            real ones.
    """

    history: int
    lower: int
    weight: float
    precision: type[np.floating]
    redone: int


VERSIONS = {
    "2.7.2": Version(2, 1, 2.00002, np.float32, 0),
    "1.7.0": Version(4, 2, 2.00001, np.float64, 2),
}


def coefficients(history: Sound, version: Version) -> Sound:
    """Burg's recursion as the Regulator has it: energies are carried on, not summed anew."""
    one = version.precision
    ahead = history.astype(one)
    behind = ahead.copy()
    order = len(history) - version.lower
    a = np.zeros(order + 1, one)
    a[0] = 1
    energy = one(version.weight * float(ahead @ ahead)) - ahead[0] ** 2 - behind[-1] ** 2
    for k in range(order):
        f, b = ahead[k + 1 :], behind[: len(behind) - k - 1]
        mu = one(-2) * (f @ b) / (energy if energy != 0 else one(1e-7))
        a[: k + 2] += mu * a[: k + 2][::-1].copy()
        f += (change := mu * b)
        b += mu * (f - change)
        energy = (1 - mu * mu) * energy - f[0] ** 2 - b[-1] ** 2
    return a[1:].astype(np.float64)


def predicted(history: Sound, version: Version, frames: int) -> Sound:
    """So many frames after a history, clipped as the sound card clips."""
    weights = -coefficients(history, version)[::-1]
    start = len(history) - version.redone
    sound = np.concatenate([history[:start], np.zeros(version.redone + frames)])
    for n in range(start, len(sound)):
        begin = max(n - len(weights), 0)
        sound[n] = weights[len(weights) - (n - begin) :] @ sound[begin:n]
        if not abs(sound[n]) <= 1e6:  # it does diverge at times
            sound[n] = 0.0
    return sound[len(history) :]


def regulated(sound: Sound, lost: Lost, frames: int, version: Version) -> Sound:
    """What the Regulator plays of a sound in packets of so many frames, some of them lost."""
    result = sound.copy()
    up = np.arange(frames) / frames
    beyond: Sound | None = None
    for packet in range(len(lost)):
        at = slice(packet * frames, (packet + 1) * frames)
        if lost[packet]:
            begin = at.start - version.history * frames
            history = result[max(begin, 0) : at.start]
            if begin < 0:
                history = np.pad(history, (-begin, 0))
            both = predicted(history, version, 2 * frames)
            result[at], beyond = both[:frames], both[frames:]
        elif beyond is not None:
            result[at] = sound[at] * up + beyond * (1 - up)
            beyond = None
    return np.clip(result, -1.0, 1.0)


def zeroed(sound: Sound, lost: Lost, frames: int) -> Sound:
    """What the default buffer plays."""
    result = sound.copy()
    result[: len(lost) * frames].reshape(-1, frames)[lost] = 0.0
    return result
