"""How a client comes to a hub, and what it says when it does not."""

from __future__ import annotations

import asyncio
import socket

import pytest

from hub.endpoint import approach
from hub.endpoint.approach import Approach
from hub.endpoint.config import Role
from hub.endpoint.handshake import NotLetIn
from hub.endpoint.resolving import make_endpoint


def test_who_gives_up_says_why_it_was_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no time was left for the last try."""
    monkeypatch.setattr(approach, "SILENCE_S", 0.2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

        async def call() -> str:
            config = make_endpoint(Role.CLIENT, "127.0.0.1", peer_port=port, timeout=True)
            way = Approach(config, None)
            while True:
                try:
                    await way.enter(1)
                except NotLetIn as error:
                    if way.in_vain:
                        return str(error)
                    await way.rest(error)

        assert f"no hub is running at 127.0.0.1 on TCP port {port}" in asyncio.run(call())
