"""Where a hub's control socket lies when nobody says otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SHARED_PLACE = Path("/tmp")


def default_control(tcp_port: int, environ: Mapping[str, str] = os.environ) -> str:
    """Endpoint of the control socket of a hub on this TCP port."""
    return f"ipc://{_runtime_directory(environ) / _name(tcp_port)}"


def events_endpoint(control: str) -> str:
    """Where the events of the hub with this control socket are."""
    return f"{control}-events"


def find_control(
    tcp_port: int, environ: Mapping[str, str] = os.environ, shared_place: Path = SHARED_PLACE
) -> str:
    """The control socket of a running hub on this TCP port, as far as can be seen.

    A hub started as a service may not have had this login's $XDG_RUNTIME_DIR, nor the
    other way round: the first place where a socket lies is taken.
    """
    for place in (_runtime_directory(environ), Path(f"/run/user/{os.getuid()}"), shared_place):
        if (place / _name(tcp_port)).is_socket():
            return f"ipc://{place / _name(tcp_port)}"
    return default_control(tcp_port, environ)


def _runtime_directory(environ: Mapping[str, str]) -> Path:
    own = Path(environ.get("XDG_RUNTIME_DIR") or SHARED_PLACE)
    return own if own.is_absolute() and own.is_dir() else SHARED_PLACE


def _name(tcp_port: int) -> str:
    return f"tuttihub-{tcp_port}"
