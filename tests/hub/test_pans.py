"""Pans and sections: the laws, what may be written, and who is in which."""

from __future__ import annotations

import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.pans import Pan, Section, Sections, balance_gains, mono_gains, pan_text, section_of
from hub.resolving import make_config
from hub.setting import ConfigError
from hub.start import make_arena
from hub.values import Refused
from shared.limits import GuardMode


@given(st.floats(-100, 100))
def test_a_mono_client_is_as_loud_everywhere(pan: float) -> None:
    left, right = mono_gains(pan)
    assert left**2 + right**2 == pytest.approx(1)
    assert (left >= right) == (pan <= 0) or math.isclose(left, right)
    assert mono_gains(-pan) == (right, left)


@given(st.floats(-100, 100))
def test_balance_lowers_one_side_and_raises_none(pan: float) -> None:
    left, right = balance_gains(pan)
    assert 1 - 1e-15 < max(left, right) <= 1
    assert min(left, right) == pytest.approx(math.sqrt(2) * min(mono_gains(pan)))


def test_ends_and_centre_are_exact() -> None:
    assert mono_gains(-100) == (1.0, 0.0)
    assert mono_gains(100) == (0.0, 1.0)
    assert balance_gains(-100) == (1.0, 0.0)
    assert balance_gains(0) == pytest.approx((1.0, 1.0), abs=1e-15)
    assert mono_gains(0)[0] == mono_gains(0)[1] == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    ("given_pan", "pan"),
    [("left", -100), ("centre", 0), ("center", 0), ("right", 100), (-40, -40), ("12.5", 12.5),
     ("default", None), (None, None)],
)  # fmt: skip
def test_pans_by_word_and_number(given_pan: object, pan: float | None) -> None:
    assert Pan().parse(given_pan) == pan


@pytest.mark.parametrize(
    "wrong", ["", "middle", 101, "-100.1", math.nan, "inf", True, [], {}, 10**400]
)
def test_no_pan(wrong: object) -> None:
    with pytest.raises(Refused, match=r"-100\.\.100"):
        Pan().parse(wrong)


def test_pans_as_text() -> None:
    assert [pan_text(pan) for pan in (-40.0, 0.0, 12.5)] == ["L40", "C", "R12.5"]


VIOLINS, CELLOS = Section("Violin*", -40, -2.0), Section("cello?", 50)


def test_sections_from_a_table_and_from_text() -> None:
    table = {"Violin*": {"pan": -40, "gain_db": -2}, "cello?": {"pan": 50}}
    assert Sections().parse(table) == (VIOLINS, CELLOS)
    assert Sections().parse("Violin*=-40/-2, cello?=50") == (VIOLINS, CELLOS)
    assert Sections().parse("tuba=/-6") == (Section("tuba", None, -6.0),)
    assert Sections().parse("none") == ()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("violin", "violin"),
        ("violin=loud", "loud"),
        ("violin=0/99", "99"),
        ("=5", "=5"),
        ({"violin": 5}, "violin"),
        ({"violin": {}}, "violin"),
        ({"violin": {"pan": 0, "mute": True}}, "violin"),
        ({"violin": {"pan": 200}}, "200"),
        ({"violin": {"gain_db": "loud"}}, "loud"),
        (7, "list of sections"),
        (",".join(["a=1"] * 300), "256"),
    ],
)
def test_wrong_sections_are_named(wrong: object, named: str) -> None:
    with pytest.raises(Refused) as refused:
        Sections().parse(wrong)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("violin 1", VIOLINS),
        ("VIOLINIST", VIOLINS),
        ("Cello2", CELLOS),
        ("cello", None),
        ("", None),
    ],
)
def test_the_first_section_that_fits(name: str, section: Section | None) -> None:
    assert section_of((VIOLINS, CELLOS), name) == section


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({}, 0.0),
        ({"mono_centre": True}, math.sqrt(0.5)),
        ({"sections": "violin*=-40"}, math.sqrt(0.5)),
        ({"sections": "violin*=/-3"}, 0.0),
        ({"downmix": "-6"}, 0.5),
        ({"downmix": -3}, math.sqrt(0.5)),
        ({"mono_centre": True, "downmix": "off"}, 0.0),
    ],
)
def test_mono_listeners_hear_both_sides_where_voices_have_places(
    settings: dict[str, object], factor: float
) -> None:
    assert make_config(**settings).downmix == factor


def test_two_ways_to_hear_mono_clients_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="--mono-centre and --upmix contradict"):
        make_config(mono_centre=True, upmix=True)


@pytest.mark.parametrize("wrong", ["-4", "on", True, 3, None])
def test_no_downmix(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"--downmix: .* is not 'auto', 'off', -3 or -6"):
        make_config(downmix=wrong)


def test_what_shapes_levels_is_in_the_hubs_memory() -> None:
    config = make_config(
        max_clients=1, mono_centre=True, downmix="-6", limiter="on", guard="mute", metrics="off"
    )
    fd, arena = make_arena(config)
    os.close(fd)
    header = arena.header[0]
    assert (header["mono_centre"], header["downmix"]) == (1, 0.5)
    assert header["level_guard"] == GuardMode.MUTE
    assert arena.control[0]["limiter"] == 1
