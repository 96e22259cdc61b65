"""Every metric with its labels and meaning: docs/metrics.md, rendered from the exporter.

``python -m hub.metricsdoc > docs/metrics.md`` writes it anew. What is listed is what a hub with one
client exports, so that nothing can be exported and not be there, or the other way round.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hub.counters import PREFIX
from hub.directory import ClientInfo, Directory, HubInfo
from hub.exposition import Family
from hub.machine import Machine
from hub.metrics import Exporter
from hub.overload.info import OverloadInfo
from hub.overload.resources import Resource
from hub.overload.shedding import Shedding
from shared.arena import create_arena
from shared.layout import RxState

_LISTED = (
    "kind", "lane", "method", "phase", "process", "reason", "resource", "result", "step", "worker",
)  # fmt: skip
"""Labels whose values are always the same, and told."""
_SECTIONS = (
    ("One client", "client_", "`slot` is the client's strip. To see names, join:\n\n    "
     "rate(tuttihub_client_lost_packets_total[1m])\n      * on (instance, slot) group_left (name) "
     "tuttihub_client_info\n\nWho has left is not exported any more."),
    ("Transmit lanes", "lane_", "Lane 0 is the mixer when it sends itself."),
    ("The hub", "", ""),
)  # fmt: skip
_HEAD = """\
# Metrics

<!-- Rendered from the code: python -m hub.metricsdoc > docs/metrics.md -->

`http://127.0.0.1:9464/metrics` (`--metrics`) has all that the hub counts, for Prometheus; in
OpenMetrics if that is asked for. `/-/healthy` answers 200 as long as the hub runs at all,
`/-/ready` 200 while ticks advance and clients are let in, else 503 and the reason. One second is a
good scrape interval: what is told of 500 clients takes 39 ms of one core (`scrape` of the recorded
benchmarks, on one core of an AMD EPYC), all of it in the supervisor, and no audio process anything.

Names begin with `tuttihub_`. Units are seconds, bytes and ratios; counters end in `_total` and
begin at 0 when the hub starts, or when the client comes. Histograms have upper bounds of 25 µs,
doubling to 102 ms. Dashboards are in [deploy/grafana](../deploy/README.md), rules and alerts in
[deploy/prometheus](../deploy/README.md), what to do about alerts in [runbooks.md](runbooks.md).
"""


def catalogue() -> list[Family]:
    """All that can be exported, of a hub with one client, credentials and files."""
    fd, arena = create_arena(slots=1, rate_hz=48000, period_frames=128)
    try:
        client = ClientInfo(0, 1, "Anna", "192.0.2.1", 61002, joined_s=0.0, round_trip_s=0.02)
        hub = HubInfo("", os.getpid(), 4464, 61002, 1, started_s=0.0)
        hub.overload = OverloadInfo(
            limit=0.8,
            shed_limit=0.95,
            used=dict.fromkeys(map(str, Resource), 0.0),
            shed_times={step.name.lower(): 0 for step in Shedding(None).taken},
            realtime_limit=0.95,
        )
        hub.accounts, hub.certificate_expiry_s = 1, 0.0
        record = arena.rx[0]
        record["session"], record["state"], record["frames"] = 1, RxState.ACTIVE, 128
        record["span"], record["valid_ns"], record["clock_sigma"] = 128.0, 1, 1e-7
        exporter = Exporter(arena, Directory(hub, {0: client}), machine=Machine(fd, [Path("/")]))
        return list(exporter.families())
    finally:
        os.close(fd)


def metric_names() -> set[str]:
    """Names as PromQL has them, with '_total', '_bucket', '_sum' and '_count'."""
    return {PREFIX + one.name + series.suffix for one in catalogue() for series in one.series}


def metrics_markdown() -> str:
    """The page."""
    left = catalogue()
    parts = [_HEAD]
    for title, begin, text in _SECTIONS:
        these = sorted((one for one in left if one.name.startswith(begin)), key=lambda f: f.name)
        left = [one for one in left if one not in these]
        parts.append(f"\n## {title}\n")
        if text:
            parts.append(f"\n{text}\n")
        parts.append("\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
        parts += [_row(one) for one in these]
    return "".join(parts)


def _row(one: Family) -> str:
    name = PREFIX + one.name + ("_total" if one.kind == "counter" else "")
    return f"| `{name}` | {one.kind} | {_labels(one)} | {one.help} |\n"


def _labels(one: Family) -> str:
    found = one.series[0].labels
    names = [name for name in (found[0].pairs if found else one.names) if name != "le"]
    told = []
    for name in names:
        values = dict.fromkeys(labels.pairs[name] for labels in found)
        listed = name in _LISTED and len(values) > 1
        told.append(f"`{name}`: " + ", ".join(values) if listed else f"`{name}`")
    return "; ".join(told) or "–"


if __name__ == "__main__":
    sys.stdout.write(metrics_markdown())
