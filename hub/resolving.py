"""From what was written to a complete and checked configuration.

What was written travels as ``Given``, with its origin, so that an error names the flag or the
file; ``resolve`` turns it into a ServeConfig, in which nothing is 'auto' any more::

    command line --+
                   +-- {field: Given} -- resolve --> ServeConfig
    TOML file -----+
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from hub.banfile import default_banfile
from hub.config import CORES_FOR_A_LANE, SETTINGS, ServeConfig
from hub.given import Given, check_cpus, fold, parsed, with_defaults
from hub.jack.clock import JackClock, ask_server, complete_clock
from hub.pans import Downmix
from hub.rendezvous import default_control
from hub.setting import ConfigError, Setting
from hub.values import (
    JACK_MODES,
    MAX_PORT,
    NEEDS_JACK,
    Patch,
    Refused,
    Switch,
    nearest,
)
from shared.limits import (
    MAX_LANES,
    JackPorts,
    PatchMode,
    Underrun,
)
from shared.protocol import (
    default_udp_base,
)


def make_config(**values: object) -> ServeConfig:
    """ServeConfig from fields as a user would write them; the others have their defaults.

    >>> make_config(period_frames=64, metrics="off").period_frames
    64
    """
    return resolve({name: Given(value, SETTINGS[name].flag) for name, value in values.items()})


def resolve(
    given: Mapping[str, Given],
    *,
    environ: Mapping[str, str] = os.environ,
    usable_cpus: Set[int] | None = None,
    jack_clock: Callable[[str | None], JackClock | None] = ask_server,
) -> ServeConfig:
    """Parse, complete and check.

    Args:
        given: what was written, by field name; what is missing has its default.
        usable_cpus: CPUs this process may use; None asks the kernel.
        jack_clock: tells rate and period of a JACK server.

    Raises:
        ConfigError: the first value that cannot be.
    """
    written = with_defaults(SETTINGS, given)
    values = parsed(SETTINGS, written)
    _check_jack(values, written)
    complete_clock(values, written, jack_clock)
    fold(SETTINGS, values, given, "zero_underrun", "underrun", Underrun.ZERO)
    _check_auth(values, written)
    _check_iostat(values, written)
    _complete_channels(values, written)
    _complete_ports(values, written)
    _complete_cpus(values, written, usable_cpus)
    if values["control"] == "auto":
        values["control"] = default_control(values["bind_port"], environ)
    if values["banfile"] == "auto":
        values["banfile"] = default_banfile(values["bind_port"], environ)
    if values["scenefile"] == "auto":
        beside = default_banfile(values["bind_port"], environ)
        values["scenefile"] = beside.with_name(f"scenes-{values['bind_port']}.json")
    if values["control_keys"] == "auto":
        beside = default_banfile(values["bind_port"], environ)
        values["control_keys"] = beside.with_name(f"keys-{values['bind_port']}")
    return ServeConfig(**values)


SYNONYMS = (("underrun", "zero_underrun"),)
"""Two names of one setting each."""


def overlay(
    file: Mapping[str, Given],
    line: Mapping[str, Given],
    synonyms: Iterable[tuple[str, str]] = SYNONYMS,
) -> dict[str, Given]:
    """Settings of a file and of the command line, which wins."""
    merged = {**file, **line}
    for one, other in synonyms:
        if one in line or other in line:
            for name in {one, other} - line.keys():
                merged.pop(name, None)
    return merged


def _check_jack(values: dict[str, Any], written: Mapping[str, Given]) -> None:
    """Fill in the patch mode, and refuse what is nothing without JACK."""
    jack = values["jack"]
    if values["patch"] is None:
        values["patch"] = PatchMode.SERVER_TO_CLIENTS if jack else PatchMode.FULL_MIX
    if jack:
        _check_sections(values, written)
        return
    if values["patch"] in JACK_MODES:
        entry = written["patch"]
        try:
            Patch().parse(entry.value)
        except Refused as refused:
            raise ConfigError(entry.origin, entry.value, str(refused)) from None
    for name in ("include_server", "no_jack_connect", "jack_server", "jack_ports", "broadcast"):
        if values[name]:
            entry, switch = written[name], isinstance(SETTINGS[name].kind, Switch)
            raise ConfigError(entry.origin, entry.value, NEEDS_JACK, switch=switch)


def _check_sections(values: Mapping[str, Any], written: Mapping[str, Given]) -> None:
    """Ports by section where there is none would be those of the mix, by another name."""
    if values["jack_ports"] is JackPorts.SECTIONS and not values["sections"]:
        entry = written["jack_ports"]
        flag = SETTINGS["sections"].flag
        raise ConfigError(
            entry.origin, entry.value, f"needs {flag}, or say mix: one pair of ports for all"
        )


def _check_auth(values: Mapping[str, Any], written: Mapping[str, Given]) -> None:
    """All three files, or nobody could join."""
    names = ("cert_file", "key_file", "creds_file")
    missing = [SETTINGS[name].flag for name in names if values[name] is None]
    if values["auth"] and missing:
        raise ConfigError(
            written["auth"].origin,
            True,
            f"needs {' and '.join(missing)}; `tuttihub cert` and `tuttihub passwd` make such files",
            switch=True,
        )


def _check_iostat(values: Mapping[str, Any], written: Mapping[str, Given]) -> None:
    """A file for lines that nobody asked for is a mistake."""
    if values["iostat_log"] is not None and not values["iostat_s"]:
        entry = written["iostat_log"]
        raise ConfigError(
            entry.origin, entry.value, f"needs {SETTINGS['iostat_s'].flag} with 1 second or more"
        )


def _complete_channels(values: dict[str, Any], written: Mapping[str, Given]) -> None:
    """Let mono listeners hear both sides where voices have places."""
    if values["mono_centre"] and values["upmix"]:
        raise ConfigError(
            written["mono_centre"].origin,
            True,
            f"and {written['upmix'].origin} contradict each other: both say how mono clients are "
            "heard on two channels; say one",
            switch=True,
        )
    if values["downmix"] is None:
        placed = values["mono_centre"] or any(s.pan is not None for s in values["sections"])
        values["downmix"] = Downmix().parse("-3" if placed else "off")


def _complete_ports(values: dict[str, Any], written: Mapping[str, Given]) -> None:
    """Fold the offset in, place the UDP ports, and check that all fit."""

    def wrong(name: str, problem: str) -> ConfigError:
        return ConfigError(written[name].origin, written[name].value, problem)

    base, clients = values["udp_base"], values["max_clients"]
    values["bind_port"] += values["port_offset"]
    port = values["bind_port"]
    if port > MAX_PORT:
        raise wrong("port_offset", f"moves the TCP port to {port}; at most {MAX_PORT} exists")
    highest = MAX_PORT + 1 - clients
    if base is None:
        base = values["udp_base"] = default_udp_base(port)
        if base > highest:
            raise wrong(
                "port_offset" if values["port_offset"] else "bind_port",
                f"moves the UDP ports to {base}..{base + clients - 1}, beyond {MAX_PORT}; "
                f"say --udpbaseport (1..{highest} for {clients} clients) or fewer --max-clients",
            )
    elif base > highest:
        raise wrong(
            "udp_base",
            f"leaves no room below 65536 for {clients} clients; "
            f"allowed are 1..{highest}, or fewer --max-clients",
        )
    if values["single_port"] == "auto":
        values["single_port"] = base
    if values["osc"] is not None and values["osc"].port == values["single_port"]:
        raise wrong("single_port", f"is the port of {SETTINGS['osc'].flag}; take another")
    if values["control_tcp"] is not None and values["control_tcp"].port == MAX_PORT:
        raise wrong(
            "control_tcp", f"leaves no port for events, which have the next (1..{MAX_PORT - 1})"
        )
    if values["metrics"] is not None and values["metrics"].port == port:
        raise wrong("metrics", f"has the port of the handshake; take another than {port}")


def _complete_cpus(
    values: dict[str, Any], written: Mapping[str, Given], usable_cpus: Set[int] | None
) -> None:
    """Check the CPU lists against the machine and choose the number of lanes."""
    usable = os.sched_getaffinity(0) if usable_cpus is None else usable_cpus
    check_cpus(("cpus", "mixer_cpus"), values, written, usable)
    if values["transmit_lanes"] is None:
        cores = len(values["cpus"] or usable)
        lanes = cores // CORES_FOR_A_LANE
        values["transmit_lanes"] = min(lanes, MAX_LANES)


def read_file(path: Path, settings: Mapping[str, Setting] = SETTINGS) -> dict[str, Given]:
    """Settings of a TOML file: long flags without dashes as keys, all at the top level.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a key that is no setting.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("--config", str(path), f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("--config", str(path), f"is no TOML file: {error}") from None
    names = {setting.long: name for name, setting in settings.items()}
    given: dict[str, Given] = {}
    for key, value in document.items():
        if key not in names:
            problem = f"is not a setting{nearest(key, names)} (allowed: {', '.join(names)})"
            if isinstance(value, dict):
                problem = f"is no table of settings: all stand at the top level, without [{key}]"
            raise ConfigError(str(path), key, problem)
        given[names[key]] = Given(value, f"{path}: {key}")
    return given
