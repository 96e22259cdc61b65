"""What comes from outside, nearly right: hello, credentials, the file of users, the header.

None of it may break its reader, or make it believe what it must not. In each run some dozens of
examples; by hand as many as one has time for::

    python -m pytest tests/test_fuzz.py --hypothesis-profile=fuzz
"""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from hub.auth.passwd import fields_of, with_user, without_user
from hub.auth.passwords import DIGEST_CHARS, SALT_CHARS
from hub.auth.users import parse_users
from hub.greeting import Greeting
from shared.credentials import MAX_TEXT_BYTES, Credentials, CredentialsReader, pack_credentials
from shared.protocol import (
    BIT_RESOLUTIONS,
    HELLO_BYTES,
    NAME_BYTES,
    AudioHeader,
    Hello,
    PeerError,
    pack_header,
    pack_hello,
)
from tests.mutations import nearly, pieces
from tests.workers.test_packet import expected, parsed

CUTS = st.lists(st.integers(0, 100), max_size=5)
TEXTS = st.sampled_from(
    ["", "Anna", "Müller", "a" * 63, "\u202egnihton", "x\ty", "名前"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PORTS = st.sampled_from([1, 4464, 65535]) | st.integers(1, 65535)


def assert_clean(name: str) -> None:
    """A name that may be shown, logged and compared."""
    assert all(char.isprintable() for char in name)
    assert (name, "  " in name) == (name.strip(), False)
    assert len(name.encode()) <= 3 * NAME_BYTES  # each bad byte becomes three of U+FFFD


def greeted(chunks: list[bytes]) -> Hello | str | None:
    """What a greeting says to these chunks and then an end, or why it says nothing."""
    greeting = Greeting(0.0)
    try:
        for chunk in [*chunks, b""]:
            greeting.receive(chunk, 0.0)
        return greeting.result(0.0)
    except PeerError as error:
        return str(error)


@given(nearly(st.builds(pack_hello, PORTS, TEXTS), [(0, 4), (0, 2), (2, 2)]), CUTS)
def test_hello(data: bytes, cuts: list[int]) -> None:
    found = greeted(pieces(data, cuts))
    if not cuts or len(data) <= HELLO_BYTES:
        assert found == greeted([data] if data else [])
    if isinstance(found, Hello):
        assert_clean(found.name)
        assert found.wants_auth or 0 <= found.udp_port <= 65535
    else:
        assert isinstance(found, str)
        assert found.startswith("hello: ")


def credentials_in(chunks: list[bytes]) -> Credentials | str | None:
    reader, found = CredentialsReader(), None
    try:
        for chunk in chunks:
            found = reader.receive(chunk)
            if found is not None:
                return found
    except PeerError as error:
        return str(error)
    return found


@given(
    nearly(st.builds(pack_credentials, PORTS, TEXTS, TEXTS, TEXTS), [(0, 4), (68, 4), (72, 4)]),
    CUTS,
)
def test_credentials(data: bytes, cuts: list[int]) -> None:
    found = credentials_in(pieces(data, cuts))
    assert found == credentials_in([data])
    if isinstance(found, Credentials):
        assert_clean(found.name)
        assert "\0" not in found.user
        assert len(found.password) <= MAX_TEXT_BYTES
        user_bytes = int.from_bytes(data[68:72], "little")
        assert found.password == data[77 + user_bytes :][: len(found.password)]
        assert len(data) >= 78 + user_bytes + len(found.password)
    elif isinstance(found, str):
        assert found.startswith("credentials: ")


HASH = "$6$salt$" + "a" * DIGEST_CHARS
_LINES = st.builds(
    "{}:{}:{}\n".format,
    st.sampled_from(["anna", "berta", "Anna", "ö", "# anna"]),
    st.sampled_from([HASH, HASH.replace("salt", "./" * 8), "$6$$" + "." * DIGEST_CHARS]),
    st.sampled_from(["*", "", "Mo*", "Mo0800-2300,Su*", "Fr2000-2359,Sa0000-0100"]),
)
FILES = st.lists(_LINES, min_size=1, max_size=5).map(lambda lines: "".join(lines).encode())


@given(nearly(FILES))
def test_file_of_users(data: bytes) -> None:
    text = data.decode(errors="replace")
    users = parse_users(text)
    lines = text.count("\n") + 1
    assert all(1 <= problem.line <= lines for problem in users.problems)
    for name, user in users.by_name.items():
        assert name
        assert ":" not in name
        assert len(user.salt) <= SALT_CHARS
        assert len(user.digest) == DIGEST_CHARS
        assert (user.salt + user.digest).replace(".", "a").replace("/", "a").isalnum()
        assert user.times.include(datetime(2026, 3, 2, 12)) in (True, False)
        assert any(line.startswith(f"{name}:") for line in text.split("\n"))
    changed = with_user(text, "clara", HASH, "*")
    assert parse_users(changed).by_name.keys() == users.by_name.keys() | {"clara"}
    assert parse_users(without_user(changed, "clara")).by_name == users.by_name
    assert fields_of(changed, "clara") is not None


_HEADERS = st.builds(
    AudioHeader,
    timestamp_us=st.integers(0, (1 << 63) - 1),
    sequence=st.sampled_from([0, 1, 32767, 32768, 65535]),
    frames=st.sampled_from([1, 15, 16, 17, 32, 64]),
    rate_code=st.integers(0, 7),
    bits=st.sampled_from(BIT_RESOLUTIONS),
    wants=st.integers(1, 3),
    sends=st.integers(0, 3),
)
DATAGRAMS = st.builds(
    lambda header, copies: (pack_header(header) + bytes(header.packet_bytes - 16)) * copies,
    _HEADERS,
    st.integers(1, 3),
)
_FIELDS = [(8, 2), (10, 2), (12, 1), (13, 1), (14, 1), (15, 1)]


@given(nearly(DATAGRAMS, _FIELDS))
def test_header(data: bytes) -> None:
    """The kernel and the reference agree, and nothing beyond the datagram is looked at."""
    found = parsed(data)
    assert found == expected(data)
    if found is not None:
        header, copies = found
        assert header.packet_bytes * copies == len(data)
