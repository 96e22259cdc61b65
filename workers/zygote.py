"""The zygote: a warm process that forks workers in milliseconds.

It has imported numba, loaded every kernel and called it once; then it only waits for
orders (see ``shared.messages``), forks, and reports who started and who ended. It stays
single-threaded: a fork copies nothing that could be locked. A worker's whole life after
the fork is: settings, then one kernel call, then ``os._exit``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.arena import Arena, attach_arena
from shared.kernels import entry_point, forbid_compilation
from shared.messages import WorkerExit, receive_order, send_order
from workers import realtime
from workers.inbox import make_inbox
from workers.lane import run_lane
from workers.mixer import make_sources, run_mixer
from workers.receiver import run_receiver
from workers.transmit import make_lane
from workers.warm import warm_up


@dataclass(frozen=True, slots=True)
class Settings:
    """What all workers of a hub have in common.

    Attributes:
        realtime: ask for SCHED_FIFO and locked memory.
        cpus: processors of the receivers and lanes; None: any.
        mixer_cpus: processors of the mixer; None: as cpus.
    """

    realtime: bool = True
    cpus: tuple[int, ...] | None = None
    mixer_cpus: tuple[int, ...] | None = None


class Zygote:
    """Obeys orders until the supervisor's end of the socket closes."""

    def __init__(self, orders: socket.socket, arena: Arena, life: int, settings: Settings) -> None:
        self.orders = orders
        self.arena = arena
        self.life = life
        self.settings = settings
        self.children: dict[int, int] = {}
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Obey and reap until the hub is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        waiting = select.poll()
        waiting.register(self.orders, select.POLLIN)
        waiting.register(self.wake_read, select.POLLIN)
        while True:
            waiting.poll()
            with contextlib.suppress(BlockingIOError):
                os.read(self.wake_read, 4096)
            self.reap()
            while True:
                try:
                    received = receive_order(self.orders)
                except BlockingIOError:
                    break
                except ConnectionResetError:
                    return  # gone as well, with reports of ours unread
                except ValueError as error:
                    self.report(event="failed", token=None, error=f"order: {error}")
                    continue
                if received is None:
                    return
                self.obey(*received)

    def report(self, **event: Any) -> None:
        """Tell the supervisor, however long it does not listen: an end unheard is for ever.

        When it is gone, ``serve`` finds out by itself.
        """
        room = select.poll()
        room.register(self.orders, select.POLLOUT)
        while True:
            try:
                send_order(self.orders, event)
            except BlockingIOError:
                room.poll()
            except OSError:
                return
            else:
                return

    def reap(self) -> None:
        """Report every child that has ended."""
        while self.children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            token = self.children.pop(pid, None)
            if token is not None:
                code = os.waitstatus_to_exitcode(status)
                self.report(event="exited", token=token, pid=pid, status=code)

    def obey(self, order: dict[str, Any], fds: list[int]) -> None:
        """Carry out one order."""
        token = order.get("token")
        if order.get("op") == "kill":
            for pid, owner in self.children.items():
                if owner == token:
                    os.kill(pid, signal.SIGKILL)
            for fd in fds:
                os.close(fd)
            return
        try:
            if not isinstance(token, int):
                raise ValueError(f"token {token!r} is no number")
            work = self.prepare(order, fds)
            pid = os.fork()
        except (OSError, LookupError, ValueError, TypeError) as error:
            self.report(event="failed", token=token, error=f"{type(error).__name__}: {error}")
        else:
            if pid == 0:
                self.live(work)
            self.children[pid] = token
            self.report(event="started", token=token, pid=pid)
        finally:
            for fd in fds:
                os.close(fd)

    def live(self, work: Callable[[], int]) -> None:
        """A worker's life; never returns.

        Whatever Python touches here is copied: a page for every object's reference count.
        """
        status = int(WorkerExit.FAILED)
        try:
            signal.set_wakeup_fd(-1)
            for fd in (self.orders.fileno(), self.wake_read, self.wake_write):
                os.close(fd)
            status = work()
        except BaseException:  # the child must end here, whatever it was
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def prepare(self, order: dict[str, Any], fds: list[int]) -> Callable[[], int]:
        """Make all that a worker needs, before the fork; what it is to do after it.

        Raises:
            LookupError, ValueError, TypeError: the order is wrong.
        """
        arena, settings, header = self.arena, self.settings, self.arena.header[0]
        slots, period = int(header["slots"]), int(header["period_frames"])
        rate_hz = int(header["rate_hz"])
        arguments: tuple[Any, ...]
        match order["op"]:
            case "receiver":
                name, cpus = f"tutti-rx-{order['slots'][0]}", settings.cpus
                priority = realtime.RECEIVER_PRIORITY
                owned = np.array(order["slots"], np.int64)
                sessions = np.array(order["sessions"], np.int64)
                if not len(owned) == len(sessions) == len(fds):
                    raise ValueError(f"{len(fds)} sockets for {order}")
                if owned.min() < 0 or owned.max() >= slots:
                    raise ValueError(f"slots {order['slots']} are not in 0..{slots - 1}")
                run = entry_point(run_receiver)
                arguments = (arena, owned, sessions, make_inbox(fds, self.life, rate_hz))
            case "mixer":
                name, cpus = "tutti-mixer", settings.mixer_cpus or settings.cpus
                priority = realtime.MIXER_PRIORITY
                own_lane = make_lane(slots if header["lanes"] == 0 else 1, period, rate_hz)
                run = entry_point(run_mixer)
                arguments = (arena, fds[0], self.life, make_sources(slots), own_lane)
            case "lane":
                name, cpus = f"tutti-lane-{order['lane']}", settings.cpus
                priority = realtime.LANE_PRIORITY
                run = entry_point(run_lane)
                lane = make_lane(slots, period, rate_hz)
                arguments = (arena, order["lane"], order["lanes"], fds[0], self.life, lane)
            case other:
                raise ValueError(f"order {other!r} is unknown")

        def work() -> int:
            realtime.set_name(name)
            realtime.set_affinity(cpus)
            realtime.sharpen_timers()
            if settings.realtime:
                realtime.lock_arena(arena)
                if order["op"] == "mixer":
                    realtime.lock_everything()
                realtime.become_realtime(priority)
            return int(run(*arguments))

        return work


def main() -> None:
    """Entry of ``python -m workers.zygote``, which only the supervisor calls."""
    parser = argparse.ArgumentParser(prog="workers.zygote", description=__doc__)
    for name in ("socket", "arena", "life"):
        parser.add_argument(f"--{name}", type=int, required=True, metavar="FD")
    parser.add_argument("--settings", default="{}", metavar="JSON")
    arguments = parser.parse_args()

    began = time.monotonic()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor to handle
    realtime.set_name("tutti-zygote")
    realtime.map_large_buffers()
    raw = json.loads(arguments.settings)
    settings = Settings(
        realtime=bool(raw.get("realtime", True)),
        cpus=tuple(raw["cpus"]) if raw.get("cpus") else None,
        mixer_cpus=tuple(raw["mixer_cpus"]) if raw.get("mixer_cpus") else None,
    )
    arena = attach_arena(arguments.arena)
    compiled = warm_up()
    forbid_compilation()
    refused = realtime.refusals(arena, settings.realtime)
    realtime.freeze_memory()
    if settings.realtime:
        realtime.hurry_forks()

    orders = socket.socket(fileno=arguments.socket)
    orders.setblocking(False)
    zygote = Zygote(orders, arena, arguments.life, settings)
    zygote.report(
        event="ready",
        seconds=time.monotonic() - began,
        compiled=compiled,
        refused=[refusal.as_dict() for refusal in refused],
    )
    zygote.serve()


if __name__ == "__main__":
    main()
