"""The exposition: read back with prometheus_client's own parser."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from hub.conditions.watch import SLUGS
from hub.counters import PREFIX, SECTIONS
from hub.directory import ClientInfo, Directory
from hub.exposition import Format
from hub.metrics import Exporter
from shared.arena import Arena
from shared.layout import HISTOGRAM_BUCKETS, HISTOGRAM_EDGES_NS, EndReason, RxState
from tests.hub.listening import directory, make_arena, raised, seat

NOW_NS = 50_000_000_000
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def client(slot: int, name: str = "Anna") -> ClientInfo:
    return ClientInfo(slot, slot + 100, name, "192.0.2.1", 61002 + slot, joined_s=20.0)


@pytest.fixture
def known() -> Directory:
    return directory(client(2), client(5, 'Bö\\b "the\nbass"'))


@pytest.fixture
def arena() -> Arena:
    """Every field of every record holds a number of its own."""
    arena = make_arena(lanes=2)
    number = 1000
    for section, rows in SECTIONS.items():
        records = getattr(arena, section)
        for row in rows:
            for name in filter(None, (row.field, row.total)):
                shape = records[name].shape
                records[name] = number + np.arange(np.prod(shape)).reshape(shape)
                number += 1000
    for slot in (2, 5):
        seat(arena, slot, slot + 100, valid_ns=NOW_NS - 1_000_000_000)
    return arena


def families(exporter: Exporter) -> list[Metric]:
    return list(text_string_to_metric_families(exporter.render().decode()))


def samples(found: Iterable[Metric]) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in found
        for sample in family.samples
    }


def scrape(arena: Arena, known: Directory) -> Samples:
    return samples(families(Exporter(arena, known, lambda: NOW_NS)))


def test_render_says_what_the_library_says(arena: Arena, known: Directory) -> None:
    exporter = Exporter(arena, known, lambda: NOW_NS)
    registry = CollectorRegistry()
    registry.register(exporter)
    by_library = list(text_string_to_metric_families(generate_latest(registry).decode()))
    ours = families(exporter)
    assert [(f.name, f.type, f.documentation) for f in ours] == [
        (f.name, f.type, f.documentation) for f in by_library
    ]
    assert samples(ours) == samples(by_library)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_counter_of_the_arena_is_exported(
    section: str, arena: Arena, known: Directory
) -> None:
    found = scrape(arena, known)
    records = getattr(arena, section)
    places: dict[str, list[tuple[int, tuple[tuple[str, str], ...]]]] = {
        "clock": [(0, ())],
        "jack": [(0, ())],
        "lanes": [(lane, (("lane", str(lane)),)) for lane in (1, 2)],
    }
    where = places.get(section, [(slot, (("slot", str(slot)),)) for slot in (2, 5)])
    for row in SECTIONS[section]:
        for index, labels in where:
            name = PREFIX + row.name
            value = records[row.field][index]
            if row.by is not None:
                for word, entry in zip(row.by[1], value.tolist(), strict=True):
                    by = tuple(sorted((*labels, (row.by[0], word))))
                    assert found[f"{name}_total", by] == entry
                continue
            match row.kind:
                case "counter":
                    assert found[f"{name}_total", labels] == pytest.approx(value * row.scale)
                case "gauge":
                    assert found[name, labels] == pytest.approx(value * row.scale)
                case "histogram":
                    total = records[row.total][index] * row.scale
                    assert found[f"{name}_sum", labels] == pytest.approx(total)
                    assert found[f"{name}_count", labels] == value.sum()
                    for k in range(HISTOGRAM_BUCKETS):
                        edge = str(HISTOGRAM_EDGES_NS[k] / 1e9) if k < 13 else "+Inf"
                        le = tuple(sorted((*labels, ("le", edge))))
                        assert found[f"{name}_bucket", le] == value[: k + 1].sum()


def test_openmetrics_says_the_same(arena: Arena, known: Directory) -> None:
    exporter = Exporter(arena, known, lambda: NOW_NS)
    text = exporter.render(Format.OPENMETRICS).decode()
    found = list(openmetrics.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert text.endswith("# EOF\n")
    ours = families(exporter)
    assert [(f.name, f.type, f.documentation) for f in found] == [
        (f.name, f.type, f.documentation) for f in ours
    ]
    assert samples(found) == samples(ours)


def test_come_backs_joins_and_round_trips_of_clients(arena: Arena, known: Directory) -> None:
    known.clients[2].reconnects, known.clients[2].round_trip_s = 3, 0.025
    found = scrape(arena, known)
    slot = (("slot", "2"),)
    assert found["tuttihub_client_reconnects_total", slot] == 3
    assert found["tuttihub_client_handshake_round_trip_seconds", slot] == 0.025
    assert ("tuttihub_client_handshake_round_trip_seconds", (("slot", "5"),)) not in found
    came = found["tuttihub_client_joined_timestamp_seconds", slot]
    assert came == pytest.approx(time.time() - time.monotonic() + 20.0, abs=5.0)


def test_work_is_told_by_phase(arena: Arena, known: Directory) -> None:
    arena.clock[0]["mix_ns"] = 2_000_000_000
    record = arena.lanes[1]
    record["work_ns"], record["mail_ns"], record["paced_ns"] = 9 * 10**9, 10**9, 3 * 10**9
    found = scrape(arena, known)
    for lane, phase, seconds in (
        ("mixer", "mix", 2), ("1", "mail", 1), ("1", "render", 5), ("1", "paced", 3),
    ):  # fmt: skip
        labels = (("lane", lane), ("phase", phase))
        assert found["tuttihub_work_phase_seconds_total", labels] == pytest.approx(seconds)


def test_names_follow_the_rules(arena: Arena, known: Directory) -> None:
    for family in families(Exporter(arena, known)):
        assert re.fullmatch(r"tuttihub_[a-z_]+", family.name)
        assert not re.search(r"_(ns|ms|us|db|percent)\b", family.name)
        assert family.type in ("counter", "gauge", "histogram")
        assert family.documentation
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        else:
            assert not family.name.endswith("_total")


def test_names_are_unique(arena: Arena, known: Directory) -> None:
    names = [family.name for family in families(Exporter(arena, known))]
    assert len(names) == len(set(names))


def test_slot_is_the_only_label_of_a_client_but_for_parts_of_one_whole(
    arena: Arena, known: Directory
) -> None:
    for family in families(Exporter(arena, known)):
        for sample in family.samples:
            named = ("tuttihub_client_info", "tuttihub_client_condition")
            if "slot" in sample.labels and sample.name not in named:
                assert set(sample.labels) <= {"slot", "le", "method"}


def test_info_has_identity_and_format(arena: Arena, known: Directory) -> None:
    infos = [
        dict(labels) for (name, labels) in scrape(arena, known) if name == "tuttihub_client_info"
    ]
    assert infos[0] == {
        "slot": "2", "name": "Anna", "account": "", "address": "192.0.2.1", "port": "61004",
        "peer_port": "50002", "rate_hz": "48000", "frames": "128", "bits": "16",
        "channels": "2", "wants": "2", "redundancy": "1",
    }  # fmt: skip
    assert infos[1]["name"] == 'Bö\\b "the\nbass"'


def test_info_of_a_client_that_has_not_spoken_has_no_format(arena: Arena, known: Directory) -> None:
    arena.rx[2]["session"] = 1  # of its predecessor
    found = scrape(arena, known)
    info = next(dict(labels) for (name, labels) in found if name == "tuttihub_client_info")
    assert (info["slot"], info["frames"], info["rate_hz"], info["peer_port"]) == ("2", "", "", "")
    assert ("tuttihub_client_last_packet_age_seconds", (("slot", "2"),)) not in found


def test_who_has_left_is_not_exported(arena: Arena, known: Directory) -> None:
    exporter = Exporter(arena, known)
    assert any('slot="2"' in line for line in exporter.render().decode().splitlines())
    del known.clients[2]
    text = exporter.render().decode()
    assert 'slot="2"' not in text
    assert 'slot="5"' in text


def test_nobody_there(arena: Arena) -> None:
    found = scrape(arena, directory())
    assert found["tuttihub_clients", ()] == 0
    assert not any("slot" in dict(labels) for _, labels in found)


def test_ages_and_queue(arena: Arena, known: Directory) -> None:
    record = arena.rx[2]
    record["base_sequence"], record["highest"], record["base_position"] = 10, 13, 1280
    record["depth_frames"], record["margin_frames"], record["read_frame"] = 480, 240, 0
    record["late_wanted"] = 96.0
    arena.clock[0]["tick"] = 10
    arena.rx[5]["state"] = RxState.KNOCKING
    found = scrape(arena, known)
    slot = (("slot", "2"),)
    assert found["tuttihub_client_last_packet_age_seconds", slot] == pytest.approx(1.0)
    assert found["tuttihub_client_connected_seconds", slot] == pytest.approx(30.0)
    queue_s = (1280 + 4 * 128 - 11 * 128) / 48000
    assert found["tuttihub_client_queue_seconds", slot] == pytest.approx(queue_s)
    assert found["tuttihub_client_queue_target_seconds", slot] == pytest.approx(0.010)
    assert found["tuttihub_client_queue_margin_seconds", slot] == pytest.approx(0.005)
    assert found["tuttihub_client_lateness_seconds", slot] == pytest.approx(0.002)
    for name in ("client_queue_seconds", "client_queue_margin_seconds"):
        assert (PREFIX + name, (("slot", "5"),)) not in found


def test_drift_is_exported_as_soon_as_it_is_known(arena: Arena, known: Directory) -> None:
    arena.rx["clock_ratio"], arena.rx["clock_sigma"] = -41.5e-6, np.inf
    arena.rx[2]["clock_sigma"] = 0.5e-6
    found = scrape(arena, known)
    for name, value in (
        ("tuttihub_client_clock_drift_ratio", -41.5e-6),
        ("tuttihub_client_clock_drift_error_ratio", 0.5e-6),
    ):
        assert found[name, (("slot", "2"),)] == pytest.approx(value)
        assert (name, (("slot", "5"),)) not in found


@pytest.mark.parametrize(
    ("nominal", "read", "ratio"),
    [(1.0, 1.0, 0.0), (1.0, 1.00005, 50e-6), (0.91875, 0.91875, 0.0), (2.0, 1.999, -500e-6)],
)
def test_the_resampler_is_told_beside_the_clients_rate(
    nominal: float, read: float, ratio: float, arena: Arena, known: Directory
) -> None:
    arena.rx[2]["nominal_step"] = round((nominal - 1) * 2**32)
    arena.rx[2]["step"] = round((read - 1) * 2**32)
    arena.rx[5]["state"] = RxState.KNOCKING
    found, name = scrape(arena, known), "tuttihub_client_resampler_ratio"
    assert found[name, (("slot", "2"),)] == pytest.approx(ratio, abs=1e-9)
    assert (name, (("slot", "5"),)) not in found


def test_supervisors_own_counts(arena: Arena, known: Directory) -> None:
    hub = known.hub
    hub.sessions_started, hub.reconnects, hub.welcomed, hub.load_ratio = 7, 3, 8, 0.25
    hub.count_restart("mixer", "stuck")
    hub.settings = {"queue": "4"}
    hub.sessions_ended = {EndReason.CLIENT_EXIT: 4}
    hub.hellos_refused = {"full": 5}
    known.clients[2].receiver_restarts = 6
    found = scrape(arena, known)
    for name, labels, value in (
        ("sessions_total", (), 7),
        ("reconnects_total", (), 3),
        ("load_ratio", (), 0.25),
        ("config_info", (("option", "queue"), ("value", "4")), 1),
        ("worker_restarts_total", (("reason", "stuck"), ("worker", "mixer")), 1),
        ("worker_restarts_total", (("reason", "killed"), ("worker", "zygote")), 0),
        ("sessions_ended_total", (("reason", "client_exit"),), 4),
        ("handshakes_total", (("result", "full"),), 5),
        ("handshakes_total", (("result", "welcomed"),), 8),
        ("handshakes_total", (("result", "banned"),), 0),
        ("client_receiver_restarts_total", (("slot", "2"),), 6),
        ("clients", (), 2),
        ("clients_max", (), 8),
        ("patch_mode", (), 4),
        ("period_seconds", (), 128 / 48000),
        ("start_time_seconds", (), 1_700_000_000.0),
    ):
        assert found[PREFIX + name, labels] == value


def test_conditions_are_there_while_they_are_raised(arena: Arena, known: Directory) -> None:
    name = "tuttihub_client_condition"
    assert not any(sample == name for sample, _ in scrape(arena, known))
    known.clients[5].conditions = raised("losses", "muted")
    known.hub.conditions = raised("hub-late")
    known.hub.conditions_raised = {"losses": 3}
    found = scrape(arena, known)
    for slug in ("losses", "muted"):
        labels = (("client", 'Bö\\b "the\nbass"'), ("condition", slug), ("slot", "5"))
        assert found[name, labels] == 1
    assert found["tuttihub_hub_condition", (("condition", "hub-late"),)] == 1
    total = "tuttihub_conditions_raised_total"
    assert found[total, (("condition", "losses"),)] == 3
    assert found[total, (("condition", "no-udp"),)] == 0
    assert {dict(labels)["condition"] for sample, labels in found if sample == total} == set(SLUGS)


def test_levels_that_are_no_numbers_are_silence(arena: Arena, known: Directory) -> None:
    arena.rx[2]["peak"], arena.rx[5]["rms"] = np.nan, np.inf
    found = scrape(arena, known)
    assert found["tuttihub_client_input_peak_ratio", (("slot", "2"),)] == 0
    assert found["tuttihub_client_input_rms_ratio", (("slot", "5"),)] == 0


def test_a_thousand_clients_are_all_there() -> None:
    arena = make_arena(slots=1024)
    known = directory(*(client(slot, f"client {slot}") for slot in range(1024)))
    found = scrape(arena, known)
    slots = {dict(labels).get("slot") for name, labels in found if "client_lost" in name}
    assert slots == {str(slot) for slot in range(1024)}


def test_a_scrape_of_500_clients_is_cheap() -> None:
    """Of processor time, which no other process moves: a third of it on a quiet machine."""
    arena = make_arena(slots=500)
    for slot in range(500):
        seat(arena, slot, slot + 100)
    exporter = Exporter(arena, directory(*(client(slot) for slot in range(500))))
    exporter.render(Format.OPENMETRICS)  # labels are made once
    costs = []
    for _ in range(3):
        began = time.process_time()
        exporter.render(Format.OPENMETRICS)
        costs.append(time.process_time() - began)
    assert min(costs) < 0.1, f"{1e3 * min(costs):.0f} ms"


def test_logins_are_counted_by_result(arena: Arena, known: Directory) -> None:
    assert "tuttihub_certificate_expiry_timestamp_seconds" not in {
        name for name, _ in scrape(arena, known)
    }
    known.hub.logins = {"ok": 3, "wrong-credentials": 2}
    known.hub.accounts, known.hub.certificate_expiry_s = 7, 1.8e9
    found = scrape(arena, known)
    assert found["tuttihub_logins_total", (("result", "ok"),)] == 3
    assert found["tuttihub_logins_total", (("result", "wrong-credentials"),)] == 2
    assert found["tuttihub_accounts", ()] == 7
    assert found["tuttihub_certificate_expiry_timestamp_seconds", ()] == 1.8e9
