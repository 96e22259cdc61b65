"""The state of a hub at a moment, as ``tuttihub status --json`` prints it.

The supervisor keeps a ``Directory`` of what only it knows;
everything that happens to audio is read from the arena. Nothing here changes anything,
and nobody is asked to stop: numbers of one snapshot may be some microseconds apart.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict
from enum import IntEnum
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from hub.addresses import address_of_words
from hub.counters import counter_fields
from hub.directory import ClientInfo, Departure, Directory, HubInfo
from hub.values import Queue, patch_name
from shared.arena import Arena, Records
from shared.layout import (
    HISTOGRAM_EDGES_NS,
    MAX_LANES,
    DriftMode,
    GuardMode,
    JackState,
    PatchMode,
    RxState,
    Shed,
    Underrun,
)
from shared.limits import Noticed

VERSION = 1
"""Of the status's structure; raised when a key changes its meaning or goes."""
FORMAT_FIELDS = ("rate_hz", "frames", "bits", "channels", "wants", "redundancy")
DRIFT_KNOWN = 20e-6
"""A drift with a greater standard error is not worth telling."""
LEVEL_STALE_S = 0.5
"""Levels are of the last tenth of a second with packets: without packets they say nothing."""


def hub_status(
    arena: Arena,
    directory: Directory,
    now_ns: int,
    now_s: float,
    clients: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The whole state, made of JSON's types only.

    Args:
        now_ns: CLOCK_MONOTONIC.
        now_s: CLOCK_REALTIME in seconds.
        clients: of ``client_status``, if that was asked before.
    """
    if clients is None:
        clients = client_status(arena, directory.listed(), now_ns)
    hub = _hub(arena, directory, now_ns, now_s, clients)
    return {"v": VERSION, "hub": hub, "clients": clients}


def _hub(
    arena: Arena,
    directory: Directory,
    now_ns: int,
    now_s: float,
    clients: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    info, header, clock = directory.hub, arena.header[0], arena.clock[0]
    patch = PatchMode(int(arena.control[0]["patch"]))
    rate_hz, period = int(header["rate_hz"]), int(header["period_frames"])
    period_ns = period * 1e9 / rate_hz
    ticks = max(int(clock["ticks"]), 1)
    return {
        "version": info.version,
        "pid": info.pid,
        "started_s": info.started_s,
        "uptime_s": round(max(0.0, now_s - info.started_s), 3),
        "tcp_port": info.tcp_port,
        "single_port": info.single_port,
        "udp_ports": [info.udp_base, info.udp_base + info.max_clients - 1],
        "metrics": info.metrics,
        "control": info.control,
        "rate_hz": rate_hz,
        "period_frames": period,
        "patch": patch_name(patch),
        "master": float(arena.control[0]["master"]),
        "upmix": bool(header["upmix"]),
        "mono_centre": bool(header["mono_centre"]),
        "downmix_db": _db(float(header["downmix"]), True),
        "limiter": bool(arena.control[0]["limiter"]),
        "guard": _word(GuardMode(int(header["level_guard"]))),
        "queue": info.queue,
        "underrun": _word(Underrun(int(header["underrun"]))),
        "drift": _word(DriftMode(int(header["drift"]))),
        "match_clients": bool(header["match_clients"]),
        "pacing": bool(header["pacing"]),
        "max_clients": info.max_clients,
        "clients": len(clients),
        "clients_active": sum(client["state"] == "active" for client in clients),
        "sessions": {
            "started": info.sessions_started,
            "ended": {_word(reason): n for reason, n in list(info.sessions_ended.items())},
        },
        "hellos_refused": dict(info.hellos_refused),
        "auth": {
            "required": info.accounts is not None,
            "accounts": info.accounts,
            "certificate_expiry_s": info.certificate_expiry_s,
            "logins": dict(info.logins),
        },
        "conditions": [raised.described(now_ns / 1e9) for raised in info.conditions],
        "turned_away": info.turned_away.listed(now_ns / 1e9),
        "departures": [_departure(gone, now_ns / 1e9) for gone in list(info.departures)],
        "overload": {
            **asdict(info.overload),
            "refuses": list(info.overload.refuses),
            "sheds": list(info.overload.sheds),
            "dropped": info.clients_dropped,
        },
        "door": {**asdict(info.door), "held": sum(client["held"] for client in clients)},
        "mixer": {
            "pid": info.mixer_pid,
            "restarts": info.mixer_restarts,
            "tick": int(clock["tick"]),
            **{name: int(clock[name]) for name in counter_fields("clock")},
            "sources": int(clock["sources"]),
            "load_ratio": round(float(clock["work_ns"]) / ticks / period_ns, 4),
            "work_us": histogram_summary(clock["work"], int(clock["work_ns"])),
            "lateness_us": {
                **histogram_summary(clock["lateness"], int(clock["lateness_ns"])),
                "max": round(int(clock["lateness_max_ns"]) / 1000, 1),
            },
        },
        "lanes": [_lane(arena, info, lane, period_ns) for lane in lanes_in_use(arena)],
        "lane_restarts": info.lane_restarts,
        "jack": _jack(arena, info) if header["jack"] else None,
        "zygote": {"pid": info.zygote_pid, "restarts": info.zygote_restarts},
        "realtime_refused": list(info.refused),
    }


def _jack(arena: Arena, info: HubInfo) -> dict[str, Any]:
    """The local JACK graph, as its bridge and the mixer have told."""
    jack, header = arena.jack[0], arena.header[0]
    known = jack["state"] in (JackState.RUNNING, JackState.MISFIT, JackState.FREEWHEEL)
    periods_per_ns = int(header["rate_hz"]) / (1e9 * int(header["period_frames"]))
    return {
        "state": _word(JackState(int(jack["state"]))),
        "clock": "jack" if jack["coupled"] else "own",
        "pid": info.bridge_pid,
        "server": info.settings.get("jack-server"),
        "rate_hz": int(jack["rate_hz"]) if known else None,
        "period_frames": int(jack["period_frames"]) if known else None,
        **{name: int(jack[name]) for name in ("clients", "ports", "left_out", "behind")},
        "graph_ratio": round(int(jack["graph_ns"]) * periods_per_ns, 4),
        **{name: int(jack[name]) for name in counter_fields("jack")},
    }


def _departure(gone: Departure, now_s: float) -> dict[str, Any]:
    return {
        "slot": gone.slot,
        "name": gone.name,
        "address": gone.address,
        "ago_s": round(max(0.0, now_s - gone.left_s), 1),
        "reason": _word(gone.reason),
        "conditions": list(gone.conditions),
    }


def lanes_in_use(arena: Arena) -> list[int]:
    """Numbers of the lanes that send: 0 is the mixer, 1.. are processes of their own."""
    separate = min(int(arena.header[0]["lanes"]), MAX_LANES)
    return list(range(1, separate + 1)) if separate else [0]


def _lane(arena: Arena, info: HubInfo, lane: int, period_ns: float) -> dict[str, Any]:
    record = arena.lanes[lane]
    pids = [info.mixer_pid, *info.lane_pids]
    ticks = max(int(record["ticks"]), 1)
    return {
        "lane": lane,
        "pid": pids[lane] if lane < len(pids) else None,
        "ticks": int(record["ticks"]),
        "missed": int(record["missed"]),
        "listeners": int(record["listeners"]),
        "load_ratio": round(float(record["work_ns"]) / ticks / period_ns, 4),
        "work_us": histogram_summary(record["work"], int(record["work_ns"])),
        "paced": int(record["paced"]),
        "send_delay_us": round(float(record["sent_ns"]) / ticks / 1000, 1),
    }


def client_status(arena: Arena, clients: Sequence[ClientInfo], now_ns: int) -> list[dict[str, Any]]:
    """One dict a client, in the order given."""
    slots = [client.slot for client in clients]
    play = play_position(arena)
    rows = zip(
        clients,
        _rows(arena.rx, slots),
        _rows(arena.tx, slots),
        _rows(arena.slots, slots),
        strict=True,
    )
    return [_client(arena, client, rx, tx, slot, play, now_ns) for client, rx, tx, slot in rows]


def _rows(records: Records, slots: list[int]) -> list[dict[str, Any]]:
    """Records of these slots as dicts of Python's own numbers."""
    names = records.dtype.names or ()
    return [dict(zip(names, row, strict=True)) for row in records[slots].tolist()]


def _client(
    arena: Arena,
    client: ClientInfo,
    rx: dict[str, Any],
    tx: dict[str, Any],
    slot: dict[str, Any],
    play: int,
    now_ns: int,
) -> dict[str, Any]:
    begun = rx["session"] == client.session
    state = RxState(rx["state"]) if begun else RxState.WAITING
    known = begun and rx["frames"] > 0
    age_s = (now_ns - rx["valid_ns"]) / 1e9 if begun and rx["valid_ns"] else None
    metered = not int(arena.control[0]["shed"]) & Shed.METERS
    heard = metered and age_s is not None and age_s < LEVEL_STALE_S
    sent_to = tx["session"] == client.session
    told = metered and sent_to
    rate_hz = int(arena.header[0]["rate_hz"])
    return {
        "slot": client.slot,
        "session": client.session,
        "name": client.name,
        "account": client.account or None,
        "address": client.address,
        "port": client.port,
        "peer_port": rx["peer_port"] if known else None,
        "state": _word(state),
        "conditions": [raised.described(now_ns / 1e9) for raised in client.conditions],
        "foreign": _foreign(rx) if begun and rx["foreign"] else None,
        "connected_s": round(max(0.0, now_ns / 1e9 - client.joined_s), 3),
        "format": _format(rx) if known else None,
        "queue": _queue(rx, slot, play, rate_hz) if known else None,
        "clock": _clock(rx) if known else None,
        "input": {"peak_db": _db(rx["peak"], heard), "rms_db": _db(rx["rms"], heard)},
        "output": {"peak_db": _db(tx["peak"], told), "rms_db": _db(tx["rms"], told)},
        "safety": _safety(rx if begun else {}),
        "gain_db": _db(client.gain, True),
        "muted": client.muted,
        "held": bool(slot["held"]),
        "pan": client.pan,
        "limiter": _LIMITED.get(slot["limited"]),
        "underrun": _FILLINGS.get(slot["underrun"]),
        "overrides": _overrides(arena, client.slot),
        "last_packet_age_s": None if age_s is None else round(max(0.0, age_s), 4),
        "receiver_pid": client.receiver_pid,
        "receiver_restarts": client.receiver_restarts,
        "received": {name: rx[name] if begun else 0 for name in counter_fields("rx")},
        "jitter_us": histogram_summary(rx["jitter"], rx["jitter_ns"]) if begun else None,
        "sent": {name: tx[name] if sent_to else 0 for name in counter_fields("tx")},
    }


_LIMITED = {1: True, 2: False}
_FILLINGS = {1 + underrun.value: underrun.name.lower() for underrun in Underrun}
_NOTICED = {noticed.value: noticed.name.lower() for noticed in Noticed}


def _safety(rx: dict[str, Any]) -> dict[str, Any]:
    """What the hub does to protect the others from what a client sends."""
    return {
        "garbage": bool(rx.get("garbage")),
        "offset_channels": rx.get("offsets", 0),
        "guard": _NOTICED.get(rx.get("guard", 0)),
        "cut_db": _db(1.0 - rx.get("cut", 0.0), True),
    }


def _foreign(rx: dict[str, Any]) -> dict[str, Any]:
    """What comes to a client's port from elsewhere, and from where the last of it."""
    return {
        "datagrams": rx["foreign"],
        "address": str(address_of_words(rx["foreign_high"], rx["foreign_low"])),
        "port": rx["foreign_port"],
    }


def _queue(rx: dict[str, Any], slot: dict[str, Any], play: int, rate_hz: int) -> dict[str, Any]:
    """What is wanted of a client's queue, and what it is.

    Margin: how late a packet may be and still be in time. Lateness: how late they are, but
    for the rarest.
    """
    order = Queue.of(slot["queue_packets"], slot["headroom_ns"])
    frames = int(buffered_frames(rx, play)) if rx["state"] == RxState.ACTIVE else 0
    return {
        "order": str(order),
        "packets": order.packets or None,
        "target_frames": rx["depth_frames"],
        "frames": frames,
        "target_s": _seconds(rx["depth_frames"], rate_hz),
        "actual_s": _seconds(frames, rate_hz),
        "margin_s": _seconds(rx["margin_frames"], rate_hz),
        "lateness_s": _seconds(rx["late_wanted"], rate_hz),
    }


def _seconds(frames: float, rate_hz: int) -> float:
    return round(frames / rate_hz, 6)


def _clock(rx: dict[str, Any]) -> dict[str, Any]:
    """How a client's clock runs beside the hub's; positive: it is the faster one."""
    known = bool(drift_known(rx))
    return {
        "drift_ppm": round(1e6 * rx["clock_ratio"], 2) if known else None,
        "error_ppm": round(1e6 * rx["clock_sigma"], 2) if known else None,
        "resampling": bool(rx["resampling"]),
    }


def drift_known(rx: Any) -> Any:
    """Whether a client's drift has been found out; rx as in ``buffered_frames``."""
    return (rx["clock_sigma"] > 0.0) & (rx["clock_sigma"] <= DRIFT_KNOWN)


def play_position(arena: Arena) -> int:
    """The hub sample that is mixed next."""
    return (int(arena.clock[0]["tick"]) + 1) * int(arena.header[0]["period_frames"])


BUFFER_FIELDS = (
    "base_position", "base_sequence", "highest", "frames", "read_frame", "span", "watermark",
)  # fmt: skip
"""Of an RX record, that ``buffered_frames`` needs."""


def buffered_frames(rx: Any, play: int) -> Any:
    """Hub frames between what is mixed next and the end of the newest packet.

    Args:
        rx: one RX record as a dict of numbers, or an array of them.

    Returns:
        A number, or an array of them; negative while a client is behind.
    """
    end = rx["base_position"] + (rx["highest"] - rx["base_sequence"] + 1) * rx["frames"]
    # the client's line is in its own frames: what is to be played of it lasts so many of the hub's
    queued = (end - rx["read_frame"]) * rx["span"] / np.maximum(rx["frames"], 1)
    return (queued + rx["watermark"] - play).astype(np.int64)


def _format(rx: dict[str, Any]) -> dict[str, Any]:
    """What a client sends and wants; its sample rate is None as long as that is not known."""
    values = {name: rx[name] for name in FORMAT_FIELDS}
    return values | {"rate_hz": known_rate(rx)}


def known_rate(rx: dict[str, Any]) -> int | None:
    """A client's sample rate in Hz; None as long as it is being measured."""
    return rx["rate_hz"] if rx["rate_hz"] > 0 else None


def told_row(
    arena: Arena, listener: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(S,) levels and places of all sources that are written for a listener, as ``pair`` and
    ``pair_pan`` have them: those of its monitor mix, and its own."""
    slot = arena.slots[listener]
    levels = np.full(len(arena.slots), np.nan, np.float32)
    pans = np.zeros(len(arena.slots), np.float32)
    if slot["monitor"]:
        levels[:] = arena.monitor_pair[slot["monitor"]]
        pans[:] = arena.monitor_pan[slot["monitor"]]
    if slot["overrides"]:
        own = ~np.isnan(arena.pair[listener]) | (arena.pair_pan[listener] != 0)
        levels[own], pans[own] = arena.pair[listener][own], arena.pair_pan[listener][own]
    return levels, np.maximum(pans, 0)


def _overrides(arena: Arena, listener: int) -> list[dict[str, Any]]:
    """Sources that this listener hears at a level or a place of their own."""
    if not (arena.slots[listener]["overrides"] or arena.slots[listener]["monitor"]):
        return []
    row, pans = told_row(arena, listener)
    return [
        {
            "source": int(source),
            "gain_db": "patch" if np.isnan(row[source]) else _db(float(row[source]), True),
            "pan": round((float(pans[source]) - 2) * 100, 3) if pans[source] else None,
        }
        for source in np.flatnonzero(~np.isnan(row) | (pans != 0))
    ]


def _db(level: float, known: bool) -> float | None:
    """Linear to dB; None for silence and for what is not known (JSON has no −∞)."""
    return round(20.0 * math.log10(level), 2) if known and level > 0.0 else None


def _word(value: IntEnum) -> str:
    return value.name.lower().replace("_", "-")


def histogram_summary(
    buckets: npt.NDArray[np.int64] | Sequence[int], total_ns: int
) -> dict[str, float | None]:
    """Mean and percentiles in µs of a histogram with the arena's edges; None when empty."""
    # a dozen numbers, many hundred times: numpy would take five times as long
    counts = [max(0, int(count)) for count in buckets]
    upto = list(accumulate(counts))
    count = upto[-1]
    if not count:
        return {"mean": None, "p50": None, "p99": None, "p999": None}
    return {
        "mean": round(total_ns / count / 1000, 1),
        **{
            name: round(_quantile_ns(counts, upto, share) / 1000, 1)
            for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
        },
    }


def quantile_ns(counts: Sequence[float], share: float) -> float:
    """Time within which such a share of a histogram is: linear within its bucket.

    Of the last, open bucket only the lower edge is known.
    """
    return _quantile_ns(counts, list(accumulate(counts)), share)


_EDGES_NS = (0.0, *HISTOGRAM_EDGES_NS.tolist(), float(HISTOGRAM_EDGES_NS[-1]))


def _quantile_ns(counts: Sequence[float], upto: Sequence[float], share: float) -> float:
    wanted = share * upto[-1]
    k = bisect_left(upto, wanted)
    below = upto[k] - counts[k]
    return float(_EDGES_NS[k] + (_EDGES_NS[k + 1] - _EDGES_NS[k]) * (wanted - below) / counts[k])
