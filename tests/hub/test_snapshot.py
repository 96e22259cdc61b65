"""The status of a hub, from an arena filled with numbers."""

from __future__ import annotations

import json
import math
from ipaddress import ip_address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.addresses import address_words
from hub.counters import NO_METRICS, SECTIONS, counter_fields
from hub.directory import ClientInfo
from hub.snapshot import client_status, histogram_summary, hub_status
from shared.arena import Arena
from shared.layout import HISTOGRAM_BUCKETS, HISTOGRAM_EDGES_NS, EndReason, PatchMode, RxState
from tests.hub.listening import directory, make_arena, seat

NOW_NS = 50_000_000_000
ANNA = ClientInfo(
    slot=2,
    session=9,
    name="Anna",
    address="192.0.2.1",
    port=61004,
    joined_s=20.0,
    receiver_pid=77,
    receiver_restarts=1,
    gain=0.5,
)


@pytest.fixture
def arena() -> Arena:
    return make_arena()


def test_client_as_it_plays(arena: Arena) -> None:
    seat(
        arena, 2, 9,
        redundancy=2, wants=1, depth_frames=512, base_sequence=100, base_position=12_800,
        highest=103, valid_ns=NOW_NS - 2_500_000, peak=1.0, rms=0.1, lost=4, late=1,
        margin_frames=240, late_wanted=96.0, bridged=5, glided_frames=6, grown_frames=7, moves=8,
        engaged=9,
    )  # fmt: skip
    arena.slots[2]["queue_packets"] = 4
    arena.clock[0]["tick"] = 99  # sample 12,800 is mixed next
    arena.tx[2]["peak"] = 0.5
    arena.tx[2]["packets"] = 17
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["state"] == "active"
    assert (client["slot"], client["name"], client["port"]) == (2, "Anna", 61004)
    assert client["peer_port"] == 50002
    assert client["format"] == {
        "rate_hz": 48000, "frames": 128, "bits": 16, "channels": 2, "wants": 1, "redundancy": 2,
    }  # fmt: skip
    assert client["queue"] == {
        "order": "4", "packets": 4, "target_frames": 512, "frames": 4 * 128,
        "target_s": 0.010667, "actual_s": 0.010667, "margin_s": 0.005,
        "lateness_s": 0.002,
    }  # fmt: skip
    assert client["clock"] == {"drift_ppm": None, "error_ppm": None, "resampling": False}
    assert client["input"] == {"peak_db": 0.0, "rms_db": -20.0}
    assert client["output"] == {"peak_db": -6.02, "rms_db": None}
    assert (client["gain_db"], client["muted"], client["overrides"]) == (-6.02, False, [])
    assert client["last_packet_age_s"] == 0.0025
    assert client["connected_s"] == 30.0
    assert (client["receiver_pid"], client["receiver_restarts"]) == (77, 1)
    assert (client["received"]["lost"], client["received"]["late"]) == (4, 1)
    received = client["received"]
    counts = ("bridged", "glided_frames", "grown_frames", "moves", "engaged")
    assert [received[name] for name in counts] == [5, 6, 7, 8, 9]
    assert client["sent"]["packets"] == 17


def test_automatic_queue(arena: Arena) -> None:
    seat(arena, 2, 9)
    arena.slots[2]["headroom_ns"] = 5_000_000
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert (client["queue"]["order"], client["queue"]["packets"]) == ("auto5", None)


def test_queue_of_a_client_whose_line_has_drifted_off_the_hubs_timeline(arena: Arena) -> None:
    arena.clock[0]["tick"] = 99  # hub sample 12,800 is mixed next
    seat(
        arena, 2, 9,
        base_sequence=100, base_position=7000, highest=103,  # its line ends at 7512
        watermark=13_000, read_frame=7400,  # which is hub sample 13,000
    )  # fmt: skip
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["queue"]["frames"] == 13_000 - 12_800 + 7512 - 7400


@pytest.mark.parametrize(
    ("sigma", "drift_ppm"), [(0.0, None), (-1.0, None), (math.nan, None), (math.inf, None),
                             (1e-3, None), (0.5e-6, -41.5)],
)  # fmt: skip
def test_drift_is_told_as_soon_as_it_is_known(
    arena: Arena, sigma: float, drift_ppm: float | None
) -> None:
    seat(arena, 2, 9, clock_ratio=-41.5e-6, clock_sigma=sigma, resampling=1)
    (client,) = client_status(arena, [ANNA], NOW_NS)
    error_ppm = None if drift_ppm is None else 0.5
    assert client["clock"] == {
        "drift_ppm": drift_ppm, "error_ppm": error_ppm, "resampling": True,
    }  # fmt: skip


def test_client_whose_first_datagram_is_awaited_shows_nothing_of_its_predecessor(
    arena: Arena,
) -> None:
    seat(arena, 2, 8, lost=1000, valid_ns=NOW_NS, peak=1.0)
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["state"] == "waiting"
    for key in ("peer_port", "format", "queue", "clock", "last_packet_age_s", "jitter_us"):
        assert client[key] is None
    assert not any(client["received"].values())
    assert client["input"] == {"peak_db": None, "rms_db": None}


def test_levels_of_a_client_that_fell_silent_are_unknown(arena: Arena) -> None:
    seat(arena, 2, 9, valid_ns=NOW_NS - 600_000_000, peak=1.0, rms=1.0)
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["input"] == {"peak_db": None, "rms_db": None}


@pytest.mark.parametrize("state", list(RxState))
def test_every_state_has_a_word(arena: Arena, state: RxState) -> None:
    seat(arena, 2, 9, state=state)
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["state"] == state.name.lower()


def test_overrides_are_those_of_the_listeners_row(arena: Arena) -> None:
    seat(arena, 2, 9)
    arena.pair[2] = math.nan
    arena.pair[2, 5] = 2.0
    arena.pair[2, 6] = 0.0
    arena.pair_pan[2, 3] = 2 - 0.4
    arena.slots[2]["overrides"] = 2
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["overrides"] == [
        {"source": 3, "gain_db": "patch", "pan": -40.0},
        {"source": 5, "gain_db": 6.02, "pan": None},
        {"source": 6, "gain_db": None, "pan": None},
    ]


def test_queue_of_a_client_of_another_rate_is_in_frames_of_the_hub(arena: Arena) -> None:
    arena.clock[0]["tick"] = 99
    seat(
        arena, 2, 9,
        frames=256, rate_hz=96000, span=128.0,
        base_sequence=100, base_position=7000, highest=103,  # its line ends at 8024
        watermark=13_000, read_frame=7400,
    )  # fmt: skip
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["queue"]["frames"] == 13_000 - 12_800 + (8024 - 7400) // 2
    assert client["format"]["rate_hz"] == 96000


def test_undefined_rate_is_unknown(arena: Arena) -> None:
    seat(arena, 2, 9, rate_code=7, rate_hz=0)
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["format"]["rate_hz"] is None


def test_hub_of_several_lanes(arena: Arena) -> None:
    arena = make_arena(lanes=2)
    arena.control[0]["patch"] = PatchMode.FAN_OUT_NO_SELF
    clock = arena.clock[0]
    clock["ticks"], clock["missed"], clock["lateness_max_ns"] = 1000, 3, 1_500_000
    clock["work_ns"] = 1000 * 266_667  # a tenth of a period of 128/48000 s
    clock["lateness"][0], clock["lateness"][1] = 990, 10
    arena.lanes[1]["listeners"], arena.lanes[2]["missed"] = 40, 2
    known = directory(ANNA)
    known.hub.lane_pids = [501, None]
    known.hub.queue = "auto5"
    known.hub.sessions_ended = {EndReason.CLIENT_EXIT: 2}
    known.hub.hellos_refused = {"full": 1}

    state = hub_status(arena, known, NOW_NS, known.hub.started_s + 12.5)

    hub = state["hub"]
    assert state["v"] == 1
    assert (hub["patch"], hub["uptime_s"], hub["udp_ports"]) == (
        "fan-out-no-self",
        12.5,
        [61002, 61009],
    )
    assert (hub["clients"], hub["clients_active"]) == (1, 0)
    assert hub["mixer"]["load_ratio"] == 0.1
    assert (hub["mixer"]["ticks"], hub["mixer"]["missed"]) == (1000, 3)
    assert hub["mixer"]["lateness_us"]["p99"] == 25.0
    assert hub["mixer"]["lateness_us"]["max"] == 1500.0
    assert [(lane["lane"], lane["pid"], lane["listeners"]) for lane in hub["lanes"]] == [
        (1, 501, 40),
        (2, None, 0),
    ]
    assert (hub["queue"], hub["underrun"], hub["drift"]) == ("auto5", "burg", "auto")
    assert hub["match_clients"] is False
    assert hub["sessions"]["ended"] == {"client-exit": 2}
    assert hub["hellos_refused"] == {"full": 1}


def test_inline_lane_is_the_mixers(arena: Arena) -> None:
    (lane,) = hub_status(arena, directory(), NOW_NS, 0.0)["hub"]["lanes"]
    assert (lane["lane"], lane["pid"]) == (0, 4400)


def test_status_of_an_arena_full_of_odd_numbers_is_json(arena: Arena) -> None:
    seat(arena, 2, 9)
    for section in SECTIONS:
        records = getattr(arena, section)
        for name in records.dtype.names:
            if name not in ("state", "session", "sockaddr", "jack_name"):
                records[name] = -1
    text = json.dumps(hub_status(arena, directory(ANNA), NOW_NS, 0.0), allow_nan=False)
    assert json.loads(text)["clients"][0]["slot"] == 2


@given(st.lists(st.integers(0, 50), min_size=HISTOGRAM_BUCKETS, max_size=HISTOGRAM_BUCKETS))
def test_percentiles_lie_within_the_bucket_that_holds_them(buckets: list[int]) -> None:
    summary = histogram_summary(buckets, total_ns=0)
    values = np.repeat(np.arange(HISTOGRAM_BUCKETS), buckets)
    if not len(values):
        assert set(summary.values()) == {None}
        return
    edges_us = [0.0, *(HISTOGRAM_EDGES_NS / 1000), HISTOGRAM_EDGES_NS[-1] / 1000]
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
        k = values[max(0, math.ceil(share * len(values)) - 1)]
        value = summary[name]
        assert value is not None
        assert edges_us[k] - 0.1 <= value <= edges_us[k + 1] + 0.1


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_of_the_arena_is_a_metric_or_none_on_purpose(section: str) -> None:
    """A new counter is one line in hub/counters.py; this says where it was forgotten."""
    fields = set(getattr(make_arena(), section).dtype.names)
    rows = SECTIONS[section]
    shown = {row.field for row in rows} | {row.total for row in rows if row.total}
    assert shown | NO_METRICS[section] == fields
    assert not shown & NO_METRICS[section]


def test_counters_of_a_client_are_all_shown(arena: Arena) -> None:
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert list(client["received"]) == counter_fields("rx")
    assert list(client["sent"]) == counter_fields("tx")


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::7"])
def test_what_comes_in_a_clients_place_is_told_with_its_source(arena: Arena, address: str) -> None:
    seat(arena, 2, 9, state=RxState.WAITING, frames=0)
    assert client_status(arena, [ANNA], NOW_NS)[0]["foreign"] is None
    high, low = address_words(ip_address(address))
    seat(
        arena, 2, 9, state=RxState.WAITING, foreign=375, foreign_high=high, foreign_low=low,
        foreign_port=4464,
    )  # fmt: skip
    (client,) = client_status(arena, [ANNA], NOW_NS)
    assert client["foreign"] == {"datagrams": 375, "address": address, "port": 4464}
