"""Ready-made scenarios, and how a name on a command line becomes a scenario."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path

from loadtest.scenario.loader import load, parse
from loadtest.scenario.model import Scenario, ScenarioError

_FOLDER = resources.files("loadtest.scenario") / "ready"
_SUFFIX = ".toml"


def names() -> list[str]:
    """Of the ready-made scenarios, sorted."""
    files = (Path(entry.name) for entry in _FOLDER.iterdir())
    return sorted(file.stem for file in files if file.suffix == _SUFFIX)


def ready(name: str) -> Scenario:
    """A ready-made scenario.

    Raises:
        ScenarioError: there is none of this name; the text names those there are.
    """
    return parse(text(name), name + _SUFFIX)


def text(name: str) -> str:
    """A ready-made scenario as its file has it.

    Raises:
        ScenarioError: there is none of this name; the text names those there are.
    """
    known = names()
    if name not in known:
        close = difflib.get_close_matches(name, known, 2)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise ScenarioError(f"scenario: {name!r} is neither a file nor ready-made; {meant}"
                            f"ready-made: {', '.join(known)}")  # fmt: skip
    return (_FOLDER / (name + _SUFFIX)).read_text(encoding="utf-8")


def find(wanted: str) -> Scenario:
    """What somebody means by a name: a ready-made scenario, or a TOML file's.

    A path has a slash or ends in .toml; of a bare name, the ready-made one is meant.

    Raises:
        ScenarioError: there is no such scenario or file, or the file is wrong.
    """
    if wanted.endswith(_SUFFIX) or "/" in wanted:
        return load(Path(wanted))
    return ready(wanted)
