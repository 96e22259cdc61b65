"""Where a hub's control socket lies when nobody says otherwise."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from hub.machine_values import HostPort

SHARED_PLACE = Path("/tmp")
SERVICE_PLACE = Path("/run/tuttihub")
"""Of a service, by the unit in deploy/systemd."""


def default_control(tcp_port: int, environ: Mapping[str, str] = os.environ) -> str:
    """Endpoint of the control socket of a hub on this TCP port."""
    return f"ipc://{_runtime_directory(environ) / _name(tcp_port)}"


def tcp_endpoint(where: HostPort) -> str:
    """Where ZeroMQ is to listen, which knows addresses only.

    Raises:
        OSError: there is no such host.
    """
    found = socket.getaddrinfo(
        where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return f"tcp://{HostPort(str(found[0][4][0]), where.port)}"


def events_endpoint(control: str) -> str:
    """Where the events of the hub with this control socket are: over TCP one port higher."""
    if control.startswith("tcp://"):
        host, _, port = control.rpartition(":")
        return f"{host}:{int(port) + 1}"
    return f"{control}-events"


def find_control(
    tcp_port: int,
    environ: Mapping[str, str] = os.environ,
    shared_place: Path = SHARED_PLACE,
    service_place: Path = SERVICE_PLACE,
) -> str:
    """The control socket of a running hub on this TCP port, as far as can be seen.

    A hub started as a service may not have had this login's $XDG_RUNTIME_DIR, nor the
    other way round: the first place where a socket lies is taken.
    """
    login = Path(f"/run/user/{os.getuid()}")
    for place in (_runtime_directory(environ), login, service_place, shared_place):
        if _is_ours(place / _name(tcp_port)):
            return f"ipc://{place / _name(tcp_port)}"
    return default_control(tcp_port, environ)


def _is_ours(path: Path) -> bool:
    """Whether a socket is there that nobody else could have put there to be asked."""
    user = os.getuid()
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISSOCK(found.st_mode) and (user == 0 or found.st_uid in (user, 0))


def _runtime_directory(environ: Mapping[str, str]) -> Path:
    own = Path(environ.get("XDG_RUNTIME_DIR") or SHARED_PLACE)
    return own if own.is_absolute() and own.is_dir() else SHARED_PLACE


def _name(tcp_port: int) -> str:
    return f"tuttihub-{tcp_port}"
