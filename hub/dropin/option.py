"""How an option of JackTrip's is described: what it means there, and what becomes of it here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Mode(Enum):
    """What JackTrip is started as; the value is the option that says so."""

    HUB = "-S"
    CLIENT = "-C"
    SERVER_PEER = "-s"
    CLIENT_PEER = "-c"


@dataclass(frozen=True, slots=True)
class Sets:
    """The option is a setting here, or several that are given the same value.

    Attributes:
        names: fields of the mode's configuration.
        note: how it differs from JackTrip's, if it does.
        meant: values by the argument, where they are not the same; None leaves all as it is.
            Of an option without an argument: by the empty text.
    """

    names: tuple[str, ...]
    note: str = ""
    meant: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adds:
    """The option is added to ports, whatever was said of them before it."""

    names: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Idle:
    """The option is taken and changes nothing; the note says why that is right."""

    note: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The option ends the program; the note says why."""

    note: str


@dataclass(frozen=True, slots=True)
class Says:
    """The option says the mode, or asks for a text and nothing else."""

    note: str = ""


Use = Sets | Adds | Idle | Refused | Says


@dataclass(frozen=True, slots=True)
class Option:
    """One option of JackTrip's.

    Attributes:
        short: its letter, or nothing.
        long: its long name.
        argument: stands for its argument; empty if it has none.
        meaning: what it does in JackTrip.
        uses: what becomes of it here, by mode.
        newer: JackTrip 1.7.0 has it not: it is of later versions or other builds.
    """

    short: str
    long: str
    argument: str
    meaning: str
    uses: Mapping[Mode, Use]
    newer: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """As it may be written."""
        return (f"-{self.short}", f"--{self.long}") if self.short else (f"--{self.long}",)
