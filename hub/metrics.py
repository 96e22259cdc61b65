"""The Prometheus endpoint: reads the arena when it is scraped.

``Exporter.families`` is the one description of what is exported, from the table in
``hub.counters`` and the supervisor's directory. It is rendered in two ways: ``collect``
makes prometheus_client's objects, for any registry; ``render`` writes the text format
straight away. The endpoint uses the latter, since a scrape shares the interpreter with the
supervisor: 15 ms for 500 clients (26,000 samples) where the library's own generator takes
140 ms (2 virtual cores, Python 3.11).

A client is labelled by its slot alone; name, address and format are in one
``tuttihub_client_info`` to join with. Only ``tuttihub_client_condition`` has its name, too.
Who has left is not exported any more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hub.conditions.watch import SLUGS
from hub.counters import CLOCK, LANE, NANO, PREFIX, RX, SLOT, TX, Kind, Row
from hub.directory import ClientInfo, Directory
from hub.snapshot import (
    FORMAT_FIELDS,
    buffered_frames,
    drift_known,
    known_rate,
    lanes_in_use,
    play_position,
)
from shared.arena import Arena, Records
from shared.layout import HISTOGRAM_EDGES_NS, RxState

BOUNDS = [*(repr(edge / 1e9) for edge in HISTOGRAM_EDGES_NS.tolist()), "+Inf"]
"""Upper edges of all histograms in seconds, as their label 'le' has them."""


class Labels:
    """Labels of one sample, both as a dict and as text; made once and used for many."""

    __slots__ = ("_buckets", "pairs", "text")

    def __init__(self, **pairs: str) -> None:
        self.pairs = pairs
        inner = ",".join(f'{name}="{_escape(value)}"' for name, value in pairs.items())
        self.text = f"{{{inner}}}" if pairs else ""
        self._buckets: list[Labels] | None = None

    @property
    def buckets(self) -> list[Labels]:
        """These labels with each of the histograms' bounds."""
        if self._buckets is None:
            self._buckets = [Labels(**self.pairs, le=bound) for bound in BOUNDS]
        return self._buckets


NO_LABELS = Labels()


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one name: value i has labels i."""

    suffix: str
    labels: Sequence[Labels]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with all its samples; ``name`` is without '_total'."""

    name: str
    kind: Kind
    help: str
    series: list[Series] = field(default_factory=list)


class Exporter(Collector):
    """All metrics of one hub.

    Args:
        arena: only read.
        directory: the supervisor's; only read, from the scraping thread.
        clock_ns: CLOCK_MONOTONIC, for ages.
    """

    def __init__(
        self,
        arena: Arena,
        directory: Directory,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._arena = arena
        self._directory = directory
        self._clock_ns = clock_ns
        slots = len(arena.slots)
        # made when first needed and kept: a slot's labels never change
        self._slot_labels: list[Labels | None] = [None] * slots

    def families(self) -> Iterator[Family]:
        """Every metric, read now."""
        arena, clients = self._arena, self._directory.listed()
        slots = np.array([client.slot for client in clients], np.intp)
        by_slot = [self._labels_of(client.slot) for client in clients]
        lanes = lanes_in_use(arena)
        by_lane = [Labels(lane=str(lane)) for lane in lanes]
        yield from self._hub_families(clients)
        yield from _section(CLOCK, arena.clock, [NO_LABELS])
        yield from _section(LANE, arena.lanes[lanes], by_lane)
        rx = arena.rx[slots]
        yield from _section(RX, rx, by_slot)
        yield from _section(TX, arena.tx[slots], by_slot)
        yield from _section(SLOT, arena.slots[slots], by_slot)
        yield from self._client_families(clients, rx, by_slot)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client's own objects."""
        for family in self.families():
            metric = Metric(PREFIX + family.name, family.help, family.kind)
            for series in family.series:
                name = f"{PREFIX}{family.name}{series.suffix}"
                for labels, value in zip(series.labels, series.values, strict=True):
                    metric.add_sample(name, labels.pairs, value)
            yield metric

    def render(self) -> bytes:
        """As text of Prometheus's exposition format 0.0.4."""
        parts: list[str] = []
        for family in self.families():
            total = "_total" if family.kind == "counter" else ""
            name = f"{PREFIX}{family.name}{total}"
            parts.append(f"# HELP {name} {_escape(family.help)}\n# TYPE {name} {family.kind}\n")
            for series in family.series:
                name = f"{PREFIX}{family.name}{series.suffix}"
                parts += [
                    f"{name}{labels.text} {value}\n"
                    for labels, value in zip(series.labels, series.values, strict=True)
                ]
        return "".join(parts).encode()

    def _labels_of(self, slot: int) -> Labels:
        labels = self._slot_labels[slot]
        if labels is None:
            labels = self._slot_labels[slot] = Labels(slot=str(slot))
        return labels

    def _hub_families(self, clients: Sequence[ClientInfo]) -> Iterator[Family]:
        """What the supervisor knows of itself."""
        hub, header = self._directory.hub, self._arena.header[0]
        period_s = int(header["period_frames"]) / int(header["rate_hz"])
        info = Labels(
            version=hub.version,
            rate_hz=str(header["rate_hz"]),
            period_frames=str(header["period_frames"]),
            tcp_port=str(hub.tcp_port),
        )
        yield _family("hub_info", "gauge", "Version and settings of the hub", [info], [1])
        patch = int(self._arena.control[0]["patch"])
        gauges = (
            ("start_time_seconds", "When the hub was started, Unix time", hub.started_s),
            ("period_seconds", "Time between two ticks", period_s),
            ("patch_mode", "JackTrip's number of it", patch),
            ("clients", "Clients that hold a slot", len(clients)),
            ("clients_max", "Clients that may be connected", hub.max_clients),
            ("locked", "1: newcomers are not let in", int(hub.door.locked)),
            ("bans", "Bans that stand", hub.door.bans),
        )
        counters = (
            ("sessions", "Clients that were given a port", hub.sessions_started),
            ("mixer_restarts", "Mixers that had to be replaced", hub.mixer_restarts),
            ("lane_restarts", "Lanes that had to be replaced", hub.lane_restarts),
            ("zygote_restarts", "Zygotes that had to be replaced", hub.zygote_restarts),
        )
        for name, text, gauge in gauges:
            yield _family(name, "gauge", text, [NO_LABELS], [gauge])
        for name, text, count in counters:
            yield _family(name, "counter", text, [NO_LABELS], [count])
        ended = list(hub.sessions_ended.items())
        yield _family(
            "sessions_ended",
            "counter",
            "Clients that left, by reason",
            [Labels(reason=reason.name.lower()) for reason, _ in ended],
            [count for _, count in ended],
        )
        yield _family(
            "hub_condition",
            "gauge",
            "Conditions of the hub as a whole that are raised",
            [Labels(condition=raised.condition.slug) for raised in hub.conditions],
            [1] * len(hub.conditions),
        )
        counts = [hub.conditions_raised.get(slug, 0) for slug in SLUGS]
        text = "Times that a condition was raised, of any client or the hub"
        yield _family(
            "conditions_raised", "counter", text, [Labels(condition=slug) for slug in SLUGS], counts
        )
        refused = list(hub.hellos_refused.items())
        yield _family(
            "hellos_refused",
            "counter",
            "TCP connections that were given no port, by reason",
            [Labels(reason=reason) for reason, _ in refused],
            [count for _, count in refused],
        )
        logins = list(hub.logins.items())
        yield _family(
            "logins",
            "counter",
            "Conversations about credentials, by result",
            [Labels(result=result) for result, _ in logins],
            [count for _, count in logins],
        )
        for name, text, value in (
            ("accounts", "Users that may join", hub.accounts),
            (
                "certificate_expiry_timestamp_seconds",
                "When the certificate's time ends, Unix time",
                hub.certificate_expiry_s,
            ),
        ):
            if value is not None:
                yield _family(name, "gauge", text, [NO_LABELS], [value])

    def _client_families(
        self, clients: Sequence[ClientInfo], rx: Records, by_slot: Sequence[Labels]
    ) -> Iterator[Family]:
        """What is no field of the arena as it stands."""
        now_ns = self._clock_ns()
        names = ("peer_port", *FORMAT_FIELDS)
        formats = rx[list(names)].tolist()
        begun = np.array([c.session for c in clients], np.int64) == rx["session"]
        known = begun & (rx["frames"] > 0)
        infos = [
            _client_labels(client, dict(zip(names, values, strict=True)) if is_known else {})
            for client, values, is_known in zip(clients, formats, known.tolist(), strict=True)
        ]
        yield _family("client_info", "gauge", "Who is in a slot", infos, [1] * len(infos))
        yield _conditions(clients)
        restarts = [client.receiver_restarts for client in clients]
        text = "Receivers of the client that had to be replaced"
        yield _family("client_receiver_restarts", "counter", text, by_slot, restarts)
        ages = [now_ns / 1e9 - client.joined_s for client in clients]
        text = "Since the client came"
        yield _family("client_connected_seconds", "gauge", text, by_slot, ages)

        play, period_s = play_position(self._arena), 1.0 / int(self._arena.header[0]["rate_hz"])
        active = begun & (rx["state"] == RxState.ACTIVE)
        drift = active & drift_known(rx)
        for name, text, where, values in (
            (
                "client_last_packet_age_seconds",
                "Since the last valid packet of the client",
                begun & (rx["valid_ns"] > 0),
                (now_ns - rx["valid_ns"]) * NANO,
            ),
            (
                "client_queue_seconds",
                "Audio of the client that waits to be mixed",
                active,
                buffered_frames(rx, play) * period_s,
            ),
            (
                "client_queue_target_seconds",
                "Queue the client is meant to have",
                known,
                rx["depth_frames"] * period_s,
            ),
            (
                "client_queue_margin_seconds",
                "How late a packet of the client may be and still be in time",
                active,
                rx["margin_frames"] * period_s,
            ),
            (
                "client_lateness_seconds",
                "How late packets of the client are, but for the rarest",
                active,
                rx["late_wanted"] * period_s,
            ),
            (
                "client_clock_drift_ratio",
                "Frames of the client's clock a frame of the hub's, beyond 1",
                drift,
                rx["clock_ratio"],
            ),
            (
                "client_clock_drift_error_ratio",
                "Standard error of the client's drift",
                drift,
                rx["clock_sigma"],
            ),
        ):
            labels = [by_slot[k] for k in np.flatnonzero(where).tolist()]
            yield _family(name, "gauge", text, labels, _finite(values[where].tolist()))


def _family(
    name: str, kind: Kind, text: str, labels: Sequence[Labels], values: Sequence[float]
) -> Family:
    suffix = "_total" if kind == "counter" else ""
    return Family(name, kind, text, [Series(suffix, labels, values)])


def _conditions(clients: Sequence[ClientInfo]) -> Family:
    """What is raised, and nothing else: an alarm needs no join."""
    labels = [
        Labels(slot=str(client.slot), client=client.name, condition=raised.condition.slug)
        for client in clients
        for raised in client.conditions
    ]
    text = "Conditions of clients that are raised (docs/troubles.md)"
    return _family("client_condition", "gauge", text, labels, [1] * len(labels))


def _section(rows: Sequence[Row], records: Records, labels: Sequence[Labels]) -> Iterator[Family]:
    """The rows of one section of the arena; record i has labels i."""
    for row in rows:
        if row.kind == "histogram":
            yield _histogram(row, records, labels)
        else:
            values = records[row.field]
            if row.scale != 1.0:
                values = values * row.scale
            yield _family(row.name, row.kind, row.help, labels, _finite(values.tolist()))


def _finite(values: list[float]) -> list[float]:
    """Python's 'nan' and 'inf' are not how Prometheus spells them, and tell nobody anything."""
    return [value if math.isfinite(value) else 0.0 for value in values]


def _histogram(row: Row, records: Records, labels: Sequence[Labels]) -> Family:
    upto = np.cumsum(records[row.field], axis=1)
    buckets = [bucket for label in labels for bucket in label.buckets]
    return Family(
        row.name,
        "histogram",
        row.help,
        [
            Series("_bucket", buckets, upto.ravel().tolist()),
            Series("_sum", labels, (records[row.total] * row.scale).tolist()),
            Series("_count", labels, upto[:, -1].tolist()),
        ],
    )


def _client_labels(client: ClientInfo, rx: dict[str, int]) -> Labels:
    """Identity and format; rx is empty as long as the format is unknown."""
    rate_hz = known_rate(rx) if rx else None
    return Labels(
        slot=str(client.slot),
        name=client.name,
        account=client.account,
        address=client.address,
        port=str(client.port),
        peer_port=str(rx.get("peer_port", "")),
        rate_hz="" if rate_hz is None else str(rate_hz),
        **{name: str(rx.get(name, "")) for name in FORMAT_FIELDS if name != "rate_hz"},
    )
