"""An endpoint's side of a session: its UDP socket, and the records of its arena.

The slots are ``shared.layout.EndpointSlot``. A session's number is that of PEER and STREAM alike;
the one begins to be listened to and the other to be sent in the same moment, since both sides
of a connection speak before they have heard.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

import numpy as np

from hub.addresses import IPAddress, address_of_words, address_words, sockaddr_to
from hub.endpoint.config import LIVE, EndpointConfig
from hub.jack.seats import cut
from hub.ports import TRAFFIC_CLASS, set_options
from shared.arena import Arena, Records, create_arena
from shared.jacklayout import JACK_NAME_BYTES
from shared.layout import (
    RING_FRAMES,
    EndpointSlot,
    EndReason,
    PatchMode,
    RxState,
    StopOrder,
)
from shared.limits import GuardMode
from shared.protocol import EXIT_PACKET, EXIT_REPEATS, rate_code

PEER, DEVICE, STREAM = EndpointSlot
_STALE = 4096
"""Datagrams of a former session that may wait in the socket, at most."""
_UNCONNECTED = struct.pack("=H14x", socket.AF_UNSPEC)
_libc = ctypes.CDLL(None)


def make_arena(config: EndpointConfig, rate_hz: int, period_frames: int) -> tuple[int, Arena]:
    """Memory of an endpoint: descriptor and views.

    Raises:
        OSError: there is not enough of it.
    """
    fd, arena = create_arena(
        slots=len(EndpointSlot),
        rate_hz=rate_hz,
        period_frames=period_frames,
        cores=1,
        underrun=config.underrun,
        drift=config.drift,
        level_guard=GuardMode.OFF,
        jack=config.audio in LIVE,
    )
    arena.header[0]["endpoint"] = 1
    arena.control[0]["patch"] = PatchMode.FULL_MIX
    arena.control[0]["slots_high"] = len(EndpointSlot)
    device = arena.rx[DEVICE]
    device["session"] = 1
    device["ring_frames"] = RING_FRAMES
    device["frames"] = period_frames
    device["channels"] = config.send_channels
    device["wants"] = config.receive_channels
    device["resting"] = 1  # says nothing yet
    device["state"] = RxState.ACTIVE
    if config.audio in LIVE:
        stream = arena.slots[STREAM]
        name = cut(config.jack_name).ljust(JACK_NAME_BYTES, b"\0")
        stream["jack_name"] = np.frombuffer(name, np.uint8)
        stream["jack_group"] = 1
    return fd, arena


def open_socket(port: int) -> socket.socket:
    """A non-blocking UDP socket on every address of this machine, of all families that it has.

    Args:
        port: 0: any.

    Raises:
        OSError: the port is in use, or not permitted.
    """
    if port == 0:  # one that was not asked for by number is lost with the first ``disconnect``
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as finder:
            finder.bind(("", 0))
            port = finder.getsockname()[1]
    both = socket.has_dualstack_ipv6()
    sock = socket.socket(socket.AF_INET6 if both else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if both:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("", port))
        set_options(sock)
        if both:  # IPv4 goes through it as well
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TRAFFIC_CLASS)
    except OSError:
        sock.close()
        raise
    return sock


def disconnect(sock: socket.socket) -> None:
    """Let a UDP socket hear everybody again, and send from whichever address leads there.

    Linux keeps the source address of the first ``connect`` for all later ones, also when
    this machine has no longer that address.
    """
    _libc.connect(sock.fileno(), _UNCONNECTED, len(_UNCONNECTED))


class Link:
    """Opens and closes sessions, one after the other, on one socket.

    Args:
        config: the endpoint's settings.
        sock: its UDP socket.
        hire: has a receiver made for a session of PEER.
        post: has STREAM's socket given to the mixer, for a session.
    """

    def __init__(
        self,
        config: EndpointConfig,
        arena: Arena,
        sock: socket.socket,
        hire: Callable[[int], None],
        post: Callable[[int], None],
    ) -> None:
        self.sock = sock
        self.number = 0
        self.address: IPAddress | None = None
        self.port = 0
        self._config, self._arena = config, arena
        self._hire, self._post = hire, post

    @property
    def rx(self) -> Any:
        """Record of what comes."""
        return self._arena.rx[PEER]

    @property
    def tx(self) -> Any:
        """Record of what is sent."""
        return self._arena.tx[STREAM]

    @property
    def state(self) -> RxState:
        """How far the peer has come; IDLE while the session's receiver has yet to begin."""
        return RxState(int(self.rx["state"])) if self.rx["session"] == self.number else RxState.IDLE

    @property
    def reason(self) -> EndReason:
        return EndReason(int(self.rx["end_reason"]))

    def open(self, address: IPAddress, port: int, *, sole: bool, fresh: bool) -> None:
        """Begin a session: listen to this peer, and send to it.

        Args:
            sole: nobody else, and no other port of its, is to be heard.
            fresh: what has come before is not this session's.
        """
        self.number += 1
        self.address, self.port = address, port
        disconnect(self.sock)
        if sole:
            with contextlib.suppress(OSError):  # no way there yet: sending will tell
                self.sock.connect(self._sockaddr())
        if fresh:
            self._drain()
        header, config = self._arena.header[0], self._config
        peer, stream, order = self.rx, self._arena.rx[STREAM], self._arena.slots[PEER]
        peer["state"] = stream["state"] = RxState.IDLE
        _reset(peer, keep=("ring_frames", "channels"))
        _reset(self.tx)
        order["peer_high"], order["peer_low"] = address_words(address)
        order["ipv6"] = int(self.sock.family == socket.AF_INET6)
        order["queue_packets"] = config.queue.order
        order["headroom_ns"] = config.queue.headroom_ns
        order["stop"] = StopOrder.NONE
        self._arena.slots[STREAM]["held"] = 0
        order["session"] = order["admit"] = self.number
        for name, value in (
            ("session", self.number),
            ("frames", int(header["period_frames"])),
            ("span", float(header["period_frames"])),
            ("rate_hz", int(header["rate_hz"])),
            ("rate_code", rate_code(int(header["rate_hz"]))),
            ("bits", config.bits),
            ("channels", config.receive_channels),
            ("wants", config.send_channels),
            ("redundancy", config.redundancy),
            ("resting", 1),  # no source
        ):
            stream[name] = value
        self.send_to(port)
        self._arena.slots[STREAM]["limited"] = 1 if config.limiter else 2
        self._arena.slots[STREAM]["session"] = self.number
        self._post(self.number)
        stream["state"] = RxState.ACTIVE
        self._hire(self.number)

    def send_to(self, port: int) -> None:
        """Where our packets go from now on: to this port of the peer."""
        self.port = port
        assert self.address is not None
        raw = raw_sockaddr(self.address, port, self.sock.family == socket.AF_INET6)
        stream = self._arena.rx[STREAM]
        stream["sockaddr"][: len(raw)] = np.frombuffer(raw, np.uint8)
        stream["sockaddr_bytes"] = len(raw)
        stream["peer_port"] = port

    def follow(self) -> None:
        """Send to where the peer is heard from, should that be another port than we know."""
        if self.state is RxState.ACTIVE and self.rx["peer_port"] != self.port:
            self.send_to(int(self.rx["peer_port"]))

    def widen(self) -> IPAddress | None:
        """Hear the peer from another of its addresses, since nothing comes from the one we know.

        A machine with several may answer from another than it was asked at; it is known by
        its port. To be called now and then while the peer is waited for.

        Returns:
            The other address, once it is adopted.
        """
        disconnect(self.sock)
        rx, order = self.rx, self._arena.slots[PEER]
        if self.state is not RxState.WAITING or not rx["foreign"]:
            return None
        known = int(order["peer_high"]), int(order["peer_low"])
        other = int(rx["foreign_high"]), int(rx["foreign_low"])
        if rx["foreign_port"] != self.port or other == known:
            return None
        order["peer_high"], order["peer_low"] = other
        return address_of_words(*other)

    def mute(self) -> None:
        """Send nothing more."""
        self._arena.rx[STREAM]["state"] = RxState.IDLE

    def hush(self) -> None:
        """Have what is sent fade out."""
        self._arena.slots[STREAM]["held"] = 1

    def drop(self) -> None:
        """End the session without a word: nobody is there to hear it."""
        self._arena.slots[PEER]["stop"] = StopOrder.SILENT

    def leave(self) -> None:
        """Have the receiver say good-bye to the peer and end; it must be muted for a tick."""
        if self.state is RxState.ENDED or self.address is None:
            return
        if self.state in (RxState.IDLE, RxState.WAITING):  # to whom it knows no address yet
            self.say_goodbye()
        self._arena.slots[PEER]["stop"] = StopOrder.KICK

    def say_goodbye(self) -> None:
        """Send the peer its exit packets."""
        for _ in range(EXIT_REPEATS):
            with contextlib.suppress(OSError):
                self.sock.sendto(EXIT_PACKET, self._sockaddr())

    def _sockaddr(self) -> tuple[object, ...]:
        assert self.address is not None
        if self.sock.family == socket.AF_INET6 and isinstance(self.address, IPv4Address):
            return (f"::ffff:{self.address}", self.port, 0, 0)
        return sockaddr_to(self.address, self.port)

    def _drain(self) -> None:
        """Forget what is still there of a former session."""
        for _ in range(_STALE):
            try:
                self.sock.recv(1)
            except BlockingIOError:
                return
            except OSError:  # what the network said of what we sent
                continue


def raw_sockaddr(address: IPAddress, port: int, ipv6: bool) -> bytes:
    """struct sockaddr_in or sockaddr_in6, as kernels hand it to ``sendto``."""
    if not ipv6:
        return (
            struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + address.packed + bytes(8)
        )
    scope = 0
    if isinstance(address, IPv4Address):
        packed = bytes(10) + b"\xff\xff" + address.packed
    else:
        packed = address.packed
        scope = int(address.scope_id or 0)
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0)
    return head + packed + struct.pack("=I", scope)


def _reset(record: Records, keep: tuple[str, ...] = ()) -> None:
    """Zero a record but for some fields."""
    for name in record.dtype.names or ():
        if name not in keep:
            record[name] = 0
