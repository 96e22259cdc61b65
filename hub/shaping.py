"""Requests that shape a hub's sound as a whole: sections, hearing, master, scenes.

Part of ``hub.commands``, which dispatches to ``HANDLERS``. All that stands in one request is heard
from one frame on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import UNSET

from hub.console import Console, heard_json
from hub.fields import (
    Find,
    client_at,
    clients_at,
    factor,
    linear,
    named,
    parsed,
    party,
    section_at,
)
from hub.hearing import MAX_SECTIONS
from hub.messages import requests, results
from hub.messages.errors import CommandError, shown, wrong
from hub.messages.requests import Request
from hub.pans import Pan
from hub.scenes import MAX_SCENES, ScenesTooLarge
from hub.values import JACK_MODES, NEEDS_JACK, patch_name
from shared.layout import Underrun

Handler = Callable[[Any, Console, Find], results.Result | Awaitable[results.Result]]


def _sections(request: requests.Sections, console: Console, find: Find) -> results.Sections:
    sections = console.levels.hearing.sections
    return results.Sections([results.Section(n, sorted(m)) for n, m in sections.items()])


def _section(request: requests.Section, console: Console, find: Find) -> results.Section:
    name, sections = named(request, "name"), console.levels.hearing.sections
    if name not in sections and len(sections) >= MAX_SECTIONS:
        raise CommandError("too-many", f"name: there are {MAX_SECTIONS} sections already")
    if request.members is not UNSET and (request.add, request.remove) != (UNSET, UNSET):
        raise CommandError("bad-field", "members is all of them: no add or remove beside it")
    members = set(sections.get(name, ()))
    if request.members is not UNSET:
        members = set(clients_at(request.members, "members", find))
    if request.add is not UNSET:
        members |= set(clients_at(request.add, "add", find))
    if request.remove is not UNSET:
        members -= set(clients_at(request.remove, "remove", find))
    console.set_members(name, members)
    return results.Section(name, sorted(members))


def _section_remove(request: requests.SectionRemove, console: Console, find: Find) -> results.Named:
    name = section_at(request, "name", console.levels.hearing.sections)
    console.remove_section(name)
    return results.Named(name)


def _hear(request: requests.Hear, console: Console, find: Find) -> results.Heard:
    sections = console.levels.hearing.sections
    who = party(request, "listener", find, sections)
    what = party(request, "source", find, sections)
    told: dict[str, Any] = {}
    if request.gain is not UNSET and request.gain_db is not UNSET:
        raise CommandError("bad-field", "at most one of gain_db, gain must be given")
    if request.gain is not UNSET or request.gain_db is not UNSET:
        told["gain"] = linear(request.gain_db, request.gain)
    if request.pan is not UNSET:
        told["pan"] = parsed(request, "pan", Pan())
    if request.muted is not UNSET:
        told["muted"] = request.muted
    if request.soloed is not UNSET:
        told["soloed"] = request.soloed
    if not told:
        allowed = "gain_db, gain, pan, muted, soloed"
        raise CommandError("bad-field", f"at least one of {allowed} must be given")
    heard = console.levels.hearing.rule(who, what).changed(**told)
    console.set_heard(who, what, heard)
    return results.Heard(who, what, **heard_json(heard))


def _hearing(request: requests.Hearing, console: Console, find: Find) -> results.Hearing:
    rules = console.levels.hearing.rules()
    return results.Hearing([results.Heard(a, b, **heard_json(h)) for a, b, h in rules])


def _matrix(request: requests.Matrix, console: Console, find: Find) -> results.MatrixSet:
    listeners = clients_at(request.listeners, "listeners", find)
    sources = clients_at(request.sources, "sources", find)
    gains: list[list[float | None]]
    if request.gains is not UNSET:
        field, gains = "gains", request.gains
    else:
        assert request.gains_db is not UNSET  # one of them is
        field, rows = "gains_db", request.gains_db
        gains = [[None if one is None else factor(one) for one in row] for row in rows]
    if len(gains) != len(listeners) or any(len(row) != len(sources) for row in gains):
        allowed = f"{len(listeners)} lists (listeners) of {len(sources)} gains (sources)"
        raise wrong(field, getattr(request, field), allowed)
    console.set_matrix(listeners, sources, gains)
    return results.MatrixSet(len(listeners), len(sources))


def _master(request: requests.Master, console: Console, find: Find) -> results.Master:
    gain = linear(request.gain_db, request.gain)
    console.set_master(1.0 if gain is None else gain)
    return results.Master(console.levels.master)


def _rename(request: requests.Rename, console: Console, find: Find) -> results.Renamed:
    slot = client_at(request.client, "client", find)
    name = named(request, "name")
    if not console.rename(slot, name):
        raise CommandError("name-taken", f"name: {shown(name)}: somebody here is called so")
    return results.Renamed(slot, name)


def _conceal(request: requests.Conceal, console: Console, find: Find) -> results.Concealed:
    slot = client_at(request.client, "client", find)
    filling = None if request.underrun is None else Underrun[request.underrun.upper()]
    console.set_underrun(slot, filling)
    return results.Concealed(slot, request.underrun)


def _scenes(request: requests.Scenes, console: Console, find: Find) -> results.Scenes:
    if request.name is not UNSET:
        name = _scene(request, console)
        return results.Scenes([results.Scene(name, **console.scenes[name].as_json())])
    return results.Scenes(
        [
            results.Scene(name, len(scene.strips), list(scene.sections), len(scene.rules))
            for name, scene in console.scenes.items()
        ]
    )


def _scene(request: Request[Any], console: Console) -> str:
    name = named(request, "name")
    if name not in console.scenes:
        raise CommandError("no-scene", f"name: {shown(name)}: there is no such scene")
    return name


async def _scene_save(request: requests.SceneSave, console: Console, find: Find) -> results.Kept:
    name = named(request, "name")
    if name not in console.scenes and len(console.scenes) >= MAX_SCENES:
        raise CommandError("too-many", f"name: there are {MAX_SCENES} scenes already")
    try:
        return results.Kept(name, await console.save_scene(name))
    except ScenesTooLarge as error:
        raise CommandError("too-many", f"name: {shown(name)}: {error}") from None


async def _scene_delete(
    request: requests.SceneDelete, console: Console, find: Find
) -> results.Kept:
    name = _scene(request, console)
    return results.Kept(name, await console.delete_scene(name))


def _scene_recall(request: requests.SceneRecall, console: Console, find: Find) -> results.Recalled:
    name = _scene(request, console)
    patch = console.scenes[name].patch
    if patch in JACK_MODES and not console.has_jack:
        why = f"its patch mode {patch.value} ({patch_name(patch)}) {NEEDS_JACK}"
        raise CommandError("bad-field", f"name: {shown(name)}: {why}")
    console.recall_scene(name, request.seconds)
    return results.Recalled(name, request.seconds)


HANDLERS: dict[type[Request[Any]], Handler] = {
    requests.Sections: _sections,
    requests.Section: _section,
    requests.SectionRemove: _section_remove,
    requests.Hear: _hear,
    requests.Hearing: _hearing,
    requests.Matrix: _matrix,
    requests.Master: _master,
    requests.Rename: _rename,
    requests.Conceal: _conceal,
    requests.Scenes: _scenes,
    requests.SceneSave: _scene_save,
    requests.SceneRecall: _scene_recall,
    requests.SceneDelete: _scene_delete,
}
