"""A hub's processes: how it starts, what it survives, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hub.exits import EXIT_DONE, EXIT_NO_WORKERS, EXIT_PORT_IN_USE
from loadtest.conduct.ports import PORTS
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, StartHub
from tests.hub.musicians import Musician
from tests.hub.test_living_hub import plays_on, soon

pytestmark = pytest.mark.living

LANES = "2"


def serve(*options: str) -> subprocess.CompletedProcess[str]:
    """A hub that is expected to end by itself."""
    code = "from hub.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "serve", "--max-clients", "4", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_options() -> list[str]:
    """Options that put a hub where nobody is."""
    ports = ["-B", str(PORTS.take()), "-U", str(PORTS.take(4))]
    return [*ports, "--metrics", "off", "--log-format", "text"]


@pytest.mark.parametrize("lanes", ["0", LANES])
def test_a_killed_mixer_is_replaced_and_all_hear_again(start_hub: StartHub, lanes: str) -> None:
    hub = start_hub("--transmit-lanes", lanes)
    with (
        Musician(hub.port, "Anna", level=600) as anna,
        Musician(hub.port, "Berta", level=300) as berta,
    ):
        for name in ("Anna", "Berta"):
            hub.active(name)
        hub.ask("gain", source="Anna", listener="Berta", gain=0.5)
        hub.ask("mute", client="Berta", muted=True)
        soon(lambda: (anna.hears, berta.hears) == (600, 300), "the mix")
        pid = hub.state()["hub"]["mixer"]["pid"]
        os.kill(pid, signal.SIGKILL)
        soon(lambda: hub.state()["hub"]["mixer"]["pid"] not in (None, pid), "another mixer")
        plays_on(anna)
        plays_on(berta)
        soon(lambda: (anna.hears, berta.hears) == (600, 300), "the same mix again")
        assert hub.state()["hub"]["mixer"]["restarts"] == 1


def test_a_killed_lane_is_replaced_and_its_listeners_hear_again(start_hub: StartHub) -> None:
    hub = start_hub("--transmit-lanes", LANES)
    with (
        Musician(hub.port, "Anna", level=600) as anna,
        Musician(hub.port, "Berta", level=300) as berta,
    ):
        for name in ("Anna", "Berta"):
            hub.active(name)
        hub.ask("gain", source="Anna", listener="Berta", gain=0.5)
        soon(lambda: (anna.hears, berta.hears) == (900, 600), "the mix")
        before = [lane["pid"] for lane in hub.state()["hub"]["lanes"]]
        assert len(before) == int(LANES)
        for pid in before:
            os.kill(pid, signal.SIGKILL)

        def replaced() -> bool:
            pids = [lane["pid"] for lane in hub.state()["hub"]["lanes"]]
            return None not in pids and not set(pids) & set(before)

        soon(replaced, "other lanes")
        plays_on(anna)
        plays_on(berta)
        soon(lambda: (anna.hears, berta.hears) == (900, 600), "the same mix again")


def test_a_killed_zygote_is_replaced_and_nobody_notices(start_hub: StartHub) -> None:
    hub = start_hub()
    with Musician(hub.port, "Anna", level=600) as anna:
        receiver = hub.active("Anna")["receiver_pid"]
        zygote = hub.state()["hub"]["zygote"]["pid"]
        os.kill(zygote, signal.SIGKILL)
        soon(lambda: hub.state()["hub"]["zygote"]["pid"] not in (None, zygote), "another zygote")
        assert hub.active("Anna")["receiver_pid"] == receiver
        plays_on(anna)
        assert anna.skipped() <= hub.missed_ticks()

        with Musician(hub.port, "Berta", level=300) as berta:
            soon(lambda: (anna.hears, berta.hears) == (900, 900), "a newcomer is served")
            # the orphan is ours now: its death is seen, and it is replaced
            os.kill(receiver, signal.SIGKILL)
            soon(lambda: hub.active("Anna")["receiver_pid"] != receiver, "another receiver")
            plays_on(anna)
            soon(lambda: (anna.hears, berta.hears) == (900, 900), "both hear both again")
            mixer = hub.state()["hub"]["mixer"]["pid"]
            os.kill(mixer, signal.SIGKILL)
            plays_on(anna)
            plays_on(berta)


def test_who_comes_while_there_is_no_zygote_is_served_later(start_hub: StartHub) -> None:
    hub = start_hub()
    os.kill(hub.state()["hub"]["zygote"]["pid"], signal.SIGKILL)
    with Musician(hub.port, "Anna", level=600) as anna:
        soon(lambda: anna.hears == 600, "Anna hears herself")


def test_a_stuck_mixer_is_replaced(start_hub: StartHub) -> None:
    hub = start_hub()
    with Musician(hub.port, "Anna", level=600) as anna:
        hub.active("Anna")
        pid = hub.state()["hub"]["mixer"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        soon(lambda: hub.state()["hub"]["mixer"]["pid"] not in (None, pid), "another mixer")
        plays_on(anna)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_hub_says_goodbye_and_leaves_nothing(
    start_hub: StartHub, number: signal.Signals
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # or nohup's doing, which a hub respects
    hub = start_hub("--transmit-lanes", "1")
    with Musician(hub.port, "Anna") as anna, Musician(hub.port, "Berta") as berta:
        for name in ("Anna", "Berta"):
            hub.active(name)
        hub.process.send(number)
        assert hub.process.wait(DEADLINE_S) == EXIT_DONE
        soon(lambda: (anna.exits, berta.exits) == (2, 2), "exit packets")
    assert hub.process.tree() == []
    assert not Path(hub.control.removeprefix("ipc://")).exists()


def test_the_control_socket_can_stop_the_hub(start_hub: StartHub) -> None:
    hub = start_hub()
    assert hub.ask("shutdown") == {}
    assert hub.process.wait(DEADLINE_S) == EXIT_DONE
    assert hub.process.tree() == []


def test_stuck_workers_do_not_keep_a_hub_from_ending(start_hub: StartHub) -> None:
    hub = start_hub()
    with Musician(hub.port, "Anna"):
        receiver = hub.active("Anna")["receiver_pid"]
        state = hub.state()["hub"]
        for pid in (receiver, state["mixer"]["pid"], state["zygote"]["pid"]):
            os.kill(pid, signal.SIGSTOP)
        hub.process.send(signal.SIGTERM)
        assert hub.process.wait(DEADLINE_S) == EXIT_DONE
        assert hub.process.tree() == []


def test_a_second_signal_ends_a_hub_at_once(start_hub: StartHub) -> None:
    hub = start_hub()
    state = hub.state()["hub"]
    os.kill(state["mixer"]["pid"], signal.SIGSTOP)
    hub.process.send(signal.SIGINT)
    hub.process.wait_for_log("told to stop", DEADLINE_S)
    hub.process.send(signal.SIGINT)
    assert hub.process.wait(DEADLINE_S) == EXIT_DONE
    assert hub.process.tree() == []


def test_no_worker_survives_a_killed_supervisor(start_hub: StartHub) -> None:
    hub = start_hub("--transmit-lanes", "1")
    with Musician(hub.port, "Anna") as anna:
        hub.active("Anna")
        hub.process.send(signal.SIGKILL)
        wait_until(lambda: hub.process.tree() == [], DEADLINE_S, "all workers gone")
        soon(lambda: anna.exits == 2, "and the client was told")


def test_a_killed_hubs_control_socket_is_no_hindrance(start_hub: StartHub) -> None:
    first = start_hub()
    first.process.send(signal.SIGKILL)
    wait_until(lambda: first.process.tree() == [], DEADLINE_S, "all workers gone")
    assert Path(first.control.removeprefix("ipc://")).is_socket()
    second = start_hub(port=first.port, udp_port=first.udp_port)
    assert second.ask("ping")["pid"] == second.process.pid


def test_a_signal_during_the_start_ends_it() -> None:
    code = "from hub.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", "--control", "off", *free_options()],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    process.stderr.readline()  # its first words, long before it is ready
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == EXIT_DONE
    assert "hub ready" not in process.stderr.read()


def test_a_tcp_port_in_use_is_told_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(*free_options(), "-B", str(port), "--control", "off")
    assert done.returncode == EXIT_PORT_IN_USE
    assert "tcp port is in use" in done.stderr
    assert f"port={port}" in done.stderr
    assert f"pid {os.getpid()}" in done.stderr


def test_a_metrics_port_in_use_is_told_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = serve(*free_options(), "--metrics", where, "--control", "off")
    assert done.returncode == EXIT_PORT_IN_USE
    assert where in done.stderr
    assert f"pid {os.getpid()}" in done.stderr


def test_a_control_socket_in_use_is_told(start_hub: StartHub) -> None:
    hub = start_hub()
    done = serve(*free_options(), "--control", hub.control)
    assert done.returncode == EXIT_PORT_IN_USE
    assert hub.control.removeprefix("ipc://") in done.stderr
    assert hub.ask("ping")["pid"] == hub.process.pid


def test_a_udp_port_in_use_is_passed_over(start_hub: StartHub) -> None:
    hub = start_hub()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", hub.udp_port))
        with Musician(hub.port, "Anna", level=600) as anna:
            assert anna.port == hub.udp_port + 1
            soon(lambda: anna.hears == 600, "Anna hears herself")
        # who has it is looked for aside, and told when it is found
        hub.process.wait_for_log("udp port is in use", DEADLINE_S)
    soon(lambda: f"port={hub.udp_port}" in hub.process.log(), "the log tells of it")
    soon(lambda: f"pid {os.getpid()}" in hub.process.log(), "the log tells of it")


_BROKEN = """
import sys
from hub.resolving import make_config
from hub.server import run
from hub.zygote import zygote_command

config = make_config(bind_port=int(sys.argv[1]), udp_base=int(sys.argv[2]),
                     max_clients=4, metrics="off", control="off", log_format="text")
sys.exit(run(config, lambda sock, arena, life, settings: {command}))
"""


@pytest.mark.parametrize(
    ("who", "command"),
    [
        ("zygote", '[sys.executable, "-c", "raise SystemExit(1)"]'),
        ("zygote", '[sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]'),
        ("mixer", 'zygote_command(sock, arena, life, {**settings, "mixer_cpus": [4095]})'),
    ],
)
def test_what_never_starts_is_reported_and_not_retried_for_ever(who: str, command: str) -> None:
    ports = [str(PORTS.take()), str(PORTS.take(4))]
    done = subprocess.run(
        [sys.executable, "-c", _BROKEN.replace("{command}", command), *ports],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == EXIT_NO_WORKERS, done.stderr
    died = "zygote died" if who == "zygote" else "worker died"
    assert done.stderr.count(died) == 3
    assert f"why='{who} does not stay alive'" in done.stderr
    assert "hub ready" not in done.stderr
