"""Where voices are in what a listener hears: their delays, and which turn is on its way to it."""

from __future__ import annotations

import numpy as np

from loadtest.clients.numbering import tally
from loadtest.clients.state import LATENCY, LOST_NS, NEVER, NOBODY, STAMPS, TURNS, TUTTI, UNKNOWN
from loadtest.clients.turns import LOOK, audible, log_delay
from loadtest.clients.voices import BEAT, SYNC_CODES, differs, sounds, sync_at, sync_code
from shared.kernels import kernel

TRIES = 6
"""Sync samples of a packet that are looked at: 8 bits make some of samples that are none."""
SURE = 12
"""So many right samples from a sync sample on are no accident."""
WITNESSES = 8
"""Other listeners that are asked, at most, where a talker is heard."""
UNPLACED_NS = 1_000_000_000
"""Longest that a sound is waited for whose delay is not known."""


@kernel
def overlap(first, until, low, high):
    """How many samples two ranges share."""
    return max(min(until, high) - max(first, low), 0)


@kernel
def known_delay(state, client, index, talker):
    """The delay at which a listener last heard a talker, or UNKNOWN."""
    if client.talker == talker:
        return client.delay
    if index < state.delays.shape[0]:
        return np.int64(state.delays[index, talker])
    return np.int64(UNKNOWN)


@kernel
def fits(expectation, listener, talker, source, first, until, origin, pcm):
    """Whether a packet is right, if its sample 0 is sample `origin` of the talker's stream.

    listener, source: records of the listener and of the talker (whose index is `talker`).
    first, until: sample numbers of the voice; before and after it there is silence.
    """
    frames = listener.frames
    a = min(max(first - origin, 0), frames)
    b = min(max(until - origin, a), frames)
    for channel in range(listener.wants):
        row = channel * frames
        heard = channel
        if expectation.upmix and source.sends == 1 and channel == 1:
            heard = 0
        if heard >= source.sends:
            if sounds(pcm, row, row + frames):
                return False
            continue
        if a > 0 and sounds(pcm, row, row + a):
            return False
        if differs(
            pcm, row + a, row + b, talker, heard, origin + a, source.mask, listener.tolerance
        ):
            return False
        if b < frames and sounds(pcm, row + b, row + frames):
            return False
    return True


@kernel
def over(expectation, state, client, index, turn, position, arrival_ns):
    """Whether nothing of a turn can come to this listener any more."""
    if turn.talker == NOBODY:
        return True
    if turn.talker == TUTTI:
        return tutti_over(expectation, state, client, index, turn, position, arrival_ns)
    if turn.first == NEVER or not audible(expectation.mode, turn.talker, index):
        return True
    delay = known_delay(state, client, index, turn.talker)
    if delay != UNKNOWN:
        return position >= turn.until + delay
    return arrival_ns >= turn.start_ns + UNPLACED_NS


@kernel
def tail_ns(run, client):
    """How long a sound may be on its way, by what was heard so far: no bound, but likely."""
    if client.latency_count == 0:
        return np.int64(60_000_000)
    return client.latency_max_ns + 2 * run.longest_ns


@kernel
def tutti_over(expectation, state, client, index, turn, position, arrival_ns):
    """Whether nothing of a tutti can come to this listener any more.

    Before the next turn all may come; then it ends with the last part, by the delays that are
    known, however late the hub's packets are. A talker whom nobody has heard yet is later than
    the others by less than a pause; if this listener has heard nobody, only time tells.
    """
    run = state.run[0]
    if arrival_ns < turn.start_ns + run.turn_ns:
        return False
    if client.tutti != turn.number + 1:
        until = tutti_until(expectation, state, client, index, turn)
        if until == UNKNOWN:
            newer = False
            for number in range(turn.number + 1, run.turn + 1):
                newer |= state.turns[number % TURNS].talker == TUTTI
            longest_ns = UNPLACED_NS
            if run.latency_max_ns:  # of others
                longest_ns = min(longest_ns, run.latency_max_ns + run.turn_ns + run.longest_ns)
            return newer or arrival_ns >= turn.start_ns + longest_ns
        client.tutti = turn.number + 1
        client.tutti_until = until
    return position >= client.tutti_until


@kernel
def tutti_until(expectation, state, client, index, turn):
    """The position from which nothing of a tutti sounds any more; UNKNOWN: nothing tells."""
    run = state.run[0]
    latest, all_known, reference = np.int64(UNKNOWN), True, NOBODY
    for talker in range(state.delays.shape[0]):
        if state.delays[index, talker] != UNKNOWN:
            reference = talker
            break
    for talker in range(state.delays.shape[0]):
        first = state.tutti_first[turn.tutti, talker]
        if first == NEVER or not audible(expectation.mode, talker, index):
            continue
        delay = np.int64(state.delays[index, talker])
        if delay == UNKNOWN:
            source = state.clients[talker]
            if reference != NOBODY and source.voice_began_ns > source.start_ns:
                delay = as_others_tell(state, index, talker, reference)
        if delay == UNKNOWN:
            all_known = False
        else:
            latest = max(latest, delay + (first if first >= 0 else ~first))
    if latest == UNKNOWN:
        return latest
    # A part is rounded up to packets; a queue that slips moves it by one.
    longest_ns = run.tutti_ns + 2 * run.longest_ns
    if not all_known:
        longest_ns = max(longest_ns, run.turn_ns - 2 * run.longest_ns)
    return latest + longest_ns * 1000 * client.frames // client.nominal_ps


@kernel
def as_others_tell(state, index, talker, reference):
    """A talker's delay by what another listener knows of it and of one that both hear."""
    count = state.delays.shape[0]
    for step in range(1, min(WITNESSES, count - 1) + 1):
        other = (index + step) % count
        delay, shared = state.delays[other, talker], state.delays[other, reference]
        if delay != UNKNOWN and shared != UNKNOWN:
            return np.int64(state.delays[index, reference]) + delay - shared
    return np.int64(UNKNOWN)


@kernel
def expected_turn(expectation, state, client, index, position, arrival_ns):
    """The solo that should sound in a packet at a delay that is known; −1: none.

    Moves the client's ``turn`` on past those that are over.
    """
    run = state.run[0]
    number = max(client.turn, run.turn - LOOK + 1, 0)
    while number < run.turn and over(
        expectation, state, client, index, state.turns[number % TURNS], position, arrival_ns
    ):
        number += 1
    client.turn = number
    for near in range(max(number - 2, 0), run.turn + 1):  # overtaken packets are older
        turn = state.turns[near % TURNS]
        if (
            turn.talker >= 0
            and turn.first != NEVER
            and audible(expectation.mode, turn.talker, index)
        ):
            delay = known_delay(state, client, index, turn.talker)
            if (
                delay != UNKNOWN
                and position + client.frames > turn.first + delay
                and position < turn.until + delay
            ):
                return near
    return -1


@kernel
def locate(expectation, state, client, index, position, pcm):
    """Find the voice in a packet by its sync samples, among the solos of late.

    Returns: (turn, delay, whether all of the packet fits), or (−1, 0, False).
    """
    run = state.run[0]
    m = -1
    for _ in range(TRIES):
        m = sync_at(pcm, client.frames, m + 1)
        if m < 0:
            break
        code = sync_code(pcm[m])
        for back in range(min(LOOK, run.turn + 1)):
            turn = state.turns[(run.turn - back) % TURNS]
            if (
                turn.talker < 0
                or turn.first == NEVER
                or not audible(expectation.mode, turn.talker, index)
            ):
                continue
            beat = -(-turn.first // BEAT)
            number = BEAT * (beat + (code - beat) % SYNC_CODES)
            while number < turn.until:
                source = state.clients[turn.talker]
                if fits(
                    expectation, client, turn.talker, source, turn.first, turn.until,
                    number - m, pcm,
                ):  # fmt: skip
                    return turn.number, position + m - number, True
                stop = min(client.frames, m + turn.until - number)
                if stop - m >= SURE and not differs(
                    pcm, m, stop, turn.talker, 0, number, source.mask, client.tolerance
                ):
                    return turn.number, position + m - number, False
                number += BEAT * SYNC_CODES
    return -1, 0, False


@kernel
def learn(state, client, index, number, talker, delay):
    """Remember where a talker is heard."""
    client.talker = talker
    client.delay = delay
    client.next_delay = UNKNOWN
    client.grace = 0
    if index < state.delays.shape[0] and state.delays[index, talker] != delay:
        state.delays[index, talker] = delay
        log_delay(state, number, index, talker, delay)


@kernel
def latency(state, client, talker, low, high, delay, position, arrival_ns):
    """Measure how long the talker's packet took that begins in samples low..high of this one."""
    source = state.clients[talker]
    packet = -(-low // source.frames)
    if packet * source.frames >= high or not source.packet - STAMPS < packet < source.packet:
        return
    sent_ns = state.sent_ns[talker, packet % STAMPS]
    if sent_ns == LOST_NS:
        return
    ns = arrival_ns - sent_ns
    client.latency_ns += ns
    client.latency_count += 1
    client.latency_max_ns = max(client.latency_max_ns, ns)
    run = state.run[0]
    run.latency_max_ns = max(run.latency_max_ns, ns)
    tally(state.histograms[client.section, LATENCY], ns)
