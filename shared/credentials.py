"""What a client says inside TLS: its port, its name, and who it is; sans-IO.

::

    0        4            68        72        76          77+U        78+U+P
    +--------+------------+---------+---------+-------+---+----------+---+
    | port   | name       | U       | P       | user  | 0 | password | 0 |
    | i32    | 64 bytes   | i32     | i32     | U     |   | P        |   |
    +--------+------------+---------+---------+-------+---+----------+---+

U and P are lengths in bytes of UTF-8. Port and name are those of a plain hello
(``shared.protocol``); the port tells nothing and may be 0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from shared.protocol import HELLO_BYTES, NAME_BYTES, PeerError, encode_name, parse_name

MAX_TEXT_BYTES = 4096
"""Of a user name, and of a password. The original has no limit; of a password 256 bytes count."""

_HEAD = struct.Struct(f"<i{NAME_BYTES}sii")
MAX_MESSAGE_BYTES = _HEAD.size + 2 * (MAX_TEXT_BYTES + 1)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One message.

    Attributes:
        udp_port: the port that the client is going to bind, modulo 65536; informational.
        name: sanitised name, possibly empty.
        user: who it claims to be, up to the first zero byte; what is no UTF-8 is U+FFFD now.
        password: as it came.
    """

    udp_port: int
    name: str
    user: str
    password: bytes = field(repr=False)


class CredentialsReader:
    """Collects the message from chunks of any size; what follows it is dropped."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Credentials | None:
        """Take bytes of the peer; the message once it is whole.

        Raises:
            PeerError: a length that cannot be.
        """
        self._buffer += data[: MAX_MESSAGE_BYTES - len(self._buffer)]
        if len(self._buffer) < _HEAD.size:
            return None
        port, name, user_bytes, password_bytes = _HEAD.unpack_from(self._buffer)
        for what, length in (("user name", user_bytes), ("password", password_bytes)):
            if not 0 <= length <= MAX_TEXT_BYTES:
                raise PeerError(
                    f"credentials: {what} of {length} bytes (0..{MAX_TEXT_BYTES} are allowed)"
                )
        user_end = _HEAD.size + user_bytes
        password_end = user_end + 1 + password_bytes
        if len(self._buffer) <= password_end:
            return None
        user = bytes(self._buffer[_HEAD.size : user_end]).partition(b"\0")[0]
        password = bytes(self._buffer[user_end + 1 : password_end])
        return Credentials(port & 0xFFFF, parse_name(name), user.decode(errors="replace"), password)


def pack_credentials(udp_port: int, name: str, user: str, password: str) -> bytes:
    """Encode the message."""
    texts = user.encode(), password.encode()
    head = struct.pack("<i", udp_port) + encode_name(name)
    assert len(head) == HELLO_BYTES
    return head + struct.pack("<ii", *map(len, texts)) + b"".join(text + b"\0" for text in texts)
