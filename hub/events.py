"""What happens at a hub, told over a ZeroMQ PUB socket beside the control socket.

Two frames a message, the topic and a JSON object::

    join       {"v": 1, "event": "join", "at_s": 1772391600.0, "slot": 3, "name": "Anna", ...}

Topics: join, leave, condition, level, restart, scene. Nobody is waited for: who reads too slowly
misses events, and nothing else is disturbed. A state that was missed is in ``status``.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import zmq

from hub.conditions.condition import Raised
from hub.control import make_way
from hub.directory import Directory

VERSION = 1
TOPICS = ("join", "leave", "condition", "level", "restart", "scene")
MAX_WAITING = 1000
"""Events that wait for one subscriber; the next are lost for it."""


_Whose = tuple[int, int] | None
"""Slot and session of a client; None: the whole hub."""


class Events:
    """Publishes until it is closed.

    Args:
        endpoint: of type ipc; None: nobody is told anything.

    Raises:
        ControlInUse, OSError: as of ``hub.control.ControlSocket``.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.linger = 0
        self._socket.sndhwm = MAX_WAITING
        self._path: Path | None = None
        self._conditions: dict[_Whose, frozenset[str]] = {}
        self._names: dict[tuple[int, int], str] = {}
        self._restarts: dict[str, int] = {}
        if endpoint is not None:
            self._bind(endpoint)

    def _bind(self, endpoint: str) -> None:
        path = Path(endpoint.removeprefix("ipc://"))
        make_way(path)
        mask = os.umask(0o177)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, error.strerror, str(path)) from None
        finally:
            os.umask(mask)
        self._path = path

    def close(self) -> None:
        """Say no more and remove the file."""
        self._context.destroy(linger=0)
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def tell(self, topic: str, **fields: Any) -> None:
        """Publish an event to those who listen."""
        if self._path is None:
            return
        event = {"v": VERSION, "event": topic, "at_s": round(time.time(), 3), **fields}
        with contextlib.suppress(zmq.ZMQError):
            self._socket.send_multipart([topic.encode(), json.dumps(event).encode()], zmq.NOBLOCK)

    def look(self, directory: Directory) -> None:
        """Tell what the directory shows to have changed: conditions and restarts."""
        hub = directory.hub
        clients = directory.listed()
        conditions: dict[_Whose, frozenset[str]] = {
            (client.slot, client.session): _slugs(client.conditions) for client in clients
        }
        conditions[None] = _slugs(hub.conditions)
        names = {(client.slot, client.session): client.name for client in clients}
        for whose in self._conditions.keys() | conditions.keys():
            # those of who has left are over as well
            before = self._conditions.get(whose, frozenset())
            now = conditions.get(whose, frozenset())
            slot = None if whose is None else whose[0]
            name = None if whose is None else names.get(whose, self._names.get(whose))
            for slug in sorted(now ^ before):
                self.tell("condition", slot=slot, name=name, condition=slug, raised=slug in now)
        self._names = names
        self._conditions = conditions
        self._tell_restarts(directory)

    def _tell_restarts(self, directory: Directory) -> None:
        hub = directory.hub
        counts: Mapping[str, int] = {
            "mixer": hub.mixer_restarts, "lane": hub.lane_restarts, "zygote": hub.zygote_restarts,
        }  # fmt: skip
        receivers = {
            f"receiver {client.session}": client.receiver_restarts for client in directory.listed()
        }
        sessions = {f"receiver {client.session}": client for client in directory.listed()}
        for what, count in {**counts, **receivers}.items():
            if count > self._restarts.get(what, 0):
                client = sessions.get(what)
                self.tell(
                    "restart", process=what.partition(" ")[0], times=count,
                    slot=client.slot if client else None, name=client.name if client else None,
                )  # fmt: skip
        self._restarts = {**counts, **receivers}


def _slugs(raised: Iterable[Raised]) -> frozenset[str]:
    return frozenset(one.condition.slug for one in raised)
