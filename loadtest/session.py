"""A load run from the first handshake to the last exit packet.

::

    open sockets -> start the generator's thread -> handshakes, each client sends at once
      -> all have heard the hub -> settle -> window: voices, counting, CPU -> drain -> exit

The generator's thread runs one kernel without the interpreter's lock; this module only
steers it, through the run's record.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from loadtest.conduct import procfs
from loadtest.control import HubCounters, ask_status, compare
from loadtest.generator import generate
from loadtest.handshake import Joined, join_all, resolve
from loadtest.plan import SECOND_NS, Plan
from loadtest.realtime import ask_for_realtime
from loadtest.state import NEVER, State, make_schedule, make_state
from loadtest.wires import Wires, make_wires, open_sockets, set_hub, watch
from shared.atomics import store_release
from shared.kernels import kernel

FIRST_AUDIO_S = 10.0
DRAIN_S = 0.5
GOODBYE_S = 0.4
_POLL_S = 0.02
_LEAD_S = 0.05


class SessionError(RuntimeError):
    """The run could not be done at all."""


@dataclass(slots=True)
class HubCost:
    """What the hub's processes used in the window, and their memory after it.

    Attributes:
        window_ns: between the two snapshots.
        usage: by kind of process.
        private_before_kib: of the whole tree, before any client.
        private_kib: by pid, with all clients.
        kinds: kind of each pid.
    """

    window_ns: int
    usage: dict[str, procfs.Usage]
    private_before_kib: int
    private_kib: dict[int, int]
    kinds: dict[int, str]


@dataclass(slots=True)
class Outcome:
    """Raw facts of a run; ``loadtest.report`` makes figures of them.

    Attributes:
        steal_s: CPU time that the hypervisor took from all cores in the window.
        own_load: the generator's share of one core in the window.
    """

    plan: Plan
    state: State
    joins: list[Joined] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    realtime: bool = False
    interrupted: bool = False
    cost: HubCost | None = None
    counters: HubCounters | None = None
    steal_s: float = 0.0
    own_load: float = 0.0


@kernel
def set_joined(run, count):
    """Announce clients: what was written about them before is visible to the generator."""
    store_release(run[0], "joined", count)


class Session:
    """One run. ``run`` does all of it and leaves no thread and no socket."""

    def __init__(
        self,
        plan: Plan,
        *,
        hub_pids: Sequence[int] = (),
        control: str | None = None,
        realtime: bool = True,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.plan = plan
        self.hub_pids = hub_pids
        self.control = control
        self.realtime = realtime
        self.say = say

    def run(self) -> Outcome:
        """Do the run; Ctrl-C shortens it.

        Raises:
            SessionError: no such host, no sockets, or no client came in.
        """
        try:
            family, host = resolve(self.plan.host)
            sockets = open_sockets(self.plan, family)
        except OSError as error:
            raise SessionError(f"{self.plan.host}: {error}") from error
        with contextlib.ExitStack() as stack:
            for udp in sockets:
                stack.enter_context(udp)
            epoll = stack.enter_context(watch(sockets)).fileno() if len(sockets) > 1 else -1
            wires = make_wires(self.plan, sockets, epoll)
            state = make_state(self.plan, len(sockets))
            outcome = Outcome(self.plan, state)
            if len(sockets) > 1:
                state.clients["socket"] = range(len(sockets))
            with self._generator(wires, outcome):
                try:
                    self._steer(wires, outcome, family, host, sockets)
                except KeyboardInterrupt:
                    outcome.interrupted = True
                state.run["leave"] = 1
                time.sleep(GOODBYE_S)
        return outcome

    @contextlib.contextmanager
    def _generator(self, wires: Wires, outcome: Outcome) -> Iterator[None]:
        """The kernel's thread, compiled before its schedule begins and ended afterwards."""
        schedule, state = make_schedule(self.plan), outcome.state
        state.run["stop"] = 1
        self.say("compiling or loading kernels")
        generate(schedule, wires, state)
        set_joined(state.run, 0)
        state.run["stop"] = 0
        state.run["t0_ns"] = time.monotonic_ns()

        def work() -> None:
            outcome.realtime = ask_for_realtime() if self.realtime else False
            generate(schedule, wires, state)

        thread = threading.Thread(target=work, name="generator", daemon=True)
        thread.start()
        try:
            yield
        finally:
            state.run["stop"] = 1
            thread.join()

    def _steer(
        self,
        wires: Wires,
        outcome: Outcome,
        family: int,
        host: str,
        sockets: list[socket.socket],
    ) -> None:
        plan, run, clients = self.plan, outcome.state.run, outcome.state.clients
        pids = procfs.tree(*self.hub_pids)
        private_before_kib = sum(procfs.private_kib(pids).values())

        def joined(one: Joined) -> None:
            set_hub(wires, one.index, family, host, one.hub_port)
            clients["hub_port"][one.index] = one.hub_port
            outcome.state.order[len(outcome.joins)] = one.index
            outcome.joins.append(one)
            set_joined(run, len(outcome.joins))

        self.say(f"{plan.clients} clients join")
        ports = [udp.getsockname()[1] for udp in sockets]
        outcome.problems = asyncio.run(join_all(plan, family, host, ports, joined))
        if not outcome.joins:
            raise SessionError(outcome.problems[0] if outcome.problems else "nobody came in")
        _wait_until(lambda: all(clients["first_ns"][one.index] for one in outcome.joins))
        time.sleep(plan.settle_s)

        pids = procfs.tree(*self.hub_pids)
        status = ask_status(self.control)
        opened_ns, closed_ns = self._open_window(outcome)
        self.say(f"measuring for {plan.seconds:g} s")
        time.sleep(max(0.0, (opened_ns - time.monotonic_ns()) / SECOND_NS))
        stolen_s = procfs.steal_s()
        own = procfs.snapshot([os.getpid()])
        before = procfs.snapshot(pids)
        time.sleep(max(0.0, (closed_ns - time.monotonic_ns()) / SECOND_NS))
        after = procfs.snapshot(pids)
        outcome.own_load = _load(own, procfs.snapshot([os.getpid()]))
        outcome.counters = compare(status, ask_status(self.control))
        outcome.steal_s = procfs.steal_s() - stolen_s
        time.sleep(DRAIN_S)
        if before.processes:
            outcome.cost = HubCost(
                window_ns=after.at_ns - before.at_ns,
                usage=procfs.usage(before, after),
                private_before_kib=private_before_kib,
                private_kib=procfs.private_kib(pids),
                kinds={pid: sample.kind for pid, sample in after.processes.items()},
            )

    def _open_window(self, outcome: Outcome) -> tuple[int, int]:
        """Set the window's packet numbers; its beginning and end, CLOCK_MONOTONIC ns."""
        run = outcome.state.run[0]
        period_ps, t0_ns = int(run["period_ps"]), int(run["t0_ns"])
        start_ns = time.monotonic_ns() + int(_LEAD_S * SECOND_NS)
        first = (start_ns - t0_ns) * 1000 // period_ps + 1
        last = first + self.plan.packets
        run["opened_ns"] = opened_ns = t0_ns + first * period_ps // 1000
        run["closed_ns"] = closed_ns = t0_ns + last * period_ps // 1000
        run["last"] = last
        run["first"] = first  # last, since it is what the kernels look at
        assert last < NEVER
        return opened_ns, closed_ns


def _load(before: procfs.Snapshot, after: procfs.Snapshot) -> float:
    """Share of one core that all sampled processes used between two snapshots."""
    cpu_us = sum(use.cpu_us for use in procfs.usage(before, after).values())
    return cpu_us * 1000 / max(1, after.at_ns - before.at_ns)


def _wait_until(condition: Callable[[], bool]) -> None:
    """Wait for first audio; who has none by then is reported as unheard."""
    deadline = time.monotonic() + FIRST_AUDIO_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
