"""What was written of settings, on its way to values: where it stood is kept for the errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from hub.machine_values import cpu_text
from hub.setting import ConfigError, Setting
from hub.values import Refused, Secret, Switch


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and where: '--queue', or 'hub.toml: queue'."""

    value: object
    origin: str


def with_defaults(settings: Mapping[str, Setting], given: Mapping[str, Given]) -> dict[str, Given]:
    """All settings; those that nobody wrote have their defaults."""
    return {
        name: given.get(name) or Given(setting.default, setting.flag)
        for name, setting in settings.items()
    }


def parsed(settings: Mapping[str, Setting], written: Mapping[str, Given]) -> dict[str, Any]:
    """Each setting's value.

    Raises:
        ConfigError: the first that cannot be.
    """
    values: dict[str, Any] = {}
    for name, setting in settings.items():
        entry = written[name]
        try:
            values[name] = setting.kind.parse(entry.value)
        except Refused as refused:
            unshown = isinstance(setting.kind, Switch) and entry.value is True
            shown = entry.value
            if isinstance(setting.kind, Secret):
                unshown, shown = True, ""
            raise ConfigError(entry.origin, shown, str(refused), switch=unshown) from None
    return values


def fold(
    settings: Mapping[str, Setting],
    values: dict[str, Any],
    given: Mapping[str, Given],
    switch: str,
    name: str,
    meant: object,
) -> None:
    """Let a switch be what it is short for.

    Raises:
        ConfigError: something else was said as well.
    """
    if not values[switch]:
        return
    if name in given and values[name] is not meant:
        entry, short = given[name], given[switch].origin
        problem = f"contradicts {short}: {settings[switch].help}"
        raise ConfigError(entry.origin, entry.value, problem)
    values[name] = meant


def check_cpus(
    names: Iterable[str],
    values: Mapping[str, Any],
    written: Mapping[str, Given],
    usable: Set[int],
) -> None:
    """See to it that lists of CPUs name none but these.

    Raises:
        ConfigError: one does.
    """
    for name in names:
        if missing := set(values[name] or ()) - usable:
            raise ConfigError(
                written[name].origin,
                written[name].value,
                f"names CPU {cpu_text(missing)}, which this process may not use "
                f"({cpu_text(usable)})",
            )
