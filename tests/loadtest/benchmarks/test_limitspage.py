"""The tables of docs/limits.md are what the kept results say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest

from loadtest.benchmarks import kept, microseconds, modelcheck, sampling, serial
from loadtest.benchmarks.kept import Kept
from loadtest.benchmarks.limitspage import PAGE, model_table, rendered, serial_table, time_tables
from loadtest.benchmarks.microseconds import Load, Loads, divided
from loadtest.benchmarks.record import RecordError
from loadtest.benchmarks.render import RenderError
from loadtest.benchmarks.sampling import KERNEL, Frame, Seen
from loadtest.benchmarks.symbols import Function, Names
from tests.loadtest.benchmarks.rows import PROVENANCE
from tests.loadtest.benchmarks.test_render import cells


def test_page_shows_what_was_kept_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.limitspage"""
    assert PAGE.read_text() == rendered()


def micro(clients: int, sharing: int, **values: Any) -> microseconds.Row:
    figures: dict[str, Any] = {
        "usable": True, "reasons": [], "ticks": 1000, "missed": 2,
        "cpu_us": {"tutti-rx": 6.0, "tutti-mixer": 4.0, "tuttihub": 0.5},
        "waited_us": {"tutti-rx": 3.0, "tutti-mixer": 0.25},
        "switches": {"tutti-rx": [1.0, 0.01], "tutti-mixer": [0.02, 0.0]},
        "parts_us": {
            "tutti-rx": {sampling.RECEIVE: 4.0, "decode": 1.99, "tiny": 0.01},
            "tutti-mixer": {sampling.SEND: 3.0, "encode": 1.0},
            "tuttihub": {sampling.PYTHON: 0.5},
        },
        "samples": 1234, "core_samples": 5000,
        "calls": {"tutti-rx": {"recvmmsg": 1.0}, "tutti-mixer": {"sendto": 1.0}},
    }  # fmt: skip
    return microseconds.Row(clients=clients, sharing=sharing, **figures | values)


def test_parts_add_up_to_what_each_kind_of_process_used() -> None:
    late = micro(250, 50, usable=False, reasons=["it was late"])

    text = time_tables(Kept(PROVENANCE, [micro(50, 1), late]))

    assert "| clients | 50, a process each | 250, 50 a receiver † |" in text
    assert cells(text, "**receivers**") == [["**receivers**", "**6.00**", "**6.00**"]]
    assert cells(text, "1 more") == [["1 more", "0.01", "0.01"]]
    assert cells(text, "**all**") == [["**all**", "**10.50**", "**10.50**"]]
    assert cells(text, "tuttihub") == [["tuttihub", "0.50", "0.50"]]
    assert "it was late" in text


def test_samples_are_divided_by_process_and_part() -> None:
    seen = microseconds._Seen(kinds={7: "tutti-rx", 8: "tutti-mixer"})
    receive = Seen(7, (Frame(1 << 63, "__x64_sys_recvmmsg", KERNEL),))
    encode = Seen(8, (Frame(100, "[unknown]", "//anon"),))
    stranger = Seen(9, (Frame(1 << 63, "__x64_sys_recvmmsg", KERNEL),))
    seen.samples = [receive, receive, encode, stranger]
    names = Names([Function(96, 128, "_ZN7workers3pcm6encodeE")])

    parts, ours, all_of_them = divided(seen, names)

    assert parts == {"tutti-rx": Counter({sampling.RECEIVE: 2}),
                     "tutti-mixer": Counter({"encode": 1})}  # fmt: skip
    assert (ours, all_of_them) == (3, 4)


def test_calls_of_a_mixer_that_misses_ticks_are_counted_by_those_it_had() -> None:
    seen = microseconds._Seen(
        calls={"tutti-mixer": {"sendto": 5000, "clock_nanosleep": 100},
               "tutti-rx": {"recvmmsg": 500}},
    )  # fmt: skip
    assert microseconds._calls(Load(50, 1), seen, 500.0) == {
        "tutti-mixer": {"sendto": 1.0, "clock_nanosleep": 0.02}, "tutti-rx": {"recvmmsg": 1.0},
    }  # fmt: skip


def test_serial_parts_end_where_their_line_does() -> None:
    rows = [
        serial.Row(clients, True, {"tutti-mixer": 10.0 + clients, "tutti-lane": 5.0 + 4 * clients},
                   1000.0, {"tuttihub": 500.0, "tutti-zygote": 100.0}, 100.0 * clients, 9999)
        for clients in (20, 120)
    ]  # fmt: skip
    parts = {part.name: part for part in serial.parts(rows)}

    mixer = parts["mixer, lanes send"]
    assert [mixer.base_us, mixer.client_us] == pytest.approx([10.0, 1.0])
    assert mixer.ends == int(mixer.limit_us - 10.0)
    assert parts["supervisor, nothing asked"].ends is None
    assert parts["scrape of the metrics"].ends == 1000
    text = serial_table(Kept(PROVENANCE, rows))
    assert f"| {mixer.ends} |" in text
    assert "does not grow" in text
    assert serial.parts(rows[:1]) == []


def test_model_stands_beside_what_was_measured() -> None:
    row = modelcheck.Row(
        2, 110, 900.0, 600.0, 100.0, 1000.0, 700.0, 60.0, 0.4, False, 2000, 3, 0.001
    )
    assert row.off == pytest.approx(0.1)
    single = [
        modelcheck.Row(1, clients, 10.0 * clients, 0.0, 100.0, 0.0, 0.0, 0.0, 0.4, True, 9, 0, 0.0)
        for clients in (20, 60)
    ]
    assert modelcheck.off_by_one_core([row], row) is None
    assert modelcheck.off_by_one_core(single, single[0]) is None
    assert modelcheck.off_by_one_core([*single, row], row) == pytest.approx(1200 / 1600 - 1)

    text = model_table(Kept(PROVENANCE, [*single, row], {"model_date": "2031-02-01"}))

    (line,) = cells(text, "2 †")
    assert line[1:7] == ["110", "1000 / 900", "700 / 600", "60 / 100", "+10 %", "-25 %"]
    assert "search of 2031-02-01" in text


def test_nothing_kept_is_said() -> None:
    for table in (time_tables, serial_table, model_table):
        assert "`python -m loadtest.benchmarks." in table(None)


def test_what_is_kept_is_read_again_and_of_several_the_newest(tmp_path: Path) -> None:
    for day in (1, 2):
        made = PROVENANCE | {"date": f"2031-02-0{day}"}
        path = tmp_path / f"microseconds-2031-02-0{day}.json"
        kept.write(microseconds.KIND, Kept(made, [micro(day, 1)], {"seconds": 5.0}), path)

    found = kept.newest(microseconds.KIND, microseconds.Row, tmp_path)

    assert found is not None
    assert (found.rows, found.more) == ([micro(2, 1)], {"seconds": 5.0})
    assert kept.newest(serial.KIND, serial.Row, tmp_path) is None
    (tmp_path / "serial-2031-02-01.json").write_text('{"kind": "microseconds"}')
    with pytest.raises(RecordError, match="no record of kind 'serial'"):
        kept.newest(serial.KIND, serial.Row, tmp_path)


def test_loads_are_named() -> None:
    assert Loads().convert("50x1,250x50", None, None) == (Load(50, 1), Load(250, 50))


@pytest.mark.parametrize("text", ["50", "x50", "0x1", "50x65", "manyx1"])
def test_wrong_loads_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"CLIENTSxSHARING|1\.\.1024 clients, 1\.\.64"):
        Loads().convert(text, None, None)


def test_page_without_a_place_for_tables_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(RenderError):
        rendered(page)
