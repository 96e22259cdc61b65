"""A data plane without a control plane: real zygote, real workers, real sockets.

``Rig`` plays the supervisor's part in a few lines, so that a test can do to workers
what it likes and look at the arena itself.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.arena import Arena, create_arena
from shared.layout import EndReason, PatchMode, RxState
from shared.messages import MailOp, receive_order, send_mail, send_order
from shared.protocol import AudioHeader, pack_header, parse_datagram

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 90.0
"""Generous: a cold kernel cache compiles first."""

Int16 = npt.NDArray[np.int16]


def wait_until(condition: Callable[[], Any], timeout_s: float = 10.0, what: str = "") -> Any:
    """The condition's first true value; fails when it never comes."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.002)


@dataclass
class Player:
    """A virtual client: one UDP socket that sends planar 16-bit packets and collects returns."""

    hub_port: int
    frames: int = 128
    channels: int = 2
    wants: int = 2
    bits: int = 16
    rate_code: int = 3
    address: str = "127.0.0.1"
    sequence: int = 0
    sent: list[Int16] = field(default_factory=list)
    returned: list[tuple[AudioHeader, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.address, 0))
        self.socket.setblocking(False)

    def packet(self, samples: Int16) -> bytes:
        """A full packet of (channels, frames) int16; the number counts up."""
        header = AudioHeader(
            0, self.sequence & 0xFFFF, self.frames, self.rate_code, self.bits,
            self.wants, self.channels,
        )  # fmt: skip
        self.sequence += 1
        return pack_header(header) + samples.astype("<i2").tobytes()

    def send(self, samples: Int16) -> None:
        """Send one packet and remember it."""
        self.sent.append(samples)
        self.socket.sendto(self.packet(samples), ("127.0.0.1", self.hub_port))

    def send_raw(self, data: bytes) -> None:
        self.socket.sendto(data, ("127.0.0.1", self.hub_port))

    def collect(self) -> None:
        """Take in what has come back so far."""
        while True:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return
            if len(data) == 63:
                self.returned.append((AudioHeader(0, 0, 0, 0, 0, 0, 0), data))
            else:
                self.returned.append((parse_datagram(data)[0], data))

    def heard(self) -> Int16:
        """All audio that came back, (wants, frames) int16, in order of arrival."""
        blocks = [
            np.frombuffer(data[16 : header.packet_bytes], "<i2").reshape(header.sends, -1)
            for header, data in self.returned
            if header.frames
        ]
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((self.wants, 0), np.int16)


class Rig:
    """Zygote, mixer and receivers on an arena of our own."""

    def __init__(
        self,
        *,
        slots: int = 8,
        period: int = 128,
        rate: int = 48000,
        mode: PatchMode = PatchMode.FULL_MIX,
        lanes: int = 0,
        upmix: bool = False,
        queue: int = 4,
        realtime: bool = True,
    ) -> None:
        self.queue = queue
        self.lanes = lanes
        self.arena_fd, arena = create_arena(
            slots=slots, rate_hz=rate, period_frames=period, lanes=lanes, upmix=upmix
        )
        self.arena: Arena = arena
        self.arena.control[0]["patch"] = mode
        self.arena.control[0]["slots_high"] = slots
        self.life_read, self.life_write = os.pipe()
        self.orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.orders.settimeout(DEADLINE_S)
        self.zygote = subprocess.Popen(
            [
                sys.executable, "-m", "workers.zygote",
                "--socket", str(theirs.fileno()), "--arena", str(self.arena_fd),
                "--life", str(self.life_read),
                "--settings", json.dumps({"realtime": realtime}),
            ],
            pass_fds=[theirs.fileno(), self.arena_fd, self.life_read],
            cwd=ROOT,
        )  # fmt: skip
        theirs.close()
        self.events: list[dict[str, Any]] = []
        self.pids: dict[int, int] = {}
        self.tokens = 0
        self.sockets: dict[int, socket.socket] = {}
        self.mail: dict[int, socket.socket] = {}
        self.ready = self.event("ready")
        for lane in range(1, lanes + 1):
            self.start_lane(lane)
        self.mixer = self.start_mixer()

    def event(self, kind: str, token: int | None = None) -> dict[str, Any]:
        """The zygote's next report of this kind (about this worker)."""
        while True:
            for event in self.events:
                if event["event"] == kind and token in (None, event.get("token")):
                    self.events.remove(event)
                    return event
            received = receive_order(self.orders)
            assert received is not None, "the zygote is gone"
            self.events.append(received[0])

    def order(self, order: dict[str, Any], fds: tuple[int, ...] = ()) -> int:
        """Have a worker forked; its token."""
        self.tokens += 1
        send_order(self.orders, order | {"token": self.tokens}, fds)
        self.pids[self.tokens] = self.event("started", self.tokens)["pid"]
        return self.tokens

    def _post(self, lane: int) -> socket.socket:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if lane in self.mail:
            self.mail[lane].close()
        self.mail[lane] = mine
        self.arena.control[0]["mail"][lane] = 0
        return theirs

    def start_mixer(self) -> int:
        theirs = self._post(0)
        token = self.order({"op": "mixer"}, (theirs.fileno(),))
        theirs.close()
        before = int(self.arena.clock[0]["ticks"])
        wait_until(lambda: self.arena.clock[0]["ticks"] > before, what="the mixer ticks")
        return token

    def start_lane(self, lane: int) -> int:
        theirs = self._post(lane)
        token = self.order({"op": "lane", "lane": lane, "lanes": self.lanes}, (theirs.fileno(),))
        theirs.close()
        return token

    def post(self, lane: int, op: MailOp, slot: int, session: int = 0, fd: int = -1) -> None:
        send_mail(self.mail[lane], op, slot, session, fd if fd >= 0 else None)
        self.arena.control[0]["mail"][lane] += 1

    def lane_of(self, slot: int) -> int:
        return 1 + slot % self.lanes if self.lanes else 0

    def open(self, slot: int, peer: str = "127.0.0.1", session: int | None = None) -> int:
        """Give a slot a socket and a receiver; the port a client must send to."""
        session = session or slot + 1
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        sock.setsockopt(socket.SOL_SOCKET, 40, 1)  # SO_RXQ_OVFL
        sock.bind(("127.0.0.1", 0))
        self.sockets[slot] = sock
        record = self.arena.slots[slot]
        mapped = b"\0" * 10 + b"\xff\xff" + socket.inet_aton(peer)
        record["peer_high"], record["peer_low"] = struct.unpack("<2q", mapped)
        record["queue_packets"] = self.queue
        record["session"] = record["admit"] = session
        self.post(self.lane_of(slot), MailOp.SOCKET, slot, session, sock.fileno())
        self.start_receiver(slot, session)
        return int(sock.getsockname()[1])

    def start_receiver(self, slot: int, session: int) -> int:
        return self.order(
            {"op": "receiver", "slots": [slot], "sessions": [session]},
            (self.sockets[slot].fileno(),),
        )

    def state(self, slot: int) -> RxState:
        return RxState(int(self.arena.rx[slot]["state"]))

    def reason(self, slot: int) -> EndReason:
        return EndReason(int(self.arena.rx[slot]["end_reason"]))

    def counter(self, slot: int, name: str) -> int:
        return int(self.arena.rx[slot][name])

    def kill(self, token: int) -> None:
        """SIGKILL a worker and wait for the zygote's report."""
        os.kill(self.pids[token], signal.SIGKILL)
        self.event("exited", token)

    def receiver_token(self, slot: int) -> int:
        pid = self.counter(slot, "pid")
        return next(token for token, owner in self.pids.items() if owner == pid)

    def close(self) -> None:
        """Stop everything; every process must end by itself."""
        self.arena.control[0]["stop"] = 1
        self.orders.close()
        os.close(self.life_write)
        assert self.zygote.wait(5) == 0
        for token, pid in self.pids.items():
            wait_until(lambda pid=pid: not _alive(pid), 2.0, f"worker {token} ends")
        for sock in (*self.sockets.values(), *self.mail.values()):
            sock.close()
        os.close(self.life_read)
        os.close(self.arena_fd)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def noise(frames: int, channels: int = 2, seed: int = 1, size: int = 8000) -> Int16:
    """Reproducible 16-bit noise, (channels, frames)."""
    rng = np.random.default_rng(seed)
    return rng.integers(-size, size, (channels, frames), dtype=np.int16)


def play(players: list[Player], signals: list[Int16], rate: int = 48000) -> None:
    """Send every player's signal in its packets on an exact schedule; collect what returns."""
    began = time.monotonic() + 0.002
    due = [0] * len(players)
    while True:
        k = min(
            (k for k, p in enumerate(players) if due[k] + p.frames <= signals[k].shape[1]),
            key=lambda k: due[k],
            default=-1,
        )
        if k < 0:
            break
        player = players[k]
        pause = began + due[k] / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        player.send(signals[k][:, due[k] : due[k] + player.frames])
        due[k] += player.frames
        player.collect()
    time.sleep(0.05)
    for player in players:
        player.collect()
