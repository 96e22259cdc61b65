"""Small internets of network namespaces, to be broken: each musician behind a router of its own.

    client i                 router i (rules)               the hub's machine, one for all
    10.200.i.2 ── home ── 10.200.i.1   10.201.i.2 ── wide ── 10.201.i.1   TCP 4464, UDP 61002...
    fd00:200:i::2                fd00:201:i::2                fd00:201:i::1

Names carry the pid. Needs root, iproute2 and nftables.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NETNS_FILES = Path("/etc/netns")
_TIMEOUT_S = 30
_NEWNET = 0x40000000
IPV6_MTU = 1280
"""A line that carries less has no IPv6."""


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """What this thread opens in the block, sockets and programs, is in the namespace for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
        assert libc.setns(there.fileno(), _NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(home.fileno(), _NEWNET) == 0, os.strerror(ctypes.get_errno())


def lacking() -> str:
    """Why there can be none here; empty: nothing is lacking."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        return f"not there: {', '.join(missing)} (packages iproute2, nftables)"
    name = f"ttdoctor-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=False)
    return ""


def run(*command: str, stdin: str = "") -> str:
    """Output of a command that must succeed."""
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@dataclass(slots=True)
class Way:
    """One musician's way to the hub."""

    number: int
    client: str
    router: str

    @property
    def hub_address(self) -> str:
        return f"10.201.{self.number}.1"

    @property
    def hub_address6(self) -> str:
        return f"fd00:201:{self.number}::1"

    def write(self, files: Mapping[str, str]) -> None:
        """Files of /etc as programs in the client's namespace see them."""
        folder = NETNS_FILES / self.client
        for name, text in files.items():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


@dataclass(slots=True)
class Internet:
    """The hub's machine and the ways to it; everything is removed by ``remove``."""

    hub: str = field(default_factory=lambda: f"ttdoctor-{os.getpid()}-hub")
    namespaces: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self._add(self.hub)
        run("ip", "-n", self.hub, "link", "set", "lo", "up")

    def _add(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self.namespaces.append(name)

    def way(self, rules: str = "", mtu: int = 1500, own_rules: str = "") -> Way:
        """Another musician.

        Args:
            rules: nftables' rules of the router: text between the braces of a table ``inet``.
            own_rules: those of the musician's own machine.
            mtu: of the line between router and hub.
        """
        number = next(self._numbers)
        name = f"ttdoctor-{os.getpid()}-{number}"
        way = Way(number, f"{name}-client", f"{name}-router")
        self._add(way.client)
        self._add(way.router)
        home, wide = f"10.200.{number}", f"10.201.{number}"
        home6, wide6 = f"fd00:200:{number}::", f"fd00:201:{number}::"
        inner = f"h{number}"
        six = "" if mtu >= IPV6_MTU else "#"
        batch = {
            way.router: f"""
                link set lo up
                link add home type veth peer name home netns {way.client}
                link add wide mtu {mtu} type veth peer name {inner} mtu {mtu} netns {self.hub}
                address add {home}.1/24 dev home
                address add {home6}1/64 dev home nodad
                address add {wide}.2/24 dev wide
                {six} address add {wide6}2/64 dev wide nodad
                link set home up
                link set wide up
            """,
            way.client: f"""
                link set lo up
                address add {home}.2/24 dev home
                address add {home6}2/64 dev home nodad
                link set home up
                route add default via {home}.1
                route add default via {home6}1
            """,
            self.hub: f"""
                address add {wide}.1/24 dev {inner}
                {six} address add {wide6}1/64 dev {inner} nodad
                link set {inner} up
                route add {home}.0/24 via {wide}.2
                {six} route add {home6}/64 via {wide6}2
            """,
        }
        for where, text in batch.items():
            run("ip", "-n", where, "-batch", "-", stdin=text)
        switches = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
        forward = "; ".join(f"echo 1 >/proc/sys/net/{switch}" for switch in switches)
        run("ip", "netns", "exec", way.router, "sh", "-c", forward)
        for where, text in ((way.router, rules), (way.client, own_rules)):
            if text:
                table = f"table inet broken {{\n{text}\n}}\n"
                run("ip", "netns", "exec", where, "nft", "-f", "-", stdin=table)
        return way

    def remove(self) -> None:
        """End all of it."""
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
            shutil.rmtree(NETNS_FILES / name, ignore_errors=True)


def forwarding(*rules: str) -> str:
    """A router's chain that all packets pass which it hands on."""
    return f"chain broken {{ type filter hook forward priority 0; {'; '.join(rules)}; \n}}"


def saying(*rules: str) -> str:
    """A router's chain for what it says itself."""
    return f"chain mute {{ type filter hook output priority 0; {'; '.join(rules)}; \n}}"


def redirecting(*rules: str) -> str:
    """A router's chain that leads packets elsewhere."""
    return f"chain elsewhere {{ type nat hook prerouting priority -100; {'; '.join(rules)}; \n}}\n"


def translating(*rules: str) -> str:
    """A router's chain that changes addresses."""
    return f"chain nat {{ type nat hook postrouting priority 100; {'; '.join(rules)}; \n}}"
