"""What the ensemble's formats need of the line, and how fast that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.protocol import HEADER_BYTES, MAX_DATAGRAM_BYTES

FRAGMENT_BYTES = 1480
"""Of a datagram, UDP header included, that one Ethernet frame carries over IPv4."""
FRAME_BYTES = 38 + 20
"""Around each: preamble, header, checksum and gap of Ethernet, and the header of IPv4."""
UDP_BYTES = 8


def needed_bps(formats: npt.NDArray[Any]) -> tuple[float, float]:
    """Bits a second that clients send to the hub, and that it sends to them.

    Args:
        formats: RX records, or their fields of a format.
    """
    frames = np.maximum(formats["frames"].astype(np.float64), 1.0)
    per_s = formats["rate_hz"] / frames
    copies = np.maximum(formats["redundancy"], 1)
    ways = []
    for channels in ("channels", "wants"):
        packet = HEADER_BYTES + formats["frames"] * formats[channels] * (formats["bits"] // 8)
        fitting = np.maximum(MAX_DATAGRAM_BYTES // packet, 1)
        datagram = UDP_BYTES + packet * np.minimum(copies, fitting)
        on_line = datagram + FRAME_BYTES * -(-datagram // FRAGMENT_BYTES)
        ways.append(float((8.0 * on_line * per_s).sum()))
    return ways[0], ways[1]


def card_mbps(root: Path = Path("/")) -> int | None:
    """Speed of the slowest card with a default route, Mbit/s; None where none is known."""
    try:
        lines = (root / "proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return None
    rows = [line.split() for line in lines]
    names = {row[0] for row in rows if len(row) > 7 and row[1] == row[7] == "00000000"}
    speeds = [_speed(root / "sys/class/net" / name / "speed") for name in names]
    known = [speed for speed in speeds if speed is not None]
    return min(known, default=None)


def _speed(path: Path) -> int | None:
    """What a card says of itself; virtual ones say -1, 0, 4294967295, or nothing."""
    try:
        speed = int(path.read_text())
    except (OSError, ValueError):
        return None
    return speed if 0 < speed < 2**31 else None
