"""Where a core's time goes, by perf's samples: who ran, and what was being done.

``perf record -e cpu-clock`` looks at one core so many times a second; it needs no counters of the
processor, which virtual machines lack. Of the kernel it tells the way from the system call to where
it was seen, which says for what; of our machine code the address (``benchmarks.symbols``). What
runs while interrupts are off is seen when they are on again.

::

    system call ──► receive | send ──► loopback ──► wake | wait ──► switch        interrupt, entry
    own code    ──► decode, mix, encode, ... by the module of the kernel
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtest.benchmarks.symbols import place_of

RATE_HZ = 3989
"""Samples a second: a prime, no multiple of which is a tick's rate."""
BUFFER = "16M"
KERNEL = "[kernel.kallsyms]"
_FRAME = re.compile(r"\s*([0-9a-f]+) (.*) \((.*)\)\s*$")
_OFFSET = re.compile(r"\+0x[0-9a-f]+$")


@dataclass(frozen=True, slots=True)
class Frame:
    """An address, its name ("[unknown]": none), and the file it is of."""

    address: int
    name: str
    file: str


@dataclass(frozen=True, slots=True)
class Seen:
    """One sample: whose, and the frames from where it was seen outwards."""

    pid: int
    frames: tuple[Frame, ...]


def record_command(core: int, seconds: float, file: Path, rate_hz: int = RATE_HZ) -> list[str]:
    """Watch a core."""
    return [
        "perf", "record", "-q", "-a", "-C", str(core), "-e", "cpu-clock", "-F", str(rate_hz), "-g",
        "-m", BUFFER, "-o", str(file), "--", "sleep", f"{seconds:g}",
    ]  # fmt: skip


def read(file: Path) -> list[Seen]:
    """All samples of a recording.

    Raises:
        OSError, subprocess.CalledProcessError: perf is missing, or cannot read it.
    """
    done = subprocess.run(
        ["perf", "script", "-i", str(file), "-F", "pid,ip,sym,dso", "--no-inline"],
        capture_output=True, text=True, errors="replace", check=True,
    )  # fmt: skip
    return list(samples(done.stdout.splitlines()))


def samples(lines: Iterable[str]) -> Iterator[Seen]:
    """What ``perf script -F pid,ip,sym,dso`` says: a line with the process, then one a frame; or
    all in one line where there is but one frame."""
    pid = -1
    frames: list[Frame] = []
    for line in lines:
        words = line.split(maxsplit=1)
        if not words:
            continue
        frame = _FRAME.match(line)
        if not line.startswith("\t") and words[0].lstrip("-").isdigit():
            whole = _FRAME.match(words[1]) if len(words) > 1 else None
            if whole is not None or frame is None:
                if pid >= 0:
                    yield Seen(pid, tuple(frames))
                pid, frames, frame = int(words[0]), [], whole
        if frame is not None:
            address, name, file = frame.groups()
            frames.append(Frame(int(address, 16), _OFFSET.sub("", name), file))
    if pid >= 0:
        yield Seen(pid, tuple(frames))


RECEIVE, SEND, LOOPBACK, WAKE = "receive", "send", "loopback", "wake others"
WAIT, SWITCH, INTERRUPT, ENTRY = "wait", "switch", "interrupts", "entry and exit"
FAULT, OTHER_KERNEL = "page faults", "other kernel"
_CALL = re.compile(r"_+(?:x64|arm64)_sys_(\w+)")
_CALLS = {
    "recvmmsg": RECEIVE, "recvmsg": RECEIVE, "recvfrom": RECEIVE,
    "sendto": SEND, "sendmsg": SEND, "sendmmsg": SEND,
    "ppoll": WAIT, "poll": WAIT, "epoll_wait": WAIT, "epoll_pwait": WAIT,
    "clock_nanosleep": WAIT, "futex": WAIT,
}  # fmt: skip
_SCHEDULE = {
    "schedule",
    "__schedule",
    "schedule_hrtimeout_range_clock",
    "finish_task_switch.isra.0",
}
_DELIVERY = {
    "net_rx_action",
    "process_backlog",
    "__netif_receive_skb",
    "loopback_xmit",
    "do_softirq",
}
_WAKE = ("try_to_wake_up", "ttwu_do_activate", "ttwu_queue", "default_wake_function")
_ENTRY = ("entry_SYSCALL", "do_syscall", "syscall_", "x64_sys_call", "srso_", "safe_stack",
          "__x86_indirect", "common_interrupt_return", "irqentry_exit")  # fmt: skip


def part_of_kernel(names: Iterable[str]) -> str:
    """What the kernel was doing, by the names of its frames, from the inmost outwards."""
    call = ""
    frames = tuple(names)
    if frames and frames[0].startswith(("pv_native_safe_halt", "default_idle", "cpu_idle")):
        return "idle"
    within = set(frames)
    for name in frames:
        if "sysvec_" in name or ("common_interrupt" in name and "return" not in name):
            return INTERRUPT
        if "exc_page_fault" in name:
            return FAULT
        if found := _CALL.search(name):
            call = found.group(1)
            break
    waking = any(name.startswith(_WAKE) for name in frames)
    part = _CALLS.get(call, OTHER_KERNEL if call else "")
    match part:
        case "":
            entering = bool(frames) and frames[0].startswith(_ENTRY)
            return ENTRY if entering else OTHER_KERNEL
        case "send" if waking:
            return WAKE
        case "send" if within & _DELIVERY:
            return LOOPBACK
        case "wait" if within & _SCHEDULE:
            return SWITCH
        case _:
            return part


MODULES = {
    "decode": ("pcm.decode", "pcm.", "packet."),
    "number, place, measure": ("receiver.", "numbering.", "line.", "timeline.", "lateness.",
                               "jitter.", "playout.", "hubtime.", "moves.", "identity."),
    "fill gaps": ("gaps.", "conceal.", "burg."),
    "follow clocks": ("steer.", "drift.", "resample.", "returns."),
    "judge sound": ("garbage.", "guard.", "offset.", "limiter.", "meter."),
    "mix": ("mix.", "rows.", "monitors.", "mixer.", "orders.", "local.", "strips."),
    "encode": ("pcm.encode",),
    "loop": ("rounds.", "inbox.", "stay.", "stem.", "lane.", "mailbox.", "pacing.", "transmit."),
}  # fmt: skip
"""Parts by the kernels' modules (of ``workers``) or names; the longest that fits says it."""
LIBC, PYTHON, OWN = "libc, libm, vDSO", "Python", "own code"


def part_of_user(name: str, file: str) -> str:
    """What a process was doing outside the kernel.

    Args:
        name: of our machine code, as ``symbols.Names`` says it; empty: it is none of ours.
        file: which the address is of, by perf.
    """
    if name:
        place = place_of(name)
        fitting = [
            (len(begin), part)
            for part, begins in MODULES.items()
            for begin in begins
            if place.removeprefix("workers.").startswith(begin)
        ]
        return max(fitting)[1] if fitting else OWN
    if any(library in file for library in ("libc.so", "libm.so", "vdso", "ld-linux")):
        return LIBC
    return PYTHON if "python" in file or ".so" in file else OWN


def part_of(seen: Seen, name_at: Callable[[int], str]) -> str:
    """What was being done in a sample.

    name_at: of our machine code, by address.
    """
    if not seen.frames:
        return OTHER_KERNEL
    first = seen.frames[0]
    if first.file == KERNEL or first.address >> 63:
        return part_of_kernel(frame.name for frame in seen.frames)
    return part_of_user(name_at(first.address), first.file)


def function_of(seen: Seen, name_at: Callable[[int], str]) -> str:
    """Where a sample was taken: a kernel of ours, of Linux, or a library."""
    if not seen.frames:
        return UNKNOWN
    first = seen.frames[0]
    if first.file == KERNEL or first.address >> 63:
        return f"Linux: {first.name}"
    name = name_at(first.address)
    return place_of(name) if name else f"{Path(first.file).name}: {first.name}"


UNKNOWN = "[unknown]"
_COUNTED = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?(\w+)\s*$")


def strace_command(pid: int, file: Path) -> list[str]:
    """Count a process's system calls until a SIGINT."""
    return ["strace", "-c", "-f", "-o", str(file), "-p", str(pid)]


def calls(text: str) -> dict[str, int]:
    """Calls by name of what ``strace -c`` has written."""
    found = {}
    for line in text.splitlines():
        if (counted := _COUNTED.match(line)) and counted.group(3) != "total":
            found[counted.group(3)] = int(counted.group(1))
    return found


ENDING = signal.SIGINT
