"""The kernels' header against ``shared.protocol``, which is the reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.protocol import (
    BIT_RESOLUTIONS,
    EXIT_PACKET,
    HEADER_BYTES,
    MAX_CHANNELS,
    MAX_FRAMES,
    AudioHeader,
    PeerError,
    pack_header,
    parse_datagram,
)
from shared.protocol import is_exit as reference_is_exit
from tests.golden import AUDIO, VECTORS, Vector
from workers import packet

BEFORE = 3
"""Bytes before a datagram in these tests, so that offsets count."""


def surrounded(data: bytes, fill: int) -> npt.NDArray[np.uint8]:
    """The datagram between other bytes; nothing of those may be read."""
    return np.frombuffer(bytes([fill]) * BEFORE + data + bytes([fill]) * 80, np.uint8)


def parsed(data: bytes) -> tuple[AudioHeader, int] | None:
    """What the kernel makes of a datagram; None when it refuses it."""
    results = []
    for fill in (0x00, 0xFF):
        fields = np.full(packet.FIELDS, -1, np.int64)
        legal = packet.parse(surrounded(data, fill), BEFORE, len(data), fields)
        results.append((legal, tuple(fields.tolist())))
    assert results[0] == results[1], "a byte beyond the datagram was read"
    legal, fields_found = results[0]
    if not legal:
        return None
    header = AudioHeader(
        timestamp_us=int.from_bytes(data[:8], "little"),
        sequence=fields_found[packet.SEQUENCE],
        frames=fields_found[packet.FRAMES],
        rate_code=fields_found[packet.RATE_CODE],
        bits=fields_found[packet.BITS],
        wants=fields_found[packet.WANTS],
        sends=fields_found[packet.SENDS],
    )
    assert fields_found[packet.PACKET_BYTES] == header.packet_bytes
    return header, fields_found[packet.REDUNDANCY]


def expected(data: bytes) -> tuple[AudioHeader, int] | None:
    """What the reference makes of it."""
    try:
        return parse_datagram(data)
    except PeerError:
        return None


headers = st.builds(
    AudioHeader,
    timestamp_us=st.integers(0, (1 << 63) - 1),
    sequence=st.integers(0, 65535),
    frames=st.integers(1, MAX_FRAMES),
    rate_code=st.integers(0, 7),
    bits=st.sampled_from(BIT_RESOLUTIONS),
    wants=st.integers(1, MAX_CHANNELS),
    sends=st.integers(0, MAX_CHANNELS),
)
"""Legal headers, and of those that send nothing."""


@settings(max_examples=300)
@given(st.binary(max_size=100))
@example(b"")
@example(bytes(15))
@example(bytes(16))
@example(EXIT_PACKET)
def test_random_bytes(data: bytes) -> None:
    assert parsed(data) == expected(data)


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([0, 1, 2, 3, 7, 8, 16, 17, 24, 32, 255]), min_size=6, max_size=6),
    st.integers(0, 700),
)
def test_nearly_legal_headers(tail: list[int], length: int) -> None:
    """Bytes 10 to 15 from among those that matter."""
    data = (bytes(10) + bytes(tail)).ljust(length, b"\x7e")[:length]
    assert parsed(data) == expected(data)


@given(headers, st.integers(1, 4), st.integers(-1, 1))
def test_lengths(header: AudioHeader, copies: int, error: int) -> None:
    size = min(header.packet_bytes * copies + error, 65507)
    data = pack_header(header).ljust(size, b"\0")[:size]
    assert parsed(data) == expected(data)


@given(headers)
def test_written_header_is_the_references(header: AudioHeader) -> None:
    data = np.full(HEADER_BYTES + 8, 0xA5, np.uint8)
    packet.write_header(
        data, 4, header.timestamp_us, header.sequence, header.frames, header.rate_code,
        header.bits, header.wants, header.sends,
    )  # fmt: skip
    assert data[4 : 4 + HEADER_BYTES].tobytes() == pack_header(header)
    assert np.all(data[:4] == 0xA5)
    assert np.all(data[4 + HEADER_BYTES :] == 0xA5)


@pytest.mark.parametrize("sequence", [65536, 65537, 1 << 40, (1 << 40) + 65535])
def test_written_sequence_wraps(sequence: int) -> None:
    data = np.zeros(HEADER_BYTES, np.uint8)
    packet.write_header(data, 0, 0, sequence, 64, 3, 16, 2, 2)
    assert int.from_bytes(data[8:10].tobytes(), "little") == sequence & 0xFFFF


@given(st.one_of(st.binary(max_size=70), st.integers(0, 70).map(lambda n: b"\xff" * n)))
def test_exit_is_63_times_ff(data: bytes) -> None:
    for fill in (0x00, 0xFF):
        assert packet.is_exit(surrounded(data, fill), BEFORE, len(data)) == reference_is_exit(data)


@pytest.mark.parametrize("at", range(63))
def test_exit_with_one_wrong_byte_is_none(at: int) -> None:
    data = bytearray(EXIT_PACKET)
    data[at] = 0x7F
    assert not packet.is_exit(np.frombuffer(data, np.uint8), 0, 63)


# ---- what the original sent


@pytest.mark.parametrize("vector", AUDIO, ids=lambda v: v.name)
def test_golden_headers(vector: Vector) -> None:
    assert parsed(vector.data) == parse_datagram(vector.data)
    header, _ = parse_datagram(vector.data)
    data = np.zeros(HEADER_BYTES, np.uint8)
    packet.write_header(
        data, 0, header.timestamp_us, header.sequence, header.frames, header.rate_code,
        header.bits, header.wants, header.sends,
    )  # fmt: skip
    assert data.tobytes() == vector.data[:HEADER_BYTES]


def test_golden_older_parts() -> None:
    """The second packet of a datagram is parsed in its place; at first it is zero bytes."""
    signal, first = VECTORS["udp_signal_n2b16r2"], VECTORS["udp_first_n2b16r2"]
    fields = np.zeros(packet.FIELDS, np.int64)
    assert packet.parse(np.frombuffer(signal.data, np.uint8), 272, 272, fields)
    assert fields[packet.SEQUENCE] == signal.decoded["SeqNumber"] - 1
    assert not packet.parse(np.frombuffer(first.data, np.uint8), 272, 272, fields)


def test_golden_exit() -> None:
    data = VECTORS["udp_exit_packet"].data
    assert packet.is_exit(np.frombuffer(data, np.uint8), 0, len(data))
    assert parsed(data) is None
