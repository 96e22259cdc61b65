"""Reads a Containerfile: its stages, and the steps of each."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction, its flags apart."""

    name: str
    flags: tuple[str, ...]
    text: str

    @property
    def words(self) -> list[str]:
        """Its arguments: of the JSON form, or as a shell would split them."""
        if self.text.startswith("["):
            words: list[str] = json.loads(self.text)
            return words
        return shlex.split(self.text)


def read_stages(path: Path) -> list[list[Step]]:
    """The steps of each stage; comments and line ends taken out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[list[Step]] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, *rest = line.split()
        flags = []
        while rest and rest[0].startswith("--"):
            flags.append(rest.pop(0))
        step = Step(name, tuple(flags), " ".join(rest))
        if name == "FROM":
            stages.append([])
        stages[-1].append(step)
    return stages
