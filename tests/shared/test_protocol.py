"""The wire protocol: headers, hellos, names, answers."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol import (
    BIT_RESOLUTIONS,
    EXIT_PACKET,
    HELLO_BYTES,
    MAX_CHANNELS,
    MAX_FRAMES,
    MIN_FRAMES,
    NAME_BYTES,
    AudioHeader,
    HelloReader,
    PeerError,
    default_udp_base,
    encode_name,
    is_exit,
    pack_header,
    pack_hello,
    parse_answer,
    parse_datagram,
    parse_header,
    parse_name,
    rate_code,
    sequence_step,
)

headers = st.builds(
    AudioHeader,
    timestamp_us=st.integers(0, (1 << 64) - 1),
    sequence=st.integers(0, 65535),
    frames=st.integers(MIN_FRAMES, MAX_FRAMES),
    rate_code=st.integers(0, 7),
    bits=st.sampled_from(BIT_RESOLUTIONS),
    wants=st.integers(1, MAX_CHANNELS),
    sends=st.integers(1, MAX_CHANNELS),
)


@given(headers)
def test_header_round_trip(header: AudioHeader) -> None:
    assert parse_header(pack_header(header)) == header


@given(headers, st.integers(1, 5))
def test_datagram_length_tells_redundancy(header: AudioHeader, copies: int) -> None:
    data = pack_header(header) + bytes(header.packet_bytes * copies - 16)
    if len(data) == 63:
        with pytest.raises(PeerError):
            parse_datagram(data)
        return
    assert parse_datagram(data) == (header, copies)
    with pytest.raises(PeerError, match="no multiple"):
        parse_datagram(data + b"\0") if len(data) != 62 else parse_datagram(data[:-1])


@given(st.binary(max_size=200))
def test_anything_parses_or_raises_peer_error(data: bytes) -> None:
    try:
        header, copies = parse_datagram(data)
    except PeerError:
        return
    assert header.packet_bytes * copies == len(data)


@pytest.mark.parametrize(
    ("offset", "value", "text"),
    [
        (10, b"\x0f\0", "frames: 15 is not in 16..8192"),
        (10, b"\x01\x20", "frames: 8193"),
        (12, b"\x08", "rate code: 8"),
        (13, b"\x0f", "bits: 15"),
        (14, b"\x00", "channels wanted: 0"),
        (14, b"\x11", "channels wanted: 17"),
        (15, b"\x11", "channels sent: 17"),
        (15, b"\xff", "channels sent: 0"),
    ],
)
def test_field_out_of_range_is_named(offset: int, value: bytes, text: str) -> None:
    data = bytearray(pack_header(AudioHeader(0, 0, 128, 3, 16, 2, 1)))
    data[offset : offset + len(value)] = value
    with pytest.raises(PeerError, match=text):
        parse_header(bytes(data))


def test_short_header_is_named() -> None:
    with pytest.raises(PeerError, match="15 bytes"):
        parse_header(bytes(15))


def test_byte_15() -> None:
    """0 means 'as many as I want', 255 means 'nothing'."""
    assert pack_header(AudioHeader(0, 0, 64, 3, 16, 2, 2))[14:] == b"\x02\x00"
    assert pack_header(AudioHeader(0, 0, 64, 3, 16, 2, 1))[14:] == b"\x02\x01"
    assert pack_header(AudioHeader(0, 0, 64, 3, 16, 2, 0))[14:] == b"\x02\xff"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (EXIT_PACKET, True),
        (EXIT_PACKET[:-1], False),
        (EXIT_PACKET + b"\xff", False),
        (EXIT_PACKET[:-1] + b"\xfe", False),
        (bytes(63), False),
        (b"", False),
    ],
)
def test_exit_is_63_times_ff(data: bytes, expected: bool) -> None:
    assert is_exit(data) is expected
    assert is_exit(memoryview(data)) is expected


@given(st.integers(0, 65535), st.integers(-32768, 32767))
def test_sequence_step_across_the_wrap(older: int, step: int) -> None:
    assert sequence_step((older + step) & 0xFFFF, older) == step


@given(
    st.integers(1, 65535),
    st.text(st.characters(exclude_categories=["C", "Z"]), max_size=80),
    st.lists(st.integers(1, 30), max_size=8),
)
def test_hello_in_chunks_of_any_size(port: int, name: str, cuts: list[int]) -> None:
    data = pack_hello(port, name)
    reader = HelloReader()
    at = 0
    for cut in [*cuts, len(data)]:
        assert not reader.complete or at >= HELLO_BYTES
        reader.receive(data[at : at + cut])
        at += cut
    assert reader.complete
    assert reader.hello is not None
    assert (reader.hello.udp_port, reader.hello.named) == (port, True)
    assert reader.hello.name == parse_name(encode_name(name))


def test_hello_of_four_bytes_has_no_name_but_a_port() -> None:
    reader = HelloReader()
    reader.receive(pack_hello(4464, None))
    assert not reader.complete
    assert reader.hello is not None
    assert (reader.hello.udp_port, reader.hello.named) == (4464, False)


@pytest.mark.parametrize("value", [-1, 131072 + 5000, 65537])
def test_any_other_value_is_a_port_as_in_the_original(value: int) -> None:
    reader = HelloReader()
    reader.receive(struct.pack("<i", value))
    assert reader.hello is not None
    assert reader.hello.udp_port == value & 0xFFFF
    assert not reader.hello.wants_auth


def test_port_zero_is_passed_over() -> None:
    reader = HelloReader()
    reader.receive(bytes(4))
    assert reader.hello is None
    reader.receive(bytes(3))
    reader.receive(b"\0" + pack_hello(4464, "x"))
    assert reader.hello is not None
    assert (reader.hello.udp_port, reader.hello.name) == (4464, "x")


def test_ports_of_zero_end_some_time() -> None:
    reader = HelloReader()
    for _ in range(HelloReader.MAX_ZERO_PORTS):
        reader.receive(bytes(4))
    with pytest.raises(PeerError, match="port 0"):
        reader.receive(bytes(4))


def test_reader_keeps_no_more_than_a_hello() -> None:
    reader = HelloReader()
    for _ in range(100):
        reader.receive(b"\x01" * 10_000)
    assert reader.hello is not None
    assert len(reader._buffer) <= HELLO_BYTES + 4 * HelloReader.MAX_ZERO_PORTS


@given(st.binary(max_size=NAME_BYTES))
def test_names_are_one_printable_line(field: bytes) -> None:
    name = parse_name(field)
    assert name == name.strip()
    assert "  " not in name
    assert all(c.isprintable() for c in name)
    assert parse_name(encode_name(name))[:1] == name[:1]


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (b"Anna\0Bert", "Anna"),
        (b"  a \t b \n", "a b"),
        ("e\u0301t\u00e9".encode(), "été"),
        (b"\xff\xfea", "\ufffd\ufffda"),
        ("a\u202eb\u200dc\x1b[1m".encode(), "abc[1m"),
        (b"x" * 64, "x" * 64),
        (b"x" * 70, "x" * 64),
        (b"", ""),
    ],
)
def test_name(field: bytes, name: str) -> None:
    assert parse_name(field) == name


@given(st.text(max_size=100))
def test_encoded_name_is_a_field_with_a_terminator(name: str) -> None:
    field = encode_name(name.encode(errors="replace").decode())
    assert len(field) == NAME_BYTES
    assert field[-1] == 0
    field.rstrip(b"\0").decode()


@pytest.mark.parametrize("data", [b"", b"abc", b"abcde"])
def test_answer_is_four_bytes(data: bytes) -> None:
    with pytest.raises(PeerError, match=f"{len(data)} bytes"):
        parse_answer(data)


@pytest.mark.parametrize(
    ("rate_hz", "code"),
    [
        (22050, 0), (32000, 1), (44100, 2), (48000, 3), (88200, 4), (96000, 5),
        (192000, 7), (48099, 3), (48100, 7), (47901, 3), (47900, 7), (8000, 7),
    ],
)  # fmt: skip
def test_rate_code_as_the_original_sends_it(rate_hz: int, code: int) -> None:
    assert rate_code(rate_hz) == code


def test_udp_base_moves_with_the_tcp_port() -> None:
    assert default_udp_base(4464) == 61002
    assert default_udp_base(4764) == 61302
    assert default_udp_base(5264) == 61802
