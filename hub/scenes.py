"""Scenes: all levels of a hub by names, and the file that keeps them (``--scenefile``).

JSON, replaced as a whole, for the hub's own user only::

    {"v": 1, "scenes": {"overture": {"patch": "full-mix", "master": 1.0,
        "strips": {"Anna": {"gain": 0.5, "muted": false, "pan": -40.0}},
        "sections": {"violins": ["Anna"]},
        "rules": [{"listener": "Bob", "source_section": "violins", "gain": 2.0}]}}}

What cannot be read is never overwritten.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.files import PRIVATE, write_atomically
from hub.hearing import MAX_SECTIONS, Heard
from hub.levels import MAX_GAIN
from hub.pans import MAX_PAN
from hub.values import Patch, Refused, patch_name
from shared.layout import PatchMode

VERSION = 1
MAX_BYTES = 64 << 20
MAX_SCENES = 256


class SceneFileError(ValueError):
    """A file that is there holds no scenes that could be understood."""


class ScenesTooLarge(ValueError):
    """There would be more than a file may hold."""


@dataclass(frozen=True, slots=True)
class Strip:
    """Gain (linear), mute and place of a strip."""

    gain: float
    muted: bool
    pan: float | None


@dataclass(frozen=True, slots=True)
class Rule:
    """What a client or section hears of another, by names."""

    who: str
    who_is_section: bool
    what: str
    what_is_section: bool
    heard: Heard


@dataclass(frozen=True, slots=True)
class Scene:
    """All levels. Attributes: strips by client, members (clients) by section."""

    patch: PatchMode
    master: float
    strips: Mapping[str, Strip]
    sections: Mapping[str, list[str]]
    rules: list[Rule]

    def as_json(self) -> dict[str, Any]:
        """As the file has it."""
        return {
            "patch": patch_name(self.patch),
            "master": self.master,
            "strips": {
                name: {"gain": strip.gain, "muted": strip.muted, "pan": strip.pan}
                for name, strip in self.strips.items()
            },
            "sections": {name: list(members) for name, members in self.sections.items()},
            "rules": [_rule_json(rule) for rule in self.rules],
        }

    @classmethod
    def from_json(cls, given: object) -> Scene:
        """The opposite.

        Raises:
            ValueError: it is not understood.
        """
        scene = _object(given, "scene")
        try:
            patch: Any = Patch(jack=True).parse(scene.get("patch"))
        except Refused as refused:
            raise ValueError(f"patch {scene.get('patch')!r} {refused}") from None
        sections = _object(scene.get("sections"), "sections")
        if len(sections) > MAX_SECTIONS:
            raise ValueError(f"more than {MAX_SECTIONS} sections")
        rules = scene.get("rules")
        if not isinstance(rules, list):
            raise ValueError("rules are no list")
        return cls(
            patch,
            _gain(scene.get("master")),
            {_name(who): _strip(s) for who, s in _object(scene.get("strips"), "strips").items()},
            {_name(name): _members(members) for name, members in sections.items()},
            [_rule(rule) for rule in rules],
        )


def read_scenes(path: Path) -> dict[str, Scene]:
    """All scenes of a file; none if there is no file.

    Raises:
        SceneFileError: it cannot be read or understood.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SceneFileError(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise SceneFileError(f"is larger than {MAX_BYTES} bytes")
    try:
        document = _object(json.loads(data), "file")
        if document.get("v") != VERSION:
            raise ValueError(f"v is {document.get('v')!r}, not {VERSION}")
        scenes = _object(document.get("scenes"), "scenes")
        if len(scenes) > MAX_SCENES:
            raise ValueError(f"more than {MAX_SCENES} scenes")
        return {_name(name): Scene.from_json(given) for name, given in scenes.items()}
    except (ValueError, RecursionError) as error:
        raise SceneFileError(f"holds no scenes: {error}") from None


def write_scenes(path: Path, scenes: Mapping[str, Scene]) -> None:
    """Replace the file; its directory is made if it is missing.

    Raises:
        ScenesTooLarge: it could not be read again.
        OSError: the old file stands, as with the other.
    """
    data = bytearray()
    for piece in _pieces(scenes):
        data += piece.encode(errors="replace")
        if len(data) > MAX_BYTES:
            raise ScenesTooLarge(f"all scenes together have more than {MAX_BYTES >> 20} MiB")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, bytes(data), PRIVATE)


def _pieces(scenes: Mapping[str, Scene]) -> Iterator[str]:
    """The file's text, a rule a line. Piece by piece: meanwhile other threads have their turns."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    yield f'{{"v": {VERSION}, "scenes": {{'
    for k, (name, scene) in enumerate(scenes.items()):
        fields = scene.as_json()
        rules = fields.pop("rules")
        yield f'{"," if k else ""}\n{encode(name)}: {encode(fields)[:-1]}, "rules": ['
        for j, rule in enumerate(rules):
            yield f"{',' if j else ''}\n {encode(rule)}"
        yield "]}"
    yield "\n}}\n"


def _rule_json(rule: Rule) -> dict[str, Any]:
    heard = rule.heard
    told = {
        "gain": heard.gain, "pan": heard.pan, "muted": heard.muted, "soloed": heard.soloed,
    }  # fmt: skip
    return {
        "listener_section" if rule.who_is_section else "listener": rule.who,
        "source_section" if rule.what_is_section else "source": rule.what,
        **{name: value for name, value in told.items() if value is not None},
    }


def _rule(given: object) -> Rule:
    rule = _object(given, "rule")
    who, who_is_section = _party(rule, "listener")
    what, what_is_section = _party(rule, "source")
    gain, pan = rule.get("gain"), rule.get("pan")
    heard = Heard(
        None if gain is None else _gain(gain),
        None if pan is None else _pan(pan),
        _truth(rule.get("muted")),
        _truth(rule.get("soloed")),
    )
    return Rule(who, who_is_section, what, what_is_section, heard)


def _party(rule: dict[str, Any], kind: str) -> tuple[str, bool]:
    section = f"{kind}_section" in rule
    return _name(rule.get(f"{kind}_section" if section else kind)), section


def _strip(given: object) -> Strip:
    strip = _object(given, "strip")
    pan = strip.get("pan")
    muted = _truth(strip.get("muted"))
    return Strip(_gain(strip.get("gain")), bool(muted), None if pan is None else _pan(pan))


def _object(given: object, what: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ValueError(f"{what} is no JSON object")
    return given


def _name(given: object) -> str:
    if not isinstance(given, str) or not given:
        raise ValueError(f"{given!r} is no name")
    return given


def _members(given: object) -> list[str]:
    if not isinstance(given, list):
        raise ValueError("members are no list")
    return [_name(member) for member in given]


def _number(given: object, low: float, high: float) -> float:
    right = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not right or not math.isfinite(given) or not low <= given <= high:  # type: ignore[arg-type,operator]
        raise ValueError(f"{given!r} is no number in {low:g}..{high:g}")
    return float(given)  # type: ignore[arg-type]


def _gain(given: object) -> float:
    return _number(given, 0.0, MAX_GAIN)


def _pan(given: object) -> float:
    return _number(given, -MAX_PAN, MAX_PAN)


def _truth(given: object) -> bool | None:
    if given is not None and not isinstance(given, bool):
        raise ValueError(f"{given!r} is not true or false")
    return given
