"""Whatever arrives at a client's port: it is counted, and nobody else loses a sample to it."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shared.layout import PatchMode, RxState
from shared.messages import MAIL, MailOp
from shared.protocol import EXIT_PACKET, HEADER
from tests.workers.flood import Flood
from tests.workers.hearing import Wire
from tests.workers.players import Player, noise
from tests.workers.rig import Rig, wait_until
from tests.workers.takes import Take, repeat_if_disturbed, take

pytestmark = pytest.mark.living

FLOOD_PER_S = 100_000
FLOOD_S = 1.5
FLOOD_SPELLS = 4
"""A busy machine makes even a flood wait: one is enough on any other."""
TROUBLES = (
    "lost", "late", "duplicates", "reordered", "malformed", "foreign", "underruns",
    "concealed_frames", "overflows", "restarts", "kernel_drops", "sanitised",
)  # fmt: skip


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig(mode=PatchMode.FAN_OUT_NO_SELF)
    yield rig
    rig.stop()


def band(count: int) -> list[Player]:
    return [Player(noise(128 * (50 + k), seed=k, level=0.2)) for k in range(count)]


def packet(
    sequence: int = 0,
    frames: int = 128,
    rate: int = 3,
    bits: int = 16,
    wants: int = 2,
    sends: int = 0,
    size: int | None = None,
) -> bytes:
    """A datagram of these header bytes; as long as they say, or of another size."""
    header = HEADER.pack(0, sequence, frames, rate, bits, wants, sends)
    channels = sends or wants
    if size is None:
        size = 16 + min(frames * channels * max(bits // 8, 1), 60_000)
    return header.ljust(size, b"\x55")[:size]


def broken_headers() -> list[bytes]:
    """Every field beyond its range, one at a time."""
    return [
        *(packet(frames=frames) for frames in (0, 1, 15, 8193, 32768, 65535)),
        *(packet(rate=rate) for rate in (8, 9, 127, 255)),
        *(packet(bits=bits) for bits in (0, 1, 7, 9, 12, 15, 17, 31, 33, 64, 128, 255)),
        *(packet(wants=wants, sends=2) for wants in (0, 17, 128, 254, 255)),
        *(packet(sends=sends) for sends in (17, 64, 128, 254)),
        packet(wants=0, sends=0, size=16),
        packet(wants=17, sends=0),
        packet(wants=255, sends=255),
        packet(sends=255, size=16),  # sends nothing
        packet(sends=255),
    ]


def broken_lengths() -> list[bytes]:
    """No whole number of packets."""
    whole = 16 + 128 * 4
    sizes = [0, 1, 2, 8, 15, 16, 17, 62, 64, whole - 1, whole + 1, 2 * whole - 16, 9000, 65507]
    return [packet(size=size) for size in sizes] + [bytes(63), EXIT_PACKET[:-1] + b"\0"]


def other_formats() -> list[bytes]:
    """Legal, but not what this client began with."""
    return [
        packet(bits=8), packet(bits=24), packet(bits=32), packet(frames=64), packet(frames=256),
        packet(rate=2), packet(rate=7), packet(wants=1), packet(sends=1), packet(sends=16),
    ]  # fmt: skip


def random_bytes() -> list[bytes]:
    rng = np.random.default_rng(11)
    sizes = [int(size) for size in rng.integers(0, 3000, 300)]
    return [rng.bytes(size) for size in sizes]


def assert_untroubled(performance: Take, player: Player) -> None:
    performance.assert_counters(player, dict.fromkeys(TROUBLES, 0))


def source_seen(counters: dict[str, int]) -> tuple[str, int]:
    """Address and port of the last foreign datagram."""
    raw = struct.pack("=2q", counters["foreign_high"], counters["foreign_low"])
    assert raw[:12] == bytes(10) + b"\xff\xff"  # IPv4, mapped
    return socket.inet_ntoa(raw[12:]), counters["foreign_port"]


def settle(rig: Rig, slot: int, name: str, value: int) -> None:
    wait_until(lambda: rig.counter(slot, name) >= value, what=f"{name} reaches {value}")


@repeat_if_disturbed
def test_malformed_datagrams_of_a_client_cost_nobody_a_sample(rig: Rig) -> None:
    """Not even the client itself, from whose address and port they come."""
    victim, first, second = band(3)
    junk = [*broken_headers(), *broken_lengths(), *other_formats(), *random_bytes()]

    with take(rig, victim, first, second) as performance:
        performance.play(0.05)
        for data in junk:
            victim.send(data)
            time.sleep(0.0005)
        settle(rig, victim.slot, "malformed", len(junk))
        performance.play(0.05)

    performance.assert_hears(first, {victim: 1.0, second: 1.0})
    performance.assert_hears(victim, {first: 1.0, second: 1.0})
    counters = performance.counters[victim]
    assert counters["malformed"] == len(junk)
    assert counters["datagrams"] == counters["packets"] + len(junk)
    assert counters["foreign"] == counters["lost"] == 0
    performance.assert_counters(victim, {"late": 0})
    assert_untroubled(performance, first)


def test_nothing_malformed_opens_a_session(rig: Rig) -> None:
    player = Player(noise(128 * 10))
    rig.join(player)
    junk = [*broken_headers(), *broken_lengths(), EXIT_PACKET, *random_bytes()]

    for data in junk:
        before = rig.counter(player.slot, "malformed")
        player.send(data)
        settle(rig, player.slot, "malformed", before + 1)
        assert rig.counter(player.slot, "odd_bytes") == len(data)
        (word,) = struct.unpack("<q", data[8:16]) if len(data) >= 16 else (0,)
        assert rig.counter(player.slot, "odd_header") == word
    assert rig.counter(player.slot, "datagrams") == len(junk)
    assert rig.counter(player.slot, "peer_port") == 0
    assert rig.state(player.slot) == RxState.WAITING
    player.step()
    wait_until(lambda: rig.state(player.slot) == RxState.ACTIVE, what="its first packet counts")
    rig.leave(player)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"], ids=["port", "address"])
@repeat_if_disturbed
def test_another_source_is_not_the_client(rig: Rig, address: str) -> None:
    """Its packets, perfect as they are, are foreign: before the client's first and after."""
    victim, listener = band(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((address, 0))
        stranger_name = stranger.getsockname()
        count = 40
        with take(rig, victim, listener) as performance:
            performance.play(0.05)
            for k in range(count):
                stranger.sendto(victim.datagram(victim.steps + k), victim.hub)
                time.sleep(0.001)
            stranger.sendto(EXIT_PACKET, victim.hub)
            settle(rig, victim.slot, "foreign", count + 1)
            performance.play(0.05)

    performance.assert_hears(listener, {victim: 1.0})
    counters = performance.counters[victim]
    assert counters["foreign"] == count + 1
    assert source_seen(counters) == stranger_name
    assert counters["malformed"] == counters["duplicates"] == 0


def test_a_foreign_address_opens_no_session(rig: Rig) -> None:
    player = Player(noise(128 * 10), address="127.0.0.3")
    rig.join(player)

    for _ in range(5):
        player.step()

    settle(rig, player.slot, "foreign", 5)
    assert rig.state(player.slot) == RxState.WAITING
    rig.leave(player)


@repeat_if_disturbed
def test_jumping_packet_numbers_are_the_clients_own_loss(rig: Rig) -> None:
    wild, first, second = band(3)
    rng = np.random.default_rng(5)

    with take(rig, wild, first, second) as performance:
        performance.play(0.05)
        rig.set_pair(first.slot, {wild.slot: 0.0})
        rig.set_pair(second.slot, {wild.slot: 0.0})
        start = performance.play(0.02)
        for number in rng.integers(0, 65536, 400):
            data = bytearray(wild.datagram(0))
            struct.pack_into("<H", data, 8, number)
            wild.send(bytes(data))
            time.sleep(0.0005)
        end = performance.play(0.05) - 256
        rig.set_pair(first.slot, {})
        rig.set_pair(second.slot, {})

    performance.assert_hears(first, {second: 1.0}, start, end)
    performance.assert_hears(second, {first: 1.0}, start, end)
    performance.assert_hears(wild, {first: 1.0, second: 1.0})
    assert rig.state(wild.slot) == RxState.ENDED  # by leaving, not by its numbers
    assert performance.counters[wild]["state"] == RxState.ACTIVE
    assert_untroubled(performance, first)


@repeat_if_disturbed
def test_numbers_that_are_no_audio_reach_no_mix(rig: Rig) -> None:
    """NaN, infinities, huge values and denormals of a 32-bit client become silence."""
    garbage = [np.nan, -np.nan, np.inf, -np.inf, 1e30, -3.7e19, 8.001, -1e38]
    clean = noise(128 * 50, bits=32, seed=1, level=0.2)
    dirty = clean.copy()
    at = np.arange(clean.shape[1]) % 5 == 2
    dirty[:, at] = np.resize(np.array(garbage, np.float32), (2, np.count_nonzero(at)))
    tiny = np.arange(clean.shape[1]) % 5 == 4
    dirty[:, tiny] = np.float32(1e-40)
    heard_as: Wire = clean.copy()
    heard_as[:, at | tiny] = 0
    player, fine, listener = Player(dirty, bits=32), *band(2)
    player.signal = heard_as
    floats = Player(noise(128 * 50, bits=32, seed=9, level=0.2), bits=32)

    with take(rig, player, fine, listener, floats) as performance:
        performance.play(0.3)

    performance.assert_hears(listener, {player: 1.0, fine: 1.0, floats: 1.0})
    performance.assert_hears(fine, {player: 1.0, listener: 1.0, floats: 1.0})
    assert np.isfinite(performance.heard[floats].stream.values).all()
    counters = performance.counters[player]
    per_packet = 2 * np.count_nonzero(at) / 50
    assert counters["sanitised"] == pytest.approx(per_packet * counters["packets"], rel=0.02)
    assert_untroubled(performance, floats)


def test_what_the_kernel_drops_is_counted(rig: Rig) -> None:
    """More than the socket holds comes while its receiver is not let run."""
    player = Player(noise(128 * 10))
    rig.join(player)
    player.step()
    wait_until(lambda: rig.state(player.slot) == RxState.ACTIVE)
    pid, sent = rig.counter(player.slot, "pid"), 4000

    os.kill(pid, signal.SIGSTOP)
    for _ in range(sent):
        player.send(bytes(300))
    os.kill(pid, signal.SIGCONT)

    later = 0

    def drained() -> bool:  # the next to come tells of those before it
        nonlocal later
        player.send(bytes(300))
        later += 1
        return rig.counter(player.slot, "kernel_drops") > 0

    wait_until(drained, what="drops are told")
    extra = rig.counter(player.slot, "malformed") + rig.counter(player.slot, "kernel_drops") - sent
    assert 0 < extra <= later
    assert rig.counter(player.slot, "kernel_drops") > 500
    rig.leave(player)


@pytest.mark.parametrize("kind", ["foreign port", "foreign address", "junk of its own", "audio"])
@repeat_if_disturbed
def test_a_flood_at_one_port_costs_no_other_client_a_sample(rig: Rig, kind: str) -> None:
    """Nor the flooded client what it hears."""
    victim, first, second = band(3)
    counter = {"foreign port": "foreign", "foreign address": "foreign", "audio": "duplicates"}
    small = [b"", b"?", bytes(15), bytes(16), bytes(48), EXIT_PACKET[:62]]
    datagrams = [victim.packet(k) for k in range(9)] if kind == "audio" else small
    enough = 0.6 * FLOOD_PER_S * FLOOD_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2" if kind == "foreign address" else "127.0.0.1", 0))
        with take(rig, victim, first, second) as performance:
            rig.set_pair(first.slot, {victim.slot: 0.0})
            rig.set_pair(second.slot, {victim.slot: 0.0})
            start = performance.play(0.1)
            source = stranger if kind in ("foreign port", "foreign address") else victim.socket
            with Flood(source, victim.hub, datagrams, FLOOD_PER_S) as flood:
                for _ in range(FLOOD_SPELLS):
                    performance.play(FLOOD_S)
                    if flood.sent >= enough:
                        break
            performance.play(0.05)
            end = rig.now - 256
            if flood.sent < enough:
                performance.disturbances.append(f"the flood was but {flood.sent} datagrams")
            rig.set_pair(first.slot, {})
            rig.set_pair(second.slot, {})

    assert flood.sent >= enough
    performance.assert_hears(first, {second: 1.0}, start, end, complete=True)
    performance.assert_hears(second, {first: 1.0}, start, end, complete=True)
    performance.assert_hears(victim, {first: 1.0, second: 1.0})
    assert_untroubled(performance, first)
    assert_untroubled(performance, second)
    counters = performance.counters[victim]
    counted = counters[counter.get(kind, "malformed")] + counters["kernel_drops"]
    print(f"{flood.sent} datagrams, {counters['kernel_drops']} dropped, {counted} counted")
    assert counted == pytest.approx(flood.sent, rel=0.01)
    assert counters["state"] == RxState.ACTIVE


def files_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_malformed_mail_is_put_aside(rig: Rig) -> None:
    """Of another size, for slots that do not exist, with sockets that nobody wants."""
    ticks = rig.ticks
    wait_until(lambda: rig.ticks > ticks + 2, what="all mail so far is read")
    before = files_of(rig.clock("pid"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fd = sock.fileno()
        for slot in (-1, 16, 1 << 40, -(1 << 62)):
            rig.post(0, MailOp.SOCKET, slot, 5, fd)
            rig.post(0, MailOp.DROP, slot, 5)
        rig.post(0, MailOp.DROP, 9, 12345)
        rig.post(0, MailOp.DROP, 9, 0, fd)
        for data in (b"", b"x", bytes(31), bytes(32), bytes(40), MAIL.pack(99, 1, 1, 1)):
            if data:
                socket.send_fds(rig.mail[0], [data], [fd])
                rig.arena.control[0]["mail"][0] += 1
                socket.send_fds(rig.mail[0], [data], [fd, fd, fd])
                rig.arena.control[0]["mail"][0] += 1

    ticks = rig.ticks
    wait_until(lambda: rig.ticks > ticks + 10, what="the mixer goes on")
    player = Player(noise(128 * 10))
    rig.join(player)
    for _ in range(3):
        player.step()
    wait_until(player.hears, what="a newcomer is served")
    rig.leave(player)
    ticks = rig.ticks
    wait_until(lambda: rig.ticks > ticks + 2)
    assert files_of(rig.clock("pid")) == before


def test_a_mailbox_that_is_full_is_read_when_the_mixer_can(rig: Rig) -> None:
    """The mixer hangs, the mailbox fills up; then it obeys all of it, and loses no socket."""
    mixer = rig.clock("pid")
    player = Player(noise(128 * 10))
    rig.join(player)
    for _ in range(3):
        player.step()
    wait_until(player.hears, what="it hears")
    before = files_of(mixer)
    sock = rig.sockets[player.slot]
    session = int(rig.arena.slots[player.slot]["session"])

    os.kill(mixer, signal.SIGSTOP)
    posted = 0
    try:
        while True:
            rig.post(0, MailOp.SOCKET, player.slot, session, sock.fileno())
            rig.post(0, MailOp.DROP, player.slot, session + 1)
            posted += 2
    except BlockingIOError:
        pass
    finally:
        os.kill(mixer, signal.SIGCONT)

    assert posted > 64
    ticks = rig.ticks
    wait_until(lambda: rig.ticks > ticks + posted // 64 + 2, what="the mixer goes on")
    player.collect()
    heard = len(player.returned)
    wait_until(lambda: player.hears() and len(player.returned) > heard, what="it hears on")
    assert files_of(mixer) == before
    rig.leave(player)
