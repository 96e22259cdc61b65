"""Compile every kernel, or load it from the cache, and call each of the loops once.

``python -m workers.warm`` fills the cache after an installation; the zygote calls
``warm_up`` before its first fork, so that no worker ever compiles. It asks for those loops alone
that its hub has a use for.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from shared.arena import Arena, create_arena
from shared.kernels import cache_folder, compiled_anew
from workers.card import prepare_card
from workers.jackbridge import prepare_bridge
from workers.lane import run_lane
from workers.mixer import make_sources, run_mixer
from workers.stem import make_desk, run_stem
from workers.transmit import make_lane

_RATE_HZ = 48000


def _run_receiver(arena: Arena, life: int) -> None:
    run_stem(arena, -1, life, make_desk(_RATE_HZ))


def _run_mixer(arena: Arena, life: int) -> None:
    run_mixer(arena, -1, life, make_sources(2), make_lane(2, 64, _RATE_HZ))


def _run_lane(arena: Arena, life: int) -> None:
    run_lane(arena, 1, 1, -1, life, make_lane(2, 64, _RATE_HZ))


def _prepare_jack(arena: Arena, life: int) -> None:
    prepare_bridge()
    prepare_card()


_LOOPS = {
    "receiver": _run_receiver,
    "mixer": _run_mixer,
    "transmit-lanes": _run_lane,
    "jack": _prepare_jack,
}
_TOGETHER = (("receiver",), ("mixer", "transmit-lanes"), ("jack",))
"""Compiled by one process each: a lane is for the most part what the mixer has of it, too."""


def _nothing(step: str) -> None:
    pass


def warm_up(
    progress: Callable[[str], None] = _nothing, *, lanes: bool = True, jack: bool = True
) -> int:
    """Run each loop on a small arena whose stop word is set, or where nobody can give it orders:
    it returns at once.

    What the cache does not hold is compiled by processes side by side. When all of a loop is
    there, a file of its name in the cache folder says so.

    Args:
        progress: told what is being done.
        lanes: the separate transmit lanes' loop as well.
        jack: the callbacks of JACK bridge and sound card as well.

    Returns:
        How many kernels had to be compiled because the cache did not hold them.

    Raises:
        RuntimeError: a loop could not be compiled; its traceback is on stderr.
    """
    wanted = ["receiver", "mixer", *["transmit-lanes"] * lanes, *["jack"] * jack]
    fd, arena = create_arena(slots=2, rate_hz=_RATE_HZ, period_frames=64)
    life_read, life_write = os.pipe()
    try:
        arena.control[0]["stop"] = 1
        compiled = 0
        missing = [loop for loop in wanted if not _complete(loop).exists()]
        for loop in missing:
            progress(f"compiling the kernels: {loop}")
        if missing:
            compiled = _compile_side_by_side(missing, arena, life_read)
        for loop in wanted:
            progress(f"loading the kernels: {loop}")
            _LOOPS[loop](arena, life_read)
        for loop in missing:
            _complete(loop).touch()
    finally:
        for descriptor in (fd, life_read, life_write):
            os.close(descriptor)
    return compiled + compiled_anew()


def _complete(loop: str) -> Path:
    return cache_folder() / f"{loop}.complete"


def _compile_side_by_side(loops: Collection[str], arena: Arena, life: int) -> int:
    """Fork processes for loops and wait for all; how many kernels they compiled."""
    counts, count_out = os.pipe()
    children = {}
    for several in _TOGETHER:
        mine = [loop for loop in several if loop in loops]
        pid = os.fork() if mine else None
        if pid == 0:
            status = 1
            gc.disable()  # nearly all that a compiler makes lives as long as this process
            try:
                for loop in mine:
                    _LOOPS[loop](arena, life)
                os.write(count_out, compiled_anew().to_bytes(4, "little"))
                status = 0
            except BaseException:  # the child must end here, whatever it was
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        if pid is not None:
            children[pid] = " and ".join(mine)
    os.close(count_out)
    failed = [loop for pid, loop in children.items() if os.waitpid(pid, 0)[1] != 0]
    words = os.read(counts, 4 * len(children))
    os.close(counts)
    if failed:
        raise RuntimeError(f"kernels could not be compiled: {', '.join(failed)}")
    return sum(int.from_bytes(words[i : i + 4], "little") for i in range(0, len(words), 4))


def main() -> None:
    """Fill the kernel cache, telling how it goes."""
    began = time.monotonic()

    def tell(step: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {step}", file=sys.stderr)

    compiled = warm_up(tell)
    took = time.monotonic() - began
    print(f"{took:6.1f} s  {compiled} kernels compiled into {cache_folder()}", file=sys.stderr)


if __name__ == "__main__":
    main()
