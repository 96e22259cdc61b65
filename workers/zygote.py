"""The zygote: a warm process that makes workers in milliseconds.

It has imported numba, loaded every kernel and called it once; then it only waits for
orders (see ``shared.messages``), forks, and reports who started and who ended. It stays
single-threaded: a fork copies nothing that could be locked. The whole life of the mixer or
a lane after the fork is: settings, then one kernel call, then ``os._exit``. Receivers, of
which there are many, are cloned from the stem (``workers.stem``), which saves their memory.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.ancestry import children_in
from shared.arena import Arena, attach_arena
from shared.kernels import entry_point, forbid_compilation
from shared.limits import MAX_SHARING
from shared.messages import WorkerExit, receive_order, send_order
from workers import realtime
from workers.card import run_card
from workers.jackbridge import BridgeSettings, run_bridge
from workers.lane import run_lane
from workers.mixer import make_sources, run_mixer
from workers.stem import Desk, Stem, make_desk
from workers.transmit import make_lane
from workers.warm import warm_up

STEM_END_S = 0.2
"""A stem that has not let go by then is killed."""


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

    def __init__(
        self, orders: socket.socket, arena: Arena, life: int, settings: Settings, desk: Desk
    ) -> None:
        self.orders = orders
        self.arena = arena
        self.life = life
        self.settings = settings
        self.desk = desk
        self.children: dict[int, int] = {}
        self.dying_stems: set[int] = set()
        self.wake_read, self.wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.stem: Stem | None = self.grow_stem()

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
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.stem is not None and pid == self.stem.pid:
                self.dying_stems.add(pid)
                self.stem.close()
                self.stem = None
            if pid in self.dying_stems:
                self.dying_stems.remove(pid)
                self.end_strangers()
            token = self.children.pop(pid, None)
            if token is not None:
                code = os.waitstatus_to_exitcode(status)
                self.report(event="exited", token=token, pid=pid, status=code)

    def end_strangers(self) -> None:
        """Kill what a stem made and could not tell of: its order was reported as failed."""
        known = self.children.keys() | self.dying_stems
        if self.stem is not None:
            known = known | {self.stem.pid}
        for pid in children_in(os.getsid(0)):
            if pid not in known:
                os.kill(pid, signal.SIGKILL)

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
        event: dict[str, Any]
        try:
            if not isinstance(token, int):
                raise ValueError(f"token {token!r} is no number")
            pid = self.receive(order, fds) if order["op"] == "receiver" else self.fork(order, fds)
        except (OSError, LookupError, ValueError, TypeError) as error:
            event = {"event": "failed", "error": f"{type(error).__name__}: {error}"}
        else:
            self.children[pid] = token
            event = {"event": "started", "pid": pid}
        finally:
            for fd in fds:
                os.close(fd)
        self.report(token=token, **event)  # whoever reads it finds nothing of the order here

    def receive(self, order: dict[str, Any], fds: list[int]) -> int:
        """Have a receiver cloned from the stem; its pid.

        Raises:
            LookupError, ValueError, TypeError: the order is wrong.
            OSError: it could not be made.
        """
        owned, sessions = list(order["slots"]), list(order["sessions"])
        fitting = len(owned) == len(sessions) and len(fds) in (len(owned), len(owned) + 1)
        if not fitting or not fds or len(owned) > MAX_SHARING:
            raise ValueError(f"{len(fds)} sockets for {order}")
        if not all(isinstance(number, int) for number in owned + sessions):
            raise ValueError(f"slots {owned} and sessions {sessions} are not all numbers")
        slots = int(self.arena.header[0]["slots"])
        if not all(0 <= slot < slots for slot in owned):
            raise ValueError(f"slots {owned} are not in 0..{slots - 1}")
        try:
            return self.clone(owned, sessions, fds)
        except (BrokenPipeError, ConnectionResetError):  # it had died before
            return self.clone(owned, sessions, fds)

    def clone(self, slots: list[int], sessions: list[int], fds: list[int]) -> int:
        """Have a receiver cloned from the stem, or from a new one if there is none; its pid.

        Raises:
            OSError: as ``Stem.clone``; a stem that does not answer is given up.
        """
        if self.stem is None:
            self.stem = self.grow_stem(fds)
        try:
            return self.stem.clone(slots, sessions, fds)
        except (ConnectionError, TimeoutError):
            self.dying_stems.add(self.stem.pid)
            self.stem.kill()
            self.stem = None
            raise

    def grow_stem(self, fds: Sequence[int] = ()) -> Stem:
        """Fork a stem, which keeps nothing of this process's but what receivers need.

        Args:
            fds: of an order at hand.
        """

        def settle() -> None:
            self.leave()
            for fd in fds:
                os.close(fd)

        return Stem(self.arena, self.life, self.desk, settle)

    def leave(self) -> None:
        """In a child of this process: let go of what is not the child's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (self.orders.fileno(), self.wake_read, self.wake_write):
            os.close(fd)

    def end(self) -> None:
        """Let the stem go; whoever it has made goes on."""
        if self.stem is None:
            return
        self.stem.close()
        pidfd = os.pidfd_open(self.stem.pid)
        waiting = select.poll()
        waiting.register(pidfd, select.POLLIN)
        if not waiting.poll(1e3 * STEM_END_S):
            os.kill(self.stem.pid, signal.SIGKILL)
        os.close(pidfd)

    def fork(self, order: dict[str, Any], fds: list[int]) -> int:
        """Fork a worker; its pid.

        Raises:
            LookupError, ValueError, TypeError: the order is wrong.
            OSError: it could not be forked.
        """
        work = self.prepare(order, fds)
        pid = os.fork()
        if pid == 0:
            self.live(work)
        return pid

    def live(self, work: Callable[[], int]) -> None:
        """A worker's life; never returns."""
        status = int(WorkerExit.FAILED)
        try:
            self.leave()
            if self.stem is not None:
                self.stem.close()
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
            case "bridge":
                bridge = BridgeSettings.of(order)
                live = run_card if order.get("card") else run_bridge

                def play() -> int:
                    realtime.set_name("tutti-card" if order.get("card") else "tutti-jack")
                    realtime.set_affinity(settings.cpus)
                    return live(arena, self.life, bridge, settings.realtime)

                return play
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
    """Entry of ``python -m workers``, which only the supervisor calls."""
    parser = argparse.ArgumentParser(prog="workers", description=__doc__)
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
    header = arena.header[0]
    compiled = warm_up(lanes=bool(header["lanes"]), jack=bool(header["jack"]))
    desk = make_desk(int(header["rate_hz"]), real=settings.realtime, cpus=settings.cpus)
    forbid_compilation()
    refused = realtime.refusals(arena, settings.realtime)
    realtime.freeze_memory()
    if settings.realtime:
        realtime.hurry_forks()

    orders = socket.socket(fileno=arguments.socket)
    orders.setblocking(False)
    zygote = Zygote(orders, arena, arguments.life, settings, desk)
    zygote.report(
        event="ready",
        seconds=time.monotonic() - began,
        compiled=compiled,
        refused=[refusal.as_dict() for refusal in refused],
    )
    zygote.serve()
    zygote.end()
