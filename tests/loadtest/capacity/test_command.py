"""The command, with hubs that are a number; and once, shortly, with the real ones."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from loadtest.capacity.command import NotMeasured, capacity, measure_all, plan
from loadtest.capacity.measure import Case, Target
from loadtest.capacity.probe import Figures, Probe
from loadtest.capacity.report import Capacity, CapacityFileError, Searched, earlier_probes
from loadtest.capacity.search import Measure, Rules
from loadtest.command import report
from loadtest.conduct.servers import ServerError
from shared.layout import PatchMode

RULES = Rules(highest=256)
FAST = Case()
LONG = replace(FAST, frames=256)


@dataclass
class FakeBench:
    """Makes hubs that hold so many clients, by packet size.

    Attributes:
        asked: everything that was measured.
        patience: probes until Ctrl-C.
    """

    capacities: dict[int, int]
    asked: list[tuple[int, int]] = field(default_factory=list)
    patience: int = 1000

    def __call__(self, case: Case) -> Measure:
        def measure(clients: int, seconds: float) -> Probe:
            if len(self.asked) >= self.patience:
                raise KeyboardInterrupt
            self.asked.append((case.frames, clients))
            passed = clients <= self.capacities[case.frames]
            figures = Figures(
                period_us=case.frames / 0.048,
                window_s=seconds,
                joined=clients,
                expected=1000,
                cpu_us={"tutti-rx": 8 + 30 / clients, "tutti-mixer": 5 + 20 / clients},
                private_kib=30_000 + 1500 * clients,
                counts={"ticks": 1000},
            )
            failed = () if passed else ("missed ticks 3 ticks (at most 0)",)
            return Probe(clients, seconds, True, passed, failed, figures=figures)

        return measure


def quiet() -> Console:
    return Console(file=StringIO(), width=160)


def text_of(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def measured(*cases: Case) -> Capacity:
    return Capacity([Searched(case, RULES) for case in cases], cores=(1, 4))


def test_all_cases_are_searched_written_and_shown(tmp_path: Path) -> None:
    path, console = tmp_path / "c.json", quiet()

    code = measure_all(measured(FAST, LONG), FakeBench({128: 100, 256: 180}), console, path)

    assert code == 0
    found = json.loads(path.read_text())
    assert (found["schema"], found["kind"]) == (1, "capacity")
    assert found["provenance"]["machine"]["cores"] == os.cpu_count()
    held = [each["found"]["clients"] for each in found["searches"]]
    assert 97 <= held[0] <= 100
    assert 175 <= held[1] <= 180
    assert found["searches"][0]["limit"]["resource"] == "timing, with no resource full"
    assert found["searches"][0]["probes"][0]["figures"]["joined"] == 16
    assert found["model"]["observations"] > 20
    assert len(found["predictions"]) == 2 * 2 * 3
    assert found["assumptions"]
    shown = text_of(console)
    for part in ("clients that hold the service level", "the model", "prediction", "Assumed"):
        assert part in shown


def test_a_measurement_has_a_page_of_its_own(tmp_path: Path) -> None:
    path, page, both = tmp_path / "c.json", tmp_path / "c.html", tmp_path / "two.html"
    measure_all(measured(FAST, LONG), FakeBench({128: 100, 256: 180}), quiet(), path)
    damaged = tmp_path / "damaged.json"
    damaged.write_text(path.read_text().replace('"gbits"', '"bits"'))

    made = CliRunner().invoke(report, [str(path), "-o", str(page)])
    refused = CliRunner().invoke(report, [str(path), str(path), "-o", str(both)])
    broken = CliRunner().invoke(report, [str(damaged), "-o", str(both)])

    assert made.exit_code == 0, made.output
    text = page.read_text()
    for part in (
        "tuttihub, 128 frames, stereo",
        "missed ticks 3 ticks",
        "capacity-cost",
        "10 Gbit/s",
    ):
        assert part in text
    assert text.count("<svg") == 1
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert refused.exit_code == broken.exit_code == 2
    assert "a page of its own" in refused.output
    assert "damaged" in broken.output
    assert not both.exists()


def test_interrupted_measurement_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    whole = FakeBench({128: 100, 256: 180})
    measure_all(measured(FAST, LONG), whole, quiet(), tmp_path / "whole.json")
    first = FakeBench({128: 100, 256: 180}, patience=len(whole.asked) - 4)
    assert measure_all(measured(FAST, LONG), first, quiet(), path) == 130
    second, console = FakeBench({128: 100, 256: 180}), quiet()

    code = measure_all(measured(FAST, LONG), second, console, path, resume=True)

    assert code == 0
    assert first.asked + second.asked == whole.asked
    assert f"{len(first.asked)} of them done already" in text_of(console)
    resumed, straight = (
        json.loads(each.read_text())["searches"] for each in (path, tmp_path / "whole.json")
    )
    assert resumed == straight


def test_interruption_while_going_on_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    for patience in (9, 2):
        code = measure_all(
            measured(FAST, LONG),
            FakeBench({128: 100, 256: 180}, patience=patience),
            quiet(),
            path,
            resume=True,
        )
        assert code == 130

    probes = json.loads(path.read_text())["searches"][0]["probes"]
    assert len(probes) == 11


def test_another_case_has_no_earlier_probes(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    measure_all(measured(FAST), FakeBench({128: 20}), quiet(), path)

    assert earlier_probes(path, FAST, RULES)
    assert earlier_probes(path, LONG, RULES) == []
    assert earlier_probes(tmp_path / "none.json", FAST, RULES) == []


def test_probes_of_another_length_are_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    measure_all(measured(FAST), FakeBench({128: 20}), quiet(), path)
    before = path.read_text()
    longer = Capacity([Searched(FAST, Rules(highest=256, seconds=31))])

    with pytest.raises(NotMeasured, match=r"probes of 30 s, not of 31 s: --seconds 30"):
        measure_all(longer, FakeBench({128: 20}), quiet(), path, resume=True)

    assert path.read_text() == before


def test_search_that_ended_for_too_many_probes_goes_on_with_more(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    few = Capacity([Searched(FAST, replace(RULES, most=4))])
    first, second = FakeBench({128: 100}), FakeBench({128: 100})
    assert measure_all(few, first, quiet(), path) == 1

    code = measure_all(measured(FAST), second, quiet(), path, resume=True)

    whole = FakeBench({128: 100})
    assert code == measure_all(measured(FAST), whole, quiet()) == 0
    assert first.asked + second.asked == whole.asked


def test_other_searches_of_the_file_stay_in_it(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    measure_all(measured(FAST, LONG), FakeBench({128: 20, 256: 30}), quiet(), path)
    before = json.loads(path.read_text())["searches"]

    measure_all(measured(LONG), FakeBench({}), quiet(), path, resume=True)

    assert json.loads(path.read_text())["searches"] == before[::-1]


def test_probes_that_were_not_usable_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "c.json"

    def disturbed(case: Case) -> Measure:
        return lambda clients, seconds: Probe(clients, seconds, clients < 20, clients < 20)

    assert measure_all(measured(FAST), disturbed, quiet(), path) == 3

    assert measure_all(measured(FAST), FakeBench({128: 100}), quiet(), path, resume=True) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "c.json: "),
        ("{}", "not a capacity measurement"),
        ('{"kind": "capacity", "schema": 99}', "schema 99; 1 can be read"),
        ('{"kind": "capacity", "schema": 1, "searches": [{}]}', "damaged: "),
    ],
)
def test_other_files_are_not_gone_on_with(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)

    with pytest.raises(CapacityFileError, match=said):
        earlier_probes(path, FAST, RULES)
    with pytest.raises(NotMeasured, match=said):
        measure_all(measured(FAST), FakeBench({128: 20}), quiet(), path, resume=True)
    assert path.read_text() == text


def test_probes_of_another_machine_or_version_are_not_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    measure_all(measured(FAST), FakeBench({128: 20}), quiet(), path)
    values = json.loads(path.read_text())
    values["provenance"]["machine"] |= {"cpu": "Another 3000", "memory_kib": 1}
    values["provenance"]["versions"]["tuttihub"] = "0.0.1"
    path.write_text(json.dumps(values))

    with pytest.raises(NotMeasured, match="another machine") as refused:
        measure_all(measured(FAST), FakeBench({128: 20}), quiet(), path, resume=True)

    for part in ("cpu: 'Another 3000' there", "tuttihub: '0.0.1' there", "memory_gib: 0 there"):
        assert part in refused.value.message
    assert json.loads(path.read_text()) == values


def test_a_file_that_cannot_be_written_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    done = CliRunner().invoke(capacity, ["--json", str(tmp_path / "nowhere" / "c.json")])

    assert done.exit_code == 2
    assert "No such file" in " ".join(done.output.split())


def test_nothing_held_is_exit_code_1() -> None:
    assert measure_all(measured(FAST), FakeBench({128: 0}), quiet()) == 1


def test_generator_that_gives_out_is_exit_code_3() -> None:
    def bench(case: Case) -> Measure:
        return lambda clients, seconds: Probe(clients, seconds, clients < 20, clients < 20)

    console = quiet()

    assert measure_all(measured(FAST), bench, console) == 3
    assert "the load generator itself was late" in text_of(console)
    assert "no model" in text_of(console)


def test_server_that_does_not_start_is_said(tmp_path: Path) -> None:
    def bench(case: Case) -> Measure:
        def measure(clients: int, seconds: float) -> Probe:
            raise ServerError("tuttihub serve ended with 4")

        return measure

    with pytest.raises(NotMeasured, match="tuttihub serve ended with 4"):
        measure_all(measured(FAST), bench, quiet(), tmp_path / "c.json")


def asked_for(*options: str) -> list[Searched]:
    """The searches that a command line asks for, on a machine of four cores."""
    asked = capacity.make_context("capacity", list(options)).params
    del asked["json_path"], asked["resume"], asked["echo"]
    return plan({0, 1, 2, 3}, **asked)[0].searches


def test_default_is_three_sizes_mono_and_stereo() -> None:
    searches = asked_for()

    assert [(one.case.frames, one.case.channels) for one in searches] == [
        (64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2),
    ]  # fmt: skip
    assert [one.rules.start for one in searches] == [8, 8, 16, 16, 32, 32]
    assert searches[0].rules.seconds == 30
    assert searches[0].case.hub_cpus == (0,)


def test_quick_is_one_format_and_short() -> None:
    (only,) = asked_for("--quick")

    assert (only.case.frames, only.case.channels, only.rules.seconds) == (128, 2, 5)
    assert only.rules.screen_s == 5


def test_original_is_searched_from_few_clients_on() -> None:
    ours, theirs = asked_for(
        "--quick", "--against", "jacktrip", "--hub-cpu", "0,2-3", "--load-cpu", "1"
    )

    assert ours.case.hub_cpus == theirs.case.hub_cpus == (0, 2, 3)
    assert (theirs.case.target, theirs.rules.start, theirs.rules.highest) == (
        Target.JACKTRIP, 16, 24,
    )  # fmt: skip


def test_service_level_is_passed_on() -> None:
    (only,) = asked_for(
        "--quick", "--loss", "1e-3", "--spacing", "0.2", "--wrong", "1e-6",
        "--missed-ticks", "-1", "--join-ms", "50", "--gap-ms", "7", "--findings", "-1",
    )  # fmt: skip

    level = only.case.scenario(10, 5).service
    assert (level.return_loss, level.spacing_p99, level.wrong) == (1e-3, 0.2, 1e-6)
    assert (level.missed_ticks, level.join_p99_ms, level.gap_ms) == (-1, 50, 7)
    assert level.findings == -1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--frames", "8"], "8 is not in 16..1024"),
        (["--frames", "many"], "'many' is no list of numbers 16..1024 such as 64,128"),
        (["--channels", "2,17"], "17 is not in 1..16"),
        (["--hub-cpu", "9999"], "'9999': cores are "),
        (["--hub-cpu", "x"], "'x' is no list such as 0,2-3"),
        (["--load-cpu", "9999"], "9999: cores are "),
        (["--start", "20", "--most", "10"], "20 is more than --most 10"),
        (["--resume"], "needs --json"),
        (["--mode", "3"], "'3' is not one of"),
        (["--seconds", "0"], "0.0 is not in the range"),
    ],
)
def test_wrong_option_is_exit_code_2(options: list[str], said: str) -> None:
    done = CliRunner().invoke(capacity, options)

    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_hub_and_generator_do_not_share_a_core() -> None:
    core = str(min(os.sched_getaffinity(0)))

    done = CliRunner().invoke(capacity, ["--hub-cpu", core, "--load-cpu", core])

    assert done.exit_code == 2
    assert "one would disturb the other" in " ".join(done.output.split())


def test_help_has_examples() -> None:
    done = CliRunner().invoke(capacity, ["--help"])

    assert done.exit_code == 0
    assert "tuttihub capacity --json capacity.json --resume" in done.output
    assert "__slots__" not in done.output
    assert "<member" not in done.output


def test_joins_of_the_original_get_the_time_that_jack_takes() -> None:
    theirs = replace(FAST, target=Target.JACKTRIP, channels=1)

    assert FAST.join_rate(27) == 50
    assert theirs.join_rate(8) == pytest.approx(4, rel=0.01)
    assert 27 / theirs.join_rate(27) > 2 * 32
    assert 150 / theirs.join_rate(150) < 300
    assert replace(theirs, mode=PatchMode.LOOPBACK).join_rate(100) == 4
