"""Passwords wait here to be hashed, one after the other, sources in turn.

So who sends a thousand passwords waits for a thousand hashes, and everybody else for as many
as there are others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

MAX_WAITING = 1024
MAX_WAITING_SOURCE = 256
"""A whole orchestra may be behind one router."""

Job = TypeVar("Job")
Done = TypeVar("Done")


class QueueFull(RuntimeError):
    """There is no room for one more."""


class FairQueue(Generic[Job, Done]):
    """Carries out jobs one at a time.

    Args:
        work: does a job; its exception is that of the one who waits for it.
    """

    def __init__(self, work: Callable[[Job], Awaitable[Done]]) -> None:
        self._work = work
        self._waiting: dict[Hashable, deque[tuple[Job, asyncio.Future[Done]]]] = {}
        self._count = 0
        self._some = asyncio.Event()

    async def done(self, source: Hashable, job: Job) -> Done:
        """Wait for a job's turn and for its result.

        Raises:
            QueueFull: it cannot even wait.
        """
        mine = self._waiting.setdefault(source, deque())
        if self._count >= MAX_WAITING or len(mine) >= MAX_WAITING_SOURCE:
            if not mine:
                del self._waiting[source]
            raise QueueFull
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        mine.append((job, future))
        self._count += 1
        self._some.set()
        return await future

    async def run(self) -> None:
        """Work for ever; whoever waits when this is cancelled is cancelled, too."""
        try:
            while True:
                await self._some.wait()
                await self._turn()
        finally:
            for waiting in self._waiting.values():
                for _, future in waiting:
                    future.cancel()

    async def _turn(self) -> None:
        """The oldest job of the source whose turn it is."""
        source = next(iter(self._waiting))
        mine = self._waiting.pop(source)
        job, future = mine.popleft()
        if mine:
            self._waiting[source] = mine  # at the end: now it is the others' turn
        self._count -= 1
        if not self._count:
            self._some.clear()
        if future.done():  # nobody waits for it any more
            return
        try:
            result = await self._work(job)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as error:
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(result)
