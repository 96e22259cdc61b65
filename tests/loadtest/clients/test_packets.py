"""Packets of virtual clients: against the protocol's reader, plain NumPy, and the hub's codec."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.clients.packets import (
    copies_in,
    fill_header,
    is_blank,
    number_of,
    read_samples,
    write_voice,
)
from loadtest.clients.roster import EIGHT_BIT_MASK, EIGHT_BIT_TOLERANCE, make_clients
from loadtest.clients.voices import EVERYBODY, SILENCE, SOLO, solo_sample, tutti_sample
from loadtest.scenario.model import Format, Scenario, Section
from shared.protocol import parse_header
from workers.pcm import decode, encode

BITS = (8, 16, 24, 32)
FRAMES = 32
Pcm = npt.NDArray[np.int64]


def one_client(**changes: Any) -> npt.NDArray[Any]:
    """The record of a lone client of a format."""
    return make_clients(Scenario(sections=(Section(clients=1, format=Format(**changes)),)))


def written(bits: int, channels: int, origin: int, first: int, until: int, kind: int) -> bytes:
    """A packet's samples, written over garbage."""
    data = np.full(channels * FRAMES * bits // 8 + 8, 0x55, np.uint8)
    mask = EIGHT_BIT_MASK if bits == 8 else -1
    write_voice(data, 4, bits, channels, FRAMES, 3, origin, first, until, kind, mask, 1500)
    assert bytes(data[:4]) == bytes(data[-4:]) == b"UUUU"
    return bytes(data[4:-4])


def values(channels: int, origin: int, first: int, until: int, kind: int, mask: int) -> Pcm:
    """What such a packet should hold, (channels, FRAMES) in 16-bit steps."""
    pcm = np.zeros((channels, FRAMES), np.int64)
    for channel in range(channels):
        for i in range(FRAMES):
            number = origin + i
            if kind == SOLO and first <= number < until:
                pcm[channel, i] = solo_sample(3, channel, number, mask)
            elif kind == EVERYBODY and first <= number < until:
                pcm[channel, i] = tutti_sample(3, channel, number, mask, 1500)
    return pcm


def encoded(pcm: Pcm, bits: int) -> bytes:
    """16-bit steps as the wire has them, planar."""
    match bits:
        case 8:
            return (pcm >> 8).astype("i1").tobytes()
        case 16:
            return pcm.astype("<i2").tobytes()
        case 24:
            return b"".join(struct.pack("<hB", int(v), 0) for v in pcm.ravel())
        case _:
            return (pcm / 32768).astype("<f4").tobytes()


@pytest.mark.parametrize("bits", BITS)
@given(
    st.integers(1, 3),
    st.integers(0, 1 << 40),
    st.integers(-40, 40),
    st.integers(0, 80),
    st.sampled_from([SILENCE, SOLO, EVERYBODY]),
)
@settings(max_examples=40, deadline=None)
def test_voices_are_written_as_the_wire_has_them(
    bits: int, channels: int, origin: int, offset: int, length: int, kind: int
) -> None:
    first, until = origin + offset, origin + offset + length
    mask = EIGHT_BIT_MASK if bits == 8 else -1

    data = written(bits, channels, origin, first, until, kind)

    assert data == encoded(values(channels, origin, first, until, kind, mask), bits)


@pytest.mark.parametrize("bits", BITS)
def test_the_hub_reads_what_was_meant(bits: int) -> None:
    data = np.frombuffer(written(bits, 1, 128, 0, 1 << 40, SOLO), np.uint8)
    heard = np.zeros(FRAMES, np.float32)

    bad = decode(data, 0, bits, FRAMES, heard)

    mask = EIGHT_BIT_MASK if bits == 8 else -1
    assert bad == 0
    assert np.array_equal(heard * 32768, values(1, 128, 0, 1 << 40, SOLO, mask)[0])


@pytest.mark.parametrize("bits", BITS)
def test_what_the_hub_sends_is_read_within_the_tolerance(bits: int) -> None:
    """All values of a solo or a tutti: below 16384."""
    meant = np.arange(-16383, 16384)
    data = np.zeros(meant.size * bits // 8, np.uint8)
    encode(meant / 32768, 0, meant.size, bits, data, 0)
    pcm = np.zeros(meant.size, np.int16)

    read_samples(data, 0, bits, meant.size, pcm)

    tolerance = EIGHT_BIT_TOLERANCE if bits == 8 else 0
    assert np.abs(pcm - meant).max() <= tolerance


def read(data: bytes, bits: int) -> list[int]:
    pcm = np.zeros(len(data) * 8 // bits, np.int16)
    read_samples(np.frombuffer(data, np.uint8), 0, bits, pcm.size, pcm)
    return pcm.tolist()


@given(st.binary(min_size=1, max_size=64))
@settings(deadline=None)
def test_8_bit_words_are_rounded(data: bytes) -> None:
    words = np.frombuffer(data, "i1").astype(np.float64)

    assert read(data, 8) == np.clip(np.round(words * 32768 / 127), -32768, 32767).tolist()


@given(st.lists(st.tuples(st.integers(-32768, 32767), st.integers(0, 255)), min_size=1))
@settings(deadline=None)
def test_24_bit_words_are_rounded(words: list[tuple[int, int]]) -> None:
    data = b"".join(struct.pack("<hB", high, low) for high, low in words)

    expected = [min((high * 256 + low + 128) // 256, 32767) for high, low in words]
    assert read(data, 24) == expected


@given(st.lists(st.floats(width=32), min_size=1))
@settings(deadline=None)
def test_floats_are_rounded_and_clipped(words: list[float]) -> None:
    def expected(x: float) -> int:
        if x != x:
            return 0
        return int(min(max(np.floor(x * 32768 + 0.5), -32768), 32767))

    data = np.array(words, "<f4").tobytes()
    assert read(data, 32) == [expected(x) for x in words]


@pytest.mark.parametrize(("sends", "wants"), [(2, 2), (1, 2), (3, 1)])
def test_headers_are_the_protocols(sends: int, wants: int) -> None:
    clients = one_client(frames=480, rate_hz=44100, bits=24, sends=sends, wants=wants)
    data = np.zeros(20, np.uint8)

    fill_header(data, 4, 1 << 50, 0x1ABCD, clients[0])

    header = parse_header(bytes(data[4:]))
    assert (header.timestamp_us, header.sequence, header.frames) == (1 << 50, 0xABCD, 480)
    assert (header.rate_code, header.bits) == (2, 24)
    assert (header.sends, header.wants) == (sends, wants)


def answer(clients: npt.NDArray[Any], copies: int, **changes: int) -> npt.NDArray[np.uint8]:
    """What a hub should answer this client, or, with changes, should not."""
    client = {name: int(clients[0][name]) for name in ("frames", "bits", "sends", "wants")}
    fields = {
        "frames": client["frames"],
        "rate": int(clients[0]["rate_code"]),
        "bits": client["bits"],
        "wants": client["sends"],
        "sends": client["wants"] if client["wants"] != client["sends"] else 0,
    } | changes
    header = struct.pack(
        "<QHHBBBB", 0, 7, fields["frames"], fields["rate"], fields["bits"], fields["wants"],
        fields["sends"],
    )  # fmt: skip
    payload = bytes(client["frames"] * client["wants"] * client["bits"] // 8)
    return np.frombuffer((header + payload) * copies, np.uint8).copy()


@pytest.mark.parametrize(("sends", "wants"), [(2, 2), (1, 2), (2, 1)])
def test_answers_as_agreed_are_taken(sends: int, wants: int) -> None:
    clients = one_client(frames=64, bits=16, sends=sends, wants=wants, redundancy=2)

    for copies in (1, 2):
        data = answer(clients, copies)
        assert copies_in(data, data.size, clients[0]) == copies
        assert number_of(data, 0) == 7
    data = answer(clients, 3)
    assert copies_in(data, data.size, clients[0]) == 0, "more copies than it sends"


@pytest.mark.parametrize(
    "changes",
    [{"frames": 63}, {"rate": 2}, {"bits": 24}, {"wants": 1}, {"sends": 1}, {"sends": 255}],
    ids=lambda changes: ",".join(changes),
)
def test_other_answers_are_not(changes: dict[str, int]) -> None:
    clients = one_client(frames=64)
    data = answer(clients, 1, **changes)

    assert copies_in(data, data.size, clients[0]) == 0


@pytest.mark.parametrize("length", [0, 15, 16, 271, 273])
def test_other_lengths_are_not(length: int) -> None:
    clients = one_client(frames=64)
    data = np.concatenate((answer(clients, 1), np.zeros(8, np.uint8)))

    assert copies_in(data, length, clients[0]) == 0


def test_zeros_before_the_first_packet_are_told_from_packets() -> None:
    assert is_blank(np.zeros(16, np.uint8), 0)
    assert not is_blank(answer(one_client(), 1), 0)
