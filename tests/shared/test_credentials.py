"""The credentials message: as clients send it, in any chunks, and as nobody should."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.credentials import (
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    Credentials,
    CredentialsReader,
    pack_credentials,
)
from shared.protocol import PeerError
from tests.golden import VECTORS

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def read(*chunks: bytes) -> Credentials | None:
    """What a reader makes of these chunks."""
    reader, found = CredentialsReader(), None
    for chunk in chunks:
        found = reader.receive(chunk)
    return found


def test_the_originals_message() -> None:
    golden = VECTORS["tls_credentials_message"]
    wanted = golden.decoded
    assert read(golden.data) == Credentials(
        wanted["udp_port"], wanted["name"], wanted["username"], wanted["password"].encode()
    )
    assert pack_credentials(4764, "nm", "alice", "sécret") == golden.data


@given(TEXT, TEXT, st.integers(0, 65535), st.lists(st.integers(1, 200), max_size=5))
def test_a_message_in_any_chunks(user: str, password: str, port: int, cuts: list[int]) -> None:
    data = pack_credentials(port, "Anna", user, password)
    ends = sorted({*cuts, len(data)} & set(range(1, len(data) + 1)))
    chunks = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert read(*chunks) == Credentials(port, "Anna", user, password.encode())
    assert read(data[:-1]) is None


def test_a_reader_does_not_show_the_password() -> None:
    assert "secret" not in repr(read(pack_credentials(1, "", "anna", "secret")))


def test_what_follows_is_dropped() -> None:
    data = pack_credentials(0, "", "anna", "x" * MAX_TEXT_BYTES)
    found = read(data + bytes(MAX_MESSAGE_BYTES))
    assert found is not None
    assert (found.udp_port, len(found.password)) == (0, MAX_TEXT_BYTES)


@pytest.mark.parametrize(
    ("lengths", "problem"),
    [
        ((-1, 1), "user name of -1 bytes"),
        ((1, MAX_TEXT_BYTES + 1), "password of 4097"),
        ((2**31 - 1, 2**31 - 1), "user name"),
    ],
)
def test_lengths_are_bounded(lengths: tuple[int, int], problem: str) -> None:
    with pytest.raises(PeerError, match=problem):
        read(bytes(68) + struct.pack("<ii", *lengths))


@given(st.lists(st.binary(max_size=200), max_size=8))
@example([b"\xff" * 300])
@example([bytes(76), b"\0", b"\0"])
def test_no_bytes_break_a_reader(chunks: list[bytes]) -> None:
    try:
        found = read(*chunks)
    except PeerError:
        return
    assert found is None or "\0" not in found.user
