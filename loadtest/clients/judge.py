"""Judging a returned packet: its number, its spacing, and every sample of it.

A stream's position is its packet number times its frames. The *delay* of a talker at a listener,
position minus sample number, is constant while nothing slips, so that each sample has exactly
one right value. What happens to a packet::

    it should hold a voice whose delay is known ---- all samples right: heard
         |                                    ------ all silent: silent
         +------ else: wrong; is the voice at another delay? then if the next packet fits there,
                 too, the listener follows it (a shift), else it was one wrong packet
    it should be silent, and is: right
    it sounds -- a sync sample tells a voice whose delay was unknown: heard, delay learnt
              -- a tutti is on: kept for later (``captures``, ``loadtest.hearing``)
              -- one's own voice is on its way, in mode 2: a leak
              -- else wrong

What the emulated network explains (the talker's packet was lost or late, or one nearby), or the
talker's leaving, is counted as concealed instead of wrong or silent.
"""

from __future__ import annotations

import numpy as np

from loadtest.clients.captures import keep_evidence, keep_tutti
from loadtest.clients.excuses import (
    BLAMED,
    DOUBTED,
    RIGHT,
    any_spoilt,
    blame,
    confirm,
    doubt,
    mark,
    slip_frames,
    stays,
)
from loadtest.clients.state import (
    BIN_CONCEALED,
    BIN_LOST,
    BIN_RETURNED,
    BIN_SILENT,
    BIN_WRONG,
    BUCKETS,
    LATENCY,
    LOST_NS,
    NEVER,
    NOBODY,
    SPACING,
    STAMPS,
    TURNS,
    TUTTI,
    UNKNOWN,
)
from loadtest.clients.turns import (
    FAN_OUT,
    LOOK,
    LOOPBACK,
    audible,
    forget_delays,
    log_delay,
)
from loadtest.clients.voices import BEAT, SYNC_CODES, differs, sounds, sync_at, sync_code
from shared.kernels import kernel

JUMP = 1000
"""A step of the numbering beyond this is a new start, not a loss (as JackTrip has it)."""
DUPLICATE = -(1 << 60)
TRIES = 6
"""Sync samples of a packet that are looked at: 8 bits make some of samples that are none."""
SURE = 12
"""So many right samples from a sync sample on are no accident."""
WITNESSES = 8
"""Other listeners that are asked, at most, where a talker is heard."""
UNPLACED_NS = 1_000_000_000
"""Longest that a sound is waited for whose delay is not known."""
NO, MAYBE, SURELY = 0, 1, 2
LAPS = 16
"""Rounds of the sync samples' codes (4096 samples) that a loopback's delay may be long."""


@kernel
def tally(histogram, ns):
    """Count a time in a histogram of 1 µs buckets (rounded up, the last one open)."""
    bucket = (ns + 999) // 1000
    histogram[min(max(bucket, 0), BUCKETS - 1)] += 1


@kernel
def account(state, index, number, arrival_ns, copy):
    """Count a packet of a return stream by its 16-bit number.

    copy: 1: an older packet that came again in a newer datagram.

    A packet 64 numbers or more behind the newest counts as a duplicate: whether it came
    before is forgotten by then.

    Returns: its extended number, or DUPLICATE; and whether the numbering began anew.
    """
    client, run = state.clients[index], state.run[0]
    measured = run.opened_ns <= arrival_ns < run.closed_ns
    one = np.uint64(1)
    if client.started == 0 and copy:
        return DUPLICATE, False
    step = 0
    if client.started:
        step = ((number - (client.highest & 0xFFFF) + 0x8000) & 0xFFFF) - 0x8000
    extended = client.highest + step if client.started else number
    anew = client.started == 0 or abs(step) > JUMP
    if anew:
        client.restarts += measured and client.started
        client.started = 1
        client.highest = extended
        client.recent = one
    elif step > 0:
        client.recent = (client.recent << np.uint64(step) if step < 64 else np.uint64(0)) | one
        client.highest = extended
        if measured:
            distance = arrival_ns - client.arrival_ns
            client.lost += step - 1
            client.repaired += copy
            if step > 1:
                mark(state, index, BIN_LOST, arrival_ns, step - 1)
            if client.arrival_ns >= run.opened_ns:
                client.gap_ns = max(client.gap_ns, distance)
            if step == 1 and copy == 0 and distance > 0:
                tally(
                    state.histograms[client.section, SPACING],
                    abs(distance - client.nominal_ps // 1000),
                )
    else:
        bit = one << np.uint64(-step) if step > -64 else np.uint64(0)
        if step <= -64 or client.recent & bit:
            client.duplicates += measured and copy == 0
            return DUPLICATE, False
        client.recent |= bit
        if measured:  # it had been counted as lost when its successor came
            client.returned += 1
            client.lost -= 1
            mark(state, index, BIN_LOST, arrival_ns, -1)
            if copy:
                client.repaired += 1
            else:
                client.reordered += 1
            mark(state, index, BIN_RETURNED, arrival_ns, 1)
        return extended, False
    client.arrival_ns = arrival_ns
    if measured:
        client.returned += 1
        mark(state, index, BIN_RETURNED, arrival_ns, 1)
    return extended, anew


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


@kernel
def hear(state, client, index, turn, delay, position, arrival_ns):
    """Count a right packet of a solo."""
    low = max(turn.first, position - delay)
    high = min(turn.until, position - delay + client.frames)
    state.heard[index, turn.number % TURNS] += max(high - low, 0)
    client.talker = turn.talker
    client.delay = delay
    client.next_delay = UNKNOWN
    client.grace = 0
    client.turn = max(client.turn, turn.number)
    if client.doubt_turn == turn.number + 1:
        confirm(state, client, index, turn.talker, arrival_ns)
    latency(state, client, turn.talker, low, high, delay, position, arrival_ns)


@kernel
def excusable(state, index, turn, origin, frames):
    """Whether samples of a solo need not be as they should: SURELY, MAYBE (a queue slipped), NO."""
    source = state.clients[turn.talker]
    if not stays(source, turn) or any_spoilt(
        source, state.sent_ns[turn.talker], origin, origin + frames
    ):
        return SURELY
    if source.drifts:
        return MAYBE
    if state.heard[index, turn.number % TURNS] == 0 and source.spoilt_ns >= source.former_ns:
        if source.spoilt_ns > 0:
            return MAYBE  # its queue in the hub may have changed since it was heard last
    return NO


@kernel
def take_packet(expectation, state, index, number, pcm, arrival_ns, copy):
    """Judge a valid audio packet that came back.

    number: its 16-bit number. pcm: (wants * frames,) int16, planar, 16-bit steps.
    copy: 1: an older packet in a newer datagram (older ones first); 0: the newest.
    """
    client, run = state.clients[index], state.run[0]
    if client.first_ns == 0:
        client.first_ns = arrival_ns
    extended, anew = account(state, index, number, arrival_ns, copy)
    if extended == DUPLICATE:
        return
    if anew:
        forget_delays(state, index)
    if arrival_ns < run.opened_ns or not client.checkable:
        return
    client.checked += 1
    position = extended * client.frames
    if expectation.mode == LOOPBACK:
        check_own(expectation, state, index, position, pcm, arrival_ns)
    else:
        check(expectation, state, index, position, pcm, arrival_ns)


@kernel
def check(expectation, state, index, position, pcm, arrival_ns):
    """Judge the samples of a packet at a position of its stream."""
    client = state.clients[index]
    number = expected_turn(expectation, state, client, index, position, arrival_ns)
    if number >= 0:
        turn = state.turns[number % TURNS]
        delay = known_delay(state, client, index, turn.talker)
        if fits(
            expectation, client, turn.talker, state.clients[turn.talker], turn.first, turn.until,
            position - delay, pcm,
        ):  # fmt: skip
            hear(state, client, index, turn, delay, position, arrival_ns)
            return
    sounding = sounds(pcm, 0, client.frames * client.wants)
    if not sounding:
        if number >= 0:
            turn = state.turns[number % TURNS]
            delay = known_delay(state, client, index, turn.talker)
            missed(state, client, index, turn, delay, position, BIN_SILENT, arrival_ns)
        else:
            keep_if_tutti(expectation, state, client, index, position, pcm, arrival_ns, False)
        return
    if client.next_delay != UNKNOWN and moved(expectation, state, index, position, pcm, arrival_ns):
        return
    found, delay, whole = locate(expectation, state, client, index, position, pcm)
    if found >= 0:
        turn = state.turns[found % TURNS]
        if known_delay(state, client, index, turn.talker) == UNKNOWN:
            if not stays(state.clients[turn.talker], turn):
                return  # the end of somebody's who is gone: nothing to learn
            learn(state, client, index, found, turn.talker, delay)
            if whole:
                hear(state, client, index, turn, delay, position, arrival_ns)
            else:
                wrong(state, client, index, turn, delay, position, pcm, arrival_ns)
            return
        if known_delay(state, client, index, turn.talker) == delay:
            wrong(state, client, index, turn, delay, position, pcm, arrival_ns)
            return
        old = known_delay(state, client, index, turn.talker)
        client.next_blame = wrong(state, client, index, turn, old, position, pcm, arrival_ns)
        client.next_turn = found
        client.next_delay = delay
        return
    if number >= 0:
        turn = state.turns[number % TURNS]
        delay = known_delay(state, client, index, turn.talker)
        wrong(state, client, index, turn, delay, position, pcm, arrival_ns)
    elif not keep_if_tutti(expectation, state, client, index, position, pcm, arrival_ns, True):
        intruder(expectation, state, index, position, pcm, arrival_ns)


@kernel
def missed(state, client, index, turn, delay, position, kind, arrival_ns):
    """Count a packet of a solo that is not right. Returns: BLAMED, DOUBTED; RIGHT: excused."""
    origin = position - delay
    share = overlap(turn.first, turn.until, origin, origin + client.frames)
    excuse = excusable(state, index, turn, origin, client.frames)
    if excuse == SURELY:
        state.excused[index, turn.number % TURNS] += share
        blame(state, client, index, BIN_CONCEALED, arrival_ns)
        return RIGHT
    if excuse == MAYBE:
        return doubt(state, client, index, turn.number, turn.talker, delay, share, kind, arrival_ns)
    blame(state, client, index, kind, arrival_ns)
    return BLAMED


@kernel
def wrong(state, client, index, turn, delay, position, pcm, arrival_ns):
    """Count a wrong packet of a solo, and keep it as evidence. Returns 1: the hub is to blame."""
    counted = missed(state, client, index, turn, delay, position, BIN_WRONG, arrival_ns)
    if counted == BLAMED or (counted == DOUBTED and client.doubt_row == 0):
        row = keep_evidence(
            state, index, position, pcm, arrival_ns, turn.talker, delay, turn.first, turn.until,
            np.int64(NEVER), np.int64(NEVER),
        )  # fmt: skip
        if counted == DOUBTED:
            client.doubt_row = row
    return np.int64(counted == BLAMED)


@kernel
def moved(expectation, state, index, position, pcm, arrival_ns):
    """Whether a voice goes on where the last wrong packet had it; then the listener follows."""
    client = state.clients[index]
    turn, delay = state.turns[client.next_turn % TURNS], client.next_delay
    client.next_delay = UNKNOWN
    if turn.number != client.next_turn or not fits(
        expectation, client, turn.talker, state.clients[turn.talker], turn.first, turn.until,
        position - delay, pcm,
    ):  # fmt: skip
        return False
    client.shifts += client.next_blame
    learn(state, client, index, turn.number, turn.talker, delay)
    hear(state, client, index, turn, delay, position, arrival_ns)
    return True


@kernel
def keep_if_tutti(expectation, state, client, index, position, pcm, arrival_ns, sounding):
    """Keep a packet if it may belong to a tutti. Returns whether it does."""
    run = state.run[0]
    for number in range(max(client.turn, 0), run.turn + 1):
        turn = state.turns[number % TURNS]
        if (
            turn.talker == TUTTI
            and arrival_ns >= turn.start_ns
            and not tutti_over(expectation, state, client, index, turn, position, arrival_ns)
        ):
            late_ns = arrival_ns - turn.start_ns - run.tutti_ns
            if sounding or late_ns < tail_ns(run, client):
                keep_tutti(state, turn, index, position, pcm, arrival_ns)
            return True
    return False


@kernel
def intruder(expectation, state, index, position, pcm, arrival_ns):
    """Judge a packet that sounds though nothing is known that should be heard in it."""
    client, run = state.clients[index], state.run[0]
    if client.recent & np.uint64(2) == 0:
        client.grace = BEAT  # the packet with the first sync sample of this voice may be lost
    pending, latest, own = -1, -1, -1
    for number in range(max(client.turn - 2, 0), run.turn + 1):
        turn = state.turns[number % TURNS]
        if turn.talker < 0 or turn.first == NEVER:
            continue
        source = state.clients[turn.talker]
        heard = audible(expectation.mode, turn.talker, index)
        if not stays(source, turn) or (
            heard and any_spoilt(source, state.sent_ns[turn.talker], turn.first, turn.until)
        ):
            blame(state, client, index, BIN_CONCEALED, arrival_ns)
            return
        if not heard:
            continue
        latest = number
        if known_delay(state, client, index, turn.talker) == UNKNOWN:
            pending = number
    for number in range(max(run.turn - LOOK + 1, 0), run.turn + 1):
        turn = state.turns[number % TURNS]
        if (
            turn.talker == index
            and turn.first != NEVER
            and not audible(expectation.mode, index, index)
            and arrival_ns < turn.start_ns + run.turn_ns + tail_ns(run, client)
        ):
            own = number
    if pending >= 0 and client.grace > 0:
        client.grace -= client.frames
        return
    number = pending if pending >= 0 else latest
    counted = BLAMED
    if number >= 0 and near_drifting(state, client, index, number, position):
        turn = state.turns[number % TURNS]
        counted = doubt(
            state, client, index, number, turn.talker,
            known_delay(state, client, index, turn.talker), 0, BIN_WRONG, arrival_ns,
        )  # fmt: skip
        if counted == DOUBTED and client.doubt_row:
            return
    else:
        blame(state, client, index, BIN_WRONG, arrival_ns)
    talker, first, until = NOBODY, np.int64(NEVER), np.int64(NEVER)
    delay = np.int64(UNKNOWN)
    if number >= 0:
        turn = state.turns[number % TURNS]
        talker, first, until = turn.talker, turn.first, turn.until
        if number == latest:
            delay = known_delay(state, client, index, talker)
    own_first, own_until = np.int64(NEVER), np.int64(NEVER)
    if own >= 0:
        own_first, own_until = state.turns[own % TURNS].first, state.turns[own % TURNS].until
    client.leaks += own >= 0 and expectation.mode == FAN_OUT and counted == BLAMED
    row = keep_evidence(
        state, index, position, pcm, arrival_ns, talker, delay, first, until, own_first, own_until
    )
    if counted == DOUBTED:
        client.doubt_row = row


@kernel
def near_drifting(state, client, index, number, position):
    """Whether a packet is so near to a drifting talker's solo that a slip may make it sound."""
    turn = state.turns[number % TURNS]
    source = state.clients[turn.talker]
    delay = known_delay(state, client, index, turn.talker)
    slack = slip_frames(source, client)
    return source.drifts and (
        delay == UNKNOWN
        or -slack - client.frames < position - delay - turn.first < turn.until - turn.first + slack
    )


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


@kernel
def drop_packet(expectation, state, index, number):
    """A returned packet is lost by the emulated network: what it held is excused.

    number: its 16-bit number.
    """
    client, run = state.clients[index], state.run[0]
    if client.started == 0 or not client.checkable or (run.turn < 0 and client.judged == -NEVER):
        return
    step = ((number - (client.highest & 0xFFFF) + 0x8000) & 0xFFFF) - 0x8000
    position = (client.highest + step) * client.frames
    if expectation.mode == LOOPBACK:
        if client.talker == index:
            low = position - client.delay
            client.voice_excused += overlap(
                client.voice_from, client.voice_until, low, low + client.frames
            )
        return
    for near in range(max(client.turn - 2, 0), run.turn + 1):
        turn = state.turns[near % TURNS]
        if turn.talker >= 0 and turn.first != NEVER:
            delay = known_delay(state, client, index, turn.talker)
            if audible(expectation.mode, turn.talker, index) and delay != UNKNOWN:
                low = position - delay
                state.excused[index, near % TURNS] += overlap(
                    turn.first, turn.until, low, low + client.frames
                )
