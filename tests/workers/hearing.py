"""What a hub must make of known signals, in NumPy and from the protocol's text alone.

Signals are *wire values*: int64 for 8, 16 and 24 bit, float32 for 32 bit, always
(channels, frames).

    wire value --in_hub--> mix (float64) --returned--> wire value

    bits   in_hub       returned
      8    v / 128      clip(round(x·127), ±127)       round: halves away from zero
     16    v / 32768    clip(round(x·32767), ±32767)
     24    v / 2^23     floor(x·2^23), clipped          on the wire as (mid, high, low)
     32    v            x
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.protocol import HEADER_BYTES, AudioHeader, parse_datagram, parse_header, sequence_step

Wire = npt.NDArray[Any]
Mix = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def in_hub(values: Wire, bits: int) -> Mix:
    """Samples as the hub's decoder must see them."""
    if bits == 32:
        return values.astype(np.float64)
    return values.astype(np.float64) / (1 << (bits - 1))


def returned(mix: Mix, bits: int) -> Wire:
    """Wire values as the hub's encoder must write them."""
    if bits == 32:
        return mix.astype(np.float32)
    if bits == 24:
        return np.clip(np.floor(mix * (1 << 23)), -(1 << 23), (1 << 23) - 1).astype(np.int64)
    full = (1 << (bits - 1)) - 1
    scaled = np.clip(mix * full, -full, full)
    return np.copysign(np.floor(np.abs(scaled) + 0.5), scaled).astype(np.int64)


def to_bytes(values: Wire, bits: int) -> bytes:
    """Planar samples of one packet."""
    if bits == 32:
        return values.astype("<f4").tobytes()
    if bits == 24:
        low, mid, high = (values >> shift & 0xFF for shift in (0, 8, 16))
        return np.stack((mid, high, low), axis=-1).astype(np.uint8).tobytes()
    return values.astype(f"<i{bits // 8}").tobytes()


def from_bytes(data: bytes, bits: int, channels: int) -> Wire:
    """Wire values of one packet's samples."""
    if bits == 32:
        return np.frombuffer(data, "<f4").reshape(channels, -1)
    if bits == 24:
        parts = np.frombuffer(data, np.uint8).astype(np.int64).reshape(channels, -1, 3)
        value = parts[..., 0] << 8 | parts[..., 1] << 16 | parts[..., 2]
        return np.where(value >= 1 << 23, value - (1 << 24), value)
    return np.frombuffer(data, f"<i{bits // 8}").astype(np.int64).reshape(channels, -1)


@dataclass(frozen=True, slots=True)
class Stream:
    """What came back to one client, laid out by packet number.

    Attributes:
        headers: of every datagram's newest packet, in order of arrival.
        numbers: their packet numbers from the first on, unwrapped.
        values: (channels, frames) wire values; zero where a packet is missing.
        present: (frames,) whether a packet brought this sample.
        misrouted: redundant copies that are neither the packet they repeat nor zero bytes.
    """

    headers: list[AudioHeader]
    numbers: list[int]
    values: Wire
    present: Mask
    misrouted: int


def assemble(datagrams: Sequence[bytes]) -> Stream:
    """Lay returned datagrams out; fails on any that is illegal."""
    headers: list[AudioHeader] = []
    numbers: list[int] = []
    packets: dict[int, bytes] = {}
    misrouted = 0
    for data in datagrams:
        header, redundancy = parse_datagram(data)
        numbers.append(
            numbers[-1] + sequence_step(header.sequence, headers[-1].sequence)
            if headers
            else header.sequence
        )
        headers.append(header)
        size = header.packet_bytes
        packets[numbers[-1]] = data[:size]
        for age in range(1, redundancy):
            older = data[age * size : (age + 1) * size]
            known = packets.get(numbers[-1] - age)
            misrouted += older not in (known, bytes(size))
    if not headers:
        return Stream([], [], np.zeros((0, 0)), np.zeros(0, bool), 0)
    model = headers[0]
    first, last = min(numbers), max(numbers)
    kind = np.float32 if model.bits == 32 else np.int64
    values = np.zeros((model.sends, (last - first + 1) * model.frames), kind)
    present = np.zeros(values.shape[1], bool)
    for number, data in packets.items():
        at = slice((number - first) * model.frames, (number - first + 1) * model.frames)
        values[:, at] = from_bytes(data[HEADER_BYTES:], model.bits, model.sends)
        present[at] = True
    return Stream(headers, numbers, values, present, misrouted)


def header_bytes_14_15(data: bytes) -> tuple[int, int]:
    """The two channel bytes as they are on the wire."""
    parse_header(data)
    return data[14], data[15]


def roughness(values: Wire) -> float:
    """Largest absolute second difference: what a click is heard by."""
    return float(np.max(np.abs(np.diff(values.astype(np.float64), 2)), initial=0.0))


def runs(mask: Mask) -> list[tuple[int, int]]:
    """[start, end) of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
