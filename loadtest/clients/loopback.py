"""Judging a returned packet in loopback: one's own voice, and nothing else."""

from __future__ import annotations

import numpy as np

from loadtest.clients.captures import keep_evidence
from loadtest.clients.excuses import DOUBTED, any_spoilt, blame, confirm, doubt
from loadtest.clients.places import TRIES, fits, latency, learn, overlap
from loadtest.clients.state import BIN_CONCEALED, BIN_SILENT, BIN_WRONG, NEVER, UNKNOWN
from loadtest.clients.voices import BEAT, SYNC_CODES, sounds, sync_at, sync_code
from shared.kernels import kernel

LAPS = 16
"""Rounds of the sync samples' codes (4096 samples) that a loopback's delay may be long."""


@kernel
def check_own(expectation, state, index, position, pcm, arrival_ns):
    """Judge the samples of a packet in loopback: one's own voice, and nothing else."""
    client = state.clients[index]
    frames = client.frames
    first, until = client.voice_from, client.voice_until
    if client.talker == index:  # its delay is known
        low, high = position - client.delay, position - client.delay + frames
        if position + frames > client.judged:
            due_from = max(first, client.judged - client.delay)
            client.voice_due += max(min(until, high) - due_from, 0)
            client.judged = position + frames
        share = overlap(first, until, low, high)
        if fits(expectation, client, index, client, first, until, low, pcm):
            client.voice_heard += share
            client.next_delay = UNKNOWN
            if client.doubt_turn:
                confirm(state, client, index, index, arrival_ns)
            if share:
                low, high = max(low, first), min(high, until)
                latency(state, client, index, low, high, client.delay, position, arrival_ns)
            return
        sounding = sounds(pcm, 0, frames * client.wants)
        kind = BIN_WRONG if sounding else BIN_SILENT
        counted = 1
        if any_spoilt(client, state.sent_ns[index], low, high):
            client.voice_excused += share
            counted = 0
            kind = BIN_CONCEALED
        if counted and client.drifts:
            if doubt(
                state, client, index, 0, index, client.delay, 0, kind, arrival_ns
            ) == DOUBTED:  # fmt: skip
                client.voice_excused += share
                counted = 0
        else:
            blame(state, client, index, kind, arrival_ns)
        if counted and not sounding:
            return
    elif not sounds(pcm, 0, frames * client.wants):
        return
    else:
        counted = 2  # nothing is known: sound without a place is wrong only then
    delay = client.next_delay
    client.next_delay = UNKNOWN
    if delay != UNKNOWN and fits(
        expectation, client, index, client, first, until, position - delay, pcm
    ):
        client.shifts += client.next_blame
        if client.doubt_turn:
            confirm(state, client, index, index, arrival_ns)
        follow_own(state, client, index, position, delay)
        return
    delay, whole = locate_own(expectation, client, index, position, pcm)
    if counted == 2 and whole:
        follow_own(state, client, index, position, delay)
        client.judged = position + frames
        share = overlap(first, until, position - delay, position - delay + frames)
        client.voice_due += share
        client.voice_heard += share
        return
    if counted == 1 or (counted == 2 and client.recent & np.uint64(2) != 0):
        if counted == 2:
            blame(state, client, index, BIN_WRONG, arrival_ns)
        keep_evidence(
            state, index, position, pcm, arrival_ns, index,
            client.delay if counted == 1 else np.int64(UNKNOWN), first, until, np.int64(NEVER),
            np.int64(NEVER),
        )  # fmt: skip
    if whole:
        client.next_delay = delay
        client.next_blame = np.int64(counted == 1)


@kernel
def follow_own(state, client, index, position, delay):
    """In loopback: the voice is (now) at this delay."""
    learn(state, client, index, 0, index, delay)


@kernel
def locate_own(expectation, client, index, position, pcm):
    """Find one's own voice in a packet by its sync samples.

    Returns: (delay, whether all of the packet fits).
    """
    newest = client.packet * client.frames
    m = -1
    for _ in range(TRIES):
        m = sync_at(pcm, client.frames, m + 1)
        if m < 0:
            break
        beat = newest // BEAT
        number = BEAT * (beat - (beat - sync_code(pcm[m])) % SYNC_CODES)
        for lap in range(LAPS):
            n = number - lap * BEAT * SYNC_CODES
            if n < client.voice_from:
                break
            if fits(
                expectation, client, index, client, client.voice_from, client.voice_until, n - m,
                pcm,
            ):  # fmt: skip
                return position + m - n, True
    return np.int64(UNKNOWN), False
