"""Hints: nothing but time may depend on them."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from shared.prefetch import prefetch_read, prefetch_write


@njit(_nrt=False)
def _hint(address):  # type: ignore[no-untyped-def]
    prefetch_read(address)
    prefetch_write(address)


def test_memory_stays_as_it_is() -> None:
    memory = np.arange(64, dtype=np.uint8)
    _hint(memory.ctypes.data)
    assert memory.tolist() == list(range(64))


@pytest.mark.parametrize("address", [0, 1, -64, 1 << 62])
def test_no_address_is_wrong(address: int) -> None:
    _hint(address)
