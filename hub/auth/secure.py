"""The part of a conversation that is inside TLS; sans-IO.

::

    SHAKING ── handshake ──► LISTENING ── credentials ──► (checked elsewhere) ── answer ──► end
"""

from __future__ import annotations

import ssl

from shared.credentials import Credentials, CredentialsReader
from shared.protocol import PeerError, pack_answer

SECURE_TIMEOUT_S = 10.0
"""For the handshake and the credentials together: some round trips, from anywhere."""
_CHUNK_BYTES = 16384


class SecureGreeting:
    """One connection from the moment TLS begins.

    Bytes of the peer go into ``receive``; after every call all of ``outgoing`` is to be sent.
    """

    def __init__(self, context: ssl.SSLContext, now: float) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False
        self._reader = CredentialsReader()
        self.deadline = now + SECURE_TIMEOUT_S

    def receive(self, data: bytes) -> Credentials | None:
        """Take bytes of the peer (none: it will send no more); the credentials once there.

        Raises:
            PeerError: it will never say who it is; there may be an alert to send.
        """
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while chunk := self._tls.read(_CHUNK_BYTES):
                credentials = self._reader.receive(chunk)
                if credentials is not None:
                    return credentials
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            raise PeerError(f"tls: {(error.reason or str(error)).lower()}") from None
        raise PeerError("credentials: ended too early")

    def answer(self, value: int | None) -> None:
        """Say the port or a code (nothing when there is none), and good-bye."""
        try:
            if value is not None:
                self._tls.write(pack_answer(value))
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # its good-bye is not waited for; a peer in disorder gets what it gets

    def outgoing(self) -> bytes:
        """What is to be sent now."""
        return self._outgoing.read()
