"""The way in: what a client's packet costs its receiver, without the system calls."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from hub.greeting import Greeting
from shared.layout import RxState
from shared.protocol import pack_hello
from tests.kernels.loops import decode_many, parse_many, receive_many
from tests.kernels.orchestra import SESSION, packet, seat
from workers.packet import FIELDS

COUNT = 1000


def test_parse(benchmark: BenchmarkFixture) -> None:
    datagram, fields = packet(128, 2, 16), np.zeros(FIELDS, np.int64)
    benchmark.extra_info["units"] = COUNT

    legal = benchmark(parse_many, datagram, fields, COUNT)

    assert legal == COUNT


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_decode(benchmark: BenchmarkFixture, bits: int) -> None:
    datagram, output = packet(128, 2, bits), np.zeros(128, np.float32)
    benchmark.extra_info["units"] = COUNT

    bad = benchmark(decode_many, datagram, bits, 2, 128, output, COUNT)

    assert bad == 0
    assert output.any()


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [64, 128, 256])
def test_receive(benchmark: BenchmarkFixture, frames: int, channels: int, bits: int) -> None:
    """Parse, place, decode, measure, publish."""
    benchmark.extra_info["units"] = COUNT
    with seat(frames, channels, bits) as one:
        benchmark(
            receive_many, one.arena, one.inbox, SESSION, one.name, one.datagram, one.number, 1,
            COUNT,
        )  # fmt: skip
        rx = one.arena.rx[0]
        assert rx["state"] == RxState.ACTIVE
        assert rx["packets"] == one.number[0]
        assert (rx["lost"], rx["underruns"], rx["malformed"]) == (0, 0, 0)


@pytest.mark.parametrize("frames", [64, 128, 256])
def test_conceal(benchmark: BenchmarkFixture, frames: int) -> None:
    """Every other packet is missing: each gap is filled, faded out of and into again."""
    benchmark.extra_info["units"] = COUNT
    with seat(frames, 2, 16) as one:
        benchmark(
            receive_many, one.arena, one.inbox, SESSION, one.name, one.datagram, one.number, 2,
            COUNT,
        )  # fmt: skip
        rx = one.arena.rx[0]
        assert rx["packets"] == one.number[0] // 2
        assert rx["underruns"] > rx["packets"] // 2
        assert rx["concealed_frames"] > 0


@pytest.mark.parametrize("kind", ["named", "short"])
def test_hello(benchmark: BenchmarkFixture, kind: str) -> None:
    """A client's introduction over TCP, as the supervisor's interpreter reads it."""
    hello = pack_hello(61002, "Björn" if kind == "named" else None)
    benchmark.extra_info |= {"units": 1, "unit": "hello"}

    def read() -> int:
        greeting = Greeting(0.0)
        greeting.receive(hello, 0.0)
        found = greeting.result(60.0)
        assert found is not None
        return found.udp_port

    assert benchmark(read) == 61002
