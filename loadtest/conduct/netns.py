"""A network of its own for the clients, emulated by the kernel (root, Linux)::

        this machine                          namespace tuttihub-PID-START-N
    hub --- 10.78.0.1 [veth ttPIDnN] ====== [veth line] 10.78.0.2 --- 10.77.0.0/16, all on lo
                      netem: down             netem: up

Inside, every address 10.77.x.y is local (AnyIP), so that one socket serves thousands of
clients, each with an address of its own. If those ranges are taken here, the next free pair
is used (10.79 and 10.80, ...). Neighbours are set and there is no IPv6, so nothing but the
clients' and the hub's packets passes, and is counted.

Names carry the process and when it began: what a killed one has left is removed by the next.
"""

from __future__ import annotations

import ctypes
import fcntl
import ipaddress
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.conduct.addresses import FIRST_PAIR, LAST_PAIR, LINE
from loadtest.conduct.netem import Netem, netem
from loadtest.scenario.model import Network

NAMESPACES = Path("/run/netns")
_LOCK = Path("/run/tuttihub-netns.lock")
_NAME = re.compile(r"tuttihub-(\d+)-(\d+)-(\d+)")
_INSIDE = LINE
_HUB_MAC, _CLIENTS_MAC = "02:74:75:74:74:01", "02:74:75:74:74:02"
_MTU = 65535
"""The longest: then a datagram is one packet, and a share of packets is a share of datagrams."""
_COMMAND_S = 20
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_serials = itertools.count()


class NoEmulation(RuntimeError):
    """The kernel's emulation cannot be had here; says what is lacking."""


class NotPermitted(NoEmulation):
    """We are not root, or a root without power over networks, as in most containers."""


class NoTool(NoEmulation):
    """``ip`` or ``tc`` is not there."""


class NoNetem(NoEmulation):
    """The kernel has no sch_netem."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one side has counted, from ``tc -s``.

    Attributes:
        passed: packets that went through, copies included; bytes: theirs.
        lost: packets that the emulation dropped.
        waiting: packets under way.
    """

    passed: int
    bytes: int
    lost: int
    waiting: int


@dataclass(frozen=True, slots=True)
class EmulatedNetwork:
    """A network that is there.

    Attributes:
        namespace: its name.
        link: our end of it.
        hub_address: where clients inside find a hub that runs here.
        client_base: first address of the clients' /16; all of them are theirs.
        command_prefix: what to write before a command that is to run inside.
    """

    namespace: str
    link: str
    hub_address: str
    client_base: str

    @property
    def command_prefix(self) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.namespace)

    def traffic(self) -> tuple[Traffic, Traffic]:
        """So far: up (to the hub), down."""
        up = _run("tc", "-n", self.namespace, "-s", "-j", "qdisc", "show", "dev", _INSIDE, "root")
        down = _run("tc", "-s", "-j", "qdisc", "show", "dev", self.link, "root")
        return parse_traffic(up), parse_traffic(down)


@contextmanager
def emulated_network(
    up: Network, down: Network, seed: int = 1, rate_mbit: float = 0.0
) -> Iterator[EmulatedNetwork]:
    """Make a network for a while; removed in every case.

    up, down: what befalls packets to and from the hub; a perfect way is only counted.
    rate_mbit: of the line, each way; 0: as fast as the machine.

    Raises:
        ScenarioError: netem cannot do what a network asks for.
        NoEmulation: this machine, or this user, cannot have it.
    """
    sides = (netem(up, seed, rate_mbit), netem(down, seed + 1, rate_mbit))
    perfect = (up.perfect and not rate_mbit, down.perfect and not rate_mbit)
    _need_tools()
    with _locked():
        remove_stale()
        serial = next(_serials)
        net = _choose(f"tuttihub-{os.getpid()}-{_start_time(os.getpid())}-{serial}", serial)
        try:
            _make(net)
            for side, plain, way in zip(sides, perfect, ("up", "down"), strict=True):
                _emulate(net, way, None if plain else side)
        except BaseException:
            _remove(net.namespace, net.link)
            raise
    try:
        yield net
    finally:
        _remove(net.namespace, net.link)


@contextmanager
def inside(net: EmulatedNetwork) -> Iterator[None]:
    """What this thread opens in the block - sockets, threads, programs - is in the namespace.

    A socket stays where it was opened. (``os.setns`` came with Python 3.12.)

    Raises:
        NoEmulation: the kernel does not let us in.
    """
    with open("/proc/thread-self/ns/net") as home, open(NAMESPACES / net.namespace) as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise NoEmulation(f"setns: {os.strerror(ctypes.get_errno())}")


def remove_stale() -> list[str]:
    """Remove the networks of processes that are gone; returns their names.

    Processes that still run inside lose their network, and are left alone otherwise.
    """
    removed = []
    for entry in sorted(NAMESPACES.iterdir()) if NAMESPACES.exists() else []:
        match = _NAME.fullmatch(entry.name)
        if match and _start_time(int(match[1])) != int(match[2]):
            _remove(entry.name, _link_name(int(match[1]), int(match[3])))
            removed.append(entry.name)
    return removed


def parse_traffic(text: str) -> Traffic:
    """The counters in the output of ``tc -s -j qdisc show dev X root``."""
    found: list[dict[str, Any]] = json.loads(text)
    root = next(each for each in found if each.get("root"))
    return Traffic(root["packets"], root["bytes"], root["drops"], root["qlen"])


def _need_tools() -> None:
    if os.geteuid() != 0:
        raise NotPermitted("an emulated network needs root; this is user " + str(os.geteuid()))
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            raise NoTool(f"an emulated network needs {tool!r} (package iproute2); it is not there")


def _run(*command: str, table_folder: str | None = None) -> str:
    """Output of a command.

    Raises:
        NoEmulation: it failed; says how.
    """
    env = os.environ | {"LC_ALL": "C"} | ({"TC_LIB_DIR": table_folder} if table_folder else {})
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S, env=env)
    except subprocess.TimeoutExpired as error:
        raise NoEmulation(f"{' '.join(command)}: not done within {_COMMAND_S} s") from error
    if done.returncode == 0:
        return done.stdout
    text = done.stderr.strip()
    if "qdisc kind is unknown" in text or "RTNETLINK answers: No such file" in text:
        raise NoNetem(
            f"the kernel ({os.uname().release}) has no sch_netem: load the module (modprobe "
            "sch_netem; Ubuntu has it in linux-modules-extra, Fedora in kernel-modules-extra), or "
            f"leave --netem out for the generator's own emulation: {text}"
        )
    if "Operation not permitted" in text or "Permission denied" in text:
        raise NotPermitted(f"{' '.join(command)}: {text}")
    raise NoEmulation(f"{' '.join(command)}: {text}")


@contextmanager
def _locked() -> Iterator[None]:
    """Only one process at a time looks for a free range and takes it."""
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _link_name(pid: int, serial: int) -> str:
    """At most 15 characters are allowed: pids have up to 7."""
    return f"tt{pid}n{serial % 10_000}"


def _start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot; 0: there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0


def _choose(namespace: str, serial: int) -> EmulatedNetwork:
    routes = json.loads(_run("ip", "-4", "-j", "route", "show", "table", "all") or "[]")
    taken = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in routes
        if route["dst"] != "default"
    ]
    for second in range(FIRST_PAIR, LAST_PAIR + 1, 2):
        clients = ipaddress.ip_network(f"10.{second}.0.0/16")
        hub = ipaddress.ip_network(f"10.{second + 1}.0.0/30")
        if not any(each.overlaps(clients) or each.overlaps(hub) for each in taken):
            link = _link_name(os.getpid(), serial)
            return EmulatedNetwork(namespace, link, str(hub[1]), str(clients[0]))
    taken_all = f"this machine has routes into all of 10.{FIRST_PAIR} to 10.{LAST_PAIR + 1}"
    raise NoEmulation(f"no free addresses: {taken_all}")


def _make(net: EmulatedNetwork) -> None:
    name, link = net.namespace, net.link
    inner = str(ipaddress.ip_address(net.hub_address) + 1)
    clients = f"{net.client_base}/16"
    inside = ("ip", "-n", name)
    _run("ip", "netns", "add", name)
    _run(
        *("ip", "link", "add", link, "mtu", str(_MTU), "address", _HUB_MAC, "type", "veth"),
        *("peer", "name", _INSIDE, "mtu", str(_MTU), "address", _CLIENTS_MAC, "netns", name),
    )
    if Path("/proc/sys/net/ipv6").exists():
        _run("ip", "link", "set", link, "addrgenmode", "none")
        _run(*inside, "link", "set", _INSIDE, "addrgenmode", "none")
    _run("ip", "address", "add", f"{net.hub_address}/30", "dev", link)
    _run("ip", "link", "set", link, "up")
    _run(*inside, "address", "add", f"{inner}/30", "dev", _INSIDE)
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "link", "set", _INSIDE, "up")
    _run("ip", "neighbour", "add", inner, "lladdr", _CLIENTS_MAC, "nud", "permanent", "dev", link)
    _run(*inside, "neighbour", "add", net.hub_address, "lladdr", _HUB_MAC, "nud", "permanent",
         "dev", _INSIDE)  # fmt: skip
    _run(*inside, "route", "add", "local", clients, "dev", "lo")
    _run("ip", "route", "add", clients, "via", inner, "dev", link)


def _emulate(net: EmulatedNetwork, way: str, side: Netem | None) -> None:
    """Set up one side; None: a plain queue, which every kernel has, only counts."""
    place = ["-n", net.namespace] if way == "up" else []
    add = ["tc", *place, "qdisc", "add", "dev", _INSIDE if way == "up" else net.link, "root"]
    if side is None:
        _run(*add, "pfifo", "limit", "100000")
        return
    with tempfile.TemporaryDirectory(prefix="tuttihub-netem-") as folder:
        (Path(folder) / f"{way}.dist").write_text(side.table_text())
        _run(*add, "netem", *side.arguments(way), table_folder=folder)


def _remove(namespace: str, link: str) -> None:
    """Take away what there is of a network: our end first, which takes addresses and routes."""
    for command in (("link", "delete", link), ("netns", "delete", namespace)):
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(["ip", *command], capture_output=True, timeout=_COMMAND_S)
    if (NAMESPACES / namespace).exists() or Path(f"/sys/class/net/{link}").exists():
        raise NoEmulation(f"could not remove namespace {namespace} and link {link}")
