"""The inaudible mark: what is played, and what is found again."""

from __future__ import annotations

import numpy as np
import pytest

from hub.doctor.mark import Returned, decode, encode, find_own, mark
from shared.protocol import AudioHeader, pack_header

FRAMES, RATE_HZ = 128, 48_000
PERIOD_NS = round(FRAMES / RATE_HZ * 1e9)
PACKETS = 400
SIGNS = mark(PACKETS * FRAMES)
SENT_NS = np.arange(PACKETS, dtype=np.int64) * PERIOD_NS


def returned(delay_frames: int, frames: int = FRAMES, first: int = 12) -> list[Returned]:
    """A loopback's packets: our sound, so many frames later, in packets of its own length."""
    sound = np.concatenate([np.zeros(delay_frames, np.float32), SIGNS.astype(np.float32)])
    count = (len(SIGNS) // frames) - 1
    return [
        Returned(
            7 + k, round((k + 1) * frames / RATE_HZ * 1e9), sound[k * frames : (k + 1) * frames]
        )
        for k in range(first, count)
    ]


def find(packets: list[Returned]):  # type: ignore[no-untyped-def]
    return find_own(packets, SIGNS, FRAMES, RATE_HZ, SENT_NS)


@pytest.mark.parametrize("bits", [16, 24])
def test_a_packet_is_read_as_it_was_written(bits: int) -> None:
    header = AudioHeader(0, 0, FRAMES, 3, bits, 2, 2)
    data = pack_header(header) + encode(SIGNS[:FRAMES], 2, bits)

    assert len(data) == header.packet_bytes
    np.testing.assert_array_equal(decode(data, header), SIGNS[:FRAMES])


@pytest.mark.parametrize("bits", [8, 32])
def test_what_would_be_heard_is_not_played(bits: int) -> None:
    assert set(encode(SIGNS[:FRAMES], 1, bits)) == {0}


def test_hostile_floats_become_numbers() -> None:
    header = AudioHeader(0, 0, 16, 3, 32, 1, 1)
    wild = np.array([np.nan, np.inf, -np.inf, 3.7e19] * 4, "<f4")
    assert np.isfinite(decode(pack_header(header) + wild.tobytes(), header)).all()


@pytest.mark.parametrize(("delay", "frames"), [(0, 128), (431, 128), (431, 64), (1000, 480)])
def test_own_voice_is_found_to_the_sample(delay: int, frames: int) -> None:
    own = find(returned(delay, frames))

    assert own.present == pytest.approx(1.0, abs=0.01)
    assert own.loud_db is None
    numbers, samples = own.places[-50:].T
    np.testing.assert_array_equal(samples, (numbers - 7) * frames - delay)


def test_the_round_trip_is_that_of_the_packet() -> None:
    own = find(returned(5 * FRAMES))
    # made of packet k - 5, which left 6 periods before it came
    assert np.median(own.trips_ns) == pytest.approx(6 * PERIOD_NS, abs=500)


def test_what_is_missing_is_counted() -> None:
    packets = returned(300)
    for k in range(100, 300, 20):
        packets[k] = Returned(packets[k].number, packets[k].at_ns, np.zeros(FRAMES, np.float32))
    lost = 1.0 - find(packets).present
    assert lost == pytest.approx(10 / len(packets), rel=0.05)


def test_packets_that_never_came_are_not_held_against_the_way_there() -> None:
    packets = [p for k, p in enumerate(returned(300)) if k % 7]
    assert find(packets).present == pytest.approx(1.0, abs=0.01)


def test_a_queue_that_jumps_is_followed() -> None:
    packets = returned(300)[:150] + returned(300 + 200)[150:]
    assert find(packets).present == pytest.approx(1.0, abs=0.01)


def test_a_hub_that_stalls_again_and_again_is_followed() -> None:
    """Twenty packets are skipped each time, and the next stall comes soon."""
    sound = SIGNS.astype(np.float32)
    packets, place = [], 0
    for number in range(200):
        place += FRAMES if number % 6 else 20 * FRAMES
        if place + FRAMES > len(sound):
            break
        at_ns = round((place / FRAMES + 2) * PERIOD_NS)
        packets.append(Returned(number, at_ns, sound[place : place + FRAMES]))
    assert len(packets) > 80
    assert find(packets).present == pytest.approx(1.0, abs=0.02)


def between(packets: list[Returned], offset: float) -> list[Returned]:
    """Read between the samples and rounded to 16 bit, as by a hub that follows our clock."""
    whole = np.concatenate([p.sound for p in packets])
    taps = np.sinc(np.arange(-16, 16) + offset) * np.hanning(34)[1:-1]
    read = np.rint(np.convolve(whole, taps, "same")).astype(np.float32)
    return [
        Returned(p.number, p.at_ns, read[k * FRAMES : (k + 1) * FRAMES])
        for k, p in enumerate(packets)
    ]


@pytest.mark.parametrize("offset", [0.1, 0.25, 0.5])
def test_resampled_sound_is_still_ours(offset: float) -> None:
    own = find(between(returned(300), offset))
    assert own.present is not None
    assert own.present > 0.999


def test_what_is_missing_in_resampled_sound_is_counted() -> None:
    packets = between(returned(300), 0.5)
    for k in range(100, 300, 20):
        packets[k] = Returned(packets[k].number, packets[k].at_ns, np.zeros(FRAMES, np.float32))
    own = find(packets)
    assert own.present is not None
    assert 1.0 - own.present == pytest.approx(10 / len(packets), rel=0.05)


@pytest.mark.parametrize("rms", [0.3, 1.0, 1.5])
def test_open_microphones_of_others_are_no_losses(rms: float) -> None:
    """In full mix: what they pick up is hardly louder than the mark, or not at all."""
    random = np.random.default_rng(2)
    packets = [
        Returned(p.number, p.at_ns, np.rint(p.sound + random.normal(0, rms, FRAMES)).astype("f4"))
        for p in returned(300)
    ]
    own = find(packets)
    if rms < 0.5:
        assert own.present is not None
        assert own.present > 0.999
    else:
        assert own.present is None
        assert own.loud_db == pytest.approx(-90.3 + 20 * np.log10(rms), abs=1.5)


def test_a_gap_that_the_hub_fills_with_noise_is_missing() -> None:
    random = np.random.default_rng(4)
    packets = returned(300)
    for k in range(100, 300, 20):
        noise = np.rint(random.normal(0, 0.7, FRAMES)).astype(np.float32)
        packets[k] = Returned(packets[k].number, packets[k].at_ns, noise)
    own = find(packets)
    assert own.present is not None
    assert 1.0 - own.present == pytest.approx(10 / len(packets), rel=0.05)


def test_silence_is_not_ours() -> None:
    packets = [Returned(k, k * PERIOD_NS, np.zeros(FRAMES, np.float32)) for k in range(300)]
    own = find(packets)
    assert own.present is None
    assert own.loud_db is None


def test_others_noise_is_not_ours() -> None:
    random = np.random.default_rng(1)
    quiet = [
        Returned(k, k * PERIOD_NS, random.integers(-2, 3, FRAMES).astype(np.float32))
        for k in range(300)
    ]
    assert find(quiet).present is None
    loud = [Returned(p.number, p.at_ns, p.sound * np.float32(1000)) for p in quiet]
    own = find(loud)
    assert (own.packets, own.present) == (0, None)
    assert own.loud_db == pytest.approx(-27.3, abs=0.5)


def test_nothing_is_found_in_nothing() -> None:
    assert find([]).present is None
