"""A hub for one client that plays known sound to it, with the packets left out that shall be lost.

    python -m loadtest.benchmarks.feeder --port 12345 --udp-port 12346 SOUND.npy LOST.npy

It says ``ready``, lets one client in, and sends a packet for each that it gets: there is one
clock only, the client's own, so that its buffer is never to run dry or over but for what is left
out. The client's numbering is followed, so that a packet lost on the way back is none here. It
ends with the sound, or when the client leaves.
"""

from __future__ import annotations

import gc
import socket
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from loadtest.conduct.realtime import ask_for_realtime, resident
from shared.protocol import (
    HEADER,
    HELLO_BYTES,
    AudioHeader,
    is_exit,
    pack_answer,
    pack_header,
    rate_code,
    sequence_step,
)

RATE_HZ = 48000
BITS = 16
SILENCE_S = 5.0


def datagrams(sound: npt.NDArray[np.int16], frames: int) -> list[bytes]:
    """The packets of one channel of sound, numbered from 0."""
    return [
        pack_header(
            AudioHeader(0, number & 0xFFFF, frames, rate_code(RATE_HZ), BITS, 1, 1)
        ) + packet.tobytes()
        for number, packet in enumerate(sound.astype("<i2").reshape(-1, frames))
    ]  # fmt: skip


def welcome(door: socket.socket, udp_port: int) -> None:
    """Read a hello and answer it."""
    with door.accept()[0] as caller:
        caller.settimeout(SILENCE_S)
        caller.recv(HELLO_BYTES)
        caller.sendall(pack_answer(udp_port))


def feed(wire: socket.socket, packets: list[bytes], lost: npt.NDArray[np.bool_]) -> int:
    """A packet for each that comes; how many were due before the client left, or fell silent."""
    due, newest = 0, -1
    wire.settimeout(SILENCE_S)
    while due < len(packets):
        try:
            data, peer = wire.recvfrom(2048)
        except TimeoutError:
            break
        if is_exit(data):
            break
        sequence = HEADER.unpack_from(data)[1]
        ahead = 1 if newest < 0 else sequence_step(sequence, newest)
        if ahead <= 0:
            continue
        newest = sequence
        for number in range(due, min(due + ahead, len(packets))):
            if not lost[number]:
                wire.sendto(packets[number], peer)
        due += ahead
    return min(due, len(packets))


@click.command()
@click.option("--port", type=int, required=True, help="TCP.")
@click.option("--udp-port", type=int, required=True)
@click.option("--frames", type=int, default=128)
@click.argument("sound_path", type=click.Path(path_type=Path))
@click.argument("lost_path", type=click.Path(path_type=Path))
def main(port: int, udp_port: int, frames: int, sound_path: Path, lost_path: Path) -> None:
    """Feed one client."""
    packets, lost = datagrams(np.load(sound_path), frames), np.load(lost_path)
    with (
        socket.create_server(("127.0.0.1", port)) as door,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire,
        resident(),
    ):
        wire.bind(("127.0.0.1", udp_port))
        print("ready", flush=True)
        welcome(door, udp_port)
        ask_for_realtime()
        gc.disable()
        print(f"fed {feed(wire, packets, lost)} packets", flush=True)


if __name__ == "__main__":
    main()
