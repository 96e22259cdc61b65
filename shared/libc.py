"""libc's functions and structs as kernels call them: no allocation, no Python, cacheable.

``numba.types.ExternalFunction`` resolves a symbol of the process by name, and unlike a
ctypes or cffi pointer it can be cached. Pointers are passed as integers
(``array.ctypes.data``); structs are small integer arrays laid out by hand (x86-64 and
aarch64 Linux agree on all of them)::

    struct mmsghdr, as uint64[8]            struct cmsghdr, as int64[2] + data
    0 name*      1 namelen (u32)            0 length
    2 iovec*     3 iovec count              1 level (u32) | type << 32
    4 control*   5 control length
    6 flags      7 message length (u32)
"""

from __future__ import annotations

import os

from numba import types

from shared.atomics import peek_int32
from shared.kernels import kernel

CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1
TIMER_ABSTIME = 1
MSG_DONTWAIT, MSG_NOSIGNAL, MSG_CMSG_CLOEXEC = 0x40, 0x4000, 0x40000000
POLLIN = 1
SOL_SOCKET = 1
SCM_RIGHTS, SCM_TIMESTAMPNS, SO_RXQ_OVFL = 1, 35, 40
IPPROTO_IP, IP_PKTINFO = 0, 8
AF_INET, AF_INET6 = 2, 10
EINTR, EINVAL = 4, 22
FUTEX_WAIT, FUTEX_WAKE = 0, 1
_MACHINE = os.uname().machine
SYS_FUTEX = {"x86_64": 202, "aarch64": 98}[_MACHINE]
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[_MACHINE]
"""Their numbers differ by machine; the others are called through libc's own wrappers."""
CLONE_PARENT, SIGCHLD = 0x8000, 17

_i32, _i64, _ptr, _size = types.int32, types.int64, types.intp, types.uintp

_clock_gettime = types.ExternalFunction("clock_gettime", _i32(_i32, _ptr))
_clock_nanosleep = types.ExternalFunction("clock_nanosleep", _i32(_i32, _i32, _ptr, _ptr))
_errno = types.ExternalFunction("__errno_location", _ptr())
_syscall6 = types.ExternalFunction("syscall", _i64(_i64, _i64, _i64, _i64, _i64, _i64, _i64))
recvmmsg = types.ExternalFunction("recvmmsg", _i32(_i32, _ptr, _i32, _i32, _ptr))
sendmmsg = types.ExternalFunction("sendmmsg", _i32(_i32, _ptr, _i32, _i32))
recvmsg = types.ExternalFunction("recvmsg", _i64(_i32, _ptr, _i32))
sendto = types.ExternalFunction("sendto", _i64(_i32, _ptr, _size, _i32, _ptr, _i32))
recvfrom = types.ExternalFunction("recvfrom", _i64(_i32, _ptr, _size, _i32, _ptr, _ptr))
epoll_wait = types.ExternalFunction("epoll_wait", _i32(_i32, _ptr, _i32, _i32))
ppoll = types.ExternalFunction("ppoll", _i32(_ptr, _i64, _ptr, _ptr))
close = types.ExternalFunction("close", _i32(_i32))
getpid = types.ExternalFunction("getpid", _i32())
exit_process = types.ExternalFunction("_exit", types.void(_i32))
prctl = types.ExternalFunction("prctl", _i32(_i32, _ptr, _i64, _i64, _i64))
mlock2 = types.ExternalFunction("mlock2", _i32(_ptr, _size, _i32))
sched_setaffinity = types.ExternalFunction("sched_setaffinity", _i32(_i32, _size, _ptr))
sched_setscheduler = types.ExternalFunction("sched_setscheduler", _i32(_i32, _i32, _ptr))
memset = types.ExternalFunction("memset", _ptr(_ptr, _i32, _size))
memmove = types.ExternalFunction("memmove", _ptr(_ptr, _ptr, _size))

SECOND_NS = 1_000_000_000


@kernel
def errno():
    """errno of this thread's last failed call."""
    return peek_int32(_errno())


@kernel
def clock_ns(clock, timespec):
    """Time of a clock in ns; timespec is int64[2] scratch. Served by the vDSO: no system call."""
    _clock_gettime(clock, timespec.ctypes.data)
    return timespec[0] * SECOND_NS + timespec[1]


@kernel
def sleep_until(due_ns, timespec):
    """Sleep to a CLOCK_MONOTONIC time in ns; at once when it is past; signals do not shorten it."""
    timespec[0] = due_ns // SECOND_NS
    timespec[1] = due_ns % SECOND_NS
    for _ in range(64):
        if _clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, timespec.ctypes.data, 0) != EINTR:
            break


@kernel
def futex_wait(address, expected, timeout_ns, timespec):
    """Sleep while the uint32 at address equals expected, at most timeout_ns."""
    timespec[0] = timeout_ns // SECOND_NS
    timespec[1] = timeout_ns % SECOND_NS
    return _syscall6(SYS_FUTEX, address, FUTEX_WAIT, expected, timespec.ctypes.data, 0, 0)


@kernel
def futex_wake(address):
    """Wake all who wait on the uint32 at address."""
    return _syscall6(SYS_FUTEX, address, FUTEX_WAKE, 0x7FFFFFFF, 0, 0, 0)


@kernel
def clone_sibling():
    """Fork, the new process being a child of this one's parent: 0 in it, here its pid or −1.

    libc's handlers of forks do not run: whoever comes back with 0 must stay clear of locks
    that another thread may have held, of malloc's above all.
    """
    return _syscall6(SYS_CLONE, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0, 0)
