"""What the kernel tells of a datagram: its source and time, as ``struct`` packs them."""

from __future__ import annotations

import socket
import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.arenas import arena_of
from workers.inbox import ancillary, source_of

SO_TIMESTAMPNS, SO_RXQ_OVFL = 35, 40


def name_field(raw: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(raw.ljust(32, b"\0"), np.uint8).copy()


@given(st.binary(min_size=4, max_size=4), st.integers(0, 65535))
def test_source_of_ipv4_is_its_mapped_address(address: bytes, port: int) -> None:
    raw = struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + address
    high, low = struct.unpack("=2q", bytes(10) + b"\xff\xff" + address)
    assert source_of(name_field(raw)) == (high, low, port)


@given(st.binary(min_size=16, max_size=16), st.integers(0, 65535), st.integers(0, 2**32 - 1))
def test_source_of_ipv6(address: bytes, port: int, flow: int) -> None:
    raw = struct.pack("=H", socket.AF_INET6) + struct.pack(">HI", port, flow) + address
    high, low = struct.unpack("=2q", address)
    assert source_of(name_field(raw)) == (high, low, port)


def test_source_of_another_family_is_nobody() -> None:
    assert source_of(name_field(struct.pack("=H", socket.AF_UNIX)))[2] == -1


def control_words(*messages: tuple[int, bytes]) -> tuple[npt.NDArray[np.int64], int]:
    """Ancillary data as the kernel lays it out, and its length in bytes."""
    raw = b""
    for kind, payload in messages:
        whole = struct.pack("=QII", 16 + len(payload), socket.SOL_SOCKET, kind) + payload
        raw += whole.ljust(-(-len(whole) // 8) * 8, b"\0")
    return np.frombuffer(raw.ljust(128, b"\0"), np.int64).copy(), len(raw)


@given(
    st.permutations(["time", "drops", "other"]),
    st.integers(0, 2**33),
    st.integers(0, 999_999_999),
    st.integers(0, 2**32 - 1),
)
def test_ancillary_data_in_any_order(order: list[str], s: int, ns: int, drops: int) -> None:
    parts = {
        "time": (SO_TIMESTAMPNS, struct.pack("=qq", s, ns)),
        "drops": (SO_RXQ_OVFL, struct.pack("=I", drops)),
        "other": (1, struct.pack("=i", 7)),
    }
    control, length = control_words(*(parts[name] for name in order))
    with arena_of() as arena:
        assert ancillary(control, length, arena.rx[0]) == s * 1_000_000_000 + ns
        assert arena.rx[0]["kernel_drops"] == drops


@pytest.mark.parametrize("length", [0, 8, 15])
def test_ancillary_data_that_is_cut_short_is_none(length: int) -> None:
    control, _ = control_words((SO_TIMESTAMPNS, struct.pack("=qq", 5, 5)))
    with arena_of() as arena:
        assert ancillary(control, length, arena.rx[0]) == 0
