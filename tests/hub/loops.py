"""Coroutines as tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

DEADLINE_S = 60.0


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in an event loop of its own, with a generous deadline."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), DEADLINE_S))

    run.__name__ = test.__name__
    return run
