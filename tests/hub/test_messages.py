"""The language's description: what is made of it, and that requests are read as it says."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from hub.events import EVENTS, TOPICS
from hub.messages.errors import CODES, CommandError
from hub.messages.reading import parse, read
from hub.messages.rendering import PAGE, SCHEMA, page, schema_text
from hub.messages.requests import OPS, op_of, result_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = sorted({name for kind in OPS.values() for name in kind.__struct_fields__})


def schema_of(kind: str) -> Draft202012Validator:
    """The checked-in schema of 'request', 'reply' or 'event'."""
    whole = json.loads(SCHEMA.read_text())
    return Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": whole["$defs"]})


def test_the_page_and_the_schema_are_those_of_the_code() -> None:
    """python -m hub.messages.rendering writes both."""
    text = PAGE.read_text()
    assert page(text) == text
    assert SCHEMA.read_text() == schema_text()
    Draft202012Validator.check_schema(json.loads(schema_text()))


def test_everything_is_described() -> None:
    kinds = [*OPS.values(), *EVENTS, *(result_of(kind) for kind in OPS.values())]
    for kind in kinds:
        assert kind.__doc__, kind
    text = PAGE.read_text()
    for word in (*OPS, *NAMES, *TOPICS, *CODES):
        assert f"`{word}`" in text


def asked(op: str, **fields: Any) -> dict[str, Any]:
    return {"v": 1, "id": 7, "op": op, **fields}


RIGHT = [
    asked("gain", source="Anna", gain_db=-6),
    asked("gain", source=3, gain=None, listener=None),
    asked("gain", source=3, gain_db="-Infinity"),
    asked("patch", mode="full-mix"),
    asked("hear", listener=1, source_section="low", muted=None),
    asked("matrix", listeners=[1], sources=["a", 2], gains_db=[[-6, None]]),
    asked("ban", network="::1", for_s=None),
    asked("batch", requests=[{"op": "patch", "mode": 2}, {"op": "master", "gain": 1}]),
]
WRONG = [
    asked("gain", source="Anna", gain_db=25),
    asked("gain", source="Anna", gain=1, gain_db=0),
    asked("gain", source="Anna"),
    asked("gain", source=[], gain=1),
    asked("mute", client="Anna", muted=1),
    asked("ping", more=True),
    asked("ban", client=1, account="a"),
    asked("fly"),
    asked("batch", requests=[]),
    asked("batch", requests=[{"op": "kick", "client": 1}]),
    asked("batch", requests=[{"op": "patch", "mode": 2, "v": 1}]),
]


@pytest.mark.parametrize("request_", RIGHT)
def test_the_schema_takes_what_the_hub_takes(request_: dict[str, Any]) -> None:
    schema_of("request").validate(request_)
    read(parse(json.dumps(request_).encode()))


@pytest.mark.parametrize("request_", WRONG)
def test_the_schema_refuses_what_the_hub_refuses(request_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schema_of("request").validate(request_)
    with pytest.raises(CommandError):
        read(parse(json.dumps(request_).encode()))


@given(st.sampled_from(sorted(OPS)), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6))
def test_whatever_is_asked_is_read_or_refused_in_words(op: str, fields: dict[str, Any]) -> None:
    """Nothing else is raised, and what is read is what was asked."""
    request = {**fields, "v": 1, "op": op}
    typed, refusal = None, b""
    try:
        typed = read(parse(json.dumps(request).encode()))
    except CommandError as error:
        refusal = error.message.encode()
    if typed is None:
        assert 0 < len(refusal) < 1000
        return
    assert op_of(type(typed)) == op
    asked_for = json.loads(json.dumps(fields), parse_constant=lambda word: word)
    told = msgspec.to_builtins(typed)
    assert {name: told[name] for name in fields} == asked_for


@pytest.mark.parametrize("data", [b'{"v":1,"id":"\\ud800","op":"ping"}', b'{"v":1,"op":"\\udfff"}'])
def test_half_a_surrogate_pair_is_refused_in_utf8(data: bytes) -> None:
    with pytest.raises(CommandError) as caught:
        read(parse(data))
    caught.value.message.encode()
