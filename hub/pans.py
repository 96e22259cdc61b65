"""Where voices stand between left and right: pans, and the sections that give them.

A pan is −100 (left) .. 0 (centre) .. 100 (right). It becomes two gains, for channels 1 and 2::

    a mono client       constant power: sin and cos, −3 dB each in the centre, 0 dB and
                        nothing at the ends
    two channels, more  balance: the side it is turned away from is lowered by the same law,
                        the other stays as it is; never louder than it was sent

A section gives all whose shown name fits a pattern (`*`, `?`, `[...]`; case does not matter)
a pan, a gain, or both, when they join; the first section that fits counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hub.values import MAX_GAIN_DB, MIN_GAIN_DB, Refused

MAX_PAN = 100.0
WORDS = {"left": -MAX_PAN, "centre": 0.0, "center": 0.0, "right": MAX_PAN}
MAX_SECTIONS = 256


def mono_gains(pan: float) -> tuple[float, float]:
    """Gains of a mono client in channels 1 and 2."""
    quarter = math.pi / 4 / MAX_PAN
    return math.sin((MAX_PAN - pan) * quarter), math.sin((MAX_PAN + pan) * quarter)


def balance_gains(pan: float) -> tuple[float, float]:
    """Gains of the first two channels of a client that sends more than one."""
    left, right = mono_gains(pan)
    return min(1.0, math.sqrt(2) * left), min(1.0, math.sqrt(2) * right)


def pan_text(pan: float) -> str:
    """'L40', 'C', 'R100'."""
    return f"{'L' if pan < 0 else 'R'}{abs(pan):g}" if pan else "C"


def _number(given: object) -> float | None:
    """A finite number as such or as text; None for anything else."""
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class Pan:
    """A pan by number or word; 'default' becomes None."""

    metavar: str = "PAN"
    allowed: str = "-100..100, `left`, `centre`, `right` or `default`"

    def parse(self, given: object) -> float | None:
        if given is None or given == "default":
            return None
        pan = WORDS.get(given) if isinstance(given, str) else None
        pan = _number(given) if pan is None else pan
        if pan is None or not -MAX_PAN <= pan <= MAX_PAN:
            raise Refused("is not a pan (-100..100, left, centre, right, or default)")
        return pan


@dataclass(frozen=True, slots=True)
class Section:
    """Whose shown name fits the pattern gets this.

    Attributes:
        pan: −100..100, or None.
        gain_db: or None.
        name: of the group that they are (``hub.hearing``); the pattern unless given.
    """

    pattern: str
    pan: float | None = None
    gain_db: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.pattern)

    def fits(self, name: str) -> bool:
        return fnmatchcase(name.casefold(), self.pattern.casefold())


def section_of(sections: Sequence[Section], name: str) -> Section | None:
    """The first section that a name fits."""
    return next((section for section in sections if section.fits(name)), None)


@dataclass(frozen=True, slots=True)
class Sections:
    """Sections as a table of tables (TOML), or as 'PATTERN=PAN[/GAIN_DB],...'."""

    metavar: str = "PATTERN=PAN[/DB],..."
    allowed: str = "`none`, `PATTERN=PAN[/GAIN_DB],...`, or a table in a file"

    def parse(self, given: object) -> tuple[Section, ...]:
        if given == "none":
            return ()
        if isinstance(given, dict):
            found = [_from_table(pattern, table) for pattern, table in given.items()]
        elif isinstance(given, str):
            found = [_from_text(part) for part in given.split(",")]
        else:
            raise Refused("is not a list of sections such as 'violin*=-40,cello*=30/-3'")
        if len(found) > MAX_SECTIONS:
            raise Refused(f"has more than {MAX_SECTIONS} sections")
        return tuple(found)


def _from_table(pattern: object, table: object) -> Section:
    allowed = {"pan", "gain_db", "names"}
    if not isinstance(table, dict) or not table or not table.keys() <= allowed:
        raise Refused(f"has a section {pattern!r} that is no table of names, pan, gain_db")
    names = table.get("names", pattern)
    if not isinstance(names, str) or not names:
        raise Refused(f"has in section {pattern!r} the names {names!r}, which is no pattern")
    return _section(names, table.get("pan"), table.get("gain_db"), str(pattern))


def _from_text(part: str) -> Section:
    pattern, _, values = part.strip().rpartition("=")
    pan, _, gain_db = values.partition("/")
    if not pattern or not values:
        raise Refused(f"has {part!r}, which is not PATTERN=PAN or PATTERN=PAN/GAIN_DB")
    return _section(pattern, pan or None, gain_db or None)


def _section(pattern: str, pan: object, gain_db: object, name: str = "") -> Section:
    try:
        place = Pan().parse(pan)
    except Refused as refused:
        raise Refused(f"has in section {pattern!r} the pan {pan!r}, which {refused}") from None
    gain = None if gain_db is None else _number(gain_db)
    if gain_db is not None and (gain is None or not MIN_GAIN_DB <= gain <= MAX_GAIN_DB):
        allowed = f"{MIN_GAIN_DB:g}..{MAX_GAIN_DB:g} dB"
        raise Refused(f"has in section {pattern!r} the gain_db {gain_db!r}, which is not {allowed}")
    return Section(pattern, place, gain, name)


@dataclass(frozen=True, slots=True)
class Downmix:
    """The factor on left plus right that mono listeners hear; 0: left alone; `auto`: None."""

    metavar: str = "auto|off|-3|-6"
    allowed: str = "`auto`, `off`, `-3` or `-6` (dB)"

    def parse(self, given: object) -> float | None:
        if not isinstance(given, bool):
            match str(given):
                case "auto":
                    return None
                case "off":
                    return 0.0
                case "-3":
                    return math.sqrt(0.5)
                case "-6":
                    return 0.5
        raise Refused("is not 'auto', 'off', -3 or -6 (dB)")
