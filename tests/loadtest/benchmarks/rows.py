"""Records as a benchmark would have made them."""

from __future__ import annotations

from typing import Any

from loadtest.benchmarks.record import KernelRow, Kernels, Whole, WholeRow
from loadtest.reporting.result import Spread

PROVENANCE: dict[str, Any] = {
    "commit": "abcdef012345",
    "date": "2031-02-03T04:05:06+00:00",
    "machine": {"cpu": "Abacus 3000", "cores": 2, "virtualised": True, "kernel": "9.9.9"},
}
SETTINGS: dict[str, Any] = {"seconds": 10.0, "frames": 128, "bits": 16, "rate_hz": 48000}


def row(server: str, clients: int, table: str = "scale", **values: Any) -> WholeRow:
    """A run without a fault, of round figures."""
    figures: dict[str, Any] = {
        "mode": 2,
        "queue": "2",
        "attempts": 1,
        "usable": True,
        "joined": clients,
        "expected": 1000 * clients,
        "returned": 1000 * clients,
        "checked": 1000 * clients,
        "cpu_us": 20.0,
        "user_us": 5.0,
        "system_us": 15.0,
        "cpu_us_by_kind": {"tutti-rx": 11.0, "tutti-mixer": 8.0, "tuttihub": 1.0},
        "voluntary": 1.5,
        "involuntary": 0.25,
        "private_kib_a_client": 2048.0,
        "ticks": 4000,
        "ticks_missed": 3,
        "tick_late_us": {"p50": 20.0, "p99": 81.0, "max": 300.0},
        "latency": Spread(100, 4000.0, 5000.0, 6000.0, 5500.0),
        "spacing": Spread(100, 5.0, 46.0, 79.0, 60.0),
        "join_ms": Spread(clients, 7.0, 16.0, 18.0, 17.0),
        **values,
    }
    return WholeRow(table=table, server=server, clients=clients, **figures)


def whole(*rows: WholeRow, **provenance: Any) -> Whole:
    return Whole(PROVENANCE | provenance, SETTINGS, list(rows))


def kernels(*rows: KernelRow, **provenance: Any) -> Kernels:
    return Kernels(PROVENANCE | provenance, {"seconds": 0.5}, list(rows))


def kernel(name: str, median_us: float, **parameters: Any) -> KernelRow:
    return KernelRow(
        name, parameters, "client-period", median_us, 0.9 * median_us, 1.1 * median_us, 7, 1000
    )
