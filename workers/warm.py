"""Compile every kernel, or load it from the cache, and call each of the loops once.

``python -m workers.warm`` fills the cache after an installation; the zygote calls
``warm_up`` before its first fork, so that no worker ever compiles.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import numpy as np

from shared.arena import create_arena
from shared.kernels import cache_folder, compiled_anew
from workers.lane import run_lane
from workers.mixer import make_sources, run_mixer
from workers.receiver import make_inbox, run_receiver
from workers.transmit import make_lane


def _nothing(step: str) -> None:
    pass


def warm_up(progress: Callable[[str], None] = _nothing) -> int:
    """Run each loop on a small arena whose stop word is set: it returns at once.

    Args:
        progress: told the name of each loop before it is compiled.

    Returns:
        How many kernels had to be compiled because the cache did not hold them.
    """
    fd, arena = create_arena(slots=2, rate_hz=48000, period_frames=64)
    life_read, life_write = os.pipe()
    try:
        arena.control[0]["stop"] = 1
        progress("receiver")
        run_receiver(arena, np.zeros(1, np.int64), np.ones(1, np.int64), make_inbox([-1], -1))
        progress("mixer")
        run_mixer(arena, -1, life_read, make_sources(2), make_lane(2, 64))
        progress("transmit lane")
        run_lane(arena, 1, 1, -1, life_read, make_lane(2, 64))
    finally:
        for descriptor in (fd, life_read, life_write):
            os.close(descriptor)
    return compiled_anew()


def main() -> None:
    """Fill the kernel cache, telling how it goes."""
    began = time.monotonic()

    def tell(step: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  kernels of the {step}", file=sys.stderr)

    compiled = warm_up(tell)
    took = time.monotonic() - began
    print(f"{took:6.1f} s  {compiled} kernels compiled into {cache_folder()}", file=sys.stderr)


if __name__ == "__main__":
    main()
