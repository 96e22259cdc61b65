"""Kinds of values that name what a machine has: addresses, ports, files, processors.

See ``hub.values``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hub.networks import Network, parse_network
from hub.values import MAX_PORT, Refused, integer

MAX_CPU = 4095
MAX_IPC_PATH_BYTES = 107
"""Room in ``sockaddr_un.sun_path``, its final zero left out."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Networks, separated by commas, or the option more than once; a word stands for none.

    Attributes:
        nothing: that word.
    """

    nothing: str
    metavar: str = "NET"

    @property
    def allowed(self) -> str:
        return f"networks such as `192.0.2.0/24` or `2001:db8::/32`, or `{self.nothing}`"

    def parse(self, given: object) -> tuple[Network, ...]:
        if given == self.nothing:
            return ()
        parts = given if isinstance(given, list) else str(given).split(",")
        networks: list[Network] = []
        for part in parts:
            try:
                networks.append(parse_network(part if isinstance(part, str) else ""))
            except ValueError:
                which = "" if part == given else f"({part!r}) "
                raise Refused(
                    f"{which}is not a network (192.0.2.0/24, 2001:db8::/32, or an address) "
                    f"or '{self.nothing}'"
                ) from None
        return tuple(dict.fromkeys(networks))


@dataclass(frozen=True, slots=True)
class FileOrOff:
    """A path; ``off`` becomes None, ``auto`` stays as it is."""

    metavar: str = "FILE"
    allowed: str = "a path, `auto` or `off`"

    def parse(self, given: object) -> Path | str | None:
        if given == "off":
            return None
        if given == "auto":
            return "auto"
        if not isinstance(given, str) or not given or "\0" in given:
            raise Refused("is not a path, 'auto' or 'off'")
        return Path(given).expanduser()


@dataclass(frozen=True, slots=True)
class HostPort:
    """A TCP address to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HostPortOrOff:
    """HOST:PORT, an IPv6 host in brackets; ``off`` becomes None."""

    metavar: str = "HOST:PORT"
    allowed: str = "HOST:PORT, `[HOST]:PORT` or `off`"

    def parse(self, given: object) -> HostPort | None:
        if given == "off":
            return None
        if isinstance(given, str):
            found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([\w.-]+)):([0-9]{1,5})", given)
            if found and 1 <= int(found[3]) <= 65535:
                return HostPort(found[1] or found[2], int(found[3]))
        raise Refused("is not HOST:PORT (port 1..65535, an IPv6 host in brackets) or 'off'")


@dataclass(frozen=True, slots=True)
class PortOrOff:
    """A port; ``auto`` stays as it is, ``off`` becomes None; true and false in a file."""

    metavar: str = "[PORT]"
    allowed: str = f"1..{MAX_PORT}, `auto` or `off`"

    def parse(self, given: object) -> int | str | None:
        if given == "off" or given is False:
            return None
        if given == "auto" or given is True:
            return "auto"
        port = integer(given)
        if port is None or not 1 <= port <= MAX_PORT:
            raise Refused(f"is not a port (1..{MAX_PORT}), 'auto' or 'off'")
        return port


@dataclass(frozen=True, slots=True)
class LocalPortOrOff:
    """HOST:PORT, or PORT alone for this machine's programs; ``off`` becomes None."""

    metavar: str = "PORT"
    allowed: str = "a port of 127.0.0.1, `HOST:PORT`, `[HOST]:PORT` or `off`"

    def parse(self, given: object) -> HostPort | None:
        port = integer(given)
        text = f"127.0.0.1:{port}" if port is not None else given
        try:
            return HostPortOrOff().parse(text)
        except Refused:
            raise Refused("is not a port (1..65535), HOST:PORT or 'off'") from None


@dataclass(frozen=True, slots=True)
class FilePath:
    """A file by its path; ``none`` becomes None. Whether it exists is seen when it is read."""

    metavar: str = "FILE"
    allowed: str = "a path"

    def parse(self, given: object) -> Path | None:
        if given == "none":
            return None
        if not isinstance(given, str) or not given or "\0" in given:
            raise Refused("is not the path of a file")
        return Path(given)


@dataclass(frozen=True, slots=True)
class Control:
    """A ZeroMQ endpoint of type ipc; ``auto`` stays as it is, ``off`` becomes None."""

    metavar: str = "ENDPOINT"
    allowed: str = "`ipc://PATH`, `auto` or `off`"

    def parse(self, given: object) -> str | None:
        if given == "off":
            return None
        if given == "auto":
            return "auto"
        if not isinstance(given, str) or not given.startswith("ipc://"):
            plain = isinstance(given, str) and given.startswith("tcp://")
            why = " (commands over tcp:// would be open to everybody)" if plain else ""
            raise Refused(f"is not ipc://PATH, 'auto' or 'off'{why}")
        path = given.removeprefix("ipc://")
        if not path or "\0" in path or path.startswith("@"):
            raise Refused("names no path of a file: write ipc:///run/tuttihub/control or the like")
        if len(path.encode()) > MAX_IPC_PATH_BYTES:
            raise Refused(f"is too long: a socket's path has at most {MAX_IPC_PATH_BYTES} bytes")
        return given


@dataclass(frozen=True, slots=True)
class CpuList:
    """CPU numbers; ``all`` becomes None."""

    metavar: str = "LIST"
    allowed: str = "CPU numbers such as `2` or `0-3,6`, or `all`"

    def parse(self, given: object) -> tuple[int, ...] | None:
        if given == "all":
            return None
        refused = Refused("is not a list of CPU numbers such as '2' or '0-3,6', or 'all'")
        parts = given if isinstance(given, list) else str(given).split(",")
        cpus: set[int] = set()
        for part in parts:
            ends = [integer(end) for end in re.split(r"(?<=[0-9])-", str(part))]
            low, high = ends[0], ends[-1]
            if isinstance(part, bool) or len(ends) > 2 or low is None or high is None:
                raise refused
            if not 0 <= low <= high <= MAX_CPU:
                raise refused
            cpus.update(range(low, high + 1))
        if not cpus:
            raise refused
        return tuple(sorted(cpus))


def cpu_text(cpus: Iterable[int]) -> str:
    """The shortest list that ``CpuList`` reads back: '0-3,6'."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][-1] == cpu - 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
