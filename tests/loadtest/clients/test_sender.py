"""Sending and receiving through real sockets, with a clock of our own."""

from __future__ import annotations

import contextlib
import heapq
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.clients.generator import (
    BUDGET,
    EACH,
    offset_of,
    read_clocks,
    receive_all,
)
from loadtest.clients.network import Networks, make_networks
from loadtest.clients.roster import expectation, make_state
from loadtest.clients.sender import heap_drop, heap_push, heap_replace, next_due, obey, send_due
from loadtest.clients.state import (
    ABSENT,
    LATENESS,
    LEAVE,
    LOST_NS,
    NEVER,
    PLAY,
    VANISH,
    Expectation,
    State,
)
from loadtest.clients.wires import (
    ENTRY,
    Wires,
    client_address,
    make_wires,
    open_sockets,
    set_hub,
    watch,
)
from loadtest.conduct.entrances import place_order
from loadtest.scenario.model import Format, Network, Scenario, Section, Sources
from shared.protocol import EXIT_PACKET, HEADER_BYTES, parse_datagram, parse_header

PERIOD_NS = 10_000_000
"""Of FORMAT."""
FORMAT = Format(frames=480)
Sent = tuple[bytes, tuple[str, int]]


@dataclass
class Rig:
    """Clients without a thread: time is what the test says; the hub is a socket."""

    expectation: Expectation
    state: State
    wires: Wires
    networks: Networks
    hub: socket.socket
    sockets: list[socket.socket]
    now_ns: int = 1_000 * PERIOD_NS

    def order(self, index: int, wish: int) -> None:
        place_order(self.state.run, self.state.clients, self.wires.post.orders, index, wish)
        obey(self.state, self.wires.post, self.now_ns)

    def join(self, *indices: int) -> None:
        for index in indices:
            set_hub(self.wires, index, socket.AF_INET, *self.hub.getsockname())
            self.state.clients["hub_port"][index] = self.hub.getsockname()[1]
            self.order(index, PLAY)

    def pass_time(self, until_ns: int) -> list[Sent]:
        """Send all that is due until then, each at its time; what the hub got."""
        post = self.wires.post
        got: list[Sent] = []
        while (due_ns := int(next_due(post))) <= until_ns:
            self.now_ns = max(self.now_ns, due_ns)
            while send_due(self.expectation, self.state, post, self.networks, self.now_ns):
                pass
            got += self.received()
        self.now_ns = until_ns
        return got

    def received(self) -> list[Sent]:
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(self.hub.recvfrom(65536))
        return got

    def answer(self, index: int, data: bytes, hub: socket.socket | None = None) -> None:
        """Send a datagram to a client, and let it be taken."""
        port = self.sockets[index % len(self.sockets)].getsockname()[1]
        many = len(self.sockets) > 1
        (hub or self.hub).sendto(data, ("127.0.0.1" if many else client_address(index), port))
        receives = self.state.run[0]["receives"]
        deadline = time.monotonic() + 5
        while True:  # loopback delivers at once; the time stamp's clock is set here
            receive_all(self.expectation, self.state, self.wires.inbox, self.networks)
            if self.state.run[0]["receives"] > receives or time.monotonic() > deadline:
                return

    def client(self, index: int = 0) -> Any:
        return self.state.clients[index]


@contextlib.contextmanager
def make_rig(scenario: Scenario) -> Iterator[Rig]:
    with contextlib.ExitStack() as stack:
        sockets = open_sockets(scenario.sources, scenario.clients, socket.AF_INET)
        for udp in sockets:
            stack.enter_context(udp)
        hub = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        hub.bind(("127.0.0.1", 0))
        hub.setblocking(False)
        epoll = stack.enter_context(watch(sockets)).fileno() if len(sockets) > 1 else -1
        state = make_state(scenario, len(sockets))
        state.run["closed_ns"] = NEVER
        state.run["opened_ns"] = 0
        wires = make_wires(scenario, sockets, epoll)
        networks = make_networks(scenario)
        yield Rig(expectation(scenario), state, wires, networks, hub, sockets)


def alike(clients: int = 1, form: Format = FORMAT, **changes: Any) -> Scenario:
    return Scenario(sections=(Section(clients=clients, format=form, **changes),), tutti_every=0)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with make_rig(alike()) as one:
        yield one


def numbers(got: list[Sent]) -> list[int]:
    return [parse_header(data).sequence for data, _ in got]


@given(st.lists(st.one_of(st.none(), st.integers(0, 1000)), max_size=60))
@settings(deadline=None)
def test_the_heap_is_a_heap(steps: list[int | None]) -> None:
    """A number is put in, None takes the first out."""
    heap, twin = np.zeros(64, ENTRY), list[int]()
    for serial, step in enumerate(steps):
        if step is not None:
            heap_push(heap, len(twin), step, serial)
            heapq.heappush(twin, step)
        elif twin:
            heap_drop(heap, len(twin))
            heapq.heappop(twin)
        if twin:
            assert heap[0]["due_ns"] == twin[0]
        left = heap[: len(twin)]
        assert sorted(left["due_ns"].tolist()) == sorted(twin)
        assert all(steps[what] == due_ns for due_ns, what in left.tolist())


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20), st.integers(0, 100))
@settings(deadline=None)
def test_the_first_of_a_heap_can_be_replaced(keys: list[int], key: int) -> None:
    heap = np.zeros(len(keys), ENTRY)
    for size, each in enumerate(keys):
        heap_push(heap, size, each, size)

    heap_replace(heap, len(keys), key, 99)

    left = sorted(keys)[1:]
    assert sorted(heap["due_ns"].tolist()) == sorted([*left, key])
    assert heap[0]["due_ns"] == min([*left, key])


def test_packets_leave_at_their_times_numbered_from_0(rig: Rig) -> None:
    rig.join(0)
    start_ns = int(rig.client()["start_ns"])
    assert 0 <= start_ns - rig.now_ns < PERIOD_NS

    assert numbers(rig.pass_time(start_ns - 1)) == []
    assert numbers(rig.pass_time(start_ns)) == [0]
    got = rig.pass_time(start_ns + 5 * PERIOD_NS)

    assert numbers(got) == [1, 2, 3, 4, 5]
    header, redundancy = parse_datagram(got[0][0])
    assert (header.frames, header.bits, header.sends, header.wants) == (480, 16, 2, 2)
    assert redundancy == 1
    assert got[0][1] == (client_address(0), rig.sockets[0].getsockname()[1])
    assert rig.client()["sent"] == 6


def test_a_late_generator_does_not_move_the_schedule(rig: Rig) -> None:
    rig.join(0)
    start_ns = int(rig.client()["start_ns"])
    rig.now_ns = start_ns + 3 * PERIOD_NS + PERIOD_NS // 2

    got = rig.pass_time(start_ns + 4 * PERIOD_NS)

    assert numbers(got) == [0, 1, 2, 3, 4]


def test_a_hopelessly_late_generator_leaves_packets_out(rig: Rig) -> None:
    rig.join(0)
    start_ns = int(rig.client()["start_ns"])
    rig.now_ns = start_ns + 1000 * PERIOD_NS

    got = rig.pass_time(rig.now_ns)

    assert numbers(got) == [1000]
    assert rig.state.run[0]["skipped"] == 1000
    assert rig.state.sent_ns[0, 999] == LOST_NS


def test_lateness_is_counted_by_section(rig: Rig) -> None:
    rig.join(0)
    # what is due was due in the past, by the real clock
    rig.pass_time(rig.now_ns + 2 * PERIOD_NS)

    assert rig.state.histograms[0, LATENESS].sum() == rig.client()["sent"] > 0


def test_many_clients_share_a_socket_and_a_batch() -> None:
    with make_rig(alike(300)) as rig:
        rig.join(*range(300))

        got = rig.pass_time(rig.now_ns + PERIOD_NS)

        assert {peer[0] for _, peer in got} == {client_address(i) for i in range(300)}
        assert set(numbers(got)) <= {0, 1}


def test_with_ports_each_has_a_socket() -> None:
    scenario = Scenario(sections=(Section(clients=5, format=FORMAT),), sources=Sources.PORTS)
    with make_rig(scenario) as rig:
        rig.join(*range(5))

        got = rig.pass_time(rig.now_ns + PERIOD_NS)

        assert {peer[1] for _, peer in got} == {udp.getsockname()[1] for udp in rig.sockets}


def test_redundant_datagrams_hold_the_newest_first_and_zeros_before_the_first() -> None:
    with make_rig(alike(form=Format(frames=480, sends=1, redundancy=3))) as rig:
        rig.join(0)
        size = HEADER_BYTES + 960

        got = rig.pass_time(rig.now_ns + 6 * PERIOD_NS)

        assert all(len(data) == 3 * size for data, _ in got)
        for k, (data, _) in enumerate(got):
            copies = [data[i * size : (i + 1) * size] for i in range(3)]
            for back, copy in enumerate(copies):
                if k < back:
                    assert copy == bytes(size)
                else:
                    assert parse_header(copy).sequence == k - back
                    assert copy == got[k - back][0][:size]


def test_leaving_sends_two_exit_packets_and_no_more(rig: Rig) -> None:
    rig.join(0)
    rig.pass_time(rig.now_ns + 2 * PERIOD_NS)

    rig.order(0, LEAVE)

    assert [data for data, _ in rig.received()] == [EXIT_PACKET] * 2
    assert rig.client()["stage"] == ABSENT
    assert rig.pass_time(rig.now_ns + 5 * PERIOD_NS) == []


def test_vanishing_sends_nothing(rig: Rig) -> None:
    rig.join(0)
    rig.pass_time(rig.now_ns + 2 * PERIOD_NS)

    rig.order(0, VANISH)

    assert rig.received() == rig.pass_time(rig.now_ns + 5 * PERIOD_NS) == []


def test_who_comes_back_begins_anew(rig: Rig) -> None:
    rig.join(0)
    rig.pass_time(rig.now_ns + 7 * PERIOD_NS)
    rig.order(0, VANISH)
    rig.pass_time(rig.now_ns + 3 * PERIOD_NS)

    rig.join(0)

    assert numbers(rig.pass_time(rig.now_ns + 3 * PERIOD_NS))[:3] == [0, 1, 2]


def test_lost_datagrams_do_not_leave() -> None:
    with make_rig(alike(up=Network(loss=1.0))) as rig:
        rig.join(0)

        assert rig.pass_time(rig.now_ns + 5 * PERIOD_NS) == []

        assert rig.client()["dropped_up"] == rig.client()["sent"] >= 5
        assert rig.state.sent_ns[0, 0] == LOST_NS


def test_delayed_datagrams_leave_later_and_exit_packets_after_them() -> None:
    with make_rig(alike(up=Network(delay_ms=25))) as rig:
        rig.join(0)
        start_ns = int(rig.client()["start_ns"])

        assert rig.pass_time(start_ns + 2 * PERIOD_NS) == []
        assert numbers(rig.pass_time(start_ns + 4 * PERIOD_NS)) == [0, 1]
        rig.order(0, LEAVE)
        last = [data for data, _ in rig.pass_time(rig.now_ns + 10 * PERIOD_NS)]

        assert [parse_header(data).sequence for data in last[:-2]] == [2, 3, 4]
        assert last[-2:] == [EXIT_PACKET] * 2
        assert rig.client()["delayed_up"] == 5
        desk, post = rig.wires.post.desk[0], rig.wires.post
        assert (desk["waiting"], desk["free"]) == (0, len(post.pool))


def test_a_full_pool_lets_datagrams_through_at_once() -> None:
    with make_rig(alike(up=Network(delay_ms=25))) as rig:
        rig.wires.post.desk["free"] = 1
        rig.join(0)
        start_ns = int(rig.client()["start_ns"])

        assert numbers(rig.pass_time(start_ns + PERIOD_NS)) == [1]
        assert rig.state.run[0]["overrun"] == 1


def test_doubled_datagrams_leave_twice() -> None:
    with make_rig(alike(up=Network(duplicate=1.0))) as rig:
        rig.join(0)
        start_ns = int(rig.client()["start_ns"])

        assert numbers(rig.pass_time(start_ns + PERIOD_NS)) == [0, 0, 1, 1]
        assert rig.client()["doubled_up"] == 2


def returned(rig: Rig, number: int, copies: int = 1) -> bytes:
    """A right answer to the client, silence; older copies behind."""
    own = rig.client()
    parts = [
        struct.pack("<QHHBBBB", 0, (number - back) & 0xFFFF, own["frames"], own["rate_code"],
                    own["bits"], own["sends"], 0)
        + bytes(int(own["frames"] * own["wants"] * own["bits"]) // 8)
        for back in range(copies)
    ]  # fmt: skip
    return b"".join(parts)


@pytest.fixture(params=[Sources.ADDRESSES, Sources.PORTS])
def playing(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A rig of either kind, with two clients in."""
    section = Section(clients=2, format=Format(frames=480, redundancy=2))
    with make_rig(Scenario(sections=(section,), sources=request.param)) as rig:
        rig.join(0, 1)
        rig.state.run["offset_ns"] = time.time_ns() - rig.now_ns
        yield rig


def test_answers_are_counted_for_whom_they_came(playing: Rig) -> None:
    for number in (5, 6, 8):
        playing.answer(1, returned(playing, number))

    client = playing.client(1)
    assert (client["returned"], client["lost"], client["malformed"]) == (3, 1, 0)
    assert client["first_ns"] != 0
    assert playing.client(0)["returned"] == 0


def test_older_copies_fill_gaps(playing: Rig) -> None:
    playing.answer(0, returned(playing, 5) + bytes(HEADER_BYTES + 1920))
    playing.answer(0, returned(playing, 7, copies=2))

    client = playing.client()
    assert (client["returned"], client["repaired"], client["duplicates"]) == (3, 1, 0)
    assert (client["malformed"], client["lost"]) == (0, 0)


def test_what_is_no_answer_is_told_apart(playing: Rig) -> None:
    playing.answer(0, b"\0" * 100)
    playing.answer(0, returned(playing, 5)[:-1])
    playing.answer(0, EXIT_PACKET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        playing.answer(0, returned(playing, 6), stranger)

    client = playing.client()
    found = {name: int(client[name]) for name in ("malformed", "goodbyes", "foreign", "returned")}
    assert found == {"malformed": 2, "goodbyes": 1, "foreign": 1, "returned": 0}


def test_datagrams_to_nobody_are_unknown(rig: Rig) -> None:
    rig.hub.sendto(b"hello", ("127.77.0.1", rig.sockets[0].getsockname()[1]))

    receive_all(rig.expectation, rig.state, rig.wires.inbox, rig.networks)

    assert rig.state.run[0]["unknown"] == 1


def flood(rig: Rig, datagrams: int) -> None:
    """So many to nobody, or to the first client from a stranger."""
    place = ("127.0.0.1" if len(rig.sockets) > 1 else "127.77.0.1", rig.sockets[0].getsockname()[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(datagrams):
            stranger.sendto(b"hello", place)


def test_a_flood_is_taken_in_portions(playing: Rig) -> None:
    """Between two portions the generator sends, and sees that it is to end."""

    def taken() -> int:
        return int(playing.state.run[0]["unknown"] + playing.client()["foreign"])

    flood(playing, BUDGET + 30)
    most = BUDGET if len(playing.sockets) == 1 else BUDGET + EACH
    args = playing.expectation, playing.state, playing.wires.inbox, playing.networks

    assert receive_all(*args) == 1
    assert 0 < taken() <= most
    assert receive_all(*args) == 0
    assert taken() == BUDGET + 30


def test_a_flood_at_one_socket_does_not_keep_others_waiting() -> None:
    plan = Scenario(sections=(Section(clients=2, format=FORMAT),), sources=Sources.PORTS)
    with make_rig(plan) as rig:
        rig.join(0, 1)
        rig.state.run["offset_ns"] = time.time_ns() - rig.now_ns
        flood(rig, BUDGET + 200)

        rig.answer(1, returned(rig, 5))

        assert rig.client(1)["returned"] == 1
        assert rig.client(0)["foreign"] < BUDGET + 200


@given(
    known=st.integers(-1000, 1000),
    late=st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
)
def test_an_interruption_between_two_clocks_does_not_move_their_offset(
    known: int, late: tuple[int, int]
) -> None:
    real_ns = 5 * 10**9
    mono_ns = real_ns - known

    assert offset_of(known, mono_ns - late[0], real_ns, mono_ns + late[1]) == known


def test_the_clocks_offset_follows_when_it_is_wrong() -> None:
    assert offset_of(700, 100, 500, 110) == 400
    assert offset_of(7, 100, 500, 110) == 390
    with make_rig(alike()) as rig:
        run = rig.state.run[0]
        for wrong in (0, 5):
            run["offset_ns"] = wrong
            before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            now_ns = read_clocks(run, rig.state.timespec)
            assert before_ns <= now_ns <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            assert abs(run["offset_ns"] - (time.time_ns() - time.monotonic_ns())) < 1e9


def test_downwards_the_network_loses_too() -> None:
    with make_rig(alike(down=Network(loss=1.0))) as rig:
        rig.join(0)
        rig.state.run["offset_ns"] = time.time_ns() - rig.now_ns

        rig.answer(0, returned(rig, 5))

        assert (rig.client()["returned"], rig.client()["dropped_down"]) == (0, 1)


def test_after_leaving_nothing_is_counted(rig: Rig) -> None:
    rig.join(0)
    rig.order(0, LEAVE)

    rig.answer(0, returned(rig, 5))

    assert rig.client()["returned"] == rig.client()["malformed"] == 0
