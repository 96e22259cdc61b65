"""`tuttihub client` and `tuttihub peer` with the original at the other end."""

from __future__ import annotations

import asyncio
import ctypes.util
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hub.endpoint.handshake import Introduction, NotLetIn, shake_hands
from loadtest.conduct.ports import PORTS
from tests.end_to_end.endpoints import (
    RATE_HZ,
    Endpoint,
    Samples,
    assert_came_back,
    delay_of,
    song,
    until_right,
)
from tests.end_to_end.hubs import Hub, OriginalHub, tuttihub, tuttihub_command
from tests.end_to_end.measuring import (
    ATTEMPTS,
    EXACT_WINDOWS,
    LEAD_FRAMES,
    SIGNAL_FRAMES,
    WINDOW_FRAMES,
    Take,
    assert_hears,
    undisturbed,
)
from tests.end_to_end.peers import START_S, JackTripClient
from tests.end_to_end.processes import ManagedProcess, wait_until
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage
from tests.machine import Witness

pytestmark = pytest.mark.undivided

USER, PASSWORD = "clara", "wieck é"
BIT_BY_BIT = ["--drift", "off"]
"""Of clients of ours on JACK, for the reason that ``Stage.hub`` has."""


@pytest.fixture
def played(tmp_path: Path) -> Samples:
    """What song.wav holds."""
    samples = song(1.0)
    soundfile.write(tmp_path / "song.wav", samples, RATE_HZ, subtype="FLOAT")
    return samples


@pytest.fixture
def original_hub(stage: Stage) -> Iterator[OriginalHub]:
    """It knows clara alone."""
    certificate, key, users = (stage.directory / name for name in ("hub.crt", "hub.key", "users"))
    tuttihub("cert", certificate, key)
    tuttihub("passwd", users, USER, stdin=f"{PASSWORD}\n")
    files = ("--certfile", certificate, "--keyfile", key, "--credsfile", users)
    hub = OriginalHub(stage.directory, patch=1, options=["-A", *map(str, files)])
    yield hub
    hub.kill()


def original_peer(stage: Stage, *words: str) -> ManagedProcess:
    """`jacktrip -s` or `-c` that will send back what it receives."""
    command = ["jacktrip", *words, "-n", "2", "-q", "8", "-D", "-J", "original"]
    return ManagedProcess(
        "the original", command, stage.directory / "original.log", stage.jacks().environment
    )


class OnCard(JackTripClient):
    """A client of ours on a sound card, which is a JACK server's: PortAudio knows these, too."""

    def send_port(self, channel: int) -> str:
        return f"PortAudio:in_{channel - 1}"

    def receive_port(self, channel: int) -> str:
        return f"PortAudio:out_{channel - 1}"


def plug(stage: Stage, source: str, destination: str) -> None:
    """Connect two JACK ports, as soon as they are there."""

    def done() -> bool:
        command = ["jack_connect", source, destination]
        environment = {**os.environ, **stage.jacks().environment}
        return subprocess.run(command, env=environment, capture_output=True).returncode == 0

    wait_until(done, START_S, f"{source} and {destination} are there")


def test_what_is_played_comes_back_from_the_original_hub_with_the_right_password_alone(
    original_hub: OriginalHub, tmp_path: Path, played: Samples
) -> None:
    for login, why in (
        (None, "wants a user name and a password"),
        ((USER, "schumann"), "wrong user name or password"),
        (("robert", PASSWORD), "wrong user name or password"),
    ):
        who = Introduction(PORTS.take(), "Anna", login)
        with pytest.raises(NotLetIn, match=why):
            asyncio.run(shake_hands(ip_address("127.0.0.1"), original_hub.port, who))

    def take() -> None:
        client = Endpoint.start(
            tmp_path, "client", "127.0.0.1", peerport=original_hub.port, queue=8,
            play=tmp_path / "song.wav", record=tmp_path / "heard.wav", overwrite=True, auth=True,
            username=USER, password=PASSWORD,
        )  # fmt: skip
        assert client.process.wait(60.0) == 0
        assert client.events("connected")[0]["bits"] == 16
        assert_came_back(tmp_path / "heard.wav", played)
        assert "Peer Stopped" in original_hub.process.log()

    until_right(take)


@pytest.mark.parametrize("ours_calls", [True, False])
def test_two_peers_hear_each_other_whoever_calls(
    stage: Stage, tmp_path: Path, played: Samples, ours_calls: bool
) -> None:
    """The handshake-less start, either way round; the original sends back what it hears."""

    def take() -> None:
        files = {
            "play": tmp_path / "song.wav", "record": tmp_path / "heard.wav", "overwrite": True,
            "queue": 8,
        }  # fmt: skip
        if ours_calls:
            port = PORTS.take()
            original = original_peer(stage, "-s", "-B", str(port))
            original.wait_for_log("Waiting for Connection From a Client", 20.0)
            ours = Endpoint.start(tmp_path, "peer", "127.0.0.1", peerport=port, **files)
        else:
            ours = Endpoint.start(tmp_path, "peer", **files)
            ours.wait_for("waiting for a peer")
            original = original_peer(
                stage, "-c", "127.0.0.1", "-P", str(ours.udp_port), "-B", str(PORTS.take())
            )
        try:
            for k in (1, 2):
                plug(stage, f"original:receive_{k}", f"original:send_{k}")
            assert ours.process.wait(60.0) == 0
            assert original.wait(10.0) == 0
            assert "Peer Stopped" in original.log()
            assert_came_back(tmp_path / "heard.wav", played)
        finally:
            ours.process.end(signal.SIGKILL)
            original.end(signal.SIGKILL)

    until_right(take)


def test_on_jack_ours_and_the_original_hear_each_other_sample_for_sample(stage: Stage) -> None:
    """The same options, the same ports, the same sound, with a client of either kind.

    And what ours hears is recorded beside JACK.
    """
    hub, record = stage.hub(2), stage.directory / "heard.wav"
    original = stage.client(hub, "original", 2, 2, queue=8)
    ours = stage.client(
        hub, "ours", 2, 2, queue=8, program=tuttihub_command()[0], heard='"connected"',
        remote_name="Anna", options=[*BIT_BY_BIT, "--audio", "jack", "--record", str(record)],
    )  # fmt: skip
    stage.everybody_in(hub)
    assert hub.client("Anna")["format"]["frames"] == 128
    wait_until(
        lambda: record.exists() and record.stat().st_size > RATE_HZ // 100, START_S, "a recording"
    )
    voices = {
        (name, channel): noise(7 + k, SIGNAL_FRAMES, 0.4, lead=LEAD_FRAMES)
        for k, (name, channel) in enumerate(
            (name, channel) for name in ("original", "ours") for channel in (1, 2)
        )
    }

    def judge(take: Take) -> bool:
        for channel in (1, 2):
            assert_hears(take, ours, channel, [voices["original", channel].in_hub])
            assert_hears(take, original, channel, [voices["ours", channel].in_hub])
        return take.disturbed

    disturbed = undisturbed(lambda: stage.record(hub, voices, [original, ours]), judge)
    assert ours.leave() == 0
    recorded, _ = soundfile.read(record, dtype="float32", always_2d=True)
    for channel in (1, 2):
        said = voices["original", channel].in_hub.astype("float32")
        delays = delays_in(recorded[:, channel - 1], said)
        right = Counter(delay for delay in delays if delay is not None)
        if disturbed:
            assert right.total() >= EXACT_WINDOWS
        else:
            assert max(right.values(), default=0) >= 0.9 * len(delays)


def delays_in(recorded: Samples, said: Samples) -> list[int | None]:
    """By how much each window of the sound that was said comes later in a recording, if it is
    there to the bit: that may change where a machine halts."""
    delays: list[int | None] = []
    for at in range(LEAD_FRAMES, len(said), WINDOW_FRAMES):
        window = said[at : at + WINDOW_FRAMES]
        begin = delay_of(recorded, window)
        there = np.array_equal(recorded[begin : begin + len(window)], window)
        delays.append(begin - at if there else None)
    return delays


def test_a_jackd_that_dies_and_returns_finds_the_same_session(stage: Stage) -> None:
    own, hub = stage.jack_to_lose(), stage.hub(1)
    ours = stage.client(
        hub, "ours", 1, 1, jack=own, queue=8, program=tuttihub_command()[0], heard='"connected"',
        remote_name="Anna", options=BIT_BY_BIT,
    )  # fmt: skip
    stage.everybody_in(hub)
    before = hub.client("Anna")
    for _ in range(ATTEMPTS):
        witness = Witness([*ours.process.tree(), *hub.process.tree()])
        told, restarts = len(ours.process.log()), hub.client("Anna")["received"]["restarts"]
        own.restart()
        ours.process.wait_for_log("jack server is gone", START_S, told)
        after_death = ours.process.log().index("jack server is gone", told)
        ours.process.wait_for_log("jack server found", START_S, after_death)
        after = hub.client("Anna")
        assert after["session"] == before["session"]
        if after["received"]["restarts"] == restarts or not witness.tells():
            break
    assert after["received"]["restarts"] == restarts
    sent = noise(11, SIGNAL_FRAMES, 0.4, lead=LEAD_FRAMES)

    def judge(take: Take) -> None:
        assert_hears(take, ours, 1, [sent.in_hub])

    undisturbed(lambda: stage.record(hub, {("ours", 1): sent}, [ours]), judge)

    environment = {**os.environ, **own.environment}
    subprocess.run(["jack_bufsize", "256"], env=environment, check=True, capture_output=True)
    wait_until(lambda: frames_of(hub, "Anna") == 256, START_S, "packets of JACK's new period")
    assert hub.client("Anna")["session"] != before["session"]


def frames_of(hub: Hub, name: str) -> int | None:
    """Of the packets of the client of this name, if it is heard."""
    found = [client for client in hub.clients() if client["name"] == name]
    return found[0]["format"]["frames"] if found and found[0]["state"] == "active" else None


@pytest.mark.skipif(not ctypes.util.find_library("portaudio"), reason="needs PortAudio")
def test_a_sound_card_without_jack_carries_every_sample(stage: Stage) -> None:
    """PortAudio's card is JACK's here, since test machines have no other."""
    hub = stage.hub(1)
    ours = OnCard(
        stage.jacks(), stage.directory, "ours", hub.port, queue=8, program=tuttihub_command()[0],
        heard='"connected"', remote_name="Anna",
        options=[*BIT_BY_BIT, "--audio", "card", "--card", "system"],
    )  # fmt: skip
    stage.clients.append(ours)
    ours.wait_connected()
    stage.everybody_in(hub)
    sent = noise(12, SIGNAL_FRAMES, 0.4, lead=LEAD_FRAMES)

    def judge(take: Take) -> None:
        assert_hears(take, ours, 1, [sent.in_hub])

    undisturbed(lambda: stage.record(hub, {("ours", 1): sent}, [ours]), judge)
