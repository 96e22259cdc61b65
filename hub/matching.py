"""Whose is a datagram that no client's socket takes? Pure logic, ``now`` is an argument.

With ``--single-port`` all clients come to one UDP port, and each one's socket is connected: the
kernel gives it what its client sends. What is left comes to the lobby (``hub.lobby``), and this
says whose it is. From an address and a port::

     at which somebody is served        EARLY     it came before the socket was connected
     of a parked client, and goes on    BACK      it is that client's after all
     of who has left, and goes on       LEFT      who was kicked may not have heard it
     goes on where a client of this     MOVING    perhaps a router gave that one another port;
       address has got to               FOLLOW    proved: it is that client's
     a newcomer of the address waits    MATCH     it is that newcomer's first
                                        STRANGE   ... but does not begin with its hello
     otherwise                          NOBODY

"Goes on" is said of packets in a sender's format whose number is what that sender's must be by now,
give or take BOUND_NS. What a newcomer sends begins with its hello, at number 0: that is asked only
where others of its address are known.

Of one address one newcomer waits at a time, so that nobody is taken for another: whoever comes
meanwhile is given a port of its own (``is_expecting``). Who may be a client's second life (same
announced port) has that client *parked* once it is silent: its address and port are the lobby's
until it is known whose they are.

To follow takes what ``workers.moves`` wants: MOVE_RUN packets in order from one port, TimeStamps
that go on as the client's clock, and silence at its own port; and here also that no other client,
nor a newcomer, could have sent them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from shared.protocol import RATES_HZ, AudioHeader

SECOND_NS = 1_000_000_000
BOUND_NS = 250_000_000
MOVE_RUN = 8
MOVE_PAUSE_NS = 200_000_000
SILENT_NS = 100_000_000
"""These four as in ``workers.moves``."""
STILL_HEARD_NS = 50_000_000
"""A client heard so long after another port began to speak has not moved there."""
BEGIN_NS = SECOND_NS
"""A newcomer's numbers are ahead of its hello by less."""
LEFT_NS, SAID_GOODBYE_NS = 30 * SECOND_NS, SECOND_NS
"""So long who has left may play on, or may have packets under way behind a good-bye."""
UNHEARD_NS = 10 * SECOND_NS + LEFT_NS
"""The same, from its hello on, of who was not heard in 10 s."""
MAX_LEFT, MAX_RUNS = 256, 256


class Finding(Enum):
    """Whose a datagram is; the value is what it is counted as."""

    EARLY = "early"
    BACK = "back"
    LEFT = "left"
    MOVING = "moving"
    FOLLOW = "followed"
    MATCH = "matched"
    STRANGE = "strange"
    NOBODY = "nobody"


MALFORMED, UNJUDGED = "malformed", "unjudged"
LOBBY = (*(finding.value for finding in Finding), MALFORMED, UNJUDGED)
"""What a datagram of the lobby may be counted as."""


@dataclass(slots=True)
class Stream:
    """How far somebody's packets have come; or of many clients, an array a field.

    Attributes:
        frames, rate_code, bits, sends: format of its packets.
        packet_ns: how long one of them lasts.
        sequence: number of the newest, modulo 65536 or not.
        heard_ns: when that came.
        stamp_us, stamp_ns: a TimeStamp of it, and when that came.
        steady: whether that was one of a clock.
    """

    frames: Any
    rate_code: Any
    bits: Any
    sends: Any
    packet_ns: Any
    sequence: Any
    heard_ns: Any
    stamp_us: Any = 0
    stamp_ns: Any = 0
    steady: Any = False


@dataclass(frozen=True, slots=True)
class Fit:
    """A client whose next packet a datagram may be.

    Attributes:
        heard_ns: when it was heard at its own port.
        certain: its clock's TimeStamp goes on, too.
    """

    number: int
    heard_ns: int
    certain: bool


Fitting = Callable[[Collection[int], AudioHeader, int], list[Fit]]
"""Which of these clients a datagram that came now may be of."""


def goes_on(stream: Stream, header: AudioHeader, now_ns: int) -> Any:
    """Whether a packet is where a stream must have got to; an array for arrays."""
    same = (
        (stream.frames == header.frames)
        & (stream.rate_code == header.rate_code)
        & (stream.bits == header.bits)
        & (stream.sends == header.sends)
    )
    turn_ns = 65536 * stream.packet_ns
    ahead_ns = (header.sequence - stream.sequence) % 65536 * stream.packet_ns
    off_ns = (ahead_ns - (now_ns - stream.heard_ns)) % turn_ns
    return same & ((off_ns <= BOUND_NS) | (off_ns >= turn_ns - BOUND_NS))


def is_on_time(stream: Stream, header: AudioHeader, now_ns: int) -> Any:
    """Whether it is news by a clock that goes on; an array for arrays."""
    half = 1 << 31
    since_us = (header.timestamp_us & 0xFFFFFFFF) - stream.stamp_us
    error_us = (since_us - (now_ns - stream.stamp_ns) // 1000 + half) % (2 * half) - half
    step = (header.sequence - stream.sequence) % 65536
    news = (step >= 1) & (step < 32768)
    return stream.steady & news & (abs(error_us) * 1000 <= BOUND_NS)


def packet_ns_of(header: AudioHeader) -> int:
    """How long a packet lasts, so far as its header tells."""
    rate_hz = RATES_HZ[header.rate_code] if header.rate_code < len(RATES_HZ) else 48000
    return header.frames * SECOND_NS // rate_hz


def _begins(hello_ns: int, header: AudioHeader, now_ns: int) -> bool:
    """Whether a packet's number may be that of somebody who said hello then."""
    return header.sequence * packet_ns_of(header) <= now_ns - hello_ns + BEGIN_NS


@dataclass(slots=True)
class _Client:
    """One that the shared port is for; port: that it sends from, once that is known."""

    number: int
    address: bytes
    told: int
    opened_ns: int
    port: int | None = None
    parked: bool = False


@dataclass(slots=True)
class _Run:
    """Packets in order from one port that may be a client's."""

    began_ns: int
    last_ns: int
    number: int = 0
    count: int = 0
    next: int = 0


class Matching:
    """Clients of the shared port, by session number; addresses are 16 bytes.

    Args:
        fitting: who of some clients may have sent a datagram.
    """

    def __init__(self, fitting: Fitting) -> None:
        self._fitting = fitting
        self._clients: dict[int, _Client] = {}
        self._by_address: dict[bytes, set[int]] = {}
        self._expected: dict[bytes, _Client] = {}
        self._served: dict[tuple[bytes, int], int] = {}
        self._left: OrderedDict[tuple[bytes, int], Stream] = OrderedDict()  # heard last at the end
        self._farewells: OrderedDict[tuple[bytes, int], Stream] = OrderedDict()
        self._left_ports: dict[bytes, set[int]] = {}
        self._unheard: OrderedDict[bytes, int] = OrderedDict()  # hellos, the newest at the end
        self._runs: OrderedDict[tuple[bytes, int], _Run] = OrderedDict()

    def __contains__(self, number: int) -> bool:
        return number in self._clients

    def is_expecting(self, address: bytes, now_ns: int) -> bool:
        """Whether somebody of this address has yet to be heard.

        Or was not to the end, and cannot be told from who comes now by its numbers.
        """
        hello_ns = self._unheard.get(address)
        recent = hello_ns is not None and now_ns - hello_ns <= BEGIN_NS + BOUND_NS
        return recent or address in self._expected

    def expect(self, number: int, address: bytes, told: int, now_ns: int) -> None:
        """A newcomer was given the shared port; told: the port that it announced.

        Raises:
            ValueError: another of its address waits.
        """
        if address in self._expected:
            raise ValueError(f"session {self._expected[address].number} waits at this address")
        client = _Client(number, address, told, now_ns)
        self._clients[number] = self._expected[address] = client
        self._by_address.setdefault(address, set()).add(number)

    def connected(self, number: int, port: int) -> None:
        """A client's socket hears this port of its address from now on, and no other."""
        client = self._clients[number]
        self._unserve(client)
        if self._expected.get(client.address) is client:
            del self._expected[client.address]
        client.port, client.parked = port, False
        self._served[client.address, port] = number
        self._runs.pop((client.address, port), None)

    def elders(self, number: int) -> list[int]:
        """Clients of which a newcomer that waits may be the second life."""
        new = self._clients.get(number)
        if new is None or self._expected.get(new.address) is not new:
            return []
        return [
            old.number
            for old in self._of(new.address)
            if old.port is not None and not old.parked and new.told in (old.port, old.told)
        ]

    def park(self, number: int) -> None:
        """A client's socket hears nobody now: what its port sends comes to the lobby."""
        client = self._clients[number]
        self._unserve(client)
        client.parked = True

    def stranded(self) -> list[tuple[int, int]]:
        """Parked clients whose port is nobody else's, while nobody waits: (number, port)."""
        return [
            (client.number, client.port)
            for client in self._clients.values()
            if client.parked
            and client.port is not None
            and client.address not in self._expected
            and (client.address, client.port) not in self._served
        ]

    def forget(self, number: int, stream: Stream | None, *, goodbye: bool = False) -> None:
        """A session is over.

        Args:
            stream: how far it had come; None: nobody knows.
            goodbye: its client has said so.
        """
        client = self._clients.pop(number)
        self._unserve(client)
        if self._expected.get(client.address) is client:
            del self._expected[client.address]
        if stream is None and not goodbye:
            self._unheard[client.address] = client.opened_ns
            self._unheard.move_to_end(client.address)
            if len(self._unheard) > MAX_LEFT:
                self._unheard.popitem(last=False)
        numbers = self._by_address[client.address]
        numbers.discard(number)
        if not numbers:
            del self._by_address[client.address]
        if client.port is not None and stream is not None:
            source = client.address, client.port
            if goodbye:
                self._farewells[source] = stream
                self._farewells.move_to_end(source)
                if len(self._farewells) > MAX_LEFT:
                    self._farewells.popitem(last=False)
            else:
                self._remember(source, stream)

    def rename(self, number: int, new: int) -> None:
        """A session goes on under another number."""
        client = self._clients[new] = self._clients.pop(number)
        client.number = new
        numbers = self._by_address[client.address]
        numbers.discard(number)
        numbers.add(new)
        if client.port is not None and self._served.get((client.address, client.port)) == number:
            self._served[client.address, client.port] = new

    def is_dear(self, address: bytes, port: int) -> bool:
        """Whether a datagram would have to be compared with what clients send."""
        if (address, port) in self._served:
            return False
        present = any(client.port is not None for client in self._of(address))
        return present or address in self._left_ports

    def judge(
        self, address: bytes, port: int, header: AudioHeader, now_ns: int
    ) -> tuple[Finding, int]:
        """Whose a datagram is that came to the lobby, and that session's number or 0.

        FOLLOW, MATCH and BACK are to be answered with ``connected``.
        """
        if (address, port) in self._served:
            return Finding.EARLY, self._served[address, port]
        fits = self._fitting(self._present(address), header, now_ns)
        for client in self._of(address):
            if client.parked and client.port == port and client.number in {f.number for f in fits}:
                return Finding.BACK, client.number
        if self._is_left(address, port, header, now_ns):
            return Finding.LEFT, 0
        new = self._expected.get(address)
        unheard_ns = self._unheard.get(address, now_ns - UNHEARD_NS)
        unheard = now_ns - unheard_ns < UNHEARD_NS
        begins = new is not None and _begins(new.opened_ns, header, now_ns)
        ports = self._left_ports.get(address, set())
        left = any(goes_on(self._left[address, each], header, now_ns) for each in ports)
        if fits:
            moved = self._moved(address, port, header, now_ns, fits)
            if moved and not (begins or left or (unheard and _begins(unheard_ns, header, now_ns))):
                return Finding.FOLLOW, moved
            if moved is not None:
                return Finding.MOVING, 0
        if new is None:
            return Finding.NOBODY, 0
        if left:  # and a router has given it another port
            return Finding.LEFT, 0
        if not begins and (ports or unheard or len(self._by_address[address]) > 1):
            return Finding.STRANGE, 0
        return Finding.MATCH, new.number

    def _of(self, address: bytes) -> Iterator[_Client]:
        return (self._clients[number] for number in self._by_address.get(address, ()))

    def _present(self, address: bytes) -> list[int]:
        """Clients of an address that have been heard."""
        return [client.number for client in self._of(address) if client.port is not None]

    def _moved(
        self, address: bytes, port: int, header: AudioHeader, now_ns: int, fits: list[Fit]
    ) -> int | None:
        """Who has proved to have moved to this port; 0: somebody may have; None: nobody has."""
        run = self._run(address, port, now_ns)
        fits = [fit for fit in fits if fit.heard_ns < run.began_ns + STILL_HEARD_NS]
        if not fits:
            return None
        if len(fits) > 1 or not fits[0].certain:
            run.count = 0
            return 0
        fit = fits[0]
        if run.count and (
            run.number != fit.number or (header.sequence - run.next) % 65536 >= 32768
        ):
            run.count = 0
            return 0
        run.number, run.next = fit.number, (header.sequence + 1) % 65536
        run.count += 1
        proved = run.count >= MOVE_RUN and now_ns - fit.heard_ns >= SILENT_NS
        return fit.number if proved else 0

    def _run(self, address: bytes, port: int, now_ns: int) -> _Run:
        run = self._runs.pop((address, port), None)
        if run is None or now_ns - run.last_ns > MOVE_PAUSE_NS:
            run = _Run(now_ns, now_ns)
        run.last_ns = now_ns
        self._runs[address, port] = run
        if len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)
        return run

    def _unserve(self, client: _Client) -> None:
        if client.port is None:
            return
        source = client.address, client.port
        if self._served.get(source) == client.number:
            del self._served[source]

    def _remember(self, source: tuple[bytes, int], stream: Stream) -> None:
        self._drop_left(source)
        self._left[source] = stream
        self._left_ports.setdefault(source[0], set()).add(source[1])
        if len(self._left) > MAX_LEFT:
            self._drop_left(next(iter(self._left)))

    def _drop_left(self, source: tuple[bytes, int]) -> None:
        if self._left.pop(source, None) is not None:
            ports = self._left_ports[source[0]]
            ports.discard(source[1])
            if not ports:
                del self._left_ports[source[0]]

    def _is_left(self, address: bytes, port: int, header: AudioHeader, now_ns: int) -> bool:
        """Whether it is of somebody who has left and plays on."""
        while self._left and now_ns - next(iter(self._left.values())).heard_ns > LEFT_NS:
            self._drop_left(next(iter(self._left)))
        stream = self._farewells.get((address, port))
        if stream is not None:
            if now_ns - stream.heard_ns <= SAID_GOODBYE_NS and goes_on(stream, header, now_ns):
                return True
            del self._farewells[address, port]
        stream = self._left.get((address, port))
        if stream is None or not goes_on(stream, header, now_ns):
            return False
        stream.sequence, stream.heard_ns = header.sequence, now_ns
        self._left.move_to_end((address, port))
        return True
