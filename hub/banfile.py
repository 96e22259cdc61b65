"""The file that bans are kept in (``--banfile``), so that they outlive the hub.

JSON, readable and editable while no hub runs on it::

    {"v": 1, "bans": [{"network": "192.0.2.0/24", "since_s": 1772391600.0, "until_s": null,
                       "reason": "noise", "name": "Mallory"}]}

It is replaced as a whole by renaming, so that a crash leaves the old or the new one, and
is for the hub's own user only. What cannot be read is never overwritten: a hub that has
lost its bans had better not start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from hub.bans import MAX_BANS, Ban
from hub.files import PRIVATE, write_atomically

VERSION = 1
MAX_BYTES = 16 << 20


class BanFileError(ValueError):
    """A file that is there holds no bans that could be understood."""


def default_banfile(tcp_port: int, environ: Mapping[str, str] = os.environ) -> Path:
    """Where a hub on this TCP port keeps its bans unless told.

    systemd's state directory for a service, otherwise the user's.
    """
    name = f"bans-{tcp_port}.json"
    if given := environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0]) / name
    home = Path(environ.get("XDG_STATE_HOME") or "")
    if not home.is_absolute():
        home = Path(environ.get("HOME") or "/").absolute() / ".local" / "state"
    return home / "tuttihub" / name


def read_bans(path: Path) -> list[Ban]:
    """All bans of a file; none if there is no file.

    Raises:
        BanFileError: it cannot be read or understood.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BanFileError(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise BanFileError(f"is larger than {MAX_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BanFileError(f"is no JSON: {error}") from None
    if not isinstance(document, dict) or document.get("v") != VERSION:
        raise BanFileError(f'is no list of bans: {{"v": {VERSION}, "bans": [...]}} is wanted')
    listed = document.get("bans")
    if not isinstance(listed, list) or len(listed) > MAX_BANS:
        raise BanFileError(f"has no list 'bans' of at most {MAX_BANS}")
    bans = []
    for number, given in enumerate(listed):
        try:
            bans.append(Ban.from_json(given))
        except ValueError as error:
            raise BanFileError(f"has a wrong ban (number {number}): {error}") from None
    return bans


def write_bans(path: Path, bans: Iterable[Ban]) -> None:
    """Replace the file; its directory is made if it is missing.

    Raises:
        OSError: the old file stands.
    """
    document = {"v": VERSION, "bans": [ban.as_json() for ban in bans]}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode(errors="replace"), PRIVATE)
