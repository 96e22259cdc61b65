"""Judging a returned packet: its number, its spacing, and every sample of it.

A stream's position is its packet number times its frames. The *delay* of a talker at a listener,
position minus sample number, is constant while nothing slips, so that each sample has exactly
one right value. What happens to a packet::

    it should hold a voice whose delay is known ---- all samples right: heard
         |                                    ------ all silent: silent
         |                                    ------ its stream has just begun: it may be faded in
         +------ else: wrong; is the voice at another delay? then if the next packet fits there,
                 too, the listener follows it (a shift), else it was one wrong packet
    it should be silent, and is: right
    it sounds -- a sync sample tells a voice whose delay was unknown: heard, delay learnt
              -- a tutti is on: kept for later (``captures``, ``loadtest.hearing``)
              -- one's own voice is on its way, in mode 2: a leak
              -- else wrong

What the emulated network explains (the talker's packet was lost or late, or one nearby), the
talker's leaving, or anybody's vanishing in the middle of its voice, is counted as concealed instead
of wrong or silent; so is what may be a queue that slips, as long as that is likely (``excuses``).
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
    slip_frames,
    stays,
    stood_in,
)
from loadtest.clients.loopback import check_own
from loadtest.clients.numbering import DUPLICATE, account
from loadtest.clients.places import (
    expected_turn,
    fits,
    known_delay,
    latency,
    learn,
    locate,
    overlap,
    tail_ns,
    tutti_over,
)
from loadtest.clients.state import (
    BIN_CONCEALED,
    BIN_SILENT,
    BIN_WRONG,
    NEVER,
    NOBODY,
    TURNS,
    TUTTI,
    UNKNOWN,
)
from loadtest.clients.turns import FAN_OUT, LOOK, LOOPBACK, audible, forget_delays
from loadtest.clients.voices import BEAT, sounds
from shared.kernels import kernel

NO, MAYBE, SURELY = 0, 1, 2
"""Whether a wrong packet is excused; MAYBE: if a queue has slipped."""


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
        client.faded = extended * client.frames + expectation.fade_frames
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
            elif position >= client.faded:
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
    if position < client.faded:
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
    if kind == BIN_WRONG and stood_in(state.run[0], arrival_ns):
        excuse = SURELY
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
    if stood_in(run, arrival_ns):
        blame(state, client, index, BIN_CONCEALED, arrival_ns)
        return
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
