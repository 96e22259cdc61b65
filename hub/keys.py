"""CURVE keys of the control socket over TCP (``tuttihub keys``), a folder of small files::

hub.key, hub.key_secret             the hub's own pair; the public half goes to every client
clients/NAME.key                    public halves: who may speak to the hub
secrets/NAME.key_secret             to be moved to NAME's machine; the hub never reads it
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq.auth

HUB = "hub"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class WrongKey(ValueError):
    """A key file is missing, or is none."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A public and a secret key, Z85."""

    public: bytes
    secret: bytes


def read_pair(path: Path) -> Pair:
    """The pair of a ``.key_secret`` file.

    Raises:
        WrongKey: it is missing, is none, or others may read it.
    """
    public, secret = _load(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise WrongKey(f"{path}: may be read by others (mode {mode:04o}; chmod 600)")
    if secret is None:
        raise WrongKey(f"{path}: has no secret key (a .key_secret file is wanted)")
    return Pair(public, secret)


def read_public(path: Path) -> bytes:
    """The public key of a ``.key`` file.

    Raises:
        WrongKey: it is missing, or is none.
    """
    return _load(path)[0]


def _load(path: Path) -> tuple[bytes, bytes | None]:
    if not path.exists():
        advice = "`tuttihub keys make FOLDER NAME` makes it (NAME hub: the hub's)"
        raise WrongKey(f"{path}: there is no such key; {advice}")
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise WrongKey(f"{path}: {error}") from None


def make_pair(folder: Path, name: str) -> Path:
    """Make the hub's pair, or a client's; where its secret half lies.

    Raises:
        WrongKey: the name cannot be one, or has a key.
        OSError: it cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise WrongKey(f"{name!r} is no name of 1..64 letters, digits and . _ -")
    before = os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("clients", "secrets"):
            (folder / part).mkdir(exist_ok=True)
        public = folder / f"{name}.key" if name == HUB else folder / "clients" / f"{name}.key"
        if public.exists():
            raise WrongKey(f"{name!r} has a key: {public}")
        secret = folder if name == HUB else folder / "secrets"
        zmq.auth.create_certificates(secret, name)
        (secret / f"{name}.key").replace(public)
    finally:
        os.umask(before)
    return secret / f"{name}.key_secret"


def list_keys(folder: Path) -> dict[str, str]:
    """Public keys by name, the hub's first."""
    found = [folder / f"{HUB}.key", *sorted((folder / "clients").glob("*.key"))]
    return {path.stem: read_public(path).decode() for path in found if path.exists()}
