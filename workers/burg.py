"""Linear prediction by Burg's method: a model of sound, and sound from the model.

Burg chooses, order by order, the reflection coefficient k that leaves the least energy in
the errors f and b of predicting forward and backward in time (J. P. Burg, Maximum entropy
spectral analysis, 1975)::

    k = −2 Σ f·b / Σ (f² + b²)      f' = f + k·b      b' = b + k·f

so |k| <= 1 whatever the sound, and what is predicted does not grow for ever. The sums may
run over several rows: a pair of channels that share their coefficients stays together, and
the sound before and after a gap can be one model's. The lattice is float32, for its input
has no more; the model is float64, since orders in the hundreds lie close to instability.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import filter_kernel, kernel

MAX_ORDER = 255
DAMPING = 2e-6
"""Part by which errors count for more than they are: keeps poles off the unit circle."""
FLOOR = 1e-10
"""Errors of less energy, of sound that peaks at 1, are rounding: the model is complete."""


@filter_kernel
def _sums(ahead, behind, lag, count):
    """Σ ahead[i + lag]·behind[i], and the sum of both squares, over count frames; float32."""
    later = ahead[lag : lag + count]  # in a slice no index can be negative: the loop vectorises
    product, squares = np.float32(0.0), np.float32(0.0)
    for i in range(count):
        f, b = later[i], behind[i]
        product += f * b
        squares += f * f + b * b
    return product, squares


@filter_kernel
def _step(ahead, behind, lag, count, k):
    """One stage of the lattice: to both errors k times the other."""
    later = ahead[lag : lag + count]
    for i in range(count):
        f, b = later[i], behind[i]
        later[i] = f + k * b
        behind[i] = b + k * f


@filter_kernel
def _grow(model, order, k):
    """From the coefficients a_1..a_order to those of order + 1: the same lattice."""
    forward, backward = model[0], model[1, MAX_ORDER - order :]
    for i in range(order):
        a, b = forward[i], backward[i]
        forward[i] = a + k * b
        backward[i] = b + k * a
    model[0, order] = k
    model[1, MAX_ORDER - 1 - order] = k


@kernel
def fit(ahead, behind, lengths, rows, done, order, model):
    """Raise the order of Burg's model of several rows of sound.

    Args:
        ahead, behind: (>= rows, N) float32, the errors; at order 0 both are the sound, which
            peaks at 1 or less. behind[i] at order m is the error at frame i.
        lengths: (>= rows,) int64, frames of each row; one shorter than an order has no say.
        done: the model's order so far, 0 to begin.
        order: wanted, done..MAX_ORDER.
        model: (2, MAX_ORDER) float64: the sound's next frame is about −Σ a_i·x[n − i];
            [0, i − 1] is a_i and [1, MAX_ORDER − i] as well.

    Returns:
        The order reached; less than wanted when the model leaves no error.
    """
    for m in range(done, order):
        product, squares = 0.0, 0.0
        for row in range(rows):
            if lengths[row] > m + 1:
                p, s = _sums(ahead[row], behind[row], m + 1, lengths[row] - m - 1)
                product += p
                squares += s
        if not squares > FLOOR:
            return m
        k = -2.0 * product / (squares * (1.0 + DAMPING))
        k = min(max(k, DAMPING - 1.0), 1.0 - DAMPING)  # float32 sums may say a little more
        for row in range(rows):
            if lengths[row] > m + 1:
                _step(ahead[row], behind[row], m + 1, lengths[row] - m - 1, np.float32(k))
        _grow(model, m, k)
    return order


@filter_kernel
def _dot(coefficients, sound):
    """Their sum of products, float64; as many as there are coefficients."""
    total = 0.0
    for i in range(len(coefficients)):
        total += coefficients[i] * sound[i]
    return total


@kernel
def predict(model, order, limit, drive, gain, sound, origin, start, end):
    """Continue a row of sound by its model.

    Args:
        model, order: from ``fit``.
        limit: no frame becomes larger.
        drive: (period,) float32, what to add as the error of each frame from ``origin`` on,
            times gain; at its end it turns back. There may be none.
        sound: (>= end,) float64; [start − order, start) is read, [start, end) written.
    """
    coefficients = model[1, MAX_ORDER - order :]
    period = len(drive)
    for n in range(start, end):
        error = 0.0
        if period > 0:
            at = (n - origin) % (2 * period)
            error = gain * drive[min(at, 2 * period - 1 - at)]
        sound[n] = min(max(error - _dot(coefficients, sound[n - order : n]), -limit), limit)
