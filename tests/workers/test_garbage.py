"""What the original's broken 32-bit sender puts on the wire is never heard; true float32 is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.limits import Underrun
from tests.golden import VECTORS
from tests.workers.arenas import arena_of
from tests.workers.streams import Format, Signal, numbers, plain, samples_of, take, tone
from workers.garbage import GARBAGE, GARBAGE_RUN, SILENT, SOUND, SOUND_RUN, judge, muted

Doubles = npt.NDArray[np.float64]
FLOATS = Format(bits=32, channels=2)
COARSE = [0x00000000, 0x80000000, 0x40000000, 0xC0000000, 0x60000000, 0xA0000000]


def judged(words: list[int]) -> int:
    """The kernel's verdict, with bytes around the words that must not matter."""
    data = b"\xa5\x5a\xa5" + np.array(words, "<u4").tobytes() + b"\xa5" * 9
    return int(judge(np.frombuffer(data, np.uint8), 3, len(words)))


def verdict_of(words: list[int]) -> int:
    """The rule, in plain words."""
    if any(word % 2**29 for word in words):
        return SOUND
    return GARBAGE if any(word % 2**31 for word in words) else SILENT


@given(st.lists(st.one_of(st.sampled_from(COARSE), st.integers(0, 2**32 - 1)), max_size=40))
def test_words_are_judged_like_twin(words: list[int]) -> None:
    assert judged(words) == verdict_of(words)


@given(st.lists(st.sampled_from(COARSE), max_size=40))
def test_coarse_words_are_judged_like_twin(words: list[int]) -> None:
    assert judged(words) == verdict_of(words)


class Books:
    """Twin of ``muted``: the whole history, looked at anew each time."""

    def __init__(self) -> None:
        self.broken = False
        self.heard: list[int] = []

    def muted(self, verdict: int) -> bool:
        if verdict != SILENT:
            self.heard.append(verdict)
        if self.heard[-GARBAGE_RUN:] == [GARBAGE] * GARBAGE_RUN:
            self.broken = True
        if self.heard[-SOUND_RUN:] == [SOUND] * SOUND_RUN:
            self.broken = False
        return self.broken or verdict == GARBAGE


@given(st.lists(st.tuples(st.sampled_from([SILENT, GARBAGE, SOUND]), st.integers(1, 70))))
def test_who_is_muted_like_twin(spells: list[tuple[int, int]]) -> None:
    twin, garbage = Books(), 0
    with arena_of() as arena:
        rx = arena.rx[0]
        for verdict, packets in spells:
            for _ in range(packets):
                assert muted(rx, verdict) == twin.muted(verdict)
            garbage += packets * (verdict == GARBAGE)
        assert rx["garbage_packets"] == garbage
        assert bool(rx["garbage"]) == twin.broken


def broken(sound: Doubles) -> Doubles:
    """What the original makes of it: the lower half of a double instead of a float."""
    halves = np.frombuffer(sound.astype("<f4").astype("<f8").tobytes(), "<u4")[::2]
    return np.frombuffer(halves.tobytes(), "<f4").astype(np.float64)


def spoilt(signal: Signal, when: Callable[[int], bool], frames: int = FLOATS.frames) -> Signal:
    """A signal of which some packets come from the broken sender."""

    def samples(index: npt.NDArray[np.int64], channel: int) -> Doubles:
        x = signal(index, channel)
        return broken(x) if when(int(index[0]) // frames) else x

    return samples


def test_broken_sender_is_what_the_original_is() -> None:
    vector = VECTORS["udp_signal_n2b32"]
    size = 4 * vector.frames
    for channel, sent in enumerate(vector.sent_signal().astype(np.float64)):
        wire = vector.data[16 + channel * size :][:size]
        np.testing.assert_array_equal(broken(sent), np.frombuffer(wire, "<f4"))
    assert judge(np.frombuffer(vector.data, np.uint8), 16, 2 * vector.frames) == GARBAGE


def test_nothing_of_a_broken_sender_is_ever_heard() -> None:
    """Not its first packet either; and none of it is counted as samples that were no audio."""
    taken = take(FLOATS, spoilt(tone, lambda _: True), plain(FLOATS, 60))

    assert not taken.heard.any()
    assert taken.counted("garbage", "garbage_packets", "packets") == (1, 60, 60)
    assert taken.counted("peak", "rms", "sanitised") == (0.0, 0.0, 0)


def test_float32_passes_bit_by_bit() -> None:
    """Words of the broken sender among it, and whole packets of silence, included."""

    def sound(index: npt.NDArray[np.int64], channel: int) -> Doubles:
        x = numbers(index, channel)
        x[index % 3 == 0] = 2.0
        x[index // 128 % 4 == 1] = 0.0
        return x

    taken = take(FLOATS, sound, plain(FLOATS, 60))
    base = int(taken.trace[0, 1])
    expected = np.concatenate([samples_of(FLOATS, sound, k * 128) for k in range(60)], axis=1)
    heard = taken.heard[:, base : base + expected.shape[1]]
    np.testing.assert_array_equal(heard[:, 128:], expected[:, 128:])
    assert taken.counted("garbage", "garbage_packets", "sanitised") == (0, 0, 0)


@pytest.mark.parametrize("packets", [1, GARBAGE_RUN + 2])
def test_sound_fades_where_garbage_comes_between(packets: int) -> None:
    """A single packet leaves a hole; a sender of garbage must first prove that it is none."""
    first, last = 20, 20 + packets
    signal = spoilt(tone, lambda k: first <= k < last)
    taken = take(FLOATS, signal, plain(FLOATS, 160))
    base = int(taken.trace[0, 1])
    back = last if packets < GARBAGE_RUN else last + SOUND_RUN - 1
    expected = np.concatenate([samples_of(FLOATS, tone, k * 128) for k in range(160)], axis=1)
    heard = taken.heard[:, base : base + expected.shape[1]]

    for whole in (slice(128, first * 128), slice((back + 1) * 128, None)):
        np.testing.assert_array_equal(heard[:, whole], expected[:, whole])
    assert not heard[:, (first + 1) * 128 : back * 128].any()
    steps = np.abs(np.diff(heard[:, 128:], axis=1)).max(axis=1)
    ramp = np.pi / 2 / 128  # of the raised cosine, on a full-scale tone
    assert np.all(steps <= [0.03 + ramp, 0.06 + ramp])
    assert taken.counted("garbage", "garbage_packets") == (0, packets)


@pytest.mark.parametrize("queue", [1, 3])
@pytest.mark.parametrize("first_is_sound", [True, False])
def test_no_step_where_sound_and_garbage_meet_behind_a_gap(
    queue: int, first_is_sound: bool
) -> None:
    """Of the two packets after it each is of another kind: in its tail, or behind a bridge."""
    short = Format(64, 64, queue, channels=2, bits=32, underrun=Underrun.BURG)
    lost = 40
    turn = lost + 2
    signal = spoilt(tone, lambda k: (k >= turn) is first_is_sound and k > lost, short.frames)
    events = plain(short, 120)
    del events[lost]
    taken = take(short, signal, events)

    assert taken.counted("bridged", "garbage_packets") == (queue > 1, 78 if first_is_sound else 1)
    around = (lost - 4) * 64 + int(taken.trace[0, 1])
    steps = np.abs(np.diff(taken.heard[:, around : around + 16 * 64], axis=1)).max(axis=1)
    ramp = np.pi / 2 / 64  # of the raised cosine over a packet, on a full-scale tone
    assert np.all(steps <= [0.03 + ramp, 0.06 + ramp])
