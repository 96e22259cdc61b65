"""Samples are read as perf prints them, and told apart by what was done."""

from __future__ import annotations

import pytest

from loadtest.benchmarks import sampling
from loadtest.benchmarks.sampling import (
    KERNEL,
    Frame,
    Seen,
    calls,
    function_of,
    part_of,
    part_of_kernel,
    samples,
)

PRINTED = """\
   4711
\tffffffff81a0 copy_user_generic+0x2d ([kernel.kallsyms])
\tffffffff81b0 __skb_datagram_iter ([kernel.kallsyms])
\tffffffff81c0 __x64_sys_recvmmsg ([kernel.kallsyms])

   4712      7f0012345678 [unknown] (/tmp/perf-4712.map)
      0
\tffffffff81d0 pv_native_safe_halt ([kernel.kallsyms])
""".splitlines()


def test_samples_are_read_with_their_process_and_all_frames() -> None:
    first, second, third = samples(PRINTED)

    assert (first.pid, [frame.name for frame in first.frames]) == (
        4711, ["copy_user_generic", "__skb_datagram_iter", "__x64_sys_recvmmsg"],
    )  # fmt: skip
    assert second == Seen(4712, (Frame(0x7F0012345678, "[unknown]", "/tmp/perf-4712.map"),))
    assert third.pid == 0


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["copy_user_generic", "udp_recvmsg", "__x64_sys_recvmmsg"], sampling.RECEIVE),
        (["ip_finish_output2", "udp_sendmsg", "__x64_sys_sendto"], sampling.SEND),
        (["udp_queue_rcv_skb", "net_rx_action", "__local_bh_enable_ip", "__x64_sys_sendto"],
         sampling.LOOPBACK),
        (["try_to_wake_up", "sock_def_readable", "net_rx_action", "__x64_sys_sendto"],
         sampling.WAKE),
        (["sock_poll", "do_sys_poll", "__x64_sys_ppoll"], sampling.WAIT),
        (["__schedule", "schedule", "do_nanosleep", "__x64_sys_clock_nanosleep"],
         sampling.SWITCH),
        (["handle_softirqs", "sysvec_apic_timer_interrupt", "__x64_sys_sendto"],
         sampling.INTERRUPT),
        (["clear_page", "asm_exc_page_fault"], sampling.FAULT),
        (["entry_SYSCALL_64_after_hwframe"], sampling.ENTRY),
        (["ksys_read", "__x64_sys_read"], sampling.OTHER_KERNEL),
    ],
)  # fmt: skip
def test_time_in_the_kernel_is_told_apart_by_the_way_there(names: list[str], part: str) -> None:
    assert part_of_kernel(names) == part


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("_ZN7workers3pcm6encodeB2v1E5ArrayIs", "encode"),
        ("_ZN7workers3pcm6decodeB2v1E5ArrayIs", "decode"),
        ("_ZN7workers8transmit14serve_listenerB2v1E", "loop"),
        ("_ZN7workers3mix9add_stripB2v1E", "mix"),
        ("_ZN7unknown5thing3runE", sampling.OWN),
    ],
)
def test_time_in_own_code_is_told_apart_by_module(name: str, part: str) -> None:
    seen = Seen(1, (Frame(0x1000, "[unknown]", "//anon"),))
    assert part_of(seen, lambda address: name if address == 0x1000 else "") == part


def test_functions_are_named_by_who_has_them() -> None:
    def own(address: int) -> str:
        return "_ZN7workers3pcm6encodeE" if address == 1 else ""

    seen = [Seen(1, (Frame(*values),)) for values in (
        (1, "[unknown]", "//anon"), (2, "ppoll", "/lib/libc.so.6"), (1 << 63, "fdget", KERNEL),
    )]  # fmt: skip
    assert [function_of(each, own) for each in (*seen, Seen(1, ()))] == [
        "workers.pcm.encode", "libc.so.6: ppoll", "Linux: fdget", sampling.UNKNOWN,
    ]  # fmt: skip


def test_system_calls_are_counted_with_errors_and_without() -> None:
    text = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.53    0.000016           0       563         3 recvmmsg
 38.46    0.000010           0       562           ppoll
------ ----------- ----------- --------- --------- ----------------
100.00    0.000026           0      1125         3 total
"""
    assert calls(text) == {"recvmmsg": 563, "ppoll": 562}
