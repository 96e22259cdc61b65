"""Sample encodings against their twins, and against what the original put on the wire."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.golden import AUDIO, Vector
from tests.workers import twins
from workers import pcm

BITS = (8, 16, 24, 32)
GUARD = 0xA5


def decoded(data: bytes, bits: int, offset: int = 0) -> tuple[npt.NDArray[np.float32], int]:
    """One channel through the kernel, with bytes before and after it that must not matter."""
    frames = len(data) // (bits // 8)
    buffer = np.frombuffer(bytes([GUARD]) * offset + data + bytes([GUARD]) * 7, np.uint8).copy()
    output = np.full(frames + 3, 99, np.float32)
    bad = pcm.decode(buffer, offset, bits, frames, output)
    assert np.all(output[frames:] == 99)
    return output[:frames], bad


def encoded(samples: npt.NDArray[np.float64], bits: int, offset: int = 0) -> tuple[bytes, int]:
    """One channel through the kernel; nothing around it is written."""
    size = len(samples) * bits // 8
    data = np.full(offset + size + 7, GUARD, np.uint8)
    padded = np.concatenate([[9.0, 9.0], samples, [9.0]])
    clipped = pcm.encode(padded, 2, len(samples), bits, data, offset)
    assert np.all(data[:offset] == GUARD)
    assert np.all(data[offset + size :] == GUARD)
    return data[offset : offset + size].tobytes(), clipped


doubles = hnp.arrays(np.float64, st.integers(1, 70), elements=st.floats(-3, 3))
offsets = st.integers(0, 5)


@given(st.binary(min_size=1, max_size=600), st.sampled_from(BITS), offsets)
def test_decode_any_bytes(data: bytes, bits: int, offset: int) -> None:
    data = data[: len(data) - len(data) % (bits // 8)]
    samples, bad = decoded(data, bits, offset)
    expected, expected_bad = twins.decode(data, bits)
    np.testing.assert_array_equal(samples, expected)
    assert bad == expected_bad
    assert np.all(np.isfinite(samples))
    assert np.all(np.abs(samples) <= pcm.AUDIO_LIMIT)


@given(doubles, st.sampled_from(BITS), offsets)
def test_encode_any_samples(samples: npt.NDArray[np.float64], bits: int, offset: int) -> None:
    assert encoded(samples, bits, offset) == twins.encode(samples, bits)


@pytest.mark.parametrize("bits", [8, 16])
def test_every_value_of_8_and_16_bit(bits: int) -> None:
    full = 1 << (bits - 1)
    values = np.arange(-full, full)
    data = values.astype(f"<i{bits // 8}").tobytes()
    samples, bad = decoded(data, bits)
    np.testing.assert_array_equal(samples, values / full)
    assert bad == 0
    # sent on, each is ×127/128 or ×32767/32768, rounded half away from zero, in exact arithmetic
    back = np.frombuffer(encoded(samples.astype(np.float64), bits)[0], f"<i{bits // 8}")
    magnitude = (2 * np.abs(values) * (full - 1) + full) // (2 * full)
    np.testing.assert_array_equal(back, np.sign(values) * magnitude)


def test_24_bit_passes_through_unchanged() -> None:
    rng = np.random.default_rng(1)
    edges = [-(1 << 23), (1 << 23) - 1, 0, -1, 1, 255, 256, -256, -257, 65535, 65536]
    values = np.concatenate([edges, rng.integers(-(1 << 23), 1 << 23, 5000)])
    data = np.stack([values >> 8 & 255, values >> 16 & 255, values & 255], -1).astype("u1")
    samples, _ = decoded(data.tobytes(), 24)
    np.testing.assert_array_equal(samples.astype(np.float64) * (1 << 23), values)
    assert encoded(samples.astype(np.float64), 24) == (data.tobytes(), 0)


@pytest.mark.parametrize(
    ("bits", "x", "wire"),
    [
        (16, 0.5 / 32767, 1),  # halves go away from zero
        (16, -0.5 / 32767, -1),
        (16, 2.5 / 32767, 3),
        (16, 0.4999 / 32767, 0),
        (16, 1.0, 32767),
        (16, -1.0, -32767),
        (16, 7.3, 32767),
        (16, -1e300, -32767),
        (16, float("inf"), 32767),
        (8, 0.5 / 127, 1),
        (8, -0.5 / 127, -1),
        (8, 1.01, 127),
        (8, -9.0, -127),
    ],
)
def test_rounding_and_clipping(bits: int, x: float, wire: int) -> None:
    data, clipped = encoded(np.array([x]), bits)
    assert int.from_bytes(data, "little", signed=True) == wire
    assert clipped == (abs(x) > 1.0)


@pytest.mark.parametrize(
    ("x", "wire"),
    [
        (0.1, "cc0ccc"),
        (-0.5, "00c000"),
        (-0.00001, "ffffac"),
        (1.0, "ff7fff"),  # the original wraps to −1
        (1.5, "ff7fff"),
        (1 - 2.0**-23, "ff7fff"),
        (-1.0, "008000"),
        (-1.5, "008000"),
        (-1e-40, "ffffff"),  # down, not towards zero
        (1e-40, "000000"),
        (-0.0, "000000"),
    ],
)
def test_24_bit_is_floored_and_clipped(x: float, wire: str) -> None:
    assert encoded(np.array([x]), 24)[0].hex() == wire


@pytest.mark.parametrize(
    ("word", "sample", "bad"),
    [
        (struct.pack("<f", 0.3), np.float32(0.3), 0),
        (struct.pack("<f", -8.0), -8.0, 0),
        (struct.pack("<f", 8.000001), 0.0, 1),
        (struct.pack("<f", float("nan")), 0.0, 1),
        (struct.pack("<f", float("inf")), 0.0, 1),
        (struct.pack("<f", float("-inf")), 0.0, 1),
        (bytes.fromhex("0100807f"), 0.0, 1),  # a signalling NaN
        (struct.pack("<f", 3.4e38), 0.0, 1),
        (struct.pack("<f", 1e-40), 0.0, 0),  # a denormal
        (struct.pack("<f", -1e-26), 0.0, 0),
        (struct.pack("<f", 2e-25), np.float32(2e-25), 0),
        (struct.pack("<f", -0.0), 0.0, 0),
        (bytes.fromhex("00000060"), 0.0, 1),
        (bytes.fromhex("00000040"), 2.0, 0),  # whether it is garbage, its packet tells
        (bytes.fromhex("01000040"), np.float32(2.0000002), 0),
    ],
)
def test_32_bit_words_that_are_no_audio(word: bytes, sample: float, bad: int) -> None:
    samples, count = decoded(word, 32)
    assert (samples[0], count) == (sample, bad)


@given(hnp.arrays(np.float32, st.integers(0, 300), elements=st.floats(-8, 8, width=32)))
def test_level(samples: npt.NDArray[np.float32]) -> None:
    for x in (samples, samples.astype(np.float64)):
        padded = np.concatenate([x[:0], np.array([8, 8], x.dtype), x, np.array([8], x.dtype)])
        peak, squares = pcm.level(padded, 2, len(x))
        expected_peak, expected_squares = twins.level(x)
        assert peak == expected_peak
        assert squares == pytest.approx(expected_squares, rel=1e-5, abs=1e-30)


# ---- what the original sent


def payload(vector: Vector, channel: int) -> bytes:
    """One channel's bytes of the newest packet."""
    size = vector.frames * vector.bits // 8
    return vector.data[16 + channel * size :][:size]


@pytest.mark.parametrize("vector", AUDIO, ids=lambda v: v.name)
def test_golden_samples_decoded(vector: Vector) -> None:
    for channel, sent in enumerate(vector.sent_signal()):
        samples, bad = decoded(payload(vector, channel), vector.bits)
        np.testing.assert_array_equal(
            samples, twins.decode(payload(vector, channel), vector.bits)[0]
        )
        if vector.bits == 32:
            continue  # its words have a test of their own
        assert bad == 0
        full_scale = np.abs(sent) < 1  # beyond it 24 bit wraps around
        step = 1 / (1 << (vector.bits - 1))
        np.testing.assert_allclose(samples[full_scale], sent[full_scale], atol=1.5 * step)


@pytest.mark.parametrize("vector", AUDIO, ids=lambda v: v.name)
def test_golden_samples_encoded(vector: Vector) -> None:
    """8 and 16 bit from the signal that was played; 24 and 32 bit from what they decode to.

    24 bit because the original wraps beyond full scale, 32 bit because it sends the
    wrong half of a double; where 24 bit does not wrap, the signal gives the same bytes.
    """
    for channel, sent in enumerate(vector.sent_signal().astype(np.float64)):
        wire = payload(vector, channel)
        if vector.bits == 24:
            inside = np.repeat(np.abs(sent) < 1, 3)
            from_signal = np.frombuffer(encoded(sent, 24)[0], "u1")
            np.testing.assert_array_equal(from_signal[inside], np.frombuffer(wire, "u1")[inside])
            sent = twins.decode(wire, 24)[0].astype(np.float64)
        elif vector.bits == 32:
            sent = np.frombuffer(wire, "<f4").astype(np.float64)
        assert encoded(sent, vector.bits)[0] == wire
