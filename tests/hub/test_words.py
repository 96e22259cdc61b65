"""Words of ``tuttihub ctl`` as fields of requests."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hub.messages.requests import OPS
from hub.words import WrongWord, did_you_mean, order_of, parse_words, shell_words


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("mute Anna on", {"client": "Anna", "muted": True}),
        ("mute 3 muted=false", {"client": 3, "muted": False}),
        ("gain Anna -6", {"source": "Anna", "gain_db": -6}),
        ("gain Anna off Bob", {"source": "Anna", "gain_db": -math.inf, "listener": "Bob"}),
        ("gain Anna gain=0.5 Bob", {"source": "Anna", "gain": 0.5, "listener": "Bob"}),
        ("gain Anna -6dB", {"source": "Anna", "gain_db": -6}),
        ("gain Anna default", {"source": "Anna", "gain_db": None}),
        ("gain source=Anna gain_db=-Infinity", {"source": "Anna", "gain_db": -math.inf}),
        ("pan 3 left", {"client": 3, "pan": "left"}),
        ("patch 2", {"mode": 2}),
        ("queue Anna auto5", {"client": "Anna", "queue": "auto5"}),
        ("limiter default Anna", {"on": None, "client": "Anna"}),
        ("ban Mallory 1d12h rude", {"client": "Mallory", "for_s": 129600, "reason": "rude"}),
        ("ban network=::1 90s", {"network": "::1", "for_s": 90}),
        ("ban account=12", {"account": "12"}),
        ("unban 192.0.2.7", {"network": "192.0.2.7"}),
        ("section violins Anna,3", {"name": "violins", "members": ["Anna", 3]}),
        ("section 12 add=Anna", {"name": "12", "add": ["Anna"]}),
        ("section a " + "1" * 5000, {"name": "a", "members": ["1" * 5000]}),
        ("matrix [1] [2] [[0.5,null]]".replace("[[", "gains=[["),
         {"listeners": [1], "sources": [2], "gains": [[0.5, None]]}),
        ("scene-recall overture 3", {"name": "overture", "seconds": 3}),
        ("hear listener_section=low Anna pan=40",
         {"listener_section": "low", "source": "Anna", "pan": 40}),
        ("fly how=high", {"how": "high"}),
    ],
)  # fmt: skip
def test_a_line_is_a_request(line: str, fields: dict[str, Any]) -> None:
    op, *words = line.split()
    assert parse_words(op, words) == fields


@pytest.mark.parametrize("line", ["ping now", "kick Anna Bob", "kick client=1 client=2", "fly x"])
def test_a_word_that_stands_for_no_field_is_refused(line: str) -> None:
    op, *words = line.split()
    with pytest.raises(WrongWord):
        parse_words(op, words)


def test_what_must_be_given_comes_first() -> None:
    for op, kind in OPS.items():
        order = order_of(op)
        must = {name for name in order if name in kind.__struct_fields__ and _required(op, name)}
        assert set(order[: len(must)]) == must


def _required(op: str, name: str) -> bool:
    kind = OPS[op]
    position = kind.__struct_fields__.index(name)
    optional = len(kind.__struct_fields__) - len(kind.__struct_defaults__)
    return position < optional or any(group[0] == name for group in kind.one_of)


def test_words_of_an_operation_that_there_is_not_name_the_nearest() -> None:
    with pytest.raises(WrongWord, match="no such operation; 'kick' is the nearest"):
        parse_words("kik", ["Anna"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("anna", '; did you mean "Anna" or "Anna-01"?'),
        ("Anna-1", '; did you mean "Anna-01" or "Anna"?'),
        ("Ann", '; did you mean "Anna" or "Anna-01"?'),
        ("Bretha", '; did you mean "Bertha"?'),
        ("Zorro", ""),
        ("", ""),
        (7, ""),
    ],
)
def test_names_that_are_near_are_proposed(given: object, said: str) -> None:
    assert did_you_mean(given, ["Bertha", "Anna", "Zoë", "Anna-01"]) == said


def test_words_of_a_shell_are_values() -> None:
    """Whatever is proposed is taken."""
    for op in OPS:
        for name in order_of(op):
            for word in shell_words(op, name).replace(",", "").split():
                if word not in ("or", "(silence)"):
                    assert not isinstance(parse_words(op, [f"{name}={word}"])[name], str)
