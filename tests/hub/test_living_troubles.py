"""A hub in its processes, and clients that each fail in a way of their own, all at once: the hub
says of each what is wrong, in status, log and metrics."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from shared.protocol import AudioHeader, pack_header
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import LiveHub
from tests.hub.musicians import Musician, say_hello

pytestmark = pytest.mark.living

DEADLINE_S = 30.0
PACKET_S = 128 / 48000

Datagram = Callable[[int], bytes | None]
"""Made of a packet's number; None: the packet is lost."""


def audio(
    frames: int = 128, bits: int = 16, samples: bytes = b"\x00\x04"
) -> Callable[[int], bytes]:
    """Stereo packets of these bytes over and over."""

    def datagram(number: int) -> bytes:
        header = AudioHeader(0, number & 0xFFFF, frames, 3, bits, 2, 2)
        size = header.packet_bytes - 16
        return pack_header(header) + samples * (size // len(samples))

    return datagram


def wireless(datagram: Datagram) -> Datagram:
    """Packets that are held up for 80 ms, about once a second."""

    def held_up(number: int) -> bytes | None:
        if number % 350 == 349:
            time.sleep(0.08)
        return datagram(number)

    return held_up


class Stream:
    """Sends a datagram a packet's time to the port a hello was answered with."""

    def __init__(
        self, hub: LiveHub, name: str, datagram: Datagram, source: str = "127.0.0.1"
    ) -> None:
        self.datagram = datagram
        port = say_hello(hub.port, name)
        assert port is not None
        self.port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((source, 0))
        self.source = self._socket.getsockname()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join(5.0)
        self._socket.close()

    def _send(self) -> None:
        number, due = 0, time.monotonic()
        while not self._stop.wait(max(due - time.monotonic(), 0.0)):
            data = self.datagram(number)
            if data is not None:
                self._socket.sendto(data, ("127.0.0.1", self.port))
            number += 1
            # what was held up goes out at once, as from Wi-Fi
            due = max(due + PACKET_S, time.monotonic() - 0.2)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHub]:
    hub = LiveHub(tmp_path_factory.mktemp("hub"), options=("--max-clients", "24", "-q", "auto"))
    try:
        yield hub
        hub.stop()
    finally:
        hub.kill()


def conditions(client: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["condition"]: entry for entry in client["conditions"]}


class Diary:
    """All conditions that anybody ever had."""

    def __init__(self, hub: LiveHub) -> None:
        self._hub = hub
        self.seen: dict[str, dict[str, dict[str, Any]]] = {}

    def look(self) -> Self:
        for client in self._hub.present():
            self.seen.setdefault(client["name"], {}).update(conditions(client))
        return self

    def wait(self, name: str, slug: str) -> dict[str, Any]:
        """The condition, as soon as it was seen."""
        wait_until(lambda: slug in self.look().seen.get(name, {}), DEADLINE_S, f"{name}: {slug}")
        return self.seen[name][slug]


def test_each_has_its_own_trouble(hub: LiveHub, tmp_path: Path) -> None:
    diary = Diary(hub)
    whole = audio()
    changing = [whole]
    loud = int(np.iinfo(np.int16).max)
    coarse = np.float32(2.0).tobytes() + b"\0\0\0\0"
    with ExitStack() as stack:
        say_hello(hub.port, "No-UDP")
        for name, datagram, source in (
            ("Elsewhere", whole, "127.0.0.2"),
            ("Header", lambda number: b"\xff" * 528, "127.0.0.1"),
            ("Length", lambda number: whole(number)[:500], "127.0.0.1"),
            ("Changed", lambda number: changing[0](number), "127.0.0.1"),
            ("Garbage", audio(bits=32, samples=coarse), "127.0.0.1"),
            ("Lossy", lambda number: whole(number) if number % 50 else None, "127.0.0.1"),
            ("Wi-Fi", wireless(whole), "127.0.0.1"),
        ):
            stream = stack.enter_context(Stream(hub, name, datagram, source))
            if name == "Elsewhere":
                elsewhere = stream
        stopped = stack.enter_context(Musician(hub.port, "Stopped", level=100))
        for name, level in (("Silent", 0), ("Loud", loud), ("Muted", 100), ("Faint", 10)):
            stack.enter_context(Musician(hub.port, name, level=level))
        mono = stack.enter_context(Musician(hub.port, "Mono", level=100, channels=1))
        second = stack.enter_context(Stream(hub, "Second", whole))
        for name in ("Stopped", "Muted", "Changed", "Second"):
            hub.active(name)
        # another stream to its port, from the same address
        twin = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        hub.ask("mute", client="Muted", muted=True)
        changing[0] = audio(frames=64)
        stopped.fall_silent()
        os.kill(hub.active("Faint")["receiver_pid"], signal.SIGKILL)

        def disturb() -> bool:
            for number in range(8):
                twin.sendto(whole(number), ("127.0.0.1", second.port))
            return "second-stream" in diary.look().seen.get("Second", {})

        wait_until(disturb, DEADLINE_S, "a second stream is told", poll_s=0.05)
        for name, slug in (
            ("No-UDP", "no-udp"), ("Elsewhere", "udp-elsewhere"), ("Header", "wrong-header"),
            ("Length", "wrong-length"), ("Changed", "format-changed"),
            ("Garbage", "garbage-32bit"), ("Stopped", "stopped"), ("Muted", "muted"),
            ("Loud", "clipping-input"), ("Mono", "mono-input"), ("Mono", "mono-return"),
            ("Lossy", "losses"), ("Wi-Fi", "stalls"), ("Faint", "receiver-died"),
            ("Silent", "silent-input"), ("Muted", "clipping-return"),
        ):  # fmt: skip
            diary.wait(name, slug)
        address, port = elsewhere.source
        assert (
            f"from {address} port {port}; expected from 127.0.0.1"
            in (diary.seen["Elsewhere"]["udp-elsewhere"]["detail"])
        )
        assert "sends 64 frames" in diary.seen["Changed"]["format-changed"]["detail"]
        assert mono.packets > 0

        scraped = metrics(hub)
        told = {
            f"condition='{slug}'"
            for client in hub.present()
            if client["name"] in ("Silent", "Loud", "Mono", "Garbage")
            for slug in conditions(client)
        }
        wait_until(lambda: all(one in hub.process.log() for one in told), DEADLINE_S, "all logged")
        assert "mixer-stuck" not in hub.process.log()  # not even while the hub was starting
        assert 'client="Loud",condition="clipping-input"} 1' in scraped
        assert 'tuttihub_conditions_raised_total{condition="silent-input"} 1' in scraped
        assert 'tuttihub_conditions_raised_total{condition="queue-long"} 0' in scraped

    def gone() -> set[str]:
        return {entry["name"] for entry in hub.state()["hub"]["departures"]}

    wanted = {"No-UDP", "Elsewhere", "Header", "Length", "Stopped"}
    wait_until(lambda: wanted <= gone(), DEADLINE_S, "they were let go")
    worst = {
        entry["name"]: entry["conditions"][0]["condition"]
        for entry in hub.state()["hub"]["departures"]
    }
    assert worst["No-UDP"] == "no-udp"
    assert worst["Elsewhere"] == "udp-elsewhere"
    assert worst["Header"] == "wrong-header"
    assert worst["Length"] == "wrong-length"
    assert worst["Stopped"] == "stopped"
    hub.empty()


def metrics(hub: LiveHub) -> str:
    url = f"http://{hub.state()['hub']['metrics']}/metrics"
    with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
        text: str = answer.read().decode()
    return text
