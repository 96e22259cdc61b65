"""Packets as virtual clients write and read them: header, samples in four depths, exit packets.

Voices are numbers in 16-bit steps (``v``); on the wire they are::

    bits   sent as            read as
      8    v >> 8             round(b × 32768 / 127)      the hub sends round(x × 127)
     16    v                  v
     24    v × 256            rounded to 16-bit steps, clipped
     32    v / 32768          rounded to 16-bit steps, clipped; what is no number: 0

The fields are those of ``shared.protocol``, against which this module is tested.
"""

from __future__ import annotations

import numpy as np

from loadtest.clients.voices import SILENCE, SOLO, solo_sample, tutti_sample
from shared.kernels import kernel
from shared.protocol import HEADER_BYTES

_HEADER_BYTES = HEADER_BYTES


@kernel
def fill_header(data, at, stamp_us, number, client):
    """Write the 16 bytes before a packet's samples.

    data: (bytes,) uint8; at: where the packet begins; client: a CLIENT record.
    """
    data[at : at + 8].view(np.uint64)[0] = np.uint64(stamp_us)
    data[at + 8] = np.uint8(number & 0xFF)
    data[at + 9] = np.uint8(number >> 8 & 0xFF)
    data[at + 10] = np.uint8(client.frames & 0xFF)
    data[at + 11] = np.uint8(client.frames >> 8)
    data[at + 12] = np.uint8(client.rate_code)
    data[at + 13] = np.uint8(client.bits)
    data[at + 14] = np.uint8(client.wants)
    data[at + 15] = np.uint8(0 if client.sends == client.wants else client.sends)


@kernel
def put_sample(data, at, bits, value):
    """Write one sample, given in 16-bit steps."""
    if bits == 8:
        data[at] = np.uint8(value >> 8 & 0xFF)
    elif bits == 24:
        data[at] = np.uint8(value & 0xFF)
        data[at + 1] = np.uint8(value >> 8 & 0xFF)
        data[at + 2] = np.uint8(0)
    else:
        data[at : at + 4].view(np.float32)[0] = np.float32(value) / np.float32(32768.0)


@kernel
def clear_samples(data, at, count):
    """Digital silence: zero bytes in every depth. count: bytes."""
    for i in range(at, at + count):
        data[i] = 0


@kernel
def write_voice(data, at, bits, channels, frames, talker, origin, first, until, kind, mask, level):
    """Write a packet's samples: a voice between two sample numbers, silence around it.

    data: (bytes,) uint8; at: where the samples begin.
    origin: sample number of the packet's first sample; first, until: of the voice.
    kind: SOLO, EVERYBODY or SILENCE; mask, level: see ``loadtest.clients.voices``.

    Returns: 1 when anything but silence may have been written.
    """
    begin = min(max(first - origin, 0), frames)
    end = min(max(until - origin, begin), frames)
    width = bits // 8
    if kind == SILENCE or begin == end:
        clear_samples(data, at, channels * frames * width)
        return 0
    for channel in range(channels):
        start = at + channel * frames * width
        clear_samples(data, start, begin * width)
        clear_samples(data, start + end * width, (frames - end) * width)
        if bits == 16:
            pcm = data[start : start + 2 * frames].view(np.int16)
            if kind == SOLO:
                for i in range(begin, end):
                    pcm[i] = solo_sample(talker, channel, origin + i, mask)
            else:
                for i in range(begin, end):
                    pcm[i] = tutti_sample(talker, channel, origin + i, mask, level)
        elif kind == SOLO:
            for i in range(begin, end):
                value = solo_sample(talker, channel, origin + i, mask)
                put_sample(data, start + i * width, bits, value)
        else:
            for i in range(begin, end):
                value = tutti_sample(talker, channel, origin + i, mask, level)
                put_sample(data, start + i * width, bits, value)
    return 1


@kernel
def clip16(value):
    """The nearest value that 16 bits hold."""
    return min(max(value, -32768), 32767)


@kernel
def read_samples(data, at, bits, count, pcm):
    """Read samples of any depth as 16-bit steps.

    data: (bytes,) uint8; at: where they begin; pcm: (>= count,) int16, written.
    """
    if bits == 16:
        wire = data[at : at + 2 * count].view(np.int16)
        for i in range(count):
            pcm[i] = wire[i]
    elif bits == 8:
        for i in range(count):
            value = np.int64(np.int8(data[at + i])) * 65536
            pcm[i] = clip16((value + 127) // 254)
    elif bits == 24:
        for i in range(count):
            j = at + 3 * i
            high = np.int64(np.int8(data[j + 1])) << 8 | np.int64(data[j])
            pcm[i] = clip16(high + (np.int64(data[j + 2]) >> 7))
    else:
        floats = data[at : at + 4 * count].view(np.float32)
        for i in range(count):
            scaled = np.float64(floats[i]) * 32768.0
            if not abs(scaled) < 65536.0:  # too large, or no number
                pcm[i] = 0 if scaled != scaled else (32767 if scaled > 0 else -32768)
            else:
                pcm[i] = clip16(np.int64(np.floor(scaled + 0.5)))


@kernel
def number_of(data, at):
    """A packet's 16-bit number."""
    return np.int64(data[at + 8]) | np.int64(data[at + 9]) << 8


@kernel
def frames_of(data, at):
    """Samples per channel that a header tells."""
    return np.int64(data[at + 10]) | np.int64(data[at + 11]) << 8


@kernel
def copies_in(data, length, client):
    """How many full packets a returned datagram holds, as this client must be answered.

    data: (>= length,) uint8; client: a CLIENT record.

    The hub carries what the client wants, and asks for what the client sends. It may answer
    with fewer copies than it gets (the original always sends one).

    Returns: 1..redundancy; 0: header or length are not as agreed.
    """
    if length < _HEADER_BYTES or not answers(data, 0, client):
        return 0
    size = _HEADER_BYTES + client.frames * client.wants * client.bits // 8
    copies = length // size
    if copies * size != length or copies > client.redundancy:
        return 0
    return copies


@kernel
def answers(data, at, client):
    """Whether the header at this place is one that this client must be answered with."""
    sends = data[at + 15] if data[at + 15] else data[at + 14]
    return (
        frames_of(data, at) == client.frames
        and data[at + 12] == client.rate_code
        and data[at + 13] == client.bits
        and data[at + 14] == client.sends
        and sends == client.wants
    )


@kernel
def is_blank(data, at):
    """Whether a redundant copy is the zeros that stand for what was before the first packet."""
    return frames_of(data, at) == 0 and data[at + 13] == 0
