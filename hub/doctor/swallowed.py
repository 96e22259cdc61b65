"""Why no sound comes, although the hub let us in: which way is closed, and how far UDP gets.

Each piece of evidence is something that a JackTrip hub, or the network, does by itself:

- ICMP: a closed port, or a firewall, may say so outright.
- After a good-bye the hub closes the port. If its machine then complains about what comes there,
  what we send arrives: only the way back is closed.
- A hub that hears nothing of a client for 10 s frees its port, and gives it to the next who
  comes. If we play all the time, say hello again, and get the same port, then nothing has
  arrived. If we get another one, the first is taken: we are heard.
- A hub with one port for all gives another one as long as it waits to hear of us. If a second
  client of ours gets the same port at once, then the first has arrived.
- Routers complain about packets that have come too many hops, so that the way can be followed.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from hub.doctor.knock import Reply
from hub.doctor.line import Complaint, Line, Problem
from hub.doctor.names import Address
from hub.doctor.playing import Ears, Form, Player
from hub.doctor.visit import Hub, wait_for

PATIENCE_S = 1.3
"""A machine complains of closed ports once a second."""
GIVEN_UP_S = (10.3, 10.7)
"""After the hello a hub has given up waiting: 10 s, and what its timers take. The sooner we ask,
the less likely has somebody else been given the port meanwhile."""
VISIT_S = 0.6
COMPLAINTS, COMPLAINT_S = 16, 0.3
HOP_S, TCP_HOP_S = 0.3, 1.0
MOST_HOPS = 32
THIS_COMPUTER = "this computer"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen.

    Attributes:
        heard: sound came after all.
        closed_by: who said, to the end, that the hub's port is closed; empty: nobody.
        prohibited_by: who said that it is forbidden.
        after_good_bye: the hub's machine complained about what came after a good-bye.
        one_for_all: a second client was given our port while we play.
        same_port: a hello after 10 s was given the same port; None: it was given none.
        hops: routers that complained, the nearest first, until one was silent.
        distance: hops to the hub by TCP; None: not known.
    """

    heard: bool = False
    closed_by: str = ""
    prohibited_by: str = ""
    after_good_bye: bool = False
    one_for_all: bool = False
    same_port: bool | None = None
    hops: tuple[str, ...] = ()
    distance: int | None = None

    @property
    def arrives(self) -> bool | None:
        """Whether what we send arrives."""
        if self.closed_by or self.after_good_bye or self.one_for_all:
            return True
        if self.prohibited_by or self.same_port:
            return False
        return None if self.same_port is None else True

    @property
    def is_told(self) -> bool:
        """Whether somebody says outright what it is."""
        return bool(self.closed_by or self.prohibited_by)


def judge(evidence: Evidence) -> str:
    """The fault that it amounts to."""
    if evidence.prohibited_by:
        return "udp-prohibited"
    if evidence.closed_by:
        return "udp-port-closed"
    match evidence.arrives:
        case True:
            return "udp-in-swallowed"
        case False:
            return "udp-out-swallowed"
        case None:
            return "udp-swallowed"


def told(complaints: list[Complaint], hub: Address) -> Evidence:
    """What ICMP says outright, in complaints that came lately."""
    closed = [
        each
        for each in complaints
        if each.problem is Problem.PORT_CLOSED and each.source == hub.bare
    ]
    # where TCP has just got to, only a firewall says that there is no way
    forbidden = [
        each
        for each in complaints
        if each.problem is Problem.PROHIBITED
        or (each.problem is Problem.UNREACHABLE and each.source)
        or (each.problem is Problem.PORT_CLOSED and each.source not in ("", hub.bare))
    ]
    return Evidence(
        closed_by=closed[-1].source if closed else "",
        prohibited_by=(forbidden[-1].source or THIS_COMPUTER) if forbidden else "",
    )


class Investigation:
    """Looks for the closed way while a session plays that is not heard of."""

    def __init__(
        self, hub: Hub, line: Line, ears: Ears, player: Player, tell: Callable[[str], None]
    ) -> None:
        """player: of that session; it must go on. tell: shown to whoever waits."""
        self._hub, self._line, self._ears, self._player = hub, line, ears, player
        self._tell = tell
        self._traced: list[Evidence] = []

    def run(self, since: int) -> Evidence:
        """All of it: until somebody says outright what it is, or sound comes after all.

        Complaints may be rare, for a machine limits them, to all that is sent to it: they count as
        long as this takes.

        since: the first of the line's complaints that count.
        """
        evidence = self._told(since)
        if evidence.is_told:
            return evidence
        began_s = time.monotonic()
        self._tell("no sound comes: looking for the way that is closed")
        tracing = threading.Thread(target=self._trace, daemon=True)
        tracing.start()
        # under another name: a hub may wait to see whether somebody of the same name has come back
        visited = replace(self._hub, name=f"{self._hub.name} 2")
        complains, port = _visit(visited, self._player.form)
        waited_for = time.monotonic() - self._player.began_ns / 1e9 < GIVEN_UP_S[0]
        if complains:
            # and if it complains about what comes to the first port too, nobody listens at any
            evidence = self._wait(since, time.monotonic() + PATIENCE_S)
            if evidence.heard or evidence.is_told:
                return evidence
            tracing.join(MOST_HOPS * HOP_S)
            return replace(self._way(), after_good_bye=True)
        # a port that is everybody's stays open: whose machine complains of it has none such
        if port == self._player.port and waited_for:
            tracing.join(MOST_HOPS * HOP_S)
            return replace(self._way(), one_for_all=True)
        same = None
        for given_up_s in GIVEN_UP_S:
            evidence = self._wait(since, self._player.began_ns / 1e9 + given_up_s)
            if evidence.heard or evidence.is_told:
                return evidence
            answered = self._hub.hello(self._player.port)
            if answered.reply is Reply.PORT and not same:
                same = answered.udp_port == self._player.port
        tracing.join(max(MOST_HOPS * HOP_S - (time.monotonic() - began_s), 0.0))
        return replace(self._way(), same_port=same)

    def _told(self, since: int) -> Evidence:
        self._line.hear_complaints()
        return told(self._line.complaints[since:], self._hub.address)

    def _wait(self, since: int, until_s: float) -> Evidence:
        """What is said, or heard, until a time."""
        while True:
            evidence = self._told(since)
            if self._ears.last_ns(self._player) is not None:
                return Evidence(heard=True)
            left_s = until_s - time.monotonic()
            if evidence.is_told or left_s <= 0:
                return evidence
            self._tell(f"does the hub give up waiting for you? {left_s:.0f} s")
            time.sleep(min(left_s, 0.25))

    def _way(self) -> Evidence:
        return self._traced[0] if self._traced else Evidence()

    def _trace(self) -> None:
        self._traced.append(_trace(self._hub, self._player.port))


def _visit(hub: Hub, form: Form) -> tuple[bool, int]:
    """Visit for a moment, leave, and knock once more at the port that is closed by then.

    Returns:
        Whether the hub's machine complained; the port, 0 if there was none.
    """
    line = Line(hub.address)
    ears = Ears(line)
    try:
        _, player = hub.begin(line, form, 2.0)
        if player is None:
            return False, 0
        time.sleep(VISIT_S)
        # what is not answered is not unheard: if anything arrives, then sound did before this
        player.stop(good_bye=True)
        line.hear_complaints()
        since = len(line.complaints)
        for _ in range(COMPLAINTS):
            # as a client that has not noticed: should the port be somebody else's, it is harmless
            line.send(player.silence(), player.port)
            if wait_for(lambda: _port_closed(line, hub, since), COMPLAINT_S):
                return True, player.port
        return False, player.port
    finally:
        ears.close()
        line.close()


def _port_closed(line: Line, hub: Hub, since: int) -> bool:
    """Whether the hub's machine has said so; whoever reads from the line may have heard it."""
    line.hear_complaints()
    return any(
        each.problem is Problem.PORT_CLOSED and each.source == hub.address.bare
        for each in line.complaints[since:]
    )


def _trace(hub: Hub, port: int) -> Evidence:
    """Routers that UDP gets to, and hops to the hub. No packet of this reaches the hub itself."""
    distance = tcp_distance(hub.address, hub.port)
    hops: list[str] = []
    if distance is None:
        return Evidence()
    line = Line(hub.address)
    try:
        for hop in range(1, distance):
            line.set_hops(hop)
            source = _router(line, port)
            if not source:
                break
            hops.append(source)
    finally:
        line.close()
    return Evidence(hops=tuple(hops), distance=distance)


def _router(line: Line, port: int) -> str:
    """Who complains about a packet that has come too many hops; empty: nobody."""
    for _ in range(2):
        line.send(bytes(8), port)
        deadline = time.monotonic() + HOP_S
        while time.monotonic() < deadline:
            for complaint in line.hear_complaints():
                if complaint.problem is Problem.HOPS_OVER:
                    return complaint.source
            time.sleep(0.005)
    return ""


def tcp_distance(address: Address, port: int) -> int | None:
    """The fewest hops to live with which a TCP connection stands; None: none did."""
    if not _connects(address, port, MOST_HOPS):
        return None
    low, high = 0, MOST_HOPS
    while high - low > 1:
        middle = (low + high) // 2
        if _connects(address, port, middle):
            high = middle
        else:
            low = middle
    return high


def _connects(address: Address, port: int, hops: int) -> bool:
    with socket.socket(address.family, socket.SOCK_STREAM) as tcp:
        if address.is_ipv6:
            tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        else:
            tcp.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
        tcp.settimeout(TCP_HOP_S)
        with contextlib.suppress(OSError):
            return tcp.connect_ex((address.text, port)) in (0, errno.EISCONN)
    return False
