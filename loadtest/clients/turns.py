"""Whose turn it is to sound, and what became of the turns that are over.

    |<---------------- turn_ns ---------------->|<- ...
    |<--- talk_ns or tutti_ns --->|   silence   |
    0    1    2   ...    tutti_every − 1 (a tutti)   ...

A turn is a *solo* of one client, or a *tutti* of all that play. Solos go round; who is absent,
not settled yet, at another rate, or optional is left out. A voice has a fixed length from the first
packet that is due in its turn, by its own client's clock; a solo begins with a sync sample, so
that whoever hears its first sound hears where it is. In loopback there are no turns: everybody's
own solo lasts from its settling to the end of the window.

Some fifty turns later a turn is *settled*: for each listener that should have heard it, the
frames that were heard rightly, those the emulated network spoilt, and those missing are counted.
"""

from __future__ import annotations

from loadtest.clients.excuses import (
    NEAR,
    any_spoilt,
    close_doubt,
    irregular,
    slip_frames,
    stays,
)
from loadtest.clients.state import (
    BIN_MISSING,
    NEVER,
    NOBODY,
    PLAY,
    TURNS,
    TUTTI,
    UNKNOWN,
)
from loadtest.clients.voices import BEAT, EVERYBODY, SILENCE, SOLO
from shared.kernels import kernel
from shared.layout import PatchMode

LOOPBACK = int(PatchMode.LOOPBACK)
FAN_OUT = int(PatchMode.FAN_OUT_NO_SELF)
FULL_MIX = int(PatchMode.FULL_MIX)
SETTLING = 48
"""Turns after which nothing of a turn can still come."""
DRAIN_NS = 300_000_000
"""After the window has closed so long, nothing of its last turn can still come."""
SEARCH = 512
"""Clients that are asked, at most, whether the next turn could be theirs."""
LOOK = 32
"""Turns back from the newest that a packet may belong to."""


@kernel
def audible(mode, talker, listener):
    """Whether the hub is to let a listener hear a talker."""
    if mode == FULL_MIX:
        return True
    if mode == FAN_OUT:
        return talker != listener
    return mode == LOOPBACK and talker == listener


@kernel
def settled_in(client, run, now_ns):
    """Whether a client plays, and has heard the hub long enough at that time."""
    return (
        client.stage == PLAY
        and client.wish == PLAY
        and client.first_ns != 0
        and client.first_ns + run.settle_ns <= now_ns
    )


@kernel
def passage_frames(client, talk_ns):
    """Samples of a voice that lasts talk_ns, rounded up to packets."""
    return max(-(-talk_ns * 1000 // client.period_ps), 1) * client.frames


@kernel
def log_delay(state, turn, listener, talker, delay):
    """Note a delay that was learnt in a turn; not when the log is full."""
    run = state.run[0]
    if run.delay_changes < state.delay_log.size:
        record = state.delay_log[run.delay_changes]
        record.turn = turn
        record.listener = listener
        record.talker = talker
        record.delay = delay
        run.delay_changes += 1


@kernel
def enter(state, index):
    """Forget what was known of a client that joins (again): its numbers begin anew."""
    client, run = state.clients[index], state.run[0]
    client.first_ns = 0
    client.started = 0
    client.voice_turn = run.turn
    client.voice_from = NEVER
    client.voice_until = 0
    client.former_ns = 0
    client.spoilt_ns = 0
    client.turn = max(run.turn - LOOK, -1)  # what it hears first may have been sent before
    client.talker = NOBODY
    client.delay = UNKNOWN
    client.next_delay = UNKNOWN
    client.grace = 0
    client.judged = -NEVER
    client.doubt_turn = 0
    client.doubts = 0
    client.doubt_row = 0
    forget_delays(state, index)
    for other in range(state.clients.size):
        if state.clients[other].talker == index:
            state.clients[other].talker = NOBODY
    for other in range(state.delays.shape[0]):
        state.delays[other, index] = UNKNOWN
    log_delay(state, run.turn, NOBODY, index, UNKNOWN)


@kernel
def depart(state, index):
    """A client leaves: of what it sang with others of late, the hub may drop the end."""
    run = state.run[0]
    for number in range(max(run.turn - LOOK, 0), run.turn + 1):
        tutti = state.turns[number % TURNS].tutti
        if tutti >= 0 and 0 <= state.tutti_first[tutti, index] < NEVER:
            state.tutti_first[tutti, index] = ~state.tutti_first[tutti, index]


@kernel
def lately_sang(client):
    """Whether some of its voice is in a client's newest packets: a hub may make up more of it."""
    sent = client.packet * client.frames
    return sent > client.voice_from and sent < client.voice_until + NEAR * client.frames


@kernel
def forget_delays(state, listener):
    """A listener's stream was numbered anew: where it heard others says nothing any more."""
    run = state.run[0]
    state.clients[listener].tutti = 0
    state.clients[listener].talker = NOBODY
    state.clients[listener].next_delay = UNKNOWN
    if listener < state.delays.shape[0]:
        for talker in range(state.delays.shape[1]):
            state.delays[listener, talker] = UNKNOWN
        log_delay(state, run.turn, listener, NOBODY, UNKNOWN)


@kernel
def is_asked(client):
    """Whether a client is given a voice: what becomes of it can be told exactly."""
    return client.checkable and not client.optional and not client.rests


@kernel
def next_talker(state, now_ns):
    """Whose solo is next: the first from the cursor on that can be judged; NOBODY."""
    run = state.run[0]
    count = state.clients.size
    for step in range(min(count, SEARCH)):
        index = (run.cursor + step) % count
        client = state.clients[index]
        if is_asked(client) and settled_in(client, run, now_ns):
            run.cursor = (index + 1) % count
            return index
    run.cursor = (run.cursor + min(count, SEARCH)) % count
    return NOBODY


@kernel
def begin_turn(expectation, state, number):
    """Say whose turn it is."""
    run = state.run[0]
    turn = state.turns[number % TURNS]
    every = expectation.tutti_every
    turn.number = number
    turn.start_ns = run.opened_ns + number * run.turn_ns
    turn.first = NEVER
    turn.until = NEVER
    turn.tutti = -1
    turn.settled = 0
    if every > 0 and number % every == every - 1:
        turn.talker = NOBODY
        if run.tuttis < state.tutti_first.shape[0]:
            turn.talker = TUTTI
            turn.tutti = run.tuttis
            run.tuttis += 1
    else:
        turn.talker = next_talker(state, turn.start_ns)
    for index in range(state.clients.size):
        state.heard[index, number % TURNS] = 0
        state.excused[index, number % TURNS] = 0
    run.evidence_of_turn = 0
    run.turn = number


@kernel
def advance(expectation, state, now_ns):
    """Begin the turns that are due, and settle those that are over. Called before each sending."""
    run = state.run[0]
    if expectation.mode == LOOPBACK or now_ns < run.opened_ns:
        return
    if now_ns >= run.closed_ns + DRAIN_NS:
        settle_rest(expectation, state)
        return
    number = run.turn + 1
    start_ns = run.opened_ns + number * run.turn_ns
    while start_ns <= now_ns and start_ns + max(run.talk_ns, run.tutti_ns) <= run.closed_ns:
        if number - SETTLING >= run.settled:
            settle(expectation, state, state.turns[(number - SETTLING) % TURNS])
            run.settled = number - SETTLING + 1
        begin_turn(expectation, state, number)
        number += 1
        start_ns += run.turn_ns


@kernel
def settle_rest(expectation, state):
    """Settle what is still open, when nothing more can come."""
    run = state.run[0]
    while run.settled <= run.turn:
        settle(expectation, state, state.turns[run.settled % TURNS])
        run.settled += 1


@kernel
def settle(expectation, state, turn):
    """Count what every listener that was in for the whole of a solo heard of it."""
    run = state.run[0]
    turn.settled = 1
    for index in range(state.clients.size):
        if state.clients[index].doubt_turn == turn.number + 1:
            close_doubt(state, index)
    if turn.talker < 0 or turn.first == NEVER:
        return
    talker = state.clients[turn.talker]
    if not stays(talker, turn):
        return  # it left meanwhile, and with it what the hub still had of its voice
    frames = turn.until - turn.first
    spoilt = any_spoilt(talker, state.sent_ns[turn.talker], turn.first, turn.until)
    place = (turn.start_ns - run.opened_ns) // run.bin_ns
    place = min(max(place, 0), state.timeline.shape[1] - 1)
    for index in range(state.clients.size):
        listener = state.clients[index]
        if (
            not audible(expectation.mode, turn.talker, index)
            or not listener.checkable
            or listener.stage != PLAY
            or listener.first_ns == 0
            or listener.first_ns + run.settle_ns > turn.start_ns
        ):
            continue
        heard = min(state.heard[index, turn.number % TURNS], frames)
        missing = frames - heard
        excused = min(state.excused[index, turn.number % TURNS], missing)
        if spoilt:
            excused = missing
        elif talker.drifts:
            excused = max(excused, min(missing, slip_frames(talker, listener)))
        listener.voice_due += frames
        listener.voice_heard += heard
        listener.voice_excused += excused
        state.timeline[index, place, BIN_MISSING] += missing - excused


@kernel
def voice(expectation, state, index, due_ns):
    """What the client's next packet holds; to be asked once for each, just before it leaves.

    Its samples sound from ``voice_from`` to before ``voice_until`` of the client's record.

    Returns: SILENCE, SOLO or EVERYBODY.
    """
    client, run = state.clients[index], state.run[0]
    number = client.packet * client.frames
    if irregular(client, state.sent_ns[index], client.packet - 1):
        client.spoilt_ns = due_ns
        turn = state.turns[client.voice_turn % TURNS]
        if number <= client.voice_until and client.voice_turn >= 0 and turn.tutti >= 0:
            state.tutti_first[turn.tutti, index] = ~client.voice_from
    if expectation.mode == LOOPBACK:
        return _own_voice(client, run, number, due_ns)
    if number < client.voice_until:  # the voice it has begun
        turn = state.turns[client.voice_turn % TURNS]
        return EVERYBODY if turn.talker == TUTTI else SOLO
    if run.turn < 0 or client.voice_turn == run.turn:
        return SILENCE
    turn = state.turns[run.turn % TURNS]
    if turn.talker == index and turn.start_ns <= due_ns < turn.start_ns + run.talk_ns:
        client.former_ns = client.voice_began_ns
        client.voice_began_ns = due_ns
        client.voice_turn = run.turn
        client.voice_from = -(-number // BEAT) * BEAT
        client.voice_until = client.voice_from + passage_frames(client, run.talk_ns)
        turn.first = client.voice_from
        turn.until = client.voice_until
        return SOLO
    if (
        turn.talker == TUTTI
        and turn.start_ns <= due_ns < turn.start_ns + run.tutti_ns
        and client.tutti_level > 0
        and is_asked(client)
        and settled_in(client, run, turn.start_ns)
    ):
        client.voice_turn = run.turn
        client.voice_from = number
        client.voice_until = number + passage_frames(client, run.tutti_ns)
        # Has its queue in the hub changed since everybody learnt its delay?
        unsure = client.spoilt_ns > client.voice_began_ns
        state.tutti_first[turn.tutti, index] = ~number if unsure else number
        return EVERYBODY
    return SILENCE


@kernel
def _own_voice(client, run, number, due_ns):
    """In loopback: a solo from the first packet in the window after its settling to its end."""
    if client.voice_until > number:
        if due_ns >= run.closed_ns and client.voice_until == NEVER:
            client.voice_until = number
            return SILENCE
        return SOLO
    if (
        client.voice_until == 0
        and is_asked(client)
        and run.opened_ns <= due_ns < run.closed_ns
        and settled_in(client, run, due_ns)
    ):
        client.voice_from = -(-number // BEAT) * BEAT
        client.voice_until = NEVER
        return SOLO
    return SILENCE
