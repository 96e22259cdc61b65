"""A line to a hub that outlives the hub: who asks again finds the next one.

The control socket's client blocks while it waits, so it lives on a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hub.client import ControlError, HubClient, HubRefused

TIMEOUT_S = 2.0


class Link:
    """Requests to whatever hub is at the endpoint at the time."""

    def __init__(self, endpoint: str, timeout_s: float = TIMEOUT_S) -> None:
        self.endpoint, self._timeout_s = endpoint, timeout_s
        self._client: HubClient | None = None
        self._inode: int | None = None
        self._thread = ThreadPoolExecutor(1, "control")

    async def status(self) -> dict[str, Any]:
        """The whole state.

        Raises:
            ControlError: nobody answers; the next request tries anew.
        """
        return await self._run(lambda client: client.status())

    async def set_muted(self, slot: int, muted: bool) -> None:
        """Take a client out of everybody's mix, or back in."""
        await self._run(lambda client: client.set_muted(slot, muted))

    async def kick(self, slot: int) -> None:
        """End a client's session."""
        await self._run(lambda client: client.kick(slot))

    async def _run(self, ask: Callable[[HubClient], dict[str, Any]]) -> dict[str, Any]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, ask)

    def _ask(self, ask: Callable[[HubClient], dict[str, Any]]) -> dict[str, Any]:
        inode = self._find_inode()
        if inode != self._inode:  # that hub has ended, and perhaps there is another
            self._hang_up()
        if self._client is None:
            self._client = HubClient(self.endpoint, self._timeout_s)
            self._inode = inode
        try:
            return ask(self._client)
        except HubRefused:
            raise
        except ControlError:  # that hub is gone, or stuck: the next request finds out
            self._hang_up()
            raise

    def _find_inode(self) -> int | None:
        """Of the socket's file, which goes with its hub; None where there is no file."""
        try:
            return os.stat(self.endpoint.removeprefix("ipc://")).st_ino
        except OSError:
            return None

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        """End it, without waiting for an answer that is still due."""
        self._thread.submit(self._hang_up)
        self._thread.shutdown(wait=False)
