"""From what was written to a complete and checked configuration of one end of a connection."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from hub.endpoint.config import SETTINGS, Audio, EndpointConfig, Reconnect, Role
from hub.given import Given, check_cpus, fold, parsed, with_defaults
from hub.setting import ConfigError
from hub.values import MAX_PORT
from shared.limits import Underrun
from shared.protocol import DEFAULT_TCP_PORT

_HOST = re.compile(r"(?!-)[^\s\0]{1,253}")
DEFAULT_JACK_NAME = "JackTrip"
"""Of a peer that waits, as with JackTrip."""


def make_endpoint(role: Role, host: str | None = None, **values: object) -> EndpointConfig:
    """EndpointConfig from fields as a user would write them; the others have their defaults.

    >>> make_endpoint(Role.CLIENT, "hub.example.org", channels=1).send_channels
    1
    """
    given = {name: Given(value, SETTINGS[name].flag) for name, value in values.items()}
    return resolve(role, host, given)


def resolve(
    role: Role,
    host: str | None,
    given: Mapping[str, Given],
    *,
    usable_cpus: Set[int] | None = None,
) -> EndpointConfig:
    """Parse, complete and check.

    Args:
        role: which end this is.
        host: of the other side; None for SERVER_PEER.
        given: what was written, by field name; what is missing has its default.
        usable_cpus: CPUs this process may use; None asks the kernel.

    Raises:
        ConfigError: the first value that cannot be.
    """
    if host is not None and not _HOST.fullmatch(host):
        raise ConfigError("HOST", host, "is not the name or address of a machine")
    written = with_defaults(SETTINGS, given)
    values = parsed(SETTINGS, written)
    _complete_ports(role, values, written)
    for name in ("send_channels", "receive_channels"):
        if values[name] is None:
            values[name] = values["channels"]
    fold(SETTINGS, values, given, "zero_underrun", "underrun", Underrun.ZERO)
    if values["reconnect"] == "auto":
        values["reconnect"] = "always" if role is Role.CLIENT else "silence"
    values["reconnect"] = Reconnect[values["reconnect"].upper()]
    fold(SETTINGS, values, given, "timeout", "reconnect", Reconnect.NEVER)
    _check_auth(role, values, written)
    _complete_audio(values, written)
    usable = os.sched_getaffinity(0) if usable_cpus is None else usable_cpus
    check_cpus(("cpus",), values, written, usable)
    if values["iostat_log"] is not None and not values["iostat_s"]:
        raise _wrong(written["iostat_log"], "needs --iostat with 1 second or more")
    jack_name = values["jack_name"] or host or DEFAULT_JACK_NAME
    values["jack_name"] = jack_name.replace(":", "_")  # it parts clients from ports
    return EndpointConfig(role=role, host=host, **values)


def _wrong(entry: Given, problem: str) -> ConfigError:
    return ConfigError(entry.origin, entry.value, problem, switch=entry.value is True)


def _complete_ports(role: Role, values: dict[str, Any], written: Mapping[str, Given]) -> None:
    """Fold the offset in. A peer is found by its port, which therefore has to be certain."""
    offset = values["port_offset"]
    if values["bind_port"] is None and (offset or role is not Role.CLIENT):
        values["bind_port"] = DEFAULT_TCP_PORT
    for name in ("bind_port", "peer_port"):
        if values[name] is None:
            continue
        values[name] += offset
        if values[name] > MAX_PORT:
            raise _wrong(
                written["port_offset"],
                f"moves {SETTINGS[name].flag} to {values[name]}; at most {MAX_PORT} exists",
            )


def _check_auth(role: Role, values: Mapping[str, Any], written: Mapping[str, Given]) -> None:
    for name in ("username", "password"):
        if values[name] and not values["auth"]:
            # a password is not to be shown
            raise ConfigError(written[name].origin, True, "needs --auth", switch=True)
    if values["auth"] and role is not Role.CLIENT:
        raise _wrong(written["auth"], "is for a hub's clients: peers know no passwords")


def _complete_audio(values: dict[str, Any], written: Mapping[str, Given]) -> None:
    """Choose where sound comes from, and let what belongs to another place be a mistake."""
    if values["card"] and values["audio"] not in ("auto", "card"):
        raise _wrong(written["card"], f"needs --audio card, not {values['audio']}")
    if values["play"] is not None and values["tone_hz"] is not None:
        raise _wrong(written["tone_hz"], "and --play contradict each other; say one")
    of_files = [name for name in ("play", "record", "tone_hz") if values[name] is not None]
    if values["audio"] == "auto":
        values["audio"] = "card" if values["card"] else "files" if of_files else "jack"
    values["audio"] = Audio[values["audio"].upper()]
    if values["overwrite"] and values["record"] is None:
        raise _wrong(written["overwrite"], "needs --record")
    if values["play"] and values["record"] and _same(values["play"], values["record"]):
        raise _wrong(written["record"], "is the file that --play plays")
    if values["rate_hz"] == "auto":
        values["rate_hz"] = None


def _same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file."""
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return one.resolve() == other.resolve()
