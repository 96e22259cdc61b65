"""Kernels of voices and sums against their plain twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.clients.state import DELAY, NOBODY, UNKNOWN
from loadtest.clients.voices import BEAT, SYNC, differs, sounds, sync_at, sync_code
from loadtest.hearing.delays import completed, delays_at
from loadtest.hearing.sequences import add_parts, fill_part, fill_solo
from tests.loadtest.hearing import twins

TALKERS = st.integers(0, 8000)
NUMBERS = st.integers(0, 1 << 33)
MASKS = st.sampled_from([-1, ~0xFF])


@given(TALKERS, NUMBERS, MASKS)
def test_solos_are_their_twins(talker: int, first: int, mask: int) -> None:
    output = np.zeros((2, 300), np.int32)

    fill_solo(talker, first, mask, output)

    numbers = first + np.arange(300)
    for channel in range(2):
        assert (output[channel] == twins.solo(talker, channel, numbers, mask)).all()


@given(TALKERS, NUMBERS, MASKS, st.integers(0, 16383))
def test_parts_are_their_twins(talker: int, first: int, mask: int, level: int) -> None:
    output = np.ones((2, 300), np.int32)

    fill_part(talker, first, 200, mask, level, output)

    numbers = first + np.arange(200)
    assert not output[:, 200:].any()
    for channel in range(2):
        wanted = twins.tutti(talker, channel, numbers, mask, level)
        assert (output[channel, :200] == wanted).all()
        assert abs(wanted).max() <= level


@given(TALKERS, NUMBERS, st.integers(0, 1), st.integers(0, 128), st.integers(0, 299))
def test_one_wrong_sample_is_seen_wherever_it_is(
    talker: int, first: int, channel: int, length: int, at: int
) -> None:
    pcm = np.full(300, 77, np.int16)
    start = min(100, 300 - length)
    pcm[start : start + length] = twins.solo(talker, channel, first + np.arange(length))

    assert not differs(pcm, start, start + length, talker, channel, first, -1, 0)

    pcm[at] += 1
    inside = start <= at < start + length
    assert differs(pcm, start, start + length, talker, channel, first, -1, 0) == inside
    assert not differs(pcm, start, start + length, talker, channel, first, -1, 1)
    assert sounds(pcm, at, at + 1)


@given(TALKERS, NUMBERS, st.booleans())
def test_syncs_are_found_and_tell_the_beat_even_in_8_bits(
    talker: int, first: int, blurred: bool
) -> None:
    numbers = first + np.arange(2 * BEAT)
    values = twins.solo(talker, 0, numbers)
    if blurred:
        values = np.round(np.round(values / 32768 * 127) * 32768 / 127).astype(np.int64)
    pcm = values.astype(np.int16)

    found, at = [], sync_at(pcm, len(pcm), 0)
    while at >= 0:
        found.append(at)
        at = sync_at(pcm, len(pcm), at + 1)

    beats = [k for k, number in enumerate(numbers) if number % BEAT == 0]
    assert set(beats) <= set(found)
    assert blurred or beats == found
    for k in beats:
        assert pcm[k] >= SYNC
        assert sync_code(pcm[k]) == numbers[k] // BEAT % 32


@given(
    st.lists(st.tuples(st.integers(-80, 200), st.integers(1, 3)), min_size=1, max_size=5),
    st.integers(1, 3),
    st.booleans(),
)
def test_sums_are_their_twins(talkers: list[tuple[int, int]], wants: int, upmix: bool) -> None:
    rng = np.random.default_rng(1)
    parts = rng.integers(-50, 50, (len(talkers), 3, 60)).astype(np.int32)
    starts = np.array([start for start, _ in talkers])
    sends = np.array([channels for _, channels in talkers])
    output = np.zeros((wants, 150), np.int32)

    add_parts(parts, starts, sends, int(upmix), output)

    wanted = np.zeros((wants, 150), np.int64)
    for part, (start, channels) in zip(parts, talkers, strict=True):
        for channel in range(wants):
            source = 0 if upmix and channels == 1 and channel == 1 else channel
            for m in range(60):
                if source < channels and 0 <= start + m < 150:
                    wanted[channel, start + m] += part[source, m]
    assert (output == wanted).all()


def log_of(*records: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(list(records), DELAY)


def test_delays_are_those_learnt_last_or_else_first() -> None:
    log = log_of((1, 0, 1, 50), (3, 0, 1, 60), (5, 0, 1, 70), (6, 1, 0, 80))

    assert delays_at(log, 2, 4)[0, 1] == 60
    assert delays_at(log, 2, 0)[0, 1] == 50
    assert delays_at(log, 2, 4)[1, 0] == 80


def test_a_client_that_joins_again_has_no_delays_until_they_are_learnt() -> None:
    log = log_of(
        (1, 0, 1, 50), (1, 1, 0, 55), (2, 1, NOBODY, UNKNOWN), (2, NOBODY, 1, UNKNOWN),
        (7, 0, 1, 90),
    )  # fmt: skip

    table = delays_at(log, 2, 4)

    assert table[0, 1] == 90
    assert table[1, 0] == UNKNOWN
    assert delays_at(log, 2, 1)[0, 1] == 50


@pytest.mark.parametrize(
    "forgotten", [[(0, 1)], [(2, 2), (1, 3)], [(0, 0), (1, 1), (2, 2), (3, 3)]]
)
def test_delays_that_others_tell_are_filled_in(forgotten: list[tuple[int, int]]) -> None:
    listeners, talkers = np.array([5, -40, 900, 0]), np.array([256, 300, 70, 1024])
    right = listeners[:, np.newaxis] + talkers
    table = right.copy()
    for pair in forgotten:
        table[pair] = UNKNOWN

    assert (completed(table) == right).all()
