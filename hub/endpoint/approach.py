"""How an endpoint comes to the other side, before there is a session: found, let in, or called.

Who was found once may be out of reach for a while: only a name that never was one is final.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Iterator

import structlog

from hub.addresses import IPAddress, parse_sockaddr
from hub.endpoint.config import SILENCE_S, EndpointConfig, Reconnect
from hub.endpoint.handshake import Introduction, NotLetIn, find, shake_hands
from shared.protocol import MAX_DATAGRAM_BYTES, PeerError, parse_datagram

log = structlog.get_logger()

LASTING_S = 20.0
"""After a session that was as long the pauses begin anew."""
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)


def pauses() -> Iterator[float]:
    """Seconds to wait before each next try; not the same for all who lost the same hub."""
    for pause in _PAUSES_S:
        yield pause * random.uniform(0.75, 1.25)
    while True:
        yield _PAUSES_S[-1] * random.uniform(0.75, 1.25)


class Approach:
    """Tries to come to the other side, again and again, with pauses that grow.

    Args:
        login: user name and password, with ``auth``.
    """

    def __init__(self, config: EndpointConfig, login: tuple[str, str] | None) -> None:
        self._config, self._login = config, login
        self._found = False
        self._pauses = pauses()
        self._alone_since_s = time.monotonic()
        self._why = "nobody answers"

    def begin(self) -> None:
        """Nobody is there as of now."""
        self._alone_since_s, self._why = time.monotonic(), "nobody answers"

    @property
    def in_vain(self) -> bool:
        """Whether who never reconnects has tried for long enough."""
        return self._config.reconnect is Reconnect.NEVER and self._left_s <= 0

    @property
    def _left_s(self) -> float:
        return max(0.0, self._alone_since_s + SILENCE_S - time.monotonic())

    async def find(self) -> list[IPAddress]:
        """Addresses of the other side.

        Raises:
            NotLetIn: none; finally, unless there were some before.
        """
        assert self._config.host is not None
        try:
            found = await find(self._config.host)
        except NotLetIn as error:
            if self._found:
                raise NotLetIn(str(error)) from None
            raise
        self._found = True
        return found

    async def enter(self, udp_port: int) -> tuple[IPAddress, int]:
        """Be let in by the hub, at the first of its addresses where that works.

        Args:
            udp_port: ours.

        Returns:
            The hub's address, and the UDP port that it gives us.

        Raises:
            NotLetIn: by none.
        """
        config, failed = self._config, NotLetIn(self._why)  # as the last time, if cut short
        limit_s = self._left_s if config.reconnect is Reconnect.NEVER else None
        who = Introduction(udp_port, config.name, self._login)
        try:
            async with asyncio.timeout(limit_s):
                for address in await self.find():
                    try:
                        return address, await shake_hands(address, config.peer_port, who)
                    except NotLetIn as error:
                        if error.final:
                            raise
                        failed = failed if failed.answered else error
        except TimeoutError:
            pass
        raise failed

    async def rest(self, error: NotLetIn) -> None:
        """Before the next try; who never reconnects rests no longer than is left."""
        self._why = str(error)
        pause_s = next(self._pauses)
        if self._config.reconnect is Reconnect.NEVER:
            pause_s = min(pause_s, self._left_s)
        log.warning(
            "not connected",
            host=self._config.host,
            why=str(error),
            again_in_s=round(pause_s, 1),
        )
        await asyncio.sleep(pause_s)

    async def rest_after(self, session_s: float) -> None:
        """Before the next session, when one has ended that was so long."""
        if session_s > LASTING_S:
            self._pauses = pauses()
        self.begin()
        await asyncio.sleep(next(self._pauses))


async def first_datagram(sock: socket.socket) -> tuple[IPAddress, int]:
    """Address and port of the first who sends audio; its datagram stays to be received."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            try:
                data, sender = sock.recvfrom(MAX_DATAGRAM_BYTES, socket.MSG_PEEK)
            except OSError:
                continue
            try:
                parse_datagram(data)
            except PeerError:
                sock.recv(1)
                continue
            return parse_sockaddr(sender)
    finally:
        loop.remove_reader(sock)
