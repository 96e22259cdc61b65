"""Endpoints in their processes at a hub in its own: what is heard, who comes back, how it ends."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from loadtest.conduct.ports import PORTS
from tests.end_to_end.endpoints import RATE_HZ, Endpoint, assert_came_back, song, until_right
from tests.end_to_end.hubs import tuttihub
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, LiveHub, StartHub
from tests.machine import to_oneself

pytestmark = pytest.mark.living

HERE = "127.0.0.1"


def soon(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, DEADLINE_S, what, poll_s=0.01)


def test_what_is_played_comes_back_and_one_leaves_at_its_end(hub: LiveHub, tmp_path: Path) -> None:
    """24 bits, mono to the hub and stereo back, everything sent twice, half its rate of packets."""
    played = song(1.0, 1, bits=24)
    soundfile.write(tmp_path / "song.wav", played, RATE_HZ, subtype="FLOAT")

    @to_oneself()
    def take() -> None:
        client = Endpoint.start(
            tmp_path, "client", HERE, peerport=hub.port, queue=5, bitres=24, redundancy=2,
            sendchannels=1, receivechannels=2, bufsize=256, remotename="Anna",
            play=tmp_path / "song.wav", record=tmp_path / "heard.wav", overwrite=True,
        )  # fmt: skip
        wanted = {"frames": 256, "bits": 24, "channels": 1, "wants": 2, "redundancy": 2}
        client.wait_for("connected")
        told = hub.active("Anna")
        assert {name: told["format"][name] for name in wanted} == wanted
        assert client.process.wait(60.0) == 0
        hub.empty()
        left, right = soundfile.read(tmp_path / "heard.wav", dtype="float32")[0].T
        soundfile.write(tmp_path / "left.wav", left, RATE_HZ, subtype="FLOAT")
        assert_came_back(tmp_path / "left.wav", played)
        assert not right.any()  # a mono voice is on the left, without --upmix

    until_right(take)


def test_a_password_and_one_port_for_all_change_nothing(
    start_hub: StartHub, tmp_path: Path
) -> None:
    played = song(1.0, 2, bits=16)
    soundfile.write(tmp_path / "song.wav", played, RATE_HZ, subtype="FLOAT")
    certificate, key, users = (tmp_path / name for name in ("hub.crt", "hub.key", "users"))
    tuttihub("cert", certificate, key)
    tuttihub("passwd", users, "clara", stdin="wieck\n")
    files = ("--certfile", certificate, "--keyfile", key, "--credsfile", users)
    hub = start_hub("--single-port", "--auth", *map(str, files), patch=1)
    login = {"peerport": hub.port, "auth": True, "username": "clara", "password": "wieck"}
    beside = Endpoint.start(tmp_path, "client", HERE, tone=440, remotename="Bea", **login)
    beside.wait_for("connected")

    @to_oneself()
    def take() -> None:
        client = Endpoint.start(
            tmp_path, "client", HERE, queue=8, remotename="Anna", overwrite=True,
            play=tmp_path / "song.wav", record=tmp_path / "heard.wav", **login,
        )  # fmt: skip
        client.wait_for("connected")
        assert [hub.active(name)["port"] for name in ("Anna", "Bea")] == [hub.udp_port] * 2
        assert client.process.wait(60.0) == 0
        assert_came_back(tmp_path / "heard.wav", played)

    until_right(take)
    assert beside.leave() == 0
    hub.empty()


def test_a_tone_survives_the_death_of_all_around_it_until_ctrl_c(
    start_hub: StartHub, tmp_path: Path
) -> None:
    hub = start_hub()
    client = Endpoint.start(
        tmp_path, "client", HERE, peerport=hub.port, tone=440, remotename="Tone", quality="line",
        iostat=1, iostatlog=tmp_path / "iostat.log",
    )  # fmt: skip
    client.wait_for("connected")
    soon(lambda: hub.active("Tone")["input"]["peak_db"] == pytest.approx(-20, abs=0.1), "a tone")
    soon(lambda: " lost 0 · late" in client.process.log(), "a line of quality")
    soon((tmp_path / "iostat.log").read_text, "a line of statistics")

    session = hub.active("Tone")["session"]
    for name in ("tutti-zygote", "tutti-mixer", "tutti-rx-0"):
        (victim,) = workers(client, name)
        os.kill(victim, signal.SIGKILL)
        soon(lambda: workers(client, name) not in ([], [victim]), f"another {name}")  # noqa: B023
        packets = hub.active("Tone")["received"]["packets"]
        soon(lambda: hub.active("Tone")["received"]["packets"] > packets + 100, "sound")  # noqa: B023
    assert hub.active("Tone")["session"] == session

    hub.stop()
    client.wait_for("the other side has said good-bye")
    again = start_hub(port=hub.port)
    client.wait_for("connected", 2)
    assert again.active("Tone")["port"] == client.events("the hub answers")[1]["udp_port"]

    family = [again.process.pid, *again.process.tree()]
    for order in (signal.SIGSTOP, signal.SIGKILL):  # nobody is left to say good-bye
        for pid in family:
            os.kill(pid, order)
    client.wait_for("nobody listens at the other side's port any more", timeout_s=8.0)
    again = start_hub(port=hub.port)
    client.wait_for("connected", 3)
    again.active("Tone")

    (receiver,) = workers(client, "tutti-rx-0")
    os.kill(receiver, signal.SIGSTOP)  # it cannot say good-bye; somebody does
    assert client.leave() == 0
    assert client.events("connection ended")[0]["received"] > 100
    again.empty()
    assert not again.state()["hub"]["departures"]  # nobody was merely silent
    assert not client.process.tree()


def test_what_ends_before_it_has_begun(hub: LiveHub, tmp_path: Path) -> None:
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind((HERE, 0))
    port = holder.getsockname()[1]
    busy = Endpoint.start(tmp_path, "client", HERE, peerport=hub.port, tone=440, bindport=port)
    nobody = Endpoint.start(
        tmp_path, "client", HERE, peerport=PORTS.take(), tone=440, duration=1, reconnect="silence"
    )
    refused = Endpoint.start(
        tmp_path, "client", HERE, peerport=hub.port, tone=440, auth=True, username="clara",
        password="wieck",
    )  # fmt: skip
    assert refused.process.wait(60.0) == 5
    assert refused.events("not connected")[0]["why"].startswith("the hub asks nobody for a passw")
    assert nobody.process.wait(60.0) == 6
    assert "no hub is running" in nobody.events("not connected")[0]["why"]
    assert busy.process.wait(60.0) == 3
    assert busy.events("udp port is in use")[0]["by"].endswith(f"(pid {os.getpid()})")
    holder.close()


def test_ten_seconds_of_silence(start_hub: StartHub, tmp_path: Path) -> None:
    """Then a client looks for its hub again, and a peer ends, if it was told so (-t)."""
    hub = start_hub()
    client = Endpoint.start(tmp_path, "client", HERE, peerport=hub.port, tone=440, remotename="Eva")
    called = Endpoint.start(tmp_path, "peer", tone=440, timeout=True)
    calls = Endpoint.start(tmp_path, "peer", HERE, peerport=called.udp_port, tone=440)
    in_vain = Endpoint.start(tmp_path, "peer", HERE, peerport=PORTS.take(), tone=440, timeout=True)
    called.wait_for("connected")
    calls.wait_for("connected")
    session = hub.active("Eva")["session"]
    halted = [calls.process.pid, *calls.process.tree()]
    family = [hub.process.pid, *hub.process.tree()]
    for pid in (*halted, *family):
        os.kill(pid, signal.SIGSTOP)
    try:
        client.wait_for("the other side has been silent for 10 seconds", timeout_s=20.0)
    finally:
        for pid in family:
            os.kill(pid, signal.SIGCONT)
        for pid in halted:
            os.kill(pid, signal.SIGKILL)
    client.wait_for("connected", 2)
    soon(lambda: hub.active("Eva")["session"] != session, "another session")
    assert client.leave() == 0
    assert called.process.wait(20.0) == 6
    assert called.events("the other side has been silent for 10 seconds")
    assert in_vain.process.wait(20.0) == 6
    assert not in_vain.events("connected")


def test_two_pairs_of_peers_on_one_machine(tmp_path: Path) -> None:
    """An offset moves a pair's ports, and nobody hears the other pair."""
    waits, calls, offset = PORTS.take(12), PORTS.take(12), 10

    def take() -> None:
        songs, ends = {}, []
        for k in (0, 1):
            songs[k] = song(0.5, 1, seed=k)
            soundfile.write(tmp_path / f"song{k}.wav", songs[k], RATE_HZ, subtype="FLOAT")
            ends.append(Endpoint.start(
                tmp_path, "-s", bindport=waits, portoffset=offset * k, numchannels=1, queue=8,
                record=tmp_path / f"heard{k}.wav", overwrite=True,
            ))  # fmt: skip
        for each in ends:
            each.wait_for("waiting for a peer")
        with to_oneself():
            for k in (0, 1):
                ends.append(Endpoint.start(
                    tmp_path, "-c", HERE, bindport=calls, peerport=waits, portoffset=offset * k,
                    numchannels=1, play=tmp_path / f"song{k}.wav",
                ))  # fmt: skip
            assert [each.process.wait(60.0) for each in ends] == [0, 0, 0, 0]
        for k in (0, 1):
            assert ends[k].events("connected")[0]["port"] == calls + offset * k
            assert_came_back(tmp_path / f"heard{k}.wav", songs[k])

    until_right(take)


def workers(client: Endpoint, name: str) -> list[int]:
    """Pids of its processes of this name."""
    return [pid for pid in client.process.tree() if comm(pid) == name]


def comm(pid: int) -> str:
    """A process's name."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
