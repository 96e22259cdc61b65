"""Every captured payload decoded and encoded, byte for byte, by the reference protocol."""

from __future__ import annotations

import struct

import pytest

from shared.protocol import (
    EXIT_PACKET,
    HELLO_BYTES,
    RATES_HZ,
    Answer,
    AudioHeader,
    HelloReader,
    PeerError,
    is_exit,
    pack_answer,
    pack_header,
    pack_hello,
    parse_answer,
    parse_datagram,
    parse_header,
)
from tests.golden import AUDIO, PATH, VECTORS, Vector

HELLOS = [v for v in VECTORS.values() if v.name.startswith("tcp_client_hello")]
ANSWERS = [v for v in VECTORS.values() if v.name == "tcp_hub_answer" or "auth_response" in v.name]


def ids(vectors: list[Vector]) -> list[str]:
    return [vector.name for vector in vectors]


def header_of(decoded: dict[str, int]) -> AudioHeader:
    """A header from the fields read by hand."""
    return AudioHeader(
        timestamp_us=decoded["TimeStamp_us"],
        sequence=decoded["SeqNumber"],
        frames=decoded["BufferSize"],
        rate_code=decoded["SamplingRate_code"],
        bits=decoded["BitResolution"],
        wants=decoded["NumIncomingChannelsFromNet"],
        sends=decoded["payload_channels"],
    )


def test_every_vector_is_used() -> None:
    used = {*ids(AUDIO), *ids(HELLOS), *ids(ANSWERS)}
    assert set(VECTORS) - used == {
        "udp_exit_packet",
        "tcp_auth_request",
        "tls_credentials_message",
    }
    assert len(VECTORS) == 32


def test_vectors_name_nothing_of_the_machine_they_came_from() -> None:
    text = PATH.read_text()
    for trace in ("/home", "/root", "/tmp", "/work", "/usr"):
        assert trace not in text


@pytest.mark.parametrize("vector", AUDIO, ids=ids(AUDIO))
def test_audio_datagram(vector: Vector) -> None:
    header, redundancy = parse_datagram(vector.data)
    assert header == header_of(vector.decoded)
    assert redundancy == vector.decoded["redundancy"]
    assert header.packet_bytes == vector.decoded["full_packet_size"]
    assert RATES_HZ[header.rate_code] == vector.decoded["SamplingRate_hz"]
    assert pack_header(header) == vector.data[:16]


def test_older_part_of_a_redundant_datagram() -> None:
    vector = VECTORS["udp_signal_n2b16r2"]
    older = vector.data[vector.decoded["full_packet_size"] :]
    expected = vector.decoded["second_subpacket"]
    assert parse_header(older) == header_of(expected)
    assert pack_header(header_of(expected)) == older[:16]


def test_older_part_of_a_sessions_first_datagram_is_no_packet() -> None:
    vector = VECTORS["udp_first_n2b16r2"]
    older = vector.data[vector.decoded["full_packet_size"] :]
    assert older == bytes(len(older))
    with pytest.raises(PeerError, match="frames: 0"):
        parse_header(older)


@pytest.mark.parametrize("vector", HELLOS, ids=ids(HELLOS))
def test_hello(vector: Vector) -> None:
    reader = HelloReader()
    reader.receive(vector.data)
    assert reader.complete
    hello = reader.hello
    assert hello is not None
    assert (hello.udp_port, hello.name) == (vector.decoded["udp_port"], vector.decoded["name"])
    assert hello.named
    assert not hello.wants_auth
    assert pack_hello(vector.decoded["udp_port"], vector.decoded["name"]) == vector.data


def test_long_name_is_cut_as_the_original_cuts_it() -> None:
    assert pack_hello(4764, "Åé" * 40) == VECTORS["tcp_client_hello_long_utf8_name"].data


@pytest.mark.parametrize("vector", ANSWERS, ids=ids(ANSWERS))
def test_answer(vector: Vector) -> None:
    value = vector.decoded.get("value", vector.decoded.get("udp_port"))
    assert value is not None
    assert parse_answer(vector.data) == value
    assert pack_answer(value) == vector.data


def test_answer_codes_have_names() -> None:
    for name, code in {
        "auth_response_REQUIRED": Answer.AUTH_REQUIRED,
        "auth_response_NOTREQUIRED": Answer.AUTH_NOT_REQUIRED,
        "auth_response_WRONGCREDS": Answer.WRONG_CREDENTIALS,
        "auth_response_WRONGTIME": Answer.WRONG_TIME,
    }.items():
        assert VECTORS[name].decoded["value"] == code


def test_request_to_authenticate() -> None:
    vector = VECTORS["tcp_auth_request"]
    reader = HelloReader()
    reader.receive(vector.data)
    assert reader.complete
    assert reader.hello is not None
    assert reader.hello.wants_auth
    assert pack_hello(Answer.AUTH, None) == vector.data


def test_credentials_begin_like_a_hello() -> None:
    vector = VECTORS["tls_credentials_message"]
    decoded = vector.decoded
    assert vector.data[:HELLO_BYTES] == pack_hello(decoded["udp_port"], decoded["name"])
    lengths = struct.unpack_from("<ii", vector.data, HELLO_BYTES)
    assert lengths == (decoded["username_length"], decoded["password_length"])


def test_exit_packet() -> None:
    vector = VECTORS["udp_exit_packet"]
    assert is_exit(vector.data)
    assert vector.data == EXIT_PACKET
    with pytest.raises(PeerError, match="63 bytes"):
        parse_datagram(vector.data)
