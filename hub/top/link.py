"""A line to a hub that outlives the hub: who asks again finds the next one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

from hub.client import ControlError, HubClient, HubRefused
from hub.messages.state import Status

TIMEOUT_S = 2.0

T = TypeVar("T")


class Link:
    """Requests to whatever hub is at the endpoint at the time."""

    def __init__(self, endpoint: str, timeout_s: float = TIMEOUT_S) -> None:
        self.endpoint, self._timeout_s = endpoint, timeout_s
        self._client: HubClient | None = None
        self._inode: int | None = None
        self._connecting = asyncio.Lock()

    async def status(self) -> Status:
        """The whole state.

        Raises:
            ControlError: nobody answers; the next request tries anew.
        """
        return await self._ask(lambda client: client.status())

    async def set_muted(self, client: int | str, muted: bool) -> None:
        """Take a client out of everybody's mix, or back in."""
        await self._ask(lambda hub: hub.mute(client, muted))

    async def kick(self, client: int | str) -> None:
        """End a client's session."""
        await self._ask(lambda hub: hub.kick(client))

    async def _ask(self, ask: Callable[[HubClient], Awaitable[T]]) -> T:
        client = await self._connected()
        try:
            return await ask(client)
        except HubRefused:
            raise
        except ControlError:  # that hub is gone, or stuck: the next request finds out
            if client is self._client:
                await self.close()
            raise

    async def _connected(self) -> HubClient:
        async with self._connecting:
            inode = self._find_inode()
            if inode != self._inode:  # that hub has ended, and perhaps there is another
                await self.close()
            if self._client is None:
                client = HubClient(self.endpoint, self._timeout_s)
                self._client, self._inode = await client.__aenter__(), inode
            return self._client

    def _find_inode(self) -> int | None:
        """Of the socket's file, which goes with its hub; None where there is no file."""
        try:
            return os.stat(self.endpoint.removeprefix("ipc://")).st_ino
        except OSError:
            return None

    async def close(self) -> None:
        """Hang up, without waiting for an answer that is still due."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
