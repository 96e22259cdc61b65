"""``tuttihub doctor`` on networks that are broken on purpose: each fault is named rightly.

The musicians are examined at the same time, each in namespaces of its own (``networks``), against
one living hub in loopback; each test looks at one report.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hub.doctor.rendering import SCHEMA
from tests.end_to_end.hubs import READY, tuttihub_command
from tests.end_to_end.processes import ManagedProcess
from tests.hub.doctor.networks import (
    Internet,
    Way,
    forwarding,
    lacking,
    redirecting,
    saying,
    translating,
)

pytestmark = [pytest.mark.living, pytest.mark.undivided]

AT_A_TIME = 6
START_S = 180.0
EXAMINATION_S = 90.0
TO_HUB, FROM_HUB = 'iifname "home"', 'iifname "wide"'
UDP, TCP = "meta l4proto udp", "meta l4proto tcp"
QUIET_HUBS = ("-P", "4466"), ("-P", "4468")
"""Where nobody else is given a port that has just been freed: for one network each."""
HOSTS_ONLY = {"nsswitch.conf": "hosts: files\n", "hosts": "127.0.0.1 localhost\n"}
NO_SERVER = {
    "nsswitch.conf": "hosts: files dns\n",
    "resolv.conf": "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n",
}


@dataclass(frozen=True, slots=True)
class Broken:
    """A network, and what is said of it.

    Attributes:
        fault: that must be found; empty: none that keeps from playing.
        code: of the command; None: whatever the machine's own trouble makes of it.
        detail: that the finding tells.
        host: in place of the hub's address.
        own_rules: of the musician's own firewall.
    """

    fault: str
    code: int | None = None
    rules: str = ""
    own_rules: str = ""
    mtu: int = 1500
    detail: str = ""
    host: str = ""
    options: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()


NETWORKS = {
    "nothing": Broken(""),
    "nothing, IPv6": Broken("", host="six"),
    "UDP dropped on its way there": Broken(
        "udp-out-swallowed", 6, forwarding(f"{TO_HUB} {UDP} drop"), detail="gave your port",
        options=QUIET_HUBS[0],
    ),
    "UDP dropped on its way back": Broken(
        "udp-in-swallowed", 6, forwarding(f"{FROM_HUB} {UDP} drop"), detail="after a good-bye"
    ),
    "all dropped on its way back but TCP": Broken(
        "udp-in-swallowed", 6, forwarding(f"{FROM_HUB} meta l4proto != tcp drop"),
        detail="kept your port",
    ),
    "UDP rejected": Broken(
        "udp-prohibited", 6,
        forwarding(f"{TO_HUB} {UDP} reject with icmp type admin-prohibited"), detail="says 10.200.",
    ),
    "UDP rejected as a closed port": Broken(
        "udp-prohibited", 6, forwarding(f"{TO_HUB} {UDP} reject with icmp type port-unreachable"),
    ),
    "UDP rejected, IPv6": Broken(
        "udp-prohibited", 6,
        forwarding(f"{TO_HUB} {UDP} reject with icmpv6 type admin-prohibited"), host="six",
    ),
    "UDP kept back by this computer": Broken(
        "udp-prohibited", 6, own_rules=saying(f"{UDP} drop"), detail="says this computer",
    ),
    "UDP led to where nobody listens, which is seldom said": Broken(
        "udp-port-closed", 6,
        redirecting(f"{TO_HUB} {UDP} redirect to :9")
        + saying("icmp type destination-unreachable limit rate over 15/minute burst 1 packets "
                 "drop"),
        detail="says 10.201.", options=QUIET_HUBS[1],
    ),
    "a router that gives each connection another port": Broken(
        "port-remapped", None, translating('oifname "wide" masquerade fully-random'),
    ),
    "UDP cut after 400 kB": Broken(
        "cut-off", 6, forwarding(f"{UDP} quota over 400 kbytes drop"),
        detail="not even another port", options=("--seconds", "4"),
    ),
    "UDP from one port cut after 200 kB": Broken(
        "cut-off", 6, forwarding(f"{TO_HUB} udp sport 4464 quota over 200 kbytes drop"),
        detail="only another port brings it back", options=("--seconds", "4"),
    ),
    "all cut after 400 kB": Broken(
        "line-dead", 6, forwarding("quota over 400 kbytes drop"), options=("--seconds", "4"),
    ),
    "one packet in twenty dropped there": Broken(
        "losses-there", 1, forwarding(f"{TO_HUB} {UDP} numgen random mod 20 == 0 drop"),
    ),
    "one packet in twenty dropped back": Broken(
        "losses-back", 1, forwarding(f"{FROM_HUB} {UDP} numgen random mod 20 == 0 drop"),
    ),
    "fragments dropped": Broken(
        "fragments-swallowed", 1, forwarding("ip frag-off & 0x3fff != 0 drop"),
    ),
    "a line of 1280 bytes": Broken("short-path", None, mtu=1280, detail="1280"),
    "a line of 576 bytes": Broken("short-path", None, mtu=576, detail="576"),
    "a line of 1280 bytes that nobody tells of": Broken(
        "long-packets-swallowed", 1, saying("icmp type destination-unreachable drop"), mtu=1280,
        detail="1280 bytes pass",
    ),
    "TCP dropped": Broken("tcp-no-answer", 4, forwarding(f"{TCP} drop")),
    "TCP reset": Broken("tcp-refused", 4, forwarding(f"{TCP} reject with tcp reset")),
    "TCP forbidden": Broken(
        "tcp-prohibited", 4, forwarding(f"{TCP} reject with icmp type admin-prohibited"),
        detail="says 10.201.",
    ),
    "a machine that is off": Broken("host-unreachable", 4, host="off", detail="says 10.200."),
    "no hub at the port": Broken("tcp-refused", 4, options=("-P", "4465")),
    "no way there": Broken("tcp-unreachable", 4, host="192.0.2.1"),
    "no such name": Broken(
        "name-unknown", 3, host="hub.example.org", files=tuple(HOSTS_ONLY.items())
    ),
    "no name server": Broken(
        "name-server-silent", 3, host="hub.example.org", files=tuple(NO_SERVER.items())
    ),
    "a name whose first address is dead": Broken(
        "first-address-dead", 1, host="hub.test",
        files=(("nsswitch.conf", "hosts: files\n"), ("hosts", "two")),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Internet]:
    reason = lacking()
    if reason:
        if os.environ.get("CI") == "true" and "not there" in reason:
            pytest.fail(reason)
        pytest.skip(reason)
    made = Internet()
    folder = tmp_path_factory.mktemp("doctor")
    hubs: list[ManagedProcess] = []
    try:
        hubs += [_serve(made, folder, port) for port in (4464, 4466, 4468)]
        for hub in hubs:
            hub.wait_for_log(READY, START_S)
        yield made
    finally:
        for hub in hubs:
            hub.end()
        made.remove()


def _serve(internet: Internet, folder: Path, port: int) -> ManagedProcess:
    """A hub in loopback: docs/doctor.md's test server."""
    files = ("control", "banfile", "scenefile")
    options = [f"--{file}={folder / file}-{port}" for file in files[1:]]
    return ManagedProcess(
        f"tuttihub on {port} in a namespace",
        [
            "ip", "netns", "exec", internet.hub, *tuttihub_command(), "serve", "-p1",
            "--max-clients", "64", "--metrics", "off", "--log-format", "text",
            "-B", str(port), "-U", str(61002 + 500 * (port - 4464)),
            "--control", f"ipc:///tmp/tuttihub-doctor-{os.getpid()}-{port}", *options,
        ],
        folder / f"hub-{port}.log",
    )  # fmt: skip


@pytest.fixture(scope="module")
def examined(internet: Internet) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """A report for each network."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        # those that take longest first
        slow_first = sorted(NETWORKS, key=lambda name: "dropped on its way" not in name)
        yield {name: pool.submit(_examine, internet, NETWORKS[name]) for name in slow_first}


def _examine(internet: Internet, broken: Broken) -> dict[str, Any]:
    files = dict(broken.files)
    way = internet.way(broken.rules, broken.mtu, broken.own_rules)
    if files.get("hosts") == "two":
        dead = f"fd00:201:{way.number}::77"
        files["hosts"] = f"{dead} hub.test\n{way.hub_address} hub.test\n"
    way.write(files)
    done = subprocess.run(
        [
            "ip", "netns", "exec", way.client, *tuttihub_command(), "doctor",
            _host(broken, way), "--json", "--seconds", "1", *broken.options,
        ],
        capture_output=True, text=True, timeout=EXAMINATION_S, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == report["exit_code"], done.stderr
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(report)
    return report


def _host(broken: Broken, way: Way) -> str:
    hosts = {"": way.hub_address, "six": way.hub_address6, "off": f"10.201.{way.number}.9"}
    return hosts.get(broken.host, broken.host)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_fault_is_named(examined: dict[str, Future[dict[str, Any]]], network: str) -> None:
    broken, report = NETWORKS[network], examined[network].result()

    found = {finding["fault"]: finding for finding in report["findings"]}
    errors = [fault for fault, finding in found.items() if finding["severity"] == "error"]
    if broken.fault:
        assert broken.fault in found, list(found)
        assert broken.detail in found[broken.fault]["detail"]
    assert set(errors) <= {broken.fault}
    if broken.code is not None:
        assert report["exit_code"] == broken.code


@pytest.mark.parametrize("network", ["nothing", "nothing, IPv6"])
def test_nothing_is_made_up(examined: dict[str, Future[dict[str, Any]]], network: str) -> None:
    """What a busy machine cannot bring about is not found where nothing is broken."""
    report = examined[network].result()

    assert report["udp"]["outgoing"]
    assert report["udp"]["incoming"]
    assert report["udp"]["stopped_after_s"] is None
    assert report["router"]["remaps"] is False
    assert (report["path"]["mtu"], report["path"]["fragments"]) == (1500, True)
    assert report["hub"]["uses_redundancy"]
    assert report["hub"]["mirrors"]
    assert report["there"]["lost_share"] is not None
    assert report["trip"]["sound_s"] > 0.003
    assert report["advice"]["command"].startswith("jacktrip -C ")


def test_how_far_udp_gets(examined: dict[str, Future[dict[str, Any]]]) -> None:
    """The router is the only one on the way, and the hub's machine the second hop."""
    udp = examined["UDP dropped on its way back"].result()["udp"]
    assert (len(udp["hops"]), udp["distance"]) == (1, 2)
    assert udp["hops"][0].startswith("10.200.")
    assert (udp["outgoing"], udp["incoming"]) == (True, False)
