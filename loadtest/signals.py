"""The voices: what a client's packets hold when it speaks, and who speaks when.

Every sample of a voice is a number that the checker can compute again::

    channel 0, sample 0:   8192 + k modulo 8192       which packet this is; found at any offset
    all other samples:     hash(talker, channel, k, n) in 0..8191

All are below 16384, and so pass a hub exactly: it decodes to v/32768 and encodes
round(x * 32767), which is v again as long as |v| < 16384 and only one voice sounds.
The talker follows from k (see ``loadtest.plan``), so that one sample tells all; swapped
clients, channels or packets, a gain, a shift by a sample, all give other numbers.

What this cannot see: faults of the sum itself, since one voice sounds at a time.
"""

from __future__ import annotations

from shared.kernels import kernel

SYNC = 8192
"""First sample of a voice packet is at least this; no other sample is."""
SPAN = 8191
LOOPBACK, FAN_OUT, FULL_MIX, NONE = 1, 2, 4, 5


@kernel
def talker_of(schedule, run, listener, packet):
    """Whose turn packet number `packet` belongs to, for this listener."""
    if schedule.mode == LOOPBACK:
        return listener
    return (packet - run.first) // schedule.turn % schedule.clients


@kernel
def speaks(schedule, run, client, packet):
    """Whether this client's packet carries its voice."""
    if run.first < 0 or packet < run.first or packet >= run.last:
        return False
    if schedule.mode == LOOPBACK:
        return True
    turn = packet - run.first
    if turn % schedule.turn >= schedule.talk:
        return False
    return turn // schedule.turn % schedule.clients == client


@kernel
def audible(schedule, run, listener, talker, packet):
    """Whether a right hub lets this listener hear the talker's packet."""
    if schedule.mode == NONE:
        return False
    if schedule.mode == LOOPBACK and talker != listener:
        return False
    if schedule.mode == FAN_OUT and talker == listener:
        return False
    return speaks(schedule, run, talker, packet)


@kernel
def voice_base(talker, channel, packet):
    """The hash of sample 0; sample n adds 37 n, all modulo 8192."""
    return talker * 1031 + channel * 4271 + packet * 613


@kernel
def fill_voice(frames, channels, talker, packet, pcm):
    """Write a voice packet.

    pcm: (channels * frames,) int16, planar.
    """
    for channel in range(channels):
        base = voice_base(talker, channel, packet)
        start = channel * frames
        for n in range(frames):
            pcm[start + n] = (base + 37 * n) & SPAN
    pcm[0] = SYNC + (packet & SPAN)


@kernel
def voice_differs(pcm, frames, channels, start, stop, talker, packet, n0):
    """Whether samples start..stop of a returned packet are not the talker's from n0 on.

    pcm: (channels * frames,) int16, planar; start, stop: sample range of every channel.
    """
    difference = 0
    for channel in range(channels):
        base = voice_base(talker, channel, packet) + 37 * (n0 - start)
        offset = channel * frames
        first = start
        if channel == 0 and n0 == 0 and start < stop:
            difference |= pcm[offset + start] ^ (SYNC + (packet & SPAN))
            first += 1
        for m in range(first, stop):
            difference |= pcm[offset + m] ^ ((base + 37 * m) & SPAN)
    return difference != 0


@kernel
def sounds(pcm, frames, channels, start, stop):
    """Whether any of samples start..stop of any channel is not zero."""
    seen = 0
    for channel in range(channels):
        for m in range(channel * frames + start, channel * frames + stop):
            seen |= pcm[m]
    return seen != 0


@kernel
def find_sync(pcm, frames):
    """Index of the first sample of channel 0 that starts a voice packet; −1: none."""
    for m in range(frames):
        if pcm[m] >= SYNC:
            return m
    return -1
