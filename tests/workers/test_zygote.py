"""The zygote: warm before its first fork, quick and cheap with each, hard to upset."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.layout import RxState
from shared.messages import send_order
from tests.workers.players import Player, noise
from tests.workers.rig import ROOT, Rig, alive, wait_until
from tests.workers.takes import repeat_if_disturbed, take
from workers.stem import Stem

MAX_PRIVATE_BYTES = 512 << 10
"""Of a client with two channels; more channels have more lines, and histories of gaps."""
CHANNEL_BYTES = 48 << 10
PIDFD_GETFD = 438


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.stop()


def private_bytes(pid: int) -> int:
    """Memory that a process shares with nobody."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) << 10 for kib in re.findall(r"Private_(?:Clean|Dirty): +(\d+) kB", text))


def with_gaps(k: int) -> Sequence[int]:
    return () if k % 10 == 3 else (k,)


def open_files(pid: int) -> list[str]:
    return [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]


def fork_receivers(rig: Rig, count: int) -> list[int]:
    return [rig.open() for _ in range(count)]


def end_sessions(rig: Rig, slots: list[int]) -> None:
    for slot in slots:
        rig.arena.slots[slot]["stop"] = 2
    for slot in slots:
        wait_until(lambda slot=slot: rig.state(slot) == RxState.ENDED)  # type: ignore[misc]
        rig.free(slot)


def test_a_second_start_finds_every_kernel_compiled(rig: Rig) -> None:
    second = Rig(slots=1)
    second.stop()

    assert second.ready["compiled"] == 0


def test_refused_settings_are_reported_with_advice(rig: Rig) -> None:
    for refusal in rig.ready["refused"]:
        assert set(refusal) == {"what", "error", "advice"}
        assert all(refusal.values())


def test_what_is_not_compiled_before_the_fork_fails_at_once() -> None:
    """Workers enter machine code directly; from Python a new signature raises."""
    script = """
        from shared.arena import create_arena
        from shared.kernels import KERNELS, entry_point, forbid_compilation
        from workers import lane, mixer, stem, warm

        def signatures():
            return sum(len(kernel.signatures) for kernel in KERNELS)

        def refuses(call, *arguments, error):
            try:
                call(*arguments)
            except error:
                return True
            return False

        assert refuses(entry_point, stem.run_stem, error=ValueError)
        warm.warm_up()
        forbid_compilation()
        known = signatures()
        for loop in (stem.run_stem, mixer.run_mixer, lane.run_lane):
            assert entry_point(loop)
        _, arena = create_arena(slots=4, rate_hz=44100, period_frames=441)
        desk = stem.make_desk(48000)
        assert stem.run_stem(arena, -1, -1, desk) == 0
        for others in ((arena, -1, None, desk), (None, -1, -1, desk), (arena, -1, -1, desk[:-1])):
            assert refuses(stem.run_stem, *others, error=TypeError)
        assert signatures() == known
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("form", ["usual", "unusual"])
@repeat_if_disturbed
def test_private_memory_of_a_receiver(rig: Rig, form: str, record_property: Any) -> None:
    """Beside others, and with gaps to fill. Python alone would have it own many times as much."""
    if form == "usual":
        player, channels = Player(noise(128 * 100), route=with_gaps), 2
    else:
        player = Player(noise(441 * 20, 16, bits=24), frames=441, bits=24, route=with_gaps)
        channels = 16

    with take(rig, player) as performance:
        others = fork_receivers(rig, 3)  # what the stem writes to meanwhile becomes its own
        pid = rig.counter(player.slot, "pid")
        fresh = private_bytes(pid)
        performance.play(0.7)
        used = private_bytes(pid)
        end_sessions(rig, others)

    record_property("receiver_private_kib", used >> 10)
    print(f"private memory of a receiver: {fresh >> 10} KiB at first, {used >> 10} KiB in use")
    assert performance.heard[player].stream.numbers
    assert used <= MAX_PRIVATE_BYTES + (channels - 2) * CHANNEL_BYTES


def test_time_of_a_fork_is_told(rig: Rig, record_property: Any) -> None:
    times = []
    slots = []
    for _ in range(12):
        began = time.perf_counter()
        slots.append(rig.open())
        times.append(1e3 * (time.perf_counter() - began))
    end_sessions(rig, slots)

    record_property("fork_ms", times)
    print(f"order to waiting receiver: median {statistics.median(times):.1f} ms, {max(times):.1f}")


def test_a_worker_holds_only_what_is_its_own(rig: Rig) -> None:
    slots = fork_receivers(rig, 4)

    for slot in slots:
        pid = rig.counter(slot, "pid")
        files = [name for name in open_files(pid) if name.startswith(("socket:", "pipe:"))]
        mine = f"socket:[{os.fstat(rig.sockets[slot].fileno()).st_ino}]"
        life = f"pipe:[{os.fstat(rig.life_read).st_ino}]"
        standard = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)]
        assert set(files) - set(standard) == {mine, life}
        assert files.count(mine) == 1
        assert Path(f"/proc/{pid}/comm").read_text().strip() == f"tutti-rx-{slot}"
    end_sessions(rig, slots)


def test_receivers_run_in_real_time_where_it_is_permitted(rig: Rig) -> None:
    slots = fork_receivers(rig, 1)

    if not any(refusal["what"] == "SCHED_FIFO" for refusal in rig.ready["refused"]):
        receiver, mixer = rig.counter(slots[0], "pid"), rig.clock("pid")
        for pid in (receiver, mixer):
            assert os.sched_getscheduler(pid) & 0xFF == os.SCHED_FIFO
        assert os.sched_getparam(mixer).sched_priority > os.sched_getparam(receiver).sched_priority
    end_sessions(rig, slots)


@pytest.mark.parametrize(
    "order",
    [
        b"no JSON at all",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"op": "receiver"}',
        b'{"op": "dance", "token": 900}',
        b'{"op": "receiver", "token": "many"}',
        b'{"op": "receiver", "token": 901}',
        b'{"op": "receiver", "token": 902, "slots": [], "sessions": []}',
        b'{"op": "receiver", "token": 903, "slots": ["a"], "sessions": [1]}',
        b'{"op": "receiver", "token": 903, "slots": [1], "sessions": [1]}',
        b'{"op": "mixer", "token": 904}',
        b'{"op": "lane", "token": 905}',
        b'{"op": "kill", "token": 906}',
        b'{"op": "kill"}',
        b'{"op": "kill", "token": [1]}',
    ],
    ids=lambda order: order.decode(errors="replace")[:40],
)
def test_a_malformed_order_upsets_nobody(rig: Rig, order: bytes) -> None:
    ticks = rig.ticks

    rig.orders.send(order)

    slots = fork_receivers(rig, 1)
    assert rig.state(slots[0]) == RxState.WAITING
    assert rig.zygote.poll() is None
    wait_until(lambda: rig.ticks > ticks + 10, what="the mixer goes on")
    end_sessions(rig, slots)


def test_a_receiver_for_a_slot_that_does_not_exist_is_refused(rig: Rig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for slot in (-1, 16, 1 << 40):
            order = {"op": "receiver", "token": 950, "slots": [slot], "sessions": [1]}
            send_order(rig.orders, order, (sock.fileno(),))

            assert f"slots [{slot}] are not in 0..15" in rig.event("failed", 950)["error"]


def test_a_session_that_no_machine_word_holds_is_refused(rig: Rig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        order = {"op": "receiver", "token": 951, "slots": [1], "sessions": [1 << 80]}
        send_order(rig.orders, order, (sock.fileno(),))

        assert "ValueError" in rig.event("failed", 951)["error"]


def test_an_order_may_bring_descriptors_that_nobody_wants(rig: Rig) -> None:
    before = len(open_files(rig.zygote.pid))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(20):
            socket.send_fds(rig.orders, [b"no JSON"], [sock.fileno()])
            send_order(rig.orders, {"op": "kill", "token": 990}, (sock.fileno(),))
    slots = fork_receivers(rig, 1)

    assert len(open_files(rig.zygote.pid)) == before
    end_sessions(rig, slots)


def test_a_worker_is_killed_on_order(rig: Rig) -> None:
    slot = rig.open()
    token = rig.receiver_token(slot)

    send_order(rig.orders, {"op": "kill", "token": token})

    assert rig.event("exited", token)["status"] == -signal.SIGKILL
    rig.start_receiver(slot)
    wait_until(lambda: rig.counter(slot, "pid") != rig.pids[token], what="its successor")
    del rig.pids[token]
    end_sessions(rig, [slot])


def stem_of(rig: Rig) -> int:
    """Pid of the process that receivers are cloned from, as soon as it bears its name.

    Its predecessor may yet be dying, or dead and not buried.
    """
    pid = rig.zygote.pid

    def living_stem() -> int | None:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):  # it has been buried meanwhile
                name = Path(f"/proc/{child}/comm").read_text().strip()
                if name == "tutti-stem" and alive(int(child)):
                    return int(child)
        return None

    stem = wait_until(living_stem, what="a stem")
    assert stem is not None
    return stem


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_zygote_makes_itself_another_stem(rig: Rig, end: signal.Signals) -> None:
    """Of one that is dead at once; one that does not answer costs an order."""
    before = rig.open()
    first = stem_of(rig)

    os.kill(first, end)
    if end is signal.SIGKILL:  # where it waits for a cpu to die on, it may yet take an order
        wait_until(lambda: not alive(first), what="it is dead")
    if end is signal.SIGSTOP:
        order = {"op": "receiver", "token": 970, "slots": [9], "sessions": [1]}
        send_order(rig.orders, order, (rig.sockets[before].fileno(),))
        assert "TimeoutError" in rig.event("failed", 970)["error"]
    after = rig.open()

    wait_until(lambda: not alive(first), what="the stem is gone")
    assert stem_of(rig) != first
    assert rig.state(before) == rig.state(after) == RxState.WAITING
    files = [name for name in open_files(stem_of(rig)) if name.startswith(("socket:", "pipe:"))]
    assert len(set(files) - {os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)}) == 2
    end_sessions(rig, [before, after])


def test_a_session_is_its_newest_receivers_alone(rig: Rig) -> None:
    """Whoever served it before ends, and without a word."""
    slot = rig.open()
    first = rig.receiver_token(slot)

    second = rig.start_receiver(slot)

    assert rig.ended(first) == 0
    assert rig.counter(slot, "pid") == rig.pids[second]
    assert rig.state(slot) == RxState.WAITING
    del rig.pids[first]
    end_sessions(rig, [slot])


def zygotes_end_of_the_stem(rig: Rig) -> socket.socket:
    """The socket by which the zygote orders receivers from its stem, as a second process on it."""
    standard = {os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)}
    arguments = Path(f"/proc/{rig.zygote.pid}/cmdline").read_bytes().split(b"\0")
    others = {int(arguments[arguments.index(b"--socket") + 1])}
    for entry in Path(f"/proc/{rig.zygote.pid}/fd").iterdir():
        name = os.readlink(entry)
        if name.startswith("socket:") and name not in standard and int(entry.name) not in others:
            pidfd = os.pidfd_open(rig.zygote.pid)
            fd = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, int(entry.name), 0)
            os.close(pidfd)
            assert fd >= 0, os.strerror(ctypes.get_errno())
            sock = socket.socket(fileno=fd)
            assert sock.family == socket.AF_UNIX, "a socket of an order is left"
            sock.settimeout(10)  # the zygote has one, too: its end does not block
            return sock
    raise AssertionError("the zygote has no stem")


def test_what_a_stem_made_and_did_not_tell_of_ends_with_it(rig: Rig) -> None:
    """Its order counts as failed, and is given again."""
    slot = rig.open()
    served = rig.counter(slot, "pid")
    stem, stranger = Stem.__new__(Stem), rig.prepare()
    with zygotes_end_of_the_stem(rig) as stem._orders:
        session = int(rig.arena.slots[stranger]["session"])
        unknown = stem.clone([stranger], [session], [rig.sockets[stranger].fileno()])
    wait_until(lambda: rig.counter(stranger, "pid") == unknown)

    os.kill(stem_of(rig), signal.SIGKILL)

    wait_until(lambda: not alive(unknown), what="nobody knew it")
    assert alive(served)
    rig.start_receiver(stranger)
    end_sessions(rig, [slot, stranger])


def test_a_stem_makes_no_receiver_without_its_sockets() -> None:
    """As the machine hands them over when it has no room; whose numbers are of another order."""
    script = """
        import errno, os, socket
        from shared.arena import create_arena
        from workers import stem

        _, arena = create_arena(slots=4, rate_hz=48000, period_frames=128)
        arena.control[0]["stop"] = 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        nobody = [0] * (2 * stem.MAX_SHARING)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            files = len(os.listdir("/proc/self/fd"))
            for clients, fds in ((1, []), (0, []), (-1, []), (2, [sock.fileno()]), (1 << 40, [])):
                order = stem._ORDER.pack(clients, b"tutti-rx-0", *nobody)
                socket.send_fds(ours, [order], fds)
            socket.send_fds(ours, [b"short"], [sock.fileno()])
            ours.shutdown(socket.SHUT_WR)
            assert stem.run_stem(arena, theirs.fileno(), -1, stem.make_desk(48000)) == 0
            assert len(os.listdir("/proc/self/fd")) == files
        for _ in range(6):
            assert int.from_bytes(ours.recv(8), "little", signed=True) == -errno.EINVAL
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stem", ["well", "hung"])
def test_a_zygote_whose_supervisor_left_ends_in_peace(
    stem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even with reports on their way that nobody read."""
    rig = Rig(slots=4)
    if stem == "hung":
        os.kill(stem_of(rig), signal.SIGSTOP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        order = {"op": "receiver", "token": 900, "slots": [0], "sessions": [1]}
        send_order(rig.orders, order, (sock.fileno(),))
        if stem == "well":
            wait_until(lambda: rig.counter(0, "pid"), what="a receiver")

    rig.orders.close()

    assert rig.zygote.wait(5) == 0
    assert alive(rig.clock("pid"))
    rig.close()
    assert "Traceback" not in capfd.readouterr().err
