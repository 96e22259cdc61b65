"""Atomic fields, clocks and futexes as kernels use them."""

from __future__ import annotations

import errno as codes
import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numba import njit
from numba.core.errors import TypingError

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.libc import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    MSG_DONTWAIT,
    SECOND_NS,
    clock_ns,
    errno,
    futex_wait,
    futex_wake,
    sendto,
    sleep_until,
)

RECORD = np.dtype(
    {"names": ["small", "word", "other", "real"], "formats": ["i4", "i8", "i8", "f8"],
     "offsets": [0, 8, 16, 24], "itemsize": 64}
)  # fmt: skip


@kernel
def load_word(record):  # type: ignore[no-untyped-def]
    return load_acquire(record, "word")


@kernel
def store_word(record, value):  # type: ignore[no-untyped-def]
    store_release(record, "word", value)


@kernel
def wait_for_word(record, rounds):  # type: ignore[no-untyped-def]
    """Spin until word is set; True if it was within so many rounds."""
    left = rounds
    while left > 0 and load_acquire(record, "word") == 0:
        left -= 1
    return left > 0


@kernel
def failing_send(buffer):  # type: ignore[no-untyped-def]
    """errno of a send to nowhere."""
    sendto(-1, buffer.ctypes.data, len(buffer), MSG_DONTWAIT, 0, 0)
    return errno()


def test_load_and_store_reach_their_field_only() -> None:
    records = np.zeros(2, RECORD)
    for value in (0, 1, -1, 1 << 62, -(1 << 63)):
        store_word(records[1], value)
        assert records[1]["word"] == value
        assert load_word(records[1]) == value
        assert (records[1]["small"], records[1]["other"], records[1]["real"]) == (0, 0, 0)
        assert records[0]["word"] == 0


def test_waiting_loop_sees_what_another_thread_stores() -> None:
    """A plain load would be read once, before the loop."""
    records = np.zeros(1, RECORD)
    assert not wait_for_word(records[0], 3)
    found: list[bool] = []
    waiter = threading.Thread(target=lambda: found.append(wait_for_word(records[0], 1 << 40)))
    waiter.start()
    store_word(records[0], 1)
    waiter.join(timeout=60)
    assert found == [True]


@pytest.mark.parametrize("field", ["small", "real", "missing"])
def test_fields_that_cannot_be_atomic_do_not_compile(field: str) -> None:
    source = f"def load(record):\n    return load_acquire(record, {field!r})\n"
    scope: dict[str, Any] = {"load_acquire": load_acquire}
    exec(source, scope)
    with pytest.raises(TypingError, match=field):
        njit(scope["load"])(np.zeros(1, RECORD)[0])


def scratch() -> npt.NDArray[np.int64]:
    return np.zeros(2, np.int64)


def test_clocks() -> None:
    before = time.monotonic_ns()
    now = clock_ns(CLOCK_MONOTONIC, scratch())
    assert before <= now <= time.monotonic_ns()
    before = time.time_ns()
    assert before <= clock_ns(CLOCK_REALTIME, scratch()) <= time.time_ns()


def test_sleep_until() -> None:
    due = time.monotonic_ns() + 3_000_000
    sleep_until(due, scratch())
    assert time.monotonic_ns() >= due
    sleep_until(0, scratch())  # is past


def test_errno_of_the_last_call() -> None:
    assert failing_send(np.zeros(4, np.uint8)) == codes.EBADF


def test_futex() -> None:
    word = np.zeros(1, np.int64)
    address = word.ctypes.data
    assert futex_wait(address, 1, SECOND_NS, scratch()) == -1  # it is not 1: does not wait
    assert futex_wait(address, 0, 1_000_000, scratch()) == -1  # nobody wakes it
    woken: list[int] = []

    def wait() -> None:
        woken.append(futex_wait(address, 0, 60 * SECOND_NS, scratch()))

    waiter = threading.Thread(target=wait)
    waiter.start()
    deadline = time.monotonic() + 30
    while waiter.is_alive() and time.monotonic() < deadline:
        futex_wake(address)
        time.sleep(0.001)
    waiter.join(timeout=1)
    assert woken == [0]
