"""The kernel's emulation for real: a namespace, packets across it, and nothing left behind.

All of this needs root and iproute2, and what concerns netem a kernel with sch_netem. Where a
right or the kernel is lacking, the tests are skipped, for a run of the tests cannot mend that;
with CI=true anything else that is lacking fails, so that it is not overlooked.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from loadtest.conduct import netns
from loadtest.conduct.netns import (
    EmulatedNetwork,
    NoEmulation,
    NoNetem,
    NoTool,
    NotPermitted,
    Traffic,
    emulated_network,
    parse_traffic,
    remove_stale,
)
from loadtest.scenario.model import Network, ScenarioError

pytestmark = pytest.mark.living

ROOT = Path(__file__).parents[3]
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 1 << 24
CLIENTS = 100


@contextmanager
def emulated(up: Network, down: Network) -> Iterator[EmulatedNetwork]:
    """A network, or why there is none."""
    with ExitStack() as stack:
        try:
            net = stack.enter_context(emulated_network(up, down))
        except NoEmulation as lacking:
            beyond_us = isinstance(lacking, (NoNetem, NotPermitted))
            if os.environ.get("CI") == "true" and not beyond_us:
                raise
            pytest.skip(str(lacking))
        yield net


def wait_until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Echo:
    """Returns every datagram, out here."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self.socket.bind((address, 0))
        self.port: int = self.socket.getsockname()[1]
        self.received: list[tuple[str, bytes]] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            data, source = self.socket.recvfrom(2048)
            if data == b"end":
                return
            self.received.append((source[0], data))
            self.socket.sendto(data, source)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", self.socket.getsockname())
        self.thread.join()
        self.socket.close()


CLIENT = textwrap.dedent("""
    import json, socket, struct, sys
    hub, port, base, clients, rounds, buffer_bytes = sys.argv[1], *map(int, sys.argv[3:4]), \\
        sys.argv[2], *map(int, sys.argv[4:7])
    IP_PKTINFO = 8
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, 33, buffer_bytes)
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.bind(("0.0.0.0", 0))
    first = int.from_bytes(socket.inet_aton(base), "big")
    for round in range(rounds):
        for k in range(clients):
            address = (first + 256 * (k // 50) + 1 + k % 50).to_bytes(4, "big")
            info = struct.pack("=I4s4s", 0, address, bytes(4))
            text = f"{socket.inet_ntoa(address)} {round}".encode()
            sock.sendmsg([text], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, (hub, port))
    print("sent", flush=True)
    sys.stdin.readline()
    sock.setblocking(False)
    returned = []
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(2048, 64)
        except BlockingIOError:
            break
        returned.append((socket.inet_ntoa(ancillary[0][2][8:12]), data.decode()))
    print(json.dumps(returned))
""")
"""Sends from many addresses by one socket; then, when told, says what returned, and to whom."""


class Crossing:
    """Datagrams of many clients across a network and back."""

    def __init__(self, net: EmulatedNetwork, rounds: int) -> None:
        self.sent = CLIENTS * rounds
        echo = Echo(net.hub_address)
        settings = (CLIENTS, rounds, BUFFER_BYTES)
        arguments = map(str, (net.hub_address, net.client_base, echo.port, *settings))
        client = subprocess.Popen(
            [*net.command_prefix, sys.executable, "-c", CLIENT, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert client.stdout
            assert client.stdout.readline() == "sent\n"
            wait_until(lambda: self._settled(net, echo))
            self.up, self.down = net.traffic()
            output, _ = client.communicate("\n", timeout=20)
        finally:
            client.kill()
            client.wait()
            echo.close()
        self.returned: list[list[str]] = json.loads(output)
        self.received = echo.received

    def _settled(self, net: EmulatedNetwork, echo: Echo) -> bool:
        up, down = net.traffic()
        echoed = len(echo.received)
        passed = up.passed == echoed and up.waiting == down.waiting == 0
        return passed and down.passed + down.lost >= echoed


def traces(pid: int = os.getpid()) -> set[str]:
    """What there is of networks of a process."""
    links = {f"link {name}" for name in os.listdir("/sys/class/net")}
    spaces = {path.name for path in netns.NAMESPACES.glob("*")} if netns.NAMESPACES.exists() else ()
    mine = (f"link tt{pid}n", f"tuttihub-{pid}-")
    return {name for name in {*links, *spaces} if name.startswith(mine)}


def test_a_perfect_line_brings_everything_from_and_to_each_address() -> None:
    with emulated(Network(), Network()) as net:
        crossing = Crossing(net, rounds=5)

    assert crossing.up.passed == crossing.down.passed == crossing.sent
    assert crossing.up.lost == crossing.down.lost == 0
    assert len({source for source, _ in crossing.received}) == CLIENTS
    assert all(data.decode().split()[0] == source for source, data in crossing.received)
    assert len(crossing.returned) == crossing.sent
    assert all(text.split()[0] == address for address, text in crossing.returned)
    assert not traces()


def test_what_is_lost_on_the_way_is_what_netem_says_it_lost() -> None:
    with emulated(Network(loss=0.2), Network(loss=0.1)) as net:
        crossing = Crossing(net, rounds=30)

    assert crossing.up.lost == crossing.sent - len(crossing.received)
    assert crossing.down.lost == len(crossing.received) - len(crossing.returned)
    assert 0.15 < crossing.up.lost / crossing.sent < 0.25
    assert 0.06 < crossing.down.lost / len(crossing.received) < 0.14


def test_copies_are_counted() -> None:
    with emulated(Network(duplicate=0.5), Network(delay_ms=5)) as net:
        crossing = Crossing(net, rounds=10)

    assert 1.4 < crossing.up.passed / crossing.sent < 1.6
    assert len(crossing.returned) == len(crossing.received) == crossing.up.passed


def test_an_error_inside_leaves_nothing_behind() -> None:
    def fail() -> None:
        with emulated(Network(), Network()):
            assert len(traces()) == 2
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert not traces()


def test_two_at_once_have_addresses_of_their_own() -> None:
    with emulated(Network(), Network()) as one, emulated(Network(), Network()) as other:
        assert one.hub_address != other.hub_address
        assert one.client_base != other.client_base
        assert one.namespace != other.namespace


def test_guests_may_visit_the_hub_from_inside_only() -> None:
    """Whichever addresses were free: here it is not the first ones."""
    with emulated(Network(), Network()), emulated(Network(), Network()) as net:
        assert not net.hub_address.startswith("10.78.")
        plan = {"kind": "deaf", "host": net.hub_address, "port": 9, "seconds": 0}
        command = [sys.executable, "-m", "loadtest.conduct.guests", "--json", json.dumps(plan)]
        outside, inside = (
            subprocess.run([*prefix, *command], cwd=ROOT, capture_output=True, text=True)
            for prefix in ((), net.command_prefix)
        )

    assert outside.returncode == 2
    assert "hostile guests visit" in outside.stderr
    assert inside.returncode == 0, inside.stderr


@pytest.mark.end_to_end
@pytest.mark.timeout(600)  # a cold start compiles all kernels
def test_a_whole_run_plays_through_the_line(tmp_path: Path) -> None:
    with emulated(Network(), Network()):
        pass
    figures = tmp_path / "r.json"
    command = [
        str(Path(sys.executable).with_name("tuttihub")), "loadtest", "run", "--clients", "3",
        "--seconds", "1", "--settle", "0.2", "--serve", "--netem", "--no-realtime",
        "--json", str(figures),
    ]  # fmt: skip

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode in (0, 1, 3), done.stderr
    result = json.loads(figures.read_text())
    assert result["joined"] == 3
    assert result["returned"] > 3 * 200
    line = result["line"]
    assert line["perfect"]
    assert min(line["carried_up"], line["carried_down"]) >= result["returned"]
    assert all(check["judged"] for check in result["service"])


def test_what_a_killed_process_leaves_is_removed_by_the_next() -> None:
    with emulated(Network(), Network()) as mine:
        code = """
            import time
            from loadtest.conduct.netns import emulated_network
            from loadtest.scenario.model import Network
            with emulated_network(Network(), Network()) as net:
                print(net.namespace, net.link, flush=True)
                time.sleep(60)
        """
        victim = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert victim.stdout
            namespace, link = victim.stdout.readline().split()
            remove_stale()
            assert (netns.NAMESPACES / namespace).exists()  # it lives
        finally:
            victim.send_signal(signal.SIGKILL)
            victim.communicate()

        remove_stale()

        assert not (netns.NAMESPACES / namespace).exists()
        assert not Path("/sys/class/net", link).exists()
        assert (netns.NAMESPACES / mine.namespace).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is asked for tools")
def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoTool, match="needs 'ip'"), emulated_network(Network(), Network()):
        pass

    (tmp_path / "ip").touch(0o755)
    with pytest.raises(NoTool, match="needs 'tc'"), emulated_network(Network(), Network()):
        pass


def test_who_is_not_root_is_told() -> None:
    code = """
        import os
        from loadtest.conduct.netns import NotPermitted, emulated_network
        from loadtest.scenario.model import Network
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        try:
            emulated_network(Network(), Network()).__enter__()
        except NotPermitted as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True
    )

    assert "needs root; this is user" in done.stdout, done.stderr


def test_a_network_that_netem_cannot_make_is_refused_first() -> None:
    with pytest.raises(ScenarioError, match="step_ms"):
        emulated_network(Network(), Network(step_ms=1)).__enter__()


def test_a_kernel_without_netem_is_named_and_nothing_stays() -> None:
    lacking: NoEmulation | None = None
    try:
        with emulated_network(Network(loss=0.5), Network()):
            pass
    except NoEmulation as error:
        lacking = error

    assert not traces()
    if not isinstance(lacking, NoNetem):
        pytest.skip(str(lacking or "this kernel has netem"))
    assert "has no sch_netem: load the module (modprobe sch_netem" in str(lacking)


@pytest.mark.end_to_end
@pytest.mark.timeout(600)  # a cold start compiles all kernels
def test_a_run_through_a_network_that_cannot_be_made_says_so_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    """As one types it: with losses for netem, on a kernel without it, or without the right."""
    try:
        with emulated_network(Network(loss=0.5), Network()):
            pass
    except NoEmulation as error:
        lacking = str(error)
    else:
        pytest.skip("this kernel has netem")
    plan = tmp_path / "lossy.toml"
    plan.write_text("seconds = 1\n[[section]]\nclients = 1\nup = { loss = 0.5 }\n")
    command = [str(Path(sys.executable).with_name("tuttihub")), "loadtest", "run", str(plan)]

    tuttihub = subprocess.Popen(
        [*command, "--serve", "--netem"], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    _, told = tuttihub.communicate()

    assert tuttihub.returncode == 2, told
    if "sch_netem" in lacking:
        assert "has no sch_netem: load the module" in " ".join(told.split())
    assert not traces(tuttihub.pid)


def test_statistics_are_read_as_tc_writes_them() -> None:
    text = """[{"kind":"netem","handle":"8001:","root":true,"refcnt":2,"options":{"limit":1000,
        "loss-random":{"loss":0.2,"correlation":0},"ecn":false,"gap":0},"bytes":79632,
        "packets":948,"drops":252,"overlimits":0,"requeues":0,"backlog":84,"qlen":1}]"""

    assert parse_traffic(text) == Traffic(passed=948, bytes=79632, lost=252, waiting=1)
