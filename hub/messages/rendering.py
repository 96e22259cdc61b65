"""Makes of the language's types the tables of docs/control.md and the JSON Schema beside it.

``python -m hub.messages.rendering`` writes both anew, from wherever it is called.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, structs

from hub.events import EVENTS, Event
from hub.messages.errors import CODES
from hub.messages.events import Envelope
from hub.messages.fields import MAX_ID_CHARS, VERSION
from hub.messages.reading import metas
from hub.messages.requests import BATCHED, OPS, Request, result_of

DOCS = Path(__file__).parents[2] / "docs"
PAGE, SCHEMA = DOCS / "control.md", DOCS / "control.schema.json"
_BLOCK = "<!-- {0}: rendered by python -m hub.messages.rendering -->\n{1}<!-- end of {0} -->\n"


def page(text: str) -> str:
    """The page with its tables made anew."""
    for name, table in (("operations", operations()), ("errors", errors()), ("events", events())):
        begin, end = _BLOCK.format(name, "\0").split("\0")
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE.name} has no block {name!r}")
        text = before + _BLOCK.format(name, table) + after
    return text


def operations() -> str:
    """Operations, and the types of their fields."""
    lines = ["| op | fields | comes back | what it does |", "|---|---|---|---|"]
    types: dict[str, str] = {}
    for op, kind in OPS.items():
        told = {field.name: _meta(kind, field.name) for field in structs.fields(kind)}
        types |= {str(meta.title): str(meta.description) for meta in told.values()}
        answer = ", ".join(f"`{field.name}`" for field in structs.fields(result_of(kind)))
        lines.append(f"| `{op}` | {_fields(kind, told)} | {answer} | {_doc(kind)} |")
    lines += ["", "Fields in brackets may be left out. What their types stand for:", ""]
    lines += ["| type | what is allowed |", "|---|---|"]
    lines += [f"| {title} | {text} |" for title, text in types.items()]
    return "\n".join(lines) + "\n"


def _fields(kind: type[Request[Any]], told: Mapping[str, Meta]) -> str:
    def one(name: str) -> str:
        title = told[name].title
        return f"`{name}`" if title == name else f"`{name}` ({title})"

    grouped = {name: group for group in kind.one_of for name in group}
    parts = []
    for field in structs.fields(kind):
        group = grouped.get(field.name)
        if group is None:
            parts.append(one(field.name) if field.required else f"[{one(field.name)}]")
        elif group[0] == field.name:
            parts.append(" or ".join(one(name) for name in group))
    return "; ".join(parts)


def _meta(kind: type[Any], field: str) -> Meta:
    hint = get_type_hints(kind, include_extras=True)[field]
    return next(meta for meta in metas([hint]) if meta.title)


def _doc(kind: type[Any]) -> str:
    return " ".join((kind.__doc__ or "").split())


def errors() -> str:
    """Error codes."""
    rows = "".join(f"| `{code}` | {meaning} |\n" for code, meaning in CODES.items())
    return f"| error code | meaning |\n|---|---|\n{rows}"


def events() -> str:
    """Topics, their shapes and fields."""
    lines = ["| topic | what it tells | fields |", "|---|---|---|"]
    for kind in EVENTS:
        hints = get_type_hints(kind)
        names = [f"`{field.name}`{_words(hints[field.name])}" for field in dataclasses.fields(kind)]
        lines.append(f"| `{kind.topic}` | {_event_doc(kind)} | {', '.join(names)} |")
    return "\n".join(lines) + "\n"


def _words(hint: Any) -> str:
    """Words that a field may be, if they are few."""
    words = get_args(hint) if get_origin(hint) is Literal else ()
    return f" ({', '.join(words)})" if words else ""


def _event_doc(kind: type[Event]) -> str:
    text = inspect.getdoc(kind) or ""
    lead, _, attributes = text.partition("Attributes:")
    return " ".join(
        f"{lead.strip()} {' '.join(attributes.split())}".replace("None", "null").split()
    )


def schema() -> dict[str, Any]:
    """All messages as a JSON Schema (2020-12); each by its kind and name in ``$defs``."""
    bare = _components("request", OPS.values())
    asked = {name: _enveloped(one) for name, one in bare.items()}
    for op, kind in OPS.items():
        one = asked[f"request.{kind.__name__}"]
        one["title"] = op
        if kind.one_of:
            one["allOf"] = [_one_of(group) for group in kind.one_of]
    batched = {f"batched.{kind.__name__}" for kind in BATCHED.values()}
    inner = {f"batched.{name.partition('.')[2]}": one for name, one in bare.items()}
    told = _components("event", EVENTS)
    parts = {
        **{name: _batched_refs(one) for name, one in asked.items()},
        **{name: one for name, one in inner.items() if name in batched},
        **_components("result", [result_of(kind) for kind in OPS.values()]),
        **{name: _told(kind, one) for (name, one), kind in zip(told.items(), EVENTS, strict=True)},
    }
    results = dict.fromkeys(f"result.{result_of(kind).__name__}" for kind in OPS.values())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"The control API of tuttihub, version {VERSION}",
        "description": "Rendered by python -m hub.messages.rendering; docs/control.md explains it.",
        "anyOf": [_ref("request"), _ref("reply"), _ref("event")],
        "$defs": {
            "request": {"oneOf": [_ref(f"request.{kind.__name__}") for kind in OPS.values()]},
            "reply": {"oneOf": [_ref("reply.done"), _ref("reply.refused")]},
            "event": {"anyOf": [_ref(name) for name in told]},
            "id": {
                "description": "comes back with the reply",
                "anyOf": [
                    {"type": "string", "maxLength": MAX_ID_CHARS}, {"type": "number"},
                    {"type": "null"},
                ],
            },
            "reply.done": _reply(True, "result", {"anyOf": [_ref(name) for name in results]}),
            "reply.refused": _reply(False, "error", _ref("error")),
            "error": {
                "type": "object",
                "properties": {"code": {"enum": list(CODES)}, "message": {"type": "string"}},
                "required": ["code", "message"],
            },
            **parts,
        },
    }  # fmt: skip


def _components(prefix: str, kinds: Iterable[type[Any]]) -> dict[str, dict[str, Any]]:
    template = f"#/$defs/{prefix}.{{name}}"
    _, components = msgspec.json.schema_components(list(kinds), ref_template=template)
    return {f"{prefix}.{name}": one for name, one in components.items()}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _enveloped(component: Mapping[str, Any]) -> dict[str, Any]:
    """A request with its version and id."""
    properties = {"v": {"const": VERSION}, "id": _ref("id"), **component["properties"]}
    return {**component, "properties": properties, "required": ["v", *component["required"]]}


def _told(kind: type[Event], component: Mapping[str, Any]) -> dict[str, Any]:
    """An event with what all have."""
    (envelope,) = _components("", [Envelope]).values()
    own = {**component["properties"]}
    if "what" in own and "default" in own["what"]:
        own["what"] = {"const": own["what"]["default"]}
    head = {**envelope["properties"], "v": {"const": VERSION}, "event": {"const": kind.topic}}
    return {
        **component,
        "properties": {**head, **own},
        "required": sorted({*head, *own}),
        "additionalProperties": False,
    }


def _batched_refs(component: Mapping[str, Any]) -> dict[str, Any]:
    """What refers to requests means those that have neither."""
    text = re.sub(r'"#/\$defs/request\.', '"#/$defs/batched.', json.dumps(component))
    changed: dict[str, Any] = json.loads(text)
    return changed


def _one_of(group: Iterable[str]) -> dict[str, Any]:
    return {"oneOf": [{"required": [name]} for name in group]}


def _reply(ok: bool, key: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "v": {"const": VERSION}, "id": _ref("id"), "ok": {"const": ok}, key: value,
        },
        "required": ["v", "id", "ok", key],
        "additionalProperties": False,
    }  # fmt: skip


def schema_text() -> str:
    """The file: a line a type."""
    whole = schema()
    defs = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in whole.pop("$defs").items())
    return f'{json.dumps(whole)[:-1]}, "$defs": {{\n{defs}\n}}}}\n'


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    SCHEMA.write_text(schema_text())
