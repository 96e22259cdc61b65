"""What the hub exports: every metric, read from the arena when it is asked for.

``Exporter.families`` is the one description, made of the table in ``hub.counters``, the
supervisor's directory and ``hub.machine``. ``hub.exposition`` writes it as text; ``collect`` makes
prometheus_client's objects of it, for any registry.

A client is labelled by its slot alone; name, address and format are in one
``tuttihub_client_info`` to join with. Only ``tuttihub_client_condition`` has its name, too.
Who has left is not exported any more.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version as installed

import numpy as np
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from hub.auth.results import Login
from hub.conditions.watch import SLUGS
from hub.counters import CLOCK, JACK, LANE, NANO, RX, SLOT, TX, Row
from hub.directory import RESTART_REASONS, WORKERS, ClientInfo, Directory
from hub.door import Refusal
from hub.exposition import NO_LABELS, Family, Format, Labels, family, histogram, metrics, render
from hub.machine import Machine
from hub.matching import LOBBY
from hub.overload.info import OverloadInfo
from hub.overload.resources import REFUSALS
from hub.readiness import why_not_ready
from hub.snapshot import (
    FORMAT_FIELDS,
    buffered_frames,
    drift_known,
    known_rate,
    lanes_in_use,
    play_position,
)
from shared.arena import Arena, Records
from shared.layout import HISTOGRAM_EDGES_NS, EndReason, RxState

BOUNDS = [*(repr(edge / 1e9) for edge in HISTOGRAM_EDGES_NS.tolist()), "+Inf"]
"""Upper edges of all histograms in seconds, as their label 'le' has them."""
REFUSED = (*Refusal, "full", "no-socket", "no-port", "malformed", "crowded-out", "refused")
"""What a handshake may end with, but for 'welcomed'."""
_ONE = 2.0**32
"""RX.step of a frame a frame."""
PHASES = ("mail", "render", "paced")
"""A lane's work: reading its orders; rendering and sending; sending between ticks."""


@cache
def _build() -> Labels:
    from hub.version import version

    libraries = {name: installed(name) for name in ("numpy", "numba")}
    return Labels(version=version(), python=platform.python_version(), **libraries)


class Exporter(Collector):
    """All metrics of one hub.

    Args:
        arena: only read.
        directory: the supervisor's; only read, from the scraping thread.
        clock_ns: CLOCK_MONOTONIC, for ages.
        machine: what the kernel knows of the hub; nothing is told of that without it.
    """

    def __init__(
        self,
        arena: Arena,
        directory: Directory,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        machine: Machine | None = None,
    ) -> None:
        self._arena = arena
        self._directory = directory
        self._clock_ns = clock_ns
        self._machine = machine
        # one difference for good: a client's time of joining must not waver
        self._unix_s = time.time() - time.monotonic()
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
        if self._machine is not None:
            yield from self._machine.families(self._directory.hub, clients)
        yield from _section(CLOCK, arena.clock, [NO_LABELS])
        yield self._work(lanes)
        yield from _section(LANE, arena.lanes[lanes], by_lane)
        yield from _section(JACK, arena.jack, [NO_LABELS])
        rx = arena.rx[slots]
        yield from _section(RX, rx, by_slot)
        yield from _section(TX, arena.tx[slots], by_slot)
        yield from _section(SLOT, arena.slots[slots], by_slot)
        yield from self._client_families(clients, rx, by_slot)

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client's own objects."""
        return metrics(self.families())

    def render(self, form: Format = Format.TEXT) -> bytes:
        """As text."""
        return render(self.families(), form)

    def _labels_of(self, slot: int) -> Labels:
        labels = self._slot_labels[slot]
        if labels is None:
            labels = self._slot_labels[slot] = Labels(slot=str(slot))
        return labels

    def _hub_families(self, clients: Sequence[ClientInfo]) -> Iterator[Family]:
        """What the supervisor knows of itself."""
        hub, header = self._directory.hub, self._arena.header[0]
        why_not = why_not_ready(self._arena, hub, self._clock_ns())
        period_s = int(header["period_frames"]) / int(header["rate_hz"])
        info = Labels(
            version=hub.version,
            rate_hz=str(header["rate_hz"]),
            period_frames=str(header["period_frames"]),
            tcp_port=str(hub.tcp_port),
        )
        yield family("hub_info", "gauge", "Version and settings of the hub", [info], [1])
        yield family("build_info", "gauge", "What the hub is made of", [_build()], [1])
        options = [Labels(option=name, value=told) for name, told in hub.settings.items()]
        text = "What the hub was told, an option each; networks, sections and files left out"
        yield family("config_info", "gauge", text, options, [1] * len(options), ("option", "value"))
        patch = int(self._arena.control[0]["patch"])
        gauges = (
            ("start_time_seconds", "When the hub was started, Unix time", hub.started_s),
            ("ready", "1: clients are let in, and ticks advance", int(why_not is None)),
            (
                "load_ratio",
                "Work on a tick, in periods: 99th percentile of ten seconds, busiest process",
                hub.load_ratio,
            ),
            ("period_seconds", "Time between two ticks", period_s),
            ("patch_mode", "JackTrip's number of it", patch),
            ("clients", "Clients that hold a slot", len(clients)),
            ("clients_max", "Clients that may be connected", hub.max_clients),
            ("locked", "1: newcomers are not let in", int(hub.door.locked)),
            ("waiting_room", "1: newcomers wait to be admitted", int(hub.door.waiting_room)),
            ("bans", "Bans that stand", hub.door.bans),
        )
        counters = (
            ("sessions", "Clients that were given a port", hub.sessions_started),
            ("reconnects", "Clients that came back and were recognised", hub.reconnects),
            ("lobby_pauses", "Times that so much came there that it rested", hub.lobby_pauses),
            ("own_ports", "Clients that could not have the single port", hub.own_ports),
        )
        for name, text, gauge in gauges:
            yield family(name, "gauge", text, [NO_LABELS], [gauge])
        for name, text, count in counters:
            yield family(name, "counter", text, [NO_LABELS], [count])
        reasons = [reason for reason in EndReason if reason is not EndReason.NONE]
        yield _counted(
            "sessions_ended",
            "Clients that left, by reason",
            "reason",
            {reason.name.lower(): hub.sessions_ended.get(reason, 0) for reason in reasons},
        )
        pairs = [(worker, reason) for worker in WORKERS for reason in RESTART_REASONS]
        yield family(
            "worker_restarts",
            "counter",
            "Workers that had to be replaced, by kind and by how they ended",
            [Labels(worker=worker, reason=reason) for worker, reason in pairs],
            [hub.restarts[pair] for pair in pairs],
        )
        yield family(
            "hub_condition",
            "gauge",
            "Conditions of the hub as a whole that are raised",
            [Labels(condition=raised.condition.slug) for raised in hub.conditions],
            [1] * len(hub.conditions),
            ("condition",),
        )
        yield _counted(
            "conditions_raised",
            "Times that a condition was raised, of any client or the hub",
            "condition",
            {slug: hub.conditions_raised.get(slug, 0) for slug in SLUGS},
        )
        yield from _overload(hub.overload)
        yield _counted(
            "handshakes",
            "TCP connections, by what they ended with: a port, or why there was none",
            "result",
            {"welcomed": hub.welcomed, **dict.fromkeys(REFUSED, 0), **hub.hellos_refused},
        )
        yield _counted(
            "lobby_datagrams",
            "Datagrams that came to the single port and to no client's socket, by what they were",
            "result",
            {**dict.fromkeys(LOBBY, 0), **hub.lobby},
        )
        yield _counted(
            "logins",
            "Conversations about credentials, by result",
            "result",
            {**{login.value: 0 for login in Login}, **hub.logins},
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
                yield family(name, "gauge", text, [NO_LABELS], [value])

    def _work(self, lanes: Sequence[int]) -> Family:
        """Work by phase."""
        records, mix_s = self._arena.lanes, float(self._arena.clock[0]["mix_ns"]) * NANO
        labels, values = [Labels(lane="mixer", phase="mix")], [mix_s]
        for lane in lanes:
            record = records[lane]
            mail, paced = int(record["mail_ns"]), int(record["paced_ns"])
            times = (mail, max(int(record["work_ns"]) - mail - paced, 0), paced)
            labels += [Labels(lane=str(lane), phase=phase) for phase in PHASES]
            values += [ns * NANO for ns in times]
        text = "Work of the mixer (mix) and the lanes by phase; lane 0 is the mixer, sending"
        return family("work_phase_seconds", "counter", text, labels, values)

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
        text = "Who is in a slot: to join with"
        yield family("client_info", "gauge", text, infos, [1] * len(infos), tuple(_NO_ONE.pairs))
        yield _conditions(clients)
        restarts = [client.receiver_restarts for client in clients]
        text = "Receivers of the client that had to be replaced"
        yield family("client_receiver_restarts", "counter", text, by_slot, restarts)
        text = "Times that the client came back and was recognised"
        yield family(
            "client_reconnects", "counter", text, by_slot, [client.reconnects for client in clients]
        )
        text = "When the client came, Unix time"
        joined = [self._unix_s + client.joined_s for client in clients]
        yield family("client_joined_timestamp_seconds", "gauge", text, by_slot, joined)
        trips = [
            (labels, client.round_trip_s)
            for labels, client in zip(by_slot, clients, strict=True)
            if client.round_trip_s is not None
        ]
        yield family(
            "client_handshake_round_trip_seconds",
            "gauge",
            "To the client and back over TCP, when it came",
            [labels for labels, _ in trips],
            [seconds for _, seconds in trips],
            ("slot",),
        )
        ages = [now_ns / 1e9 - client.joined_s for client in clients]
        text = "Since the client came"
        yield family("client_connected_seconds", "gauge", text, by_slot, ages)

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
            (
                "client_resampler_ratio",
                "Frames of the client's read for one of the hub's, over what their rates say, "
                "beyond 1",
                active,
                (rx["step"] - rx["nominal_step"]) / (_ONE + rx["nominal_step"]),
            ),
        ):
            labels = [by_slot[k] for k in np.flatnonzero(where).tolist()]
            yield family(name, "gauge", text, labels, _finite(values[where].tolist()), ("slot",))


def _overload(info: OverloadInfo) -> Iterator[Family]:
    """How busy the hub is, by resource, what newcomers are refused for, what is left out."""
    text = "Share of a resource that counts for --admit-load: the middle one of five seconds"
    labels = [Labels(resource=name) for name in info.used]
    yield family("admission_used_ratio", "gauge", text, labels, list(info.used.values()))
    for name, text, limit in (
        ("admission_limit_ratio", "Share from which on newcomers are refused", info.limit),
        ("shedding_limit_ratio", "Share from which on something is left out", info.shed_limit),
    ):
        if limit is not None:
            yield family(name, "gauge", text, [NO_LABELS], [limit])
    text = "1: newcomers are refused for that"
    labels = [Labels(reason=reason) for reason in REFUSALS.values()]
    shut = [int(reason in info.refuses) for reason in REFUSALS.values()]
    yield family("admission_shut", "gauge", text, labels, shut)
    steps = [Labels(step=name) for name in info.shed_times]
    text = "1: left out, since the hub has too much to do"
    now = [int(name in info.sheds) for name in info.shed_times]
    yield family("shed", "gauge", text, steps, now, ("step",))
    if info.realtime_limit is not None:
        text = "Share of a core that the kernel lets real-time processes have; none: all of it"
        yield family("realtime_limit_ratio", "gauge", text, [NO_LABELS], [info.realtime_limit])
        text = "Of that, what the hub's processes used of their busiest core in the last second"
        yield family("realtime_used_ratio", "gauge", text, [NO_LABELS], [info.realtime_used])
        text = "Seconds in which the kernel has paused them for the rest, and ticks were missed"
        paused = [info.realtime_paused]
        yield family("realtime_paused_seconds", "counter", text, [NO_LABELS], paused)
    text = "Times that it came to that"
    yield family("sheddings", "counter", text, steps, list(info.shed_times.values()), ("step",))


def _conditions(clients: Sequence[ClientInfo]) -> Family:
    """What is raised, and nothing else: an alarm needs no join."""
    labels = [
        Labels(slot=str(client.slot), client=client.name, condition=raised.condition.slug)
        for client in clients
        for raised in client.conditions
    ]
    text = "Conditions of clients that are raised (docs/troubles.md)"
    names = ("slot", "client", "condition")
    return family("client_condition", "gauge", text, labels, [1] * len(labels), names)


def _counted(name: str, text: str, label: str, counts: dict[str, int]) -> Family:
    """A counter by one label."""
    labels = [Labels(**{label: value}) for value in counts]
    return family(name, "counter", text, labels, list(counts.values()))


def _section(rows: Sequence[Row], records: Records, labels: Sequence[Labels]) -> Iterator[Family]:
    """The rows of one section of the arena; record i has labels i."""
    for row in rows:
        values = records[row.field]
        if row.kind == "histogram":
            upto = np.cumsum(values, axis=1).tolist()
            sums = (records[row.total] * row.scale).tolist()
            yield histogram(row.name, row.help, labels, BOUNDS, upto, sums)
            continue
        if row.scale != 1.0:
            values = values * row.scale
        each = labels
        if row.by is not None:
            each = [one for label in labels for one in label.spread(*row.by)]
        yield family(row.name, row.kind, row.help, each, _finite(values.ravel().tolist()))


def _finite(values: list[float]) -> list[float]:
    """Python's 'nan' and 'inf' are not how Prometheus spells them, and tell nobody anything."""
    return [value if math.isfinite(value) else 0.0 for value in values]


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


_NO_ONE = _client_labels(ClientInfo(0, 0, "", "", 0, 0.0), {})
