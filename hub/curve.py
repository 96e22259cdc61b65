"""CURVE on ZeroMQ's sockets: encrypted, and only for who has a key in a folder of ``hub.keys``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from hub.keys import HUB, WrongKey, list_keys, read_pair

DOMAIN = "control"
"""Of those who may speak over TCP, as ZeroMQ asks for them (ZAP)."""
HANDSHAKE_MS = 5_000
"""Who has not proved itself by then is hung up on."""


class Curve:
    """Guards sockets of one context; keys are read once.

    Raises:
        WrongKey: the hub has no key, there is no folder of clients' keys, or one is none.
    """

    def __init__(self, context: zmq.asyncio.Context, keys: Path) -> None:
        self._pair = read_pair(keys / f"{HUB}.key_secret")
        clients = keys / "clients"
        if not clients.is_dir():
            raise WrongKey(f"{clients}: is no folder of keys (see: tuttihub keys make)")
        # one that cannot be read would shut all others out
        self._names = {key: name for name, key in list_keys(keys).items()}
        self._authenticator = AsyncioAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve(domain=DOMAIN, location=clients)

    def guard(self, sock: zmq.Socket[Any]) -> None:
        """Let nobody else to a socket that is to be bound."""
        # without these ZeroMQ would let any key in, were nobody there to ask
        sock.zap_domain = DOMAIN.encode()
        sock.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        sock.handshake_ivl = HANDSHAKE_MS
        sock.curve_publickey, sock.curve_secretkey = self._pair.public, self._pair.secret
        sock.curve_server = True

    def owner(self, message: zmq.Frame) -> str | None:
        """Whose key a message came with."""
        return self._names.get(str(message.get("User-Id")))

    def close(self) -> None:
        """Before the context's end."""
        self._authenticator.stop()
