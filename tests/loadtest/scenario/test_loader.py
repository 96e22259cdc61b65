"""Scenarios from TOML, back again, and changed from a command line."""

from __future__ import annotations

import contextlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.scenario.loader import (
    MAX_FILE_BYTES,
    OVERRIDES,
    from_dict,
    load,
    override,
    parse,
    scale,
)
from loadtest.scenario.model import (
    Fault,
    FaultKind,
    Format,
    Hello,
    Hub,
    Jitter,
    Network,
    Scenario,
    ScenarioError,
    Section,
    Service,
    Sources,
)
from shared.limits import PatchMode
from tests.loadtest.scenario.tables import to_dict

EVENING = """
title = "An evening"
seconds = 12
sources = "ports"

[hub]
mode = 2
options = ["--max-clients", "40"]

[service]
return_loss = 0.001

[format.small]
frames = 64
sends = 1

[network.wifi]
jitter = "pareto"
jitter_ms = 2
loss = 0.01

[[section]]
name = "choir"
clients = 20
format = "small"
up = "wifi"
hello = "short"

[[section]]
name = "late"
clients = 3
join_at_s = 2
leave_at_s = inf
[section.format]
bits = 24
[section.down]
loss = 0.5

[[fault]]
kind = "kill-mixer"
at_s = 5
"""


def refusal(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "my.toml")
    return str(caught.value)


def test_a_file_has_every_part_of_a_scenario() -> None:
    assert parse(EVENING, "evening.toml") == Scenario(
        name="evening",
        title="An evening",
        seconds=12.0,
        sources=Sources.PORTS,
        hub=Hub(mode=PatchMode.FAN_OUT_NO_SELF, options=("--max-clients", "40")),
        service=Service(return_loss=0.001),
        sections=(
            Section(
                "choir", 20, Format(frames=64, sends=1),
                up=Network(jitter=Jitter.PARETO, jitter_ms=2.0, loss=0.01), hello=Hello.SHORT,
            ),
            Section("late", 3, Format(bits=24), down=Network(loss=0.5), join_at_s=2.0),
        ),
        faults=(Fault(FaultKind.KILL_MIXER, at_s=5.0),),
    )  # fmt: skip


def test_an_empty_file_is_the_default_ensemble() -> None:
    assert parse("", "nothing.toml") == Scenario(name="nothing")


def test_whole_numbers_do_for_numbers_but_not_the_other_way_round() -> None:
    assert parse("seconds = 3").seconds == 3.0
    assert refusal("seed = 3.5") == "my.toml: seed: 3.5 is not a whole number"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("secnds = 3", "unknown key 'secnds' at the top; did you mean seconds"),
        ("seconds = '3'", "seconds: '3' is not a number"),
        ("seconds = true", "seconds: True is not a number"),
        ("seconds = nan", "seconds: nan is not a number"),
        ("seconds = -1", "seconds: -1.0 is not in 0.1..86400"),
        ("burst = 1", "burst: 1 is not true or false"),
        ("title = 3", "title: 3 is not text"),
        ("sources = 'adresses'",
         "sources: 'adresses' is not one of addresses, ports; did you mean 'addresses'?"),
        ("hub = 3", "[hub]: 3 is not a table"),
        ("hub.mode = 9", "[hub]: mode: 9 is not one of 0, 1, 2, 3, 4, 5"),
        ("hub.mode = 0", "[hub]: mode: 0 cannot be checked; one of 1, 2, 4, 5"),
        ("hub.options = ['a', 3]", "[hub]: options: ['a', 3] is not a list of texts"),
        ("service.wrong = 2", "[service]: wrong: 2.0 is not in 0..1"),
        ("section = 3", "[section]: write [[section]]: there may be several"),
        ("[section]", "[section]: write [[section]]: there may be several"),
        ("section = [3]", "[[section]] 1: 3 is not a table"),
        ("[[section]]\nname = 'a'\nclients = 0",
         "[[section]] 'a': clients: 0 is not in 1..8000"),
        ("[[section]]\nclients = 0", "[[section]] 1: clients: 0 is not in 1..8000"),
        ("[[section]]\nname = 'a'\nformat = 'b'",
         "[[section]] 'a': format: there is no [format.b]; allowed: none"),
        ("format.stereo.frames = 64\n[[section]]\nname = 'a'\nformat = 'stero'",
         "[[section]] 'a': format: there is no [format.stero]; did you mean stereo? "
         "allowed: stereo"),
        ("[[section]]\nname = 'a'\nformat = 3", "[[section]] 'a'.format: 3 is not a table"),
        ("[[section]]\nname = 'a'\nup.lost = 1",
         "[[section]] 'a'.up: unknown key 'lost'; did you mean loss? allowed: "),
        ("[[section]]\nname = 'a'\nup.loss = 2",
         "[[section]] 'a'.up: loss: 2.0 is not in 0..1"),
        ("[[section]]\nname = 'a'\ndown.delay_ms = 2",
         "[[section]] 'a': down: only loss can be emulated downwards"),
        ("[[section]]\n[[section]]", "sections: names must be unique"),
        ("[[section]]\nname = 'a'\nhello = 'loud'",
         "[[section]] 'a': hello: 'loud' is not one of named, nameless, short"),
        ("[[section]]\nname = 'a'\njoin_at_s = 5\nleave_at_s = 4",
         "[[section]] 'a': leave_at_s: 4.0 is not after join_at_s 5.0"),
        ("[[section]]\nname = 'a'\naway_s = 4",
         "[[section]] 'a': away_s: 4.0 has no meaning without home_s"),
        ("[[section]]\nname = 'a'\njoin_at_s = -4",
         "[[section]] 'a': join_at_s: -4.0 is neither -inf nor in 0..86400"),
        ("format.x.frames = 3", "[format.x]: frames: 3 is not in 16..1024"),
        ("network = 3", "[network]: 3 is not a table"),
        ("network.x = 3", "[network.x]: 3 is not a table"),
        ("network.x.jitter = 'normale'",
         "[network.x]: jitter: 'normale' is not one of none, uniform, normal, exponential, "
         "pareto; did you mean 'normal'?"),
        ("[[fault]]\nat_s = 3", "[[fault]] 1: kind is missing; it must be one of kill-receiver, "),
        ("[[fault]]\nkind = 'flod'",
         "[[fault]] 'flod': kind: 'flod' is not one of kill-receiver, kill-mixer, kill-lane, "
         "silent-tcp, no-udp, garbage, flood, deaf, closed, hello-storm; did you mean 'flood'?"),
        ("[[fault]]\nkind = 'flood'\nsection = 'brass'",
         "fault flood: no section 'brass' in ['all']"),
        ("[[fault]]\nkind = 'flood'\nevery_s = 1e-9",
         "[[fault]] 'flood': every_s: 1e-09 is neither 0 nor in 0.1..86400"),
        ("seconds = ", "no TOML: "),
        ("x = " + "[" * 50_000, "no TOML: nested too deeply"),
        ("seed = " + "9" * 5000, "no TOML: "),
        ("seed = 0x" + "f" * 5000, "seed: a very large int is not a whole number"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(text: str, problem: str) -> None:
    assert refusal(text).startswith(f"my.toml: {problem}")


def test_a_misspelt_key_is_answered_with_those_there_are() -> None:
    allowed = refusal("[hub]\nperiods = 64").partition("allowed: ")[2].split(", ")

    assert set(allowed) == {each.name for each in fields(Hub)}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, folder = tmp_path / "no.toml", tmp_path
    latin, long = tmp_path / "latin.toml", tmp_path / "long.toml"
    latin.write_bytes(b"title = '\xe4'")
    long.write_bytes(b"#" * (MAX_FILE_BYTES + 1))

    for path, problem in (
        (missing, "No such file"),
        (folder, "Is a directory"),
        (latin, "not UTF-8 at byte 9"),
        (long, "longer than"),
        (Path("a\0b"), "embedded null byte"),
    ):
        with pytest.raises(ScenarioError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "evening.toml"
    path.write_text(EVENING)

    assert load(path) == parse(EVENING, "evening.toml")


share = st.floats(0, 1, allow_subnormal=False)
time_s = st.floats(0, 3600, allow_subnormal=False)
networks = st.builds(
    Network, loss=share, burst_begin=share, jitter=st.sampled_from(Jitter), jitter_ms=share,
    ordered=st.booleans(), delay_ms=st.floats(0, 1000),
)  # fmt: skip
formats = st.builds(
    Format, frames=st.integers(16, 1024), bits=st.sampled_from((8, 16, 24, 32)),
    sends=st.integers(1, 4), wants=st.integers(1, 16), redundancy=st.integers(1, 2),
)  # fmt: skip
sections = st.builds(
    Section, name=st.text(min_size=1), clients=st.integers(1, 500), format=formats, up=networks,
    down=st.builds(Network, loss=share), hello=st.sampled_from(Hello), password=st.text(),
    join_at_s=st.just(float("-inf")) | time_s, vanish=st.booleans(),
    home_s=st.just(0.0) | st.floats(0.5, 3600),
)  # fmt: skip
faults = st.builds(Fault, st.sampled_from(FaultKind), at_s=time_s, count=st.integers(1, 1000))
hubs = st.builds(
    Hub, mode=st.sampled_from((PatchMode.LOOPBACK, PatchMode.FULL_MIX)), upmix=st.booleans(),
    options=st.lists(st.text()).map(tuple),
)  # fmt: skip
scenarios = st.builds(
    Scenario, name=st.text(), seconds=st.floats(0.1, 86400), burst=st.booleans(), hub=hubs,
    seed=st.integers(0, 2**63 - 1), sources=st.sampled_from(Sources),
    sections=st.lists(sections, min_size=1, max_size=5, unique_by=lambda one: one.name).map(tuple),
    faults=st.lists(faults, max_size=3).map(tuple), service=st.builds(Service, wrong=share),
)  # fmt: skip


@settings(max_examples=40)
@given(scenarios)
def test_a_scenario_survives_the_way_to_toml_and_back(scenario: Scenario) -> None:
    assert from_dict(to_dict(scenario)) == scenario


names = (
    {each.name for kind in (Scenario, Hub, Section, Format, Network, Fault, Service)
     for each in fields(kind)}
    | {"section", "fault", "network"}
)  # fmt: skip
keys = st.sampled_from(sorted(names)) | st.text(max_size=4)
leaves = (
    st.integers() | st.floats() | st.booleans() | st.text(max_size=8) | st.dates()
    | st.sampled_from(["wifi", "pareto", "flood", -1, 0, 2, 10**400])
)  # fmt: skip
garbage = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100)
@given(st.dictionaries(keys, garbage, max_size=5))
def test_whatever_stands_in_a_file_it_is_a_scenario_or_a_scenario_error(
    document: dict[str, Any],
) -> None:
    with contextlib.suppress(ScenarioError):
        assert isinstance(from_dict(document), Scenario)


@settings(max_examples=100)
@given(st.text() | st.builds(lambda at, junk: EVENING[:at] + junk + EVENING[at:],
                             st.integers(0, len(EVENING)), st.text(max_size=5)))  # fmt: skip
def test_whatever_the_text_it_is_a_scenario_or_a_scenario_error(text: str) -> None:
    with contextlib.suppress(ScenarioError):
        assert isinstance(parse(text), Scenario)


def test_changes_reach_every_section() -> None:
    changed = override(
        parse(EVENING), seconds=5, frames=256, channels=1, bits="8", redundancy=2, rate=44100,
        mode="4", queue=8, burst=True, sources="addresses", join_rate=7, settle=0.5, seed=9,
        period=64, upmix=True, clients=None,
    )  # fmt: skip

    form = Format(256, 44100, 8, 1, 1, 2)
    assert [section.format for section in changed.sections] == [form, form]
    assert changed.hub == Hub(PatchMode.FULL_MIX, True, 64, 44100, "8", ("--max-clients", "40"))
    assert (changed.seconds, changed.burst, changed.sources) == (5.0, True, Sources.ADDRESSES)
    assert (changed.join_rate, changed.settle_s, changed.seed) == (7.0, 0.5, 9)


def test_no_change_changes_nothing() -> None:
    assert override(parse(EVENING), **dict.fromkeys(OVERRIDES)) == parse(EVENING)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"client": 3}, "change: unknown key 'client'; did you mean clients? allowed: bits, "),
        ({"seconds": 0}, "change: seconds: 0.0 is not in 0.1..86400"),
        ({"seconds": "long"}, "change: seconds: 'long' is not a number"),
        ({"frames": 3}, "change: frames: 3 is not in 16..1024"),
        ({"bits": "12"}, "change: bits: 12 is not one of 8, 16, 24, 32"),
        ({"mode": 9}, "change: mode: 9 is not one of 0, 1, 2, 3, 4, 5"),
        ({"mode": 3}, "change: mode: 3 cannot be checked; one of 1, 2, 4, 5"),
        ({"sources": "port"},
         "change: sources: 'port' is not one of addresses, ports; did you mean 'ports'?"),
        ({"clients": 1}, "change: clients: 1 is not in 2..8000"),
        ({"clients": 8001}, "change: clients: 8001 is not in 2..8000"),
        ({"clients": "3"}, "change: clients: '3' is not a whole number"),
    ],
)  # fmt: skip
def test_a_wrong_change_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        override(parse(EVENING), **changes)

    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("sizes", "clients", "scaled"),
    [
        ([10, 20, 30], 60, [10, 20, 30]),
        ([10, 20, 30], 6, [1, 2, 3]),
        ([10, 20, 30], 7, [1, 2, 4]),
        ([1, 98, 1], 10, [1, 8, 1]),
        ([1, 1, 1], 8, [3, 3, 2]),
        ([1, 1], 8000, [4000, 4000]),
    ],
)
def test_sections_keep_their_proportions(sizes: list[int], clients: int, scaled: list[int]) -> None:
    whole = Scenario(sections=tuple(Section(str(index), size) for index, size in enumerate(sizes)))

    assert [section.clients for section in scale(whole, clients).sections] == scaled


@settings(max_examples=100)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(0, 7000))
def test_scaling_gives_the_number_asked_for_and_nobody_nothing(sizes: list[int], more: int) -> None:
    whole = Scenario(sections=tuple(Section(str(index), size) for index, size in enumerate(sizes)))
    wanted = min(len(sizes) + more, 8000)

    scaled = scale(whole, wanted)

    assert scaled.clients == wanted
    exact = [size * wanted / sum(sizes) for size in sizes]
    for section, share in zip(scaled.sections, exact, strict=True):
        assert 1 <= section.clients <= max(1, share + 1)
    assert scale(scaled, wanted) == scaled
    unscaled = [replace(section, clients=1) for section in whole.sections]
    assert [replace(section, clients=1) for section in scaled.sections] == unscaled
