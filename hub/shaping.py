"""Requests that shape a hub's sound as a whole: sections, hearing, master, scenes, batches.

Part of the language of ``hub.commands``, which dispatches to ``OPS``. All that stands in one
request is heard from one frame on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hub.console import Console, heard_json
from hub.fields import (
    MISSING,
    CommandError,
    Find,
    Request,
    client_at,
    clients_at,
    gain_at,
    gain_in,
    name_in,
    number,
    pan_in,
    party,
    section_at,
    shown,
    truth_or_null,
    wrong,
)
from hub.hearing import MAX_SECTIONS
from hub.scenes import MAX_SCENES, ScenesTooLarge
from shared.layout import Underrun

MAX_FADE_S = 600.0
FILLINGS = {kind.name.lower(): kind for kind in Underrun}

Result = dict[str, Any]
Handler = Callable[[Request, Console, Find], Result | Awaitable[Result]]


def _sections(request: Request, console: Console, find: Find) -> Result:
    sections = console.levels.hearing.sections
    return {"sections": [{"name": n, "members": sorted(m)} for n, m in sections.items()]}


def _section(request: Request, console: Console, find: Find) -> Result:
    name, sections = name_in(request, "name"), console.levels.hearing.sections
    if name not in sections and len(sections) >= MAX_SECTIONS:
        raise CommandError("too-many", f"name: there are {MAX_SECTIONS} sections already")
    if "members" in request and ("add" in request or "remove" in request):
        raise CommandError("bad-field", "members is all of them: no add or remove beside it")
    members = set(sections.get(name, ()))
    if "members" in request:
        members = set(clients_at(request, "members", find))
    if "add" in request:
        members |= set(clients_at(request, "add", find))
    if "remove" in request:
        members -= set(clients_at(request, "remove", find))
    console.set_members(name, members)
    return {"name": name, "members": sorted(members)}


def _section_remove(request: Request, console: Console, find: Find) -> Result:
    name = section_at(request, "name", console.levels.hearing.sections)
    console.remove_section(name)
    return {"name": name}


def _hear(request: Request, console: Console, find: Find) -> Result:
    sections = console.levels.hearing.sections
    who = party(request, "listener", find, sections)
    what = party(request, "source", find, sections)
    fields: dict[str, Any] = {}
    if "gain" in request or "gain_db" in request:
        fields["gain"] = gain_in(request)
    if "pan" in request:
        fields["pan"] = pan_in(request)
    for field in ("muted", "soloed"):
        if field in request:
            fields[field] = truth_or_null(request, field)
    if not fields:
        allowed = "gain_db, gain, pan, muted, soloed"
        raise CommandError("bad-field", f"at least one of {allowed} must be given")
    heard = console.levels.hearing.rule(who, what).changed(**fields)
    console.set_heard(who, what, heard)
    return {"listener": who, "source": what, **heard_json(heard)}


def _hearing(request: Request, console: Console, find: Find) -> Result:
    rules = console.levels.hearing.rules()
    return {"rules": [{"listener": a, "source": b, **heard_json(h)} for a, b, h in rules]}


def _matrix(request: Request, console: Console, find: Find) -> Result:
    listeners = clients_at(request, "listeners", find)
    sources = clients_at(request, "sources", find)
    if ("gains_db" in request) == ("gains" in request):
        raise CommandError("bad-field", "exactly one of gains_db and gains must be given")
    field = "gains_db" if "gains_db" in request else "gains"
    given, in_db = request[field], field == "gains_db"
    right = isinstance(given, list) and len(given) == len(listeners)
    if not right or any(not isinstance(r, list) or len(r) != len(sources) for r in given):
        allowed = f"{len(listeners)} lists (listeners) of {len(sources)} gains (sources)"
        raise wrong(field, given, allowed)
    gains = [
        [gain_at(one, f"{field}[{i}][{j}]", in_db=in_db) for j, one in enumerate(row)]
        for i, row in enumerate(given)
    ]
    console.set_matrix(listeners, sources, gains)
    return {"listeners": len(listeners), "sources": len(sources)}


def _master(request: Request, console: Console, find: Find) -> Result:
    gain = gain_in(request)
    console.set_master(1.0 if gain is None else gain)
    return {"gain": console.levels.master}


def _rename(request: Request, console: Console, find: Find) -> Result:
    slot = client_at(request.get("client", MISSING), "client", find)
    name = name_in(request, "name")
    if not console.rename(slot, name):
        raise CommandError("name-taken", f"name: {shown(name)}: somebody here is called so")
    return {"client": slot, "name": name}


def _conceal(request: Request, console: Console, find: Find) -> Result:
    slot = client_at(request.get("client", MISSING), "client", find)
    given = request.get("underrun", MISSING)
    if given is not None and (not isinstance(given, str) or given not in FILLINGS):
        raise wrong("underrun", given, f"one of {', '.join(FILLINGS)}, or null")
    console.set_underrun(slot, None if given is None else FILLINGS[given])
    return {"client": slot, "underrun": given}


def _scenes(request: Request, console: Console, find: Find) -> Result:
    if "name" in request:
        name = _scene(request, console)
        return {"scenes": [{"name": name, **console.scenes[name].as_json()}]}
    return {
        "scenes": [
            {"name": name, "strips": len(s.strips), "sections": list(s.sections),
             "rules": len(s.rules)}
            for name, s in console.scenes.items()
        ]
    }  # fmt: skip


def _scene(request: Request, console: Console) -> str:
    name = name_in(request, "name")
    if name not in console.scenes:
        raise CommandError("no-scene", f"name: {shown(name)}: there is no such scene")
    return name


async def _scene_save(request: Request, console: Console, find: Find) -> Result:
    name = name_in(request, "name")
    if name not in console.scenes and len(console.scenes) >= MAX_SCENES:
        raise CommandError("too-many", f"name: there are {MAX_SCENES} scenes already")
    try:
        return {"name": name, "saved": await console.save_scene(name)}
    except ScenesTooLarge as error:
        raise CommandError("too-many", f"name: {shown(name)}: {error}") from None


async def _scene_delete(request: Request, console: Console, find: Find) -> Result:
    name = _scene(request, console)
    return {"name": name, "saved": await console.delete_scene(name)}


def _scene_recall(request: Request, console: Console, find: Find) -> Result:
    name = _scene(request, console)
    seconds = number(request, "seconds", 0.0, MAX_FADE_S, 0.0)
    console.recall_scene(name, seconds)
    return {"name": name, "seconds": seconds}


OPS: Mapping[str, tuple[tuple[str, ...], Handler]] = {
    "sections": ((), _sections),
    "section": (("name", "members", "add", "remove"), _section),
    "section-remove": (("name",), _section_remove),
    "hear": (
        (
            "listener", "listener_section", "source", "source_section", "gain_db", "gain", "pan",
            "muted", "soloed",
        ),
        _hear,
    ),
    "hearing": ((), _hearing),
    "matrix": (("listeners", "sources", "gains_db", "gains"), _matrix),
    "master": (("gain_db", "gain"), _master),
    "rename": (("client", "name"), _rename),
    "conceal": (("client", "underrun"), _conceal),
    "scenes": (("name",), _scenes),
    "scene-save": (("name",), _scene_save),
    "scene-recall": (("name", "seconds"), _scene_recall),
    "scene-delete": (("name",), _scene_delete),
}  # fmt: skip

BATCHED = ("patch", "gain", "pan", "mute", "section", "section-remove", "hear", "matrix", "master")
"""What may stand in a batch: levels, which go back to what they were should one be refused."""
