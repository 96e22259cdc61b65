"""How a setting is described: its flags, the kind of its value, its default and its help."""

from __future__ import annotations

from dataclasses import dataclass

from hub.values import Kind


class ConfigError(ValueError):
    """A setting has a value that it cannot have.

    Attributes:
        option: where the value stood: '--queue', or 'hub.toml: queue'.
        value: the value as it was written.
        problem: what is wrong with it and what is allowed.
    """

    def __init__(self, option: str, value: object, problem: str, *, switch: bool = False) -> None:
        # a switch has no value that its user would recognise
        super().__init__(f"{option} {problem}" if switch else f"{option}: {value!r} {problem}")
        self.option, self.value, self.problem = option, value, problem


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as flags, TOML and documentation show it.

    Attributes:
        long: the long flag and the TOML key, without dashes in front.
        short: the short flag's letter, or nothing.
        kind: what its value may be.
        default: as a user would write it.
        help: one sentence; it follows the unit, if there is one.
        unit: of the value.
        jacktrip: what the option is called in JackTrip, or nothing.
        bare: what it means without a value, or nothing if it needs one.
    """

    long: str
    short: str
    kind: Kind
    default: str | bool
    help: str
    unit: str = ""
    jacktrip: str = ""
    bare: str = ""

    @property
    def flag(self) -> str:
        return f"--{self.long}"


def described(
    flags: str,
    kind: Kind,
    default: str | bool,
    help: str,
    *,
    unit: str = "",
    jacktrip: bool = False,
    bare: str = "",
) -> dict[str, Setting]:
    """Metadata of a field; flags is 'q queue' or, without a short flag, 'max-clients'."""
    short, long = flags.split() if " " in flags else ("", flags)
    original = f"-{short} --{long}".removeprefix("- ") if jacktrip else ""
    return {"setting": Setting(long, short, kind, default, help, unit, original, bare)}
