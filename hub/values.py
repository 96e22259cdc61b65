"""Kinds of values that settings take: how what was written becomes a value, and what is allowed.

A kind is given what stood on the command line (a text, or a bool for a switch) or in a
TOML file (also a number or a list), and returns the value or raises ``Refused`` with a
text that continues the sentence "--queue: 'many' ...".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from shared.limits import MAX_HEADROOM_MS, MAX_QUEUE_MS, MAX_QUEUE_PACKETS, PatchMode

MIN_GAIN_DB, MAX_GAIN_DB = -120.0, 24.0
MAX_PORT = 65535

NANO_PER_MILLI = 1_000_000

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{0,18})?", re.ASCII)


class Refused(ValueError):
    """A value that a setting does not take; the text says what it is not, or why not."""


class Kind(Protocol):
    """What a setting's value may be."""

    @property
    def metavar(self) -> str:
        """Stands for the value in the usage text; empty for a switch."""

    @property
    def allowed(self) -> str:
        """What may be written, in a few words."""

    def parse(self, given: object) -> Any:
        """The value of what was written; raises Refused."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number in a range; with ``auto`` also that word, which becomes None."""

    noun: str
    low: int
    high: int
    auto: bool = False
    metavar: str = "N"

    @property
    def allowed(self) -> str:
        return f"{self.low}..{self.high}" + (" or `auto`" if self.auto else "")

    def parse(self, given: object) -> int | None:
        if self.auto and given == "auto":
            return None
        number = integer(given)
        if number is None or not self.low <= number <= self.high:
            either = " or 'auto'" if self.auto else ""
            raise Refused(f"is not {self.noun} ({self.low}..{self.high}){either}")
        return number


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a range, decimals allowed; ``none`` becomes None."""

    noun: str
    low: float
    high: float
    metavar: str

    @property
    def allowed(self) -> str:
        return f"{self.low:g}..{self.high:g} or `none`"

    def parse(self, given: object) -> float | None:
        if given == "none":
            return None
        plain = isinstance(given, str) and _DECIMAL.fullmatch(given)
        counted = isinstance(given, int | float) and not isinstance(given, bool)
        number = float(given) if plain or counted else math.nan  # type: ignore[arg-type]
        if not self.low <= number <= self.high:
            raise Refused(f"is not {self.noun} ({self.low:g}..{self.high:g}) or 'none'")
        return number


@dataclass(frozen=True, slots=True)
class ShareOrOff:
    """A share of what there is, decimals allowed; ``off`` becomes None."""

    low: float
    high: float
    metavar: str = "SHARE"

    @property
    def allowed(self) -> str:
        return f"{self.low:g}..{self.high:g} or `off`"

    def parse(self, given: object) -> float | None:
        if given == "off":
            return None
        plain = isinstance(given, str) and _DECIMAL.fullmatch(given)
        counted = isinstance(given, int | float) and not isinstance(given, bool)
        share = float(given) if plain or counted else math.nan  # type: ignore[arg-type]
        if not self.low <= share <= self.high:
            raise Refused(f"is not a share ({self.low:g}..{self.high:g}) or 'off'")
        return share


@dataclass(frozen=True, slots=True)
class MbitOrOff:
    """A bandwidth in whole Mbit/s; ``auto`` stays as it is, ``off`` becomes None."""

    high: int
    metavar: str = "MBIT"

    @property
    def allowed(self) -> str:
        return f"1..{self.high}, `auto` or `off`"

    def parse(self, given: object) -> int | str | None:
        if given == "off":
            return None
        if given == "auto":
            return "auto"
        mbit = integer(given)
        if mbit is None or not 1 <= mbit <= self.high:
            raise Refused(f"is not a number of Mbit/s (1..{self.high}), 'auto' or 'off'")
        return mbit


@dataclass(frozen=True, slots=True)
class Text:
    """Any text that has room; without any it stays empty."""

    noun: str
    max_bytes: int
    metavar: str

    @property
    def allowed(self) -> str:
        return f"up to {self.max_bytes} bytes"

    def parse(self, given: object) -> str:
        if not isinstance(given, str) or "\0" in given:
            raise Refused(f"is not {self.noun}")
        try:
            size = len(given.encode())
        except UnicodeEncodeError:
            raise Refused(f"is not {self.noun} in UTF-8") from None
        if size > self.max_bytes:
            raise Refused(f"is {size} bytes long, and {self.noun} has at most {self.max_bytes}")
        return given


class Secret(Text):
    """A text that no error shows."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Queue:
    """How much of a client's sound waits for packets that come late.

    Attributes:
        packets: so many of the client's; 0: as much as its packets turn out to need.
        headroom_ms: with 0 packets: that much more.
        milliseconds: with 0 packets: so long instead, whatever they need; 0: no.
    """

    packets: int
    headroom_ms: int = 0
    milliseconds: int = 0

    def __str__(self) -> str:
        if self.milliseconds:
            return f"{self.milliseconds}ms"
        return str(self.packets) if self.packets else f"auto{self.headroom_ms or ''}"

    @property
    def order(self) -> int:
        """``queue_packets`` of a slot's record."""
        return self.packets or -self.milliseconds

    @property
    def headroom_ns(self) -> int:
        return self.headroom_ms * NANO_PER_MILLI

    @classmethod
    def of(cls, order: int, headroom_ns: int) -> Queue:
        """As a slot's record has it."""
        if order < 0:
            return cls(0, milliseconds=-order)
        return cls(order, 0 if order else headroom_ns // NANO_PER_MILLI)


@dataclass(frozen=True, slots=True)
class PacketsOrAuto:
    """A ``Queue``: as JackTrip writes it, a number of packets, 'auto' or 'autoN', or 'Nms'."""

    metavar: str = "N|Nms|auto|autoN"
    allowed: str = (
        f"1..{MAX_QUEUE_PACKETS}, `1ms`..`{MAX_QUEUE_MS}ms`, `auto` or `autoN` "
        f"(N: 0..{MAX_HEADROOM_MS} ms)"
    )

    def parse(self, given: object) -> Queue:
        packets = integer(given)
        if packets is not None and 1 <= packets <= MAX_QUEUE_PACKETS:
            return Queue(packets)
        if isinstance(given, str) and given.startswith("auto"):
            headroom_ms = integer(given.removeprefix("auto") or "0")
            if headroom_ms is not None and 0 <= headroom_ms <= MAX_HEADROOM_MS:
                return Queue(0, headroom_ms)
        if isinstance(given, str) and given.endswith("ms"):
            milliseconds = integer(given.removesuffix("ms"))
            if milliseconds is not None and 1 <= milliseconds <= MAX_QUEUE_MS:
                return Queue(0, milliseconds=milliseconds)
        raise Refused(
            f"is not a number of packets (1..{MAX_QUEUE_PACKETS}), 'auto', "
            f"'autoN' with N milliseconds of headroom (0..{MAX_HEADROOM_MS}), "
            f"or 'Nms' (1..{MAX_QUEUE_MS})"
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words or numbers; with ``auto`` also that word, which becomes None."""

    noun: str
    values: tuple[str | int, ...]
    metavar: str
    auto: bool = False

    @property
    def allowed(self) -> str:
        return ", ".join(f"`{value}`" for value in self.values) + (" or `auto`" * self.auto)

    def parse(self, given: object) -> str | int | None:
        if self.auto and given == "auto":
            return None
        if not isinstance(given, bool):
            for value in self.values:
                if str(value) == str(given):
                    return value
        either = " or 'auto'" if self.auto else ""
        raise Refused(f"is not {self.noun} ({', '.join(map(str, self.values))}){either}")


@dataclass(frozen=True, slots=True)
class NameOrDefault:
    """A name of a few printable characters; ``default`` becomes None."""

    noun: str
    longest: int
    metavar: str = "NAME"
    allowed: str = "a name, or `default`"

    def parse(self, given: object) -> str | None:
        if given == "default":
            return None
        if (
            not isinstance(given, str)
            or not given.isprintable()
            or not given.strip()
            or "/" in given
        ):
            raise Refused(f"is not {self.noun}")
        if len(given.encode()) > self.longest:
            raise Refused(f"is not {self.noun} of at most {self.longest} bytes")
        return given


@dataclass(frozen=True, slots=True)
class Named:
    """A member of an enumeration, by its name in lower case."""

    noun: str
    members: type[IntEnum]
    metavar: str

    @property
    def allowed(self) -> str:
        return ", ".join(f"`{member.name.lower()}`" for member in self.members)

    def parse(self, given: object) -> IntEnum:
        for member in self.members:
            if given == member.name.lower():
                return member
        names = ", ".join(member.name.lower() for member in self.members)
        raise Refused(f"is not {self.noun} ({names})")


@dataclass(frozen=True, slots=True)
class OnOff:
    """'on' or 'off' where its user has to say which; true and false in a file."""

    metavar: str = "on|off"
    allowed: str = "`on`, `off`"

    def parse(self, given: object) -> bool:
        match given:
            case "on" | True:
                return True
            case "off" | False:
                return False
        raise Refused("is not 'on' or 'off'")


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    metavar: str = ""
    allowed: str = "`true`, `false`"

    def parse(self, given: object) -> bool:
        if not isinstance(given, bool):
            raise Refused("is not true or false")
        return given


NEEDS_JACK = "needs a local JACK graph: start the hub with --jack"
JACK_MODES = (PatchMode.SERVER_TO_CLIENTS, PatchMode.RESERVED)
_WITHOUT_JACK = tuple(mode for mode in PatchMode if mode not in JACK_MODES)


def patch_name(mode: PatchMode) -> str:
    """Name of a patch mode as users read and write it: 'full-mix'."""
    return mode.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch mode by JackTrip's number or by its name.

    Attributes:
        jack: whether those that need a JACK graph are taken.
        auto: whether that word is taken; it becomes None.
    """

    jack: bool = False
    auto: bool = False
    metavar: str = "MODE"

    @property
    def allowed(self) -> str:
        modes = ", ".join(f"`{mode.value}` {patch_name(mode)}" for mode in self._modes)
        return modes + (" or `auto`" if self.auto else "")

    @property
    def _modes(self) -> tuple[PatchMode, ...]:
        return tuple(PatchMode) if self.jack else _WITHOUT_JACK

    def parse(self, given: object) -> PatchMode | None:
        if self.auto and given == "auto":
            return None
        listed = ", ".join(f"{mode.value} {patch_name(mode)}" for mode in self._modes)
        number = integer(given)
        for mode in PatchMode:
            if number == mode.value or given == patch_name(mode):
                if mode in self._modes:
                    return mode
                raise Refused(f"({patch_name(mode)}) {NEEDS_JACK}; take one of {listed}")
        raise Refused(f"is not a patch mode ({listed})")


def integer(given: object) -> int | None:
    """A whole number as such or as decimal text; None for anything else, True and '1_0' too."""
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    if isinstance(given, str) and _INTEGER.fullmatch(given):
        return int(given)
    return None


def nearest(word: str, allowed: Mapping[str, object] | Iterable[str], prefix: str = "") -> str:
    """', did you mean X?' for a mistyped word, or nothing; X is shown with the prefix."""
    import difflib  # only after a mistake

    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{prefix}{close[0]}'?" if close else ""
