"""A data plane without a control plane: real zygote, real workers, real sockets.

``Rig`` plays the supervisor's part in a few lines, so that a test can do to workers
what it likes and look at the arena itself. What happens is located in *hub samples*
(``Rig.now``), the arena's own time, so that nothing depends on how fast a test runs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from shared.arena import Arena, create_arena
from shared.layout import EndReason, PatchMode, RxState, StopOrder
from shared.messages import MailOp, receive_order, send_mail, send_order
from tests.workers.players import Player

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 100.0
"""Generous: a cold kernel cache compiles first."""

_SO_TIMESTAMPNS, _SO_RXQ_OVFL = 35, 40

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_s: float = 30.0, what: str = "") -> T:
    """The condition's first true value; fails when it never comes."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.002)


class DataPlane(ABC):
    """Players join and leave it, and a test reads its arena."""

    arena: Arena
    rate: int
    period: int

    @abstractmethod
    def join(self, *players: Player, queue: int | None = None, shared: bool = False) -> None:
        """Give each player a slot, and the address of its port."""

    @abstractmethod
    def leave(self, *players: Player) -> None:
        """End their sessions, and close their sockets."""

    @property
    def ticks(self) -> int:
        return int(self.arena.clock[0]["ticks"])

    @property
    def now(self) -> int:
        """First hub sample that the mixer has not mixed yet."""
        return (int(self.arena.clock[0]["tick"]) + 1) * self.period

    def clock(self, name: str) -> int:
        return int(self.arena.clock[0][name])

    def state(self, slot: int) -> RxState:
        return RxState(int(self.arena.rx[slot]["state"]))

    def reason(self, slot: int) -> EndReason:
        return EndReason(int(self.arena.rx[slot]["end_reason"]))

    def counter(self, slot: int, name: str) -> int:
        return int(self.arena.rx[slot][name])

    def counters(self, slot: int, names: Sequence[str]) -> dict[str, int]:
        return {name: self.counter(slot, name) for name in names}


class Rig(DataPlane):
    """Zygote, mixer, lanes and receivers on an arena of our own."""

    def __init__(
        self,
        *,
        slots: int = 16,
        period: int = 128,
        rate: int = 48000,
        mode: PatchMode = PatchMode.FULL_MIX,
        lanes: int = 0,
        upmix: bool = False,
        realtime: bool = True,
    ) -> None:
        self.rate = rate
        self.period = period
        self.lanes = lanes
        self.arena_fd, arena = create_arena(
            slots=slots, rate_hz=rate, period_frames=period, lanes=lanes, upmix=upmix
        )
        self.arena: Arena = arena
        self.arena.control[0]["patch"] = mode
        self.arena.control[0]["slots_high"] = slots
        self.life_read, self.life_write = os.pipe()
        self.settings = {"realtime": realtime}
        self.events: list[dict[str, Any]] = []
        self.pids: dict[int, int] = {}
        self.orphans: set[int] = set()
        self.tokens = 0
        self.sessions = 0
        self.sockets: dict[int, socket.socket] = {}
        self.mail: dict[int, socket.socket] = {}
        self.lane_tokens: dict[int, int] = {}
        self.shared: dict[int, socket.socket] = {}
        """Mail of shared receivers, by token."""
        try:
            self.ready = self.start_zygote()
            for lane in range(1, lanes + 1):
                self.start_lane(lane)
            self.mixer = self.start_mixer()
        except BaseException:
            self.zygote.kill()
            self.close()
            raise

    # --- the zygote ---

    def start_zygote(self) -> dict[str, Any]:
        """Start one, the first or the next; its report of being ready."""
        self.orphans = set(self.pids)
        self.orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.orders.settimeout(DEADLINE_S)
        self.zygote = subprocess.Popen(
            [
                sys.executable, "-m", "workers",
                "--socket", str(theirs.fileno()), "--arena", str(self.arena_fd),
                "--life", str(self.life_read), "--settings", json.dumps(self.settings),
            ],
            pass_fds=[theirs.fileno(), self.arena_fd, self.life_read],
            cwd=ROOT,
        )  # fmt: skip
        theirs.close()
        return self.event("ready")

    def event(self, kind: str, token: int | None = None) -> dict[str, Any]:
        """The zygote's next report of this kind (about this worker)."""
        while True:
            for event in self.events:
                if event["event"] == kind and token in (None, event.get("token")):
                    self.events.remove(event)
                    return event
            received = receive_order(self.orders)
            assert received is not None, "the zygote is gone"
            failed = received[0]["event"] == "failed" and kind != "failed"
            assert not failed or received[0]["token"] != token, received[0]["error"]
            self.events.append(received[0])

    def order(self, order: dict[str, Any], fds: tuple[int, ...] = ()) -> int:
        """Have a worker forked; its token."""
        self.tokens += 1
        send_order(self.orders, order | {"token": self.tokens}, fds)
        self.pids[self.tokens] = self.event("started", self.tokens)["pid"]
        return self.tokens

    def kill(self, token: int) -> None:
        """SIGKILL a worker and wait for the zygote's report."""
        os.kill(self.pids[token], signal.SIGKILL)
        assert self.ended(token) in (-signal.SIGKILL, None)
        del self.pids[token]

    def ended(self, token: int) -> int | None:
        """Wait for the end of a worker; its exit status, None of a former zygote's."""
        if token not in self.orphans:
            return int(self.event("exited", token)["status"])
        wait_until(lambda: not alive(self.pids[token]), what="the orphan ends")
        return None

    # --- mixer and lanes ---

    def _mailbox(self, lane: int) -> socket.socket:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        if lane in self.mail:
            self.mail[lane].close()
        self.mail[lane] = mine
        self.arena.control[0]["mail"][lane] = 0
        return theirs

    def start_mixer(self) -> int:
        before = self.ticks
        with self._mailbox(0) as theirs:
            self.mixer = self.order({"op": "mixer"}, (theirs.fileno(),))
        self.post_again(0)
        wait_until(lambda: self.ticks > before, what="the mixer ticks")
        return self.mixer

    def start_lane(self, lane: int) -> int:
        with self._mailbox(lane) as theirs:
            token = self.order(
                {"op": "lane", "lane": lane, "lanes": self.lanes}, (theirs.fileno(),)
            )
        self.lane_tokens[lane] = token
        self.post_again(lane)
        return token

    def post(self, lane: int, op: MailOp, slot: int, session: int = 0, fd: int = -1) -> None:
        """Mail, and its announcement."""
        send_mail(self.mail[lane], op, slot, session, fd if fd >= 0 else None)
        self.arena.control[0]["mail"][lane] += 1

    def post_again(self, lane: int) -> None:
        """All that still holds, to the next life of a lane; levels it finds by itself."""
        for slot, sock in self.sockets.items():
            if self.lane_of(slot) == lane:
                session = int(self.arena.slots[slot]["session"])
                self.post(lane, MailOp.SOCKET, slot, session, sock.fileno())

    def lane_of(self, slot: int) -> int:
        return 1 + slot % self.lanes if self.lanes else 0

    # --- sessions ---

    def open(self, *, queue: int = 4, peer: str = "127.0.0.1") -> int:
        """Give the lowest free slot a socket and a receiver; returns the slot."""
        slot = self.prepare(queue=queue, peer=peer)
        self.start_receiver(slot)
        return slot

    def prepare(self, *, queue: int = 4, peer: str = "127.0.0.1") -> int:
        """Give the lowest free slot a session and a socket; returns the slot."""
        slot = min(set(range(len(self.arena.slots))) - set(self.sockets))
        self.sessions += 1
        ipv6 = ":" in peer
        sock = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(("::1" if ipv6 else "127.0.0.1", 0))
        self.sockets[slot] = sock
        rx, record = self.arena.rx[slot], self.arena.slots[slot]
        rx["state"] = RxState.IDLE
        self.arena.rx[slot] = 0
        self.arena.tx[slot] = 0
        address = peer if ipv6 else f"::ffff:{peer}"
        raw = socket.inet_pton(socket.AF_INET6, address)
        record["peer_high"], record["peer_low"] = struct.unpack("<2q", raw)
        record["ipv6"] = int(ipv6)
        record["queue_packets"] = queue
        record["stop"] = StopOrder.NONE
        self.set_gain(slot, 1.0)
        record["session"] = record["admit"] = self.sessions
        self.post(self.lane_of(slot), MailOp.SOCKET, slot, self.sessions, sock.fileno())
        return slot

    def start_receiver(self, *slots: int, shared: bool = False) -> int:
        """Fork a receiver for the sessions and sockets of these slots: their first or next.

        Args:
            slots: one at least, unless it is to be shared.
            shared: others may be put to it.
        """
        sessions = [int(self.arena.slots[slot]["session"]) for slot in slots]
        order = {"op": "receiver", "slots": slots, "sessions": sessions}
        fds = tuple(self.sockets[slot].fileno() for slot in slots)
        if not shared:
            token = self.order(order, fds)
        else:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                token = self.order(order, (*fds, theirs.fileno()))
            self.shared[token] = mine
        for slot in slots:
            self.await_served(slot, token)
        return token

    def put_to(self, token: int, slot: int) -> None:
        """Have a shared receiver serve one more."""
        self._mail_socket(token, MailOp.SOCKET, slot)
        self.await_served(slot, token)

    def hand_over(self, token: int, *slots: int) -> None:
        """Have a shared receiver take clients over from those that serve them."""
        for slot in slots:
            self._mail_socket(token, MailOp.AWAIT, slot)

    def _mail_socket(self, token: int, op: MailOp, slot: int) -> None:
        session = int(self.arena.slots[slot]["session"])
        send_mail(self.shared[token], op, slot, session, self.sockets[slot].fileno())

    def await_served(self, slot: int, token: int) -> None:
        """Its receiver has begun: it first says that the slot is its own, then how it stands."""
        wait_until(
            lambda: (
                self.counter(slot, "pid") == self.pids[token]
                and self.state(slot) is not RxState.IDLE
            )
        )

    def hub(self, slot: int) -> tuple[str, int]:
        """Where a client must send to."""
        address, port = self.sockets[slot].getsockname()[:2]
        return str(address), int(port)

    def join(self, *players: Player, queue: int | None = None, shared: bool = False) -> None:
        """Open a slot for each player; the queue is ample unless one is asked for.

        Args:
            shared: one receiver serves them all.
        """
        for player in players:
            ample = max(4, 1 + -(-self.rate // 64 // player.frames))
            player.slot = self.prepare(
                queue=queue or min(ample, 64), peer="::1" if ":" in player.address else "127.0.0.1"
            )
            player.hub = self.hub(player.slot)
            if not shared:
                self.start_receiver(player.slot)
        if shared:
            self.start_receiver(*(player.slot for player in players), shared=True)

    def leave(self, *players: Player) -> None:
        """End sessions without a word, and free their slots."""
        for player in players:
            self.arena.slots[player.slot]["stop"] = StopOrder.SILENT
        for player in players:
            slot = player.slot
            wait_until(lambda slot=slot: self.state(slot) == RxState.ENDED)  # type: ignore[misc]
            self.free(slot)
            player.close()

    def free(self, slot: int) -> None:
        """Take a slot back whose session has ended, and with the last of them its receiver."""
        record = self.arena.slots[slot]
        self.post(self.lane_of(slot), MailOp.DROP, slot, int(record["session"]))
        self.sockets.pop(slot).close()
        if record["overrides"]:  # of a test that was broken off
            self.set_pair(slot, {})
        record["session"] = record["admit"] = 0
        pid = self.counter(slot, "pid")
        served = any(self.counter(other, "pid") == pid for other in self.sockets)
        if not served and pid in self.pids.values():
            token = self.receiver_token(slot)
            if token in self.shared:
                self.shared.pop(token).close()
            assert self.ended(token) in (0, None)
            del self.pids[token]

    def receiver_token(self, slot: int) -> int:
        pid = self.counter(slot, "pid")
        return next(token for token, owner in self.pids.items() if owner == pid)

    def set_gain(self, slot: int, gain: float) -> None:
        """Order a strip's gain, as the supervisor does."""
        self.arena.slots[slot]["gain"] = gain
        self.arena.control[0]["levels"] += 2

    def set_pair(self, listener: int, levels: dict[int, float]) -> None:
        """Give a listener exactly these levels by source, as the supervisor does."""
        self.arena.pair[listener] = float("nan")
        for source, level in levels.items():
            self.arena.pair[listener, source] = level
        self.arena.slots[listener]["overrides"] = len(levels)
        self.arena.slots[listener]["row_changes"] += 1
        self.arena.control[0]["levels"] += 2

    # --- the end ---

    def stop(self) -> None:
        """Raise the stop word; every worker must end by itself, and the zygote when told."""
        self.arena.control[0]["stop"] = 1
        self.assert_workers_end(2.0)
        self.close()

    def assert_workers_end(self, timeout_s: float) -> None:
        for token, pid in self.pids.items():
            wait_until(lambda pid=pid: not alive(pid), timeout_s, f"worker {token} ends")  # type: ignore[misc]
        self.pids.clear()

    def close(self) -> None:
        """Let go of everything; whatever still lives after its grace is killed, by pid."""
        self.arena.control[0]["stop"] = 1
        self.orders.close()
        os.close(self.life_write)
        try:
            self.zygote.wait(5)
            self.assert_workers_end(5.0)
        finally:
            for pid in (self.zygote.pid, *self.pids.values()):
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            self.zygote.wait(5)
            for sock in (*self.sockets.values(), *self.mail.values(), *self.shared.values()):
                sock.close()
            os.close(self.life_read)
            os.close(self.arena_fd)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
