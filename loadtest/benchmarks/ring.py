"""Linux's ``io_uring``: a ring of datagrams to send, one system call for all of them.

Three system calls, and memory that the kernel and we share (``man 7 io_uring``)::

    entries       64 bytes each: what is to be done, with which socket, from where
    submissions   head  tail  indices of entries    the kernel reads up to our tail
    completions   head  tail  user_data and result  we read up to the kernel's tail

With ``DEFER_TASKRUN`` and sends that do not wait all of it is done by the thread that calls
``io_uring_enter``, within that call: no other has to be looked at for what a ring costs.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from numba import types

from shared.kernels import kernel
from shared.libc import MSG_DONTWAIT, MSG_NOSIGNAL, SECOND_NS
from shared.libc import errno as last_errno

Entries = npt.NDArray[np.void]
_SETUP, _ENTER, _REGISTER = 425, 426, 427
"""System calls: the same numbers on every machine."""
_SINGLE_ISSUER, _DEFER_TASKRUN = 1 << 12, 1 << 13
_REGISTER_FILES = 2
_GET_EVENTS = 1
_AT_ENTRIES = 0x10000000
"""Where in the ring's descriptor the entries are mapped; both rings are at 0."""
_FIXED_FILE = 1
_SENDMSG, _SEND = 9, 26
_REFUSALS = (errno.ENOSYS, errno.EPERM, errno.EINVAL)
"""Linux without it, or that forbids it, or is older than 6.1 and does not know the flags."""
_NO_RESULT = -SECOND_NS
"""Of an entry that the kernel has not completed: no error has this number."""

ENTRY = np.dtype(
    [
        ("opcode", "u1"), ("flags", "u1"), ("ioprio", "<u2"), ("fd", "<i4"),
        ("addr2", "<u8"), ("addr", "<u8"), ("len", "<u4"), ("msg_flags", "<u4"),
        ("user_data", "<u8"), ("buf_index", "<u2"), ("personality", "<u2"), ("addr_len", "<u2"),
        ("unused", "V18"),
    ]
)  # fmt: skip
"""struct io_uring_sqe, so far as sends use it."""


def _offsets(*names: str) -> list[tuple[str, str]]:
    """Of words from a ring's begin; twelve bytes follow."""
    return [*((name, "<u4") for name in names), ("unused", "V12")]


_PARAMETERS = np.dtype(
    [
        ("sq_entries", "<u4"), ("cq_entries", "<u4"), ("flags", "<u4"), ("unused", "V28"),
        ("sq", _offsets("head", "tail", "mask", "entries", "flags", "dropped", "array")),
        ("cq", _offsets("head", "tail", "mask", "entries", "overflow", "results", "flags")),
    ]
)  # fmt: skip
"""struct io_uring_params."""
_WORDS = ENTRY.itemsize // 8
_SQ_TAIL, _SQ_MASK, _CQ_HEAD, _CQ_TAIL, _CQ_MASK = range(5)
_LIBC = ctypes.CDLL(None, use_errno=True)
_syscall6 = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))


class RingRefused(OSError):
    """This kernel has no ring for us."""


def _call(number: int, *arguments: int) -> int:
    result: int = _LIBC.syscall(number, *map(ctypes.c_long, arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@kernel
def _turn(ring, shared, where, entries, completions, wanted, results, size):
    """All that is wanted, by one call.

    Args:
        ring: its descriptor.
        shared: (words,) uint32, both rings.
        where: (5,) int64, at _SQ_TAIL, _CQ_HEAD and _CQ_TAIL their places in it, and both masks.
        entries: (E, 8) uint64.
        completions: (C, 4) int32: user_data in the first word, the result in the third.
        wanted: (N, 8) uint64, user_data of each its index.
        results: (N,) int64.
        size: the result that is right.

    Returns:
        How many results are right; or −errno of the call.

    The kernel looks at the rings within the call only: what was written before is what it sees.
    """
    count = wanted.shape[0]
    tail = np.int64(shared[where[_SQ_TAIL]])
    for k in range(count):
        entry = (tail + k) & where[_SQ_MASK]
        for word in range(_WORDS):
            entries[entry, word] = wanted[k, word]
        results[k] = _NO_RESULT
    shared[where[_SQ_TAIL]] = np.uint32(tail + count)
    if _syscall6(_ENTER, ring, count, count, _GET_EVENTS, 0, 0) < 0:
        return -np.int64(last_errno())
    right = 0
    head = np.int64(shared[where[_CQ_HEAD]])
    ready = (np.int64(shared[where[_CQ_TAIL]]) - head) & 0xFFFFFFFF
    for k in range(ready):
        at = (head + k) & where[_CQ_MASK]
        result = completions[at, 2]
        results[completions[at, 0]] = result
        right += result == size
    shared[where[_CQ_HEAD]] = np.uint32(head + ready)
    return right


class Ring:
    """A ring for so many datagrams at once; to be used by the thread that made it."""

    def __init__(self, datagrams: int) -> None:
        """
        Raises:
            RingRefused: there is none to be had.
        """
        parameters = np.zeros(1, _PARAMETERS)
        parameters["flags"] = _SINGLE_ISSUER | _DEFER_TASKRUN
        try:
            self._fd = _call(_SETUP, datagrams, parameters.ctypes.data)
        except OSError as error:
            if error.errno in _REFUSALS:
                raise RingRefused(error.errno, error.strerror) from error
            raise
        try:
            self._map(parameters[0])
        except BaseException:
            os.close(self._fd)
            raise

    def _map(self, parameters: Any) -> None:
        sq, cq = parameters["sq"], parameters["cq"]
        count, completed = int(parameters["sq_entries"]), int(parameters["cq_entries"])
        length = max(int(sq["array"]) + 4 * count, int(cq["results"]) + 16 * completed)
        rings = mmap.mmap(self._fd, length, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        entries = mmap.mmap(
            self._fd, count * ENTRY.itemsize, mmap.MAP_SHARED | mmap.MAP_POPULATE,
            offset=_AT_ENTRIES,
        )  # fmt: skip
        self._entries = np.frombuffer(entries, np.uint64).reshape(count, _WORDS)
        self._shared = np.frombuffer(rings, np.uint32, length // 4)
        self._completions = np.frombuffer(rings, np.int32, completed * 4, cq["results"]).reshape(
            -1, 4
        )
        first = sq["array"] // 4
        self._shared[first : first + count] = np.arange(count)
        masks = self._shared[sq["mask"] // 4], self._shared[cq["mask"] // 4]
        self._where = np.array(
            [sq["tail"] // 4, masks[0], cq["head"] // 4, cq["tail"] // 4, masks[1]], np.int64
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def register(self, fds: npt.NDArray[np.int64]) -> None:
        """Let entries name these by their places here (``fixed``)."""
        files = fds.astype(np.int32)
        _call(_REGISTER, self._fd, _REGISTER_FILES, files.ctypes.data, len(files))

    def send(self, wanted: Entries, size: int) -> int:
        """Send all of them; how many they are.

        Args:
            wanted: (N,) ENTRY, of ``sendmsg_entries`` or ``send_entries``; no more than the ring
                is for.
            size: bytes of each datagram.

        Raises:
            OSError: not all were sent whole; says which was the first, and what became of it.
        """
        if len(wanted) > len(self._entries):
            raise ValueError(f"{len(wanted)} datagrams: the ring has {len(self._entries)} entries")
        results = np.zeros(len(wanted), np.int64)
        words = wanted.view(np.uint64).reshape(-1, _WORDS)
        right = _turn(
            self._fd, self._shared, self._where, self._entries, self._completions, words, results,
            size,
        )  # fmt: skip
        if right < 0:
            raise OSError(-right, f"io_uring_enter: {os.strerror(-right)}")
        if right != len(wanted):
            first = int(np.flatnonzero(results != size)[0])
            result = int(results[first])
            if result == _NO_RESULT:
                raise OSError(errno.EIO, f"datagram {first} was not completed")
            if result < 0:
                raise OSError(-result, f"datagram {first}: {os.strerror(-result)}")
            raise OSError(errno.EIO, f"datagram {first}: {result} bytes were sent, not {size}")
        return right


def _entries(fds: npt.NDArray[np.int64], opcode: int, fixed: bool) -> Entries:
    wanted = np.zeros(len(fds), ENTRY)
    wanted["opcode"] = opcode
    wanted["flags"] = _FIXED_FILE if fixed else 0
    wanted["fd"] = np.arange(len(fds)) if fixed else fds
    wanted["msg_flags"] = MSG_DONTWAIT | MSG_NOSIGNAL
    wanted["user_data"] = np.arange(len(fds))
    return wanted


def sendmsg_entries(
    fds: npt.NDArray[np.int64], messages: npt.NDArray[np.uint64], *, fixed: bool
) -> Entries:
    """A ``sendmsg`` from each socket.

    Args:
        fds: (N,), the sockets.
        messages: (N, words), struct msghdr of each.
        fixed: the sockets are registered, in this order.
    """
    wanted = _entries(fds, _SENDMSG, fixed)
    wanted["addr"] = messages.ctypes.data + messages.strides[0] * np.arange(len(fds))
    wanted["len"] = 1
    return wanted


def send_entries(
    fds: npt.NDArray[np.int64],
    packets: npt.NDArray[np.uint8],
    names: npt.NDArray[np.uint8],
    *,
    fixed: bool,
) -> Entries:
    """A ``send`` from each socket, told where to: what ``sendto`` is.

    Args:
        fds: (N,), the sockets.
        packets: (N, bytes), what each sends.
        names: (N, 16), struct sockaddr_in of where to.
        fixed: the sockets are registered, in this order.
    """
    wanted = _entries(fds, _SEND, fixed)
    places = np.arange(len(fds))
    wanted["addr"] = packets.ctypes.data + packets.strides[0] * places
    wanted["len"] = packets.shape[1]
    wanted["addr2"] = names.ctypes.data + names.strides[0] * places
    wanted["addr_len"] = names.shape[1]
    return wanted
