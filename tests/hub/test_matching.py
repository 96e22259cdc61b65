"""Whose a datagram of the shared port is: nobody is ever given another's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.matching import (
    BOUND_NS,
    LEFT_NS,
    MOVE_RUN,
    SAID_GOODBYE_NS,
    SECOND_NS,
    SILENT_NS,
    STILL_HEARD_NS,
    Finding,
    Fit,
    Matching,
    Stream,
    goes_on,
    is_on_time,
    packet_ns_of,
)
from shared.protocol import AudioHeader

PACKET_NS = 128 * SECOND_NS // 48000
HOME, AWAY = bytes(15) + b"\1", bytes(15) + b"\2"
MS = 1_000_000


def header(number: int, at_ns: int, frames: int = 128) -> AudioHeader:
    """One of a client whose clock is the hub's."""
    return AudioHeader(at_ns // 1000, number % 65536, frames, 3, 16, 2, 2)


def stream(number: int, at_ns: int) -> Stream:
    """That has come so far."""
    return Stream(128, 3, 16, 2, PACKET_NS, number, at_ns, at_ns // 1000, at_ns, True)


class Hub:
    """A matching, and what the hub knows of its clients."""

    def __init__(self) -> None:
        self.heard: dict[int, Stream] = {}
        self.matching = Matching(self._fitting)

    def _fitting(self, numbers: Collection[int], one: AudioHeader, now_ns: int) -> list[Fit]:
        known = [(number, self.heard[number]) for number in numbers if number in self.heard]
        return [
            Fit(number, s.heard_ns, bool(is_on_time(s, one, now_ns)))
            for number, s in known
            if goes_on(s, one, now_ns)
        ]

    def judge(self, port: int, number: int, at_ns: int, address: bytes = HOME) -> Finding:
        return self.matching.judge(address, port, header(number, at_ns), at_ns)[0]


def playing(number: int = 1, port: int = 5000, at_ns: int = 20 * SECOND_NS) -> Hub:
    """A hub with one client, which has just sent its packet 7000."""
    hub = Hub()
    hub.matching.expect(number, HOME, 4464, 0)
    hub.matching.connected(number, port)
    hub.heard[number] = stream(7000, at_ns)
    return hub


def test_a_first_packet_is_the_newcomers_of_its_address() -> None:
    """Whichever port its router gave it."""
    hub = Hub()
    hub.matching.expect(1, HOME, 4464, 0)
    assert hub.judge(61_000, 0, 5 * MS, AWAY) is Finding.NOBODY
    assert hub.judge(61_000, 0, 5 * MS) is Finding.MATCH
    hub.matching.connected(1, 61_000)
    assert hub.judge(61_000, 1, 8 * MS) is Finding.EARLY
    assert hub.judge(61_001, 1, 8 * MS) is Finding.NOBODY


def test_one_newcomer_of_an_address_waits_at_a_time() -> None:
    hub = Hub()
    hub.matching.expect(1, HOME, 4464, 0)
    assert hub.matching.is_expecting(HOME, 0)
    assert not hub.matching.is_expecting(AWAY, 0)
    with pytest.raises(ValueError, match="session 1 waits"):
        hub.matching.expect(2, HOME, 4465, 0)
    hub.matching.forget(1, None)
    assert hub.matching.is_expecting(HOME, SECOND_NS)
    assert not hub.matching.is_expecting(HOME, 2 * SECOND_NS)
    hub.matching.expect(2, HOME, 4465, 2 * SECOND_NS)
    assert hub.judge(61_000, 750, 2 * SECOND_NS) is Finding.STRANGE


def test_a_client_that_moves_is_no_newcomer() -> None:
    """Though one waits: its numbers are not those of somebody who has just said hello."""
    hub = playing()
    now = 20 * SECOND_NS
    hub.matching.expect(2, HOME, 4464, now)
    assert hub.judge(61_000, 7002, now + 2 * PACKET_NS) is Finding.MOVING
    assert hub.judge(61_000, 9000, now + 2 * PACKET_NS) is Finding.STRANGE
    assert hub.judge(61_001, 0, now + 2 * PACKET_NS) is Finding.MATCH


def test_a_client_that_has_moved_is_followed_when_it_has_proved_it() -> None:
    hub = playing()
    found = []
    for k in range(1, 60):
        at_ns = 20 * SECOND_NS + k * PACKET_NS
        found.append(hub.judge(61_000, 7000 + k, at_ns))
        if found[-1] is Finding.FOLLOW:
            break
    assert len(found) >= MOVE_RUN
    assert set(found[:-1]) == {Finding.MOVING}
    assert len(found) * PACKET_NS >= SILENT_NS > (len(found) - 1) * PACKET_NS


@pytest.mark.parametrize("wrong", ["numbers", "clock", "heard", "another"])
def test_nobody_is_followed_without_proof(wrong: str) -> None:
    hub = playing()
    if wrong == "another":  # who is where the first is, and as silent
        hub.matching.expect(2, HOME, 4464, 0)
        hub.matching.connected(2, 5001)
        hub.heard[2] = stream(7010, 20 * SECOND_NS)
    for k in range(1, 120):
        at_ns = 20 * SECOND_NS + k * PACKET_NS
        number, stamp_ns = 7000 + k, at_ns
        match wrong:
            case "numbers":
                number = 7000 + k + (k % 2) * -20
            case "clock":
                stamp_ns = at_ns + SECOND_NS
            case "heard":
                hub.heard[1] = stream(7000 + k, at_ns)
        one = header(number, stamp_ns)
        finding, _ = hub.matching.judge(HOME, 61_000, one, at_ns)
        assert finding in (Finding.MOVING, Finding.NOBODY)


def test_a_newcomer_whose_numbers_are_a_clients_waits_until_that_is_heard() -> None:
    hub = Hub()
    hub.matching.expect(1, HOME, 4464, 0)
    hub.matching.connected(1, 5000)
    hub.matching.expect(2, HOME, 4464, 0)
    found = []
    for k in range(40):
        hub.heard[1] = stream(k, k * PACKET_NS)
        found.append(hub.judge(5001, k, k * PACKET_NS))
        if found[-1] is Finding.MATCH:
            break
    assert set(found[:-1]) == {Finding.MOVING}
    assert found[-1] is Finding.MATCH
    assert (len(found) - 2) * PACKET_NS <= STILL_HEARD_NS


def test_who_has_left_and_plays_on_is_nobody() -> None:
    """Nor is it at another port; a new client at its old port is one."""
    hub = playing()
    now = 20 * SECOND_NS
    hub.matching.forget(1, hub.heard.pop(1))
    hub.matching.expect(2, HOME, 4464, now)
    for k in range(1, 4000, 7):
        assert hub.judge(5000, 7000 + k, now + k * PACKET_NS) is Finding.LEFT
    assert hub.judge(5007, 11_000, now + 4000 * PACKET_NS) in (Finding.STRANGE, Finding.LEFT)
    assert hub.judge(5000, 12, now + SECOND_NS) is Finding.MATCH


def test_who_has_said_goodbye_is_soon_forgotten() -> None:
    """Its last packets may come behind that; the next of its address is nobody's concern."""
    hub = playing()
    now = 20 * SECOND_NS
    hub.matching.forget(1, hub.heard.pop(1), goodbye=True)
    hub.matching.expect(2, HOME, 4464, now)
    assert hub.judge(5000, 7001, now + PACKET_NS) is Finding.LEFT
    assert hub.judge(5001, 7001, now + PACKET_NS) is Finding.MATCH
    late = now + SAID_GOODBYE_NS + MS
    assert hub.judge(5000, 7000 + (late - now) // PACKET_NS, late) is Finding.MATCH


def test_who_has_left_is_forgotten_in_time() -> None:
    hub = playing()
    now = 20 * SECOND_NS
    hub.matching.forget(1, hub.heard.pop(1))
    hub.matching.expect(2, HOME, 4464, now)
    later = now + LEFT_NS + SECOND_NS
    assert hub.judge(5000, 7000 + (later - now) // PACKET_NS, later) is Finding.MATCH


def test_a_second_life_is_given_the_port_and_the_first_gets_it_back_if_it_lives() -> None:
    hub = playing()
    now = 20 * SECOND_NS + 2 * SILENT_NS
    hub.matching.expect(2, HOME, 4464, now)
    assert hub.matching.elders(2) == [1]
    hub.matching.park(1)
    assert hub.matching.elders(2) == []
    assert hub.matching.stranded() == []
    goes = 7000 + 2 * SILENT_NS // PACKET_NS
    assert hub.matching.judge(HOME, 5000, header(goes, now), now) == (Finding.BACK, 1)
    hub.matching.connected(1, 5000)
    hub.matching.park(1)
    assert hub.matching.judge(HOME, 5000, header(0, now), now) == (Finding.MATCH, 2)
    hub.matching.connected(2, 5000)
    assert hub.matching.stranded() == []
    hub.matching.rename(2, 3)
    hub.matching.forget(1, hub.heard[1])
    assert hub.matching.judge(HOME, 5000, header(1, now), now) == (Finding.EARLY, 3)


def test_a_parked_client_gets_its_port_back_when_nobody_waits_any_more() -> None:
    hub = playing()
    hub.matching.expect(2, HOME, 4464, 0)
    hub.matching.park(1)
    hub.matching.connected(2, 5001)
    assert hub.matching.stranded() == [(1, 5000)]


@given(
    st.integers(0, 65535), st.integers(0, 40 * SECOND_NS), st.integers(-BOUND_NS, BOUND_NS),
    st.sampled_from([16, 64, 128, 1024]),
)  # fmt: skip
def test_a_stream_goes_on_at_its_own_pace(
    number: int, later_ns: int, off_ns: int, frames: int
) -> None:
    """And nowhere else, whatever the number it has got to."""
    packet_ns = packet_ns_of(header(0, 0, frames))
    one = Stream(frames, 3, 16, 2, packet_ns, number, 0)
    there = number + (later_ns + off_ns) // packet_ns
    assert goes_on(one, header(there, 0, frames), later_ns) == (
        (later_ns + off_ns) // packet_ns * packet_ns - later_ns >= -BOUND_NS
    )
    elsewhere = number + (later_ns + 65536 * packet_ns // 2) // packet_ns
    assert not goes_on(one, header(elsewhere, 0, frames), later_ns)
    assert not goes_on(one, header(there, 0, 2 * frames), later_ns)


@dataclass
class Player:
    """A client process at an address: plays from a port, from a moment on."""

    address: bytes
    port: int
    began_ns: int
    number: int
    """Of its session; the hub knows no more of it than what it sends."""
    alive: bool = True
    own: bool = False
    """It was given a port of its own."""


@dataclass
class World:
    """A few addresses, a hub, and a kernel that knows who is connected."""

    hub: Hub = field(default_factory=Hub)
    players: list[Player] = field(default_factory=list)
    connected: dict[tuple[bytes, int], int] = field(default_factory=dict)
    now_ns: int = 100 * SECOND_NS
    sessions: int = 0
    vacated: set[tuple[bytes, int]] = field(default_factory=set)

    def hello(self, address: bytes, port: int) -> None:
        """Somebody comes, from a port that no living client has."""
        held = {(p.address, p.port) for p in self.players if p.alive}
        if (address, port) in held | self.vacated:
            return
        self.sessions += 1
        own = self.hub.matching.is_expecting(address, self.now_ns)
        if not own:
            self.hub.matching.expect(self.sessions, address, 4464, self.now_ns)
        self.players.append(Player(address, port, self.now_ns, self.sessions, own=own))

    def play(self, k: int) -> None:
        """One of them sends what it must send by now."""
        one = self.players[k % len(self.players)]
        if not one.alive or one.own:
            return
        sent = header((self.now_ns - one.began_ns) // PACKET_NS, self.now_ns)
        source = one.address, one.port
        if source not in self.connected:
            finding, number = self.hub.matching.judge(*source, sent, self.now_ns)
            if finding in (Finding.MATCH, Finding.FOLLOW, Finding.BACK):
                assert number in self.lives(one), f"{finding}: {one} is given {number}'s socket"
                for old in [s for s, n in self.connected.items() if n == number]:
                    del self.connected[old]
                self.hub.matching.connected(number, one.port)
                self.connected[source] = number
        elif self.connected[source] == one.number:
            self.hub.heard[one.number] = stream(sent.sequence, self.now_ns)

    def lives(self, one: Player) -> set[int]:
        """Its session, and those of dead processes at the very same address and port."""
        dead = (p for p in self.players if not p.alive)
        return {
            one.number,
            *(p.number for p in dead if (p.address, p.port) == (one.address, one.port)),
        }

    def end(self, k: int, kicked: bool) -> None:
        """A session ends; the client may not have heard of it."""
        one = self.players[k % len(self.players)]
        if one.number in self.hub.matching:
            heard = self.hub.heard.pop(one.number, None)
            self.hub.matching.forget(one.number, heard, goodbye=not kicked)
            self.connected = {s: n for s, n in self.connected.items() if n != one.number}
        one.alive &= kicked  # and plays on
        one.number = -1

    def die(self, k: int) -> None:
        """A process is killed; its session stays, and so does its port for another process."""
        one = self.players[k % len(self.players)]
        one.alive = False

    def reroute(self, k: int) -> None:
        """A router gives a client another port; the old one is not soon given again."""
        one = self.players[k % len(self.players)]
        if one.alive:
            self.vacated.add((one.address, one.port))
            one.port = 6000 + len(self.vacated)

    def look(self) -> None:
        """What the hub does on each poll: parks the silent, where a second life may have come."""
        for player in self.players:
            for number in self.hub.matching.elders(player.number):
                silent = self.hub.heard.get(number)
                if silent is not None and self.now_ns - silent.heard_ns >= SILENT_NS:
                    self.hub.matching.park(number)
                    self.connected = {s: n for s, n in self.connected.items() if n != number}
        for number, port in self.hub.matching.stranded():
            self.hub.matching.connected(number, port)
            address = next(p.address for p in self.players if p.number == number)
            self.connected[address, port] = number


ACTIONS = st.one_of(
    st.tuples(st.just("hello"), st.sampled_from([HOME, AWAY]), st.integers(5000, 5004)),
    st.tuples(st.just("play"), st.integers(0, 7), st.integers(1, 60)),
    st.tuples(st.just("play"), st.integers(0, 7), st.integers(1, 60)),
    st.tuples(st.just("play"), st.integers(0, 7), st.integers(1, 60)),
    st.tuples(st.just("wait"), st.integers(1, 3000)),
    st.tuples(st.just("end"), st.integers(0, 7), st.booleans()),
    st.tuples(st.just("die"), st.integers(0, 7)),
    st.tuples(st.just("reroute"), st.integers(0, 7)),
)


@settings(max_examples=300)
@given(st.lists(ACTIONS, max_size=60))
def test_nobody_is_ever_given_anothers_socket(actions: list[tuple[object, ...]]) -> None:
    world = World()
    for action in actions:
        match action:
            case ("hello", bytes(address), int(port)):
                world.hello(address, port)
            case ("play", int(k), int(packets)) if world.players:
                for _ in range(packets):
                    world.now_ns += PACKET_NS
                    world.play(k)
                    world.look()
            case ("wait", int(ms)):
                world.now_ns += ms * MS
            case ("end", int(k), bool(kicked)) if world.players:
                world.end(k, kicked)
            case ("die", int(k)) if world.players:
                world.die(k)
            case ("reroute", int(k)) if world.players:
                world.reroute(k)
