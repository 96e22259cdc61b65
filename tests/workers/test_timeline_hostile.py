"""Datagrams that no honest client sends, in the middle of a stream: counted, and without effect."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import EndReason, RxState
from shared.protocol import EXIT_PACKET, AudioHeader, pack_header
from tests.workers.streams import (
    DATAGRAM,
    Event,
    Format,
    Take,
    datagram,
    noise,
    plain,
    samples_of,
    take,
)

FORMATS = [
    Format(),
    Format(frames=64, period=128, channels=2, bits=24),
    Format(frames=441, period=128, bits=32),
]


def with_strays(fmt: Format, strays: list[tuple[int, bytes]]) -> list[Event]:
    """A quiet stream, and other datagrams of the same source after its packets."""
    events = plain(fmt, 60)
    for after, data in strays:
        at = events[after].now_ns + 1000
        events.append(Event(DATAGRAM, at, at, data=data))
    return sorted(events, key=lambda event: event.now_ns)


def assert_undisturbed(fmt: Format, taken: Take, strays: int) -> None:
    quiet = take(fmt, noise, plain(fmt, 60), ticks=len(taken.got))
    np.testing.assert_array_equal(taken.heard, quiet.heard)
    assert taken.counted("malformed", "datagrams") == (strays, 60 + strays)
    same = ("packets", "lost", "late", "duplicates", "reordered", "restarts", "peer_port")
    assert taken.counted(*same) == quiet.counted(*same)


garbage = st.one_of(
    st.binary(max_size=80),
    st.binary(min_size=63, max_size=63).filter(lambda data: data != EXIT_PACKET),
    st.integers(0, 65507).map(bytes),
    st.integers(64, 2000).map(lambda n: b"\xff" * n),
)


@settings(max_examples=60)
@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 59), garbage), max_size=8))
def test_garbage(fmt: Format, strays: list[tuple[int, bytes]]) -> None:
    taken = take(fmt, noise, with_strays(fmt, strays))
    assert_undisturbed(fmt, taken, len(strays))


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize(
    "change",
    [{"frames": 32}, {"bits": 8}, {"sends": 5, "wants": 5}, {"rate_code": 2}],
    ids=str,
)
def test_another_format_than_at_first(fmt: Format, change: dict[str, int]) -> None:
    """Legal packets, with the next number even, but not of this stream."""
    fields = {
        "timestamp_us": 0, "sequence": 31, "frames": fmt.frames, "rate_code": 3,
        "bits": fmt.bits, "wants": fmt.channels, "sends": fmt.channels,
    }  # fmt: skip
    header = AudioHeader(**{**fields, **change})
    data = pack_header(header).ljust(header.packet_bytes, b"\x33")
    assert_undisturbed(fmt, take(fmt, noise, with_strays(fmt, [(30, data)])), 1)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@pytest.mark.parametrize("wrong", ["sequence", "frames", "zeros"])
def test_older_parts_are_believed_only_when_they_fit(fmt: Format, wrong: str) -> None:
    """A packet is lost; what comes as its copy has another number, another size or nothing."""
    packets, size = plain(fmt, 60), 16 + fmt.frames * fmt.channels * fmt.bits // 8
    good = Event(DATAGRAM, 0, 0, ((31, 31 * fmt.frames), (30, 30 * fmt.frames)))
    data = bytearray(datagram(fmt, noise, good))
    header = AudioHeader(0, 30, fmt.frames, 3, fmt.bits, fmt.channels, fmt.channels)
    if wrong == "sequence":
        data[size : size + 16] = pack_header(header)[:8] + b"\x1d" + pack_header(header)[9:]
    elif wrong == "frames":
        data[size + 10] ^= 1
    else:
        data[size:] = bytes(size)
    events = [event for k, event in enumerate(packets) if k != 30]
    events[30] = events[30]._replace(data=bytes(data))
    taken = take(fmt, noise, events)
    alone = take(fmt, noise, [event for k, event in enumerate(packets) if k != 30])
    np.testing.assert_array_equal(taken.heard, alone.heard)
    assert taken.counted("repaired", "malformed", "underruns") == (0, 0, alone.rx["underruns"])


def test_copy_of_a_lost_packet_repairs_it() -> None:
    fmt = Format()
    events = plain(fmt, 60)
    pair = ((31, 31 * fmt.frames), (30, 30 * fmt.frames))
    events[31] = events[31]._replace(packets=pair)
    del events[30]
    taken = take(fmt, noise, events)
    np.testing.assert_array_equal(taken.heard, take(fmt, noise, plain(fmt, 60)).heard)
    assert taken.counted("repaired", "reordered", "lost") == (1, 0, 0)


def test_words_that_are_no_audio_are_silence_and_counted() -> None:
    fmt = Format(bits=32)
    events = plain(fmt, 60)
    data = bytearray(datagram(fmt, noise, events[30]))
    evil = np.frombuffer(data, "<f4", offset=16)
    evil[:] = np.resize([np.nan, np.inf, -np.inf, 3.69e19, 9, 1e-40], fmt.frames)
    events[30] = events[30]._replace(data=bytes(data))
    taken = take(fmt, noise, events)
    base = int(taken.trace[0, 1])
    heard = taken.heard[0, base : base + 60 * fmt.frames]
    expected = np.concatenate([samples_of(fmt, noise, k * fmt.frames)[0] for k in range(60)])
    expected[30 * fmt.frames : 31 * fmt.frames] = 0
    np.testing.assert_array_equal(heard[128:], expected[128:])
    assert taken.rx["sanitised"] == sum(k % 6 != 5 for k in range(fmt.frames))


def test_exit_ends_the_session_and_fades() -> None:
    fmt = Format()
    events = with_strays(fmt, [(30, EXIT_PACKET)])
    taken = take(fmt, lambda index, channel: np.full(len(index), 0.5), events)
    assert taken.rx["state"] == RxState.ENDED
    assert taken.rx["end_reason"] == EndReason.CLIENT_EXIT
    end = int(taken.trace[-1, 0])
    x = taken.heard[0, :end]
    assert abs(float(x[-1])) < 1e-3
    assert float(np.max(np.abs(np.diff(x)))) < 0.01
    assert not taken.got[-1]
