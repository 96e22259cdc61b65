"""What excuses a wrong packet of a solo: somebody left, the network spoilt it, a queue slipped.

The first two are known at once: the talker left, or another vanished in the middle of its voice,
for which the hub may stand in for a while. That a queue in the hub has slipped is not: it must, now
and then, if the talker's clock is not at the nominal rate, and it may have if the network lost
something since the talker was heard last. Such packets are in *doubt*: they are counted as
concealed, the first is kept as evidence, and then::

    the voice is right again, at another delay ------------ a slip: excused
                              at the same delay ----------- excused, if its clock drifts
    more are wrong than a slip spoils --------------------- wrong, all of them
    the turn ends, half of it in doubt, nothing right ----- wrong, all of them

How many slips of drifting talkers a listener may have is bounded by what the clocks make likely.
"""

from __future__ import annotations

from loadtest.clients.captures import forget_evidence
from loadtest.clients.state import (
    BIN_CONCEALED,
    BIN_SILENT,
    BIN_WRONG,
    LOST_NS,
    PLAY,
    STAMPS,
    TURNS,
    UNKNOWN,
)
from shared.kernels import kernel

SPLICE = 4
"""A queue that must slip may spoil so many packets of a turn."""
NEAR = 8
"""Packets on either side of one that the network spoilt which it may have spoilt, too."""
SLIP_FRAMES = 64
"""A queue slips by so many samples at least (a small period of a hub)."""
SPARE_SLIPS = 2
"""Slips of each drifting talker that are excused beyond the likely ones."""
DISTURBED_NS = 250_000_000
"""What goes wrong this soon after the generator stalled may be the generator's fault."""
CUT_NS = 100_000_000
"""So long a hub may stand in for the voice of somebody who vanished while it sounded."""
RIGHT, BLAMED, DOUBTED = 0, 1, 2


@kernel
def mark(state, index, kind, arrival_ns, amount):
    """Add to the timeline."""
    run = state.run[0]
    place = (arrival_ns - run.opened_ns) // run.bin_ns
    if 0 <= place < state.timeline.shape[1]:
        state.timeline[index, place, kind] += amount


@kernel
def blame(state, client, index, kind, arrival_ns):
    """Count a wrong (or silent) packet."""
    if kind == BIN_SILENT:
        client.silent += 1
    elif kind == BIN_WRONG:
        client.wrong += 1
    else:
        client.concealed += 1
    if kind != BIN_CONCEALED:
        client.disturbed += abs(arrival_ns - state.run[0].stall_ns) < DISTURBED_NS
    mark(state, index, kind, arrival_ns, 1)


@kernel
def stays(client, turn):
    """Whether a client has been in since before a turn began, and has not left."""
    return client.stage == PLAY and client.start_ns <= turn.start_ns


@kernel
def stood_in(run, arrival_ns):
    """Whether a hub may still be making up the voice of somebody who vanished in the middle."""
    return run.cut_ns > 0 and arrival_ns < run.cut_ns + CUT_NS + run.latency_max_ns


@kernel
def irregular(client, sent_ns, packet):
    """Whether a packet was lost on its way to the hub, or left far from its distance to the former.

    sent_ns: (STAMPS,) int64, of this client.
    """
    if packet < 0 or packet >= client.packet or packet <= client.packet - STAMPS + 1:
        return False
    this = sent_ns[packet % STAMPS]
    if this == LOST_NS:
        return True
    if packet == 0:
        return False
    former = sent_ns[(packet - 1) % STAMPS]
    period_ns = client.period_ps // 1000
    return former == LOST_NS or abs(this - former - period_ns) > period_ns // 2 + 500_000


@kernel
def any_spoilt(client, sent_ns, first, until):
    """Whether the network spoilt a packet that holds, or is near, samples first..until."""
    low, high = first // client.frames - NEAR, until // client.frames + NEAR
    for packet in range(max(low, client.packet - STAMPS, 0), min(high + 1, client.packet)):
        if irregular(client, sent_ns, packet):
            return True
    return False


@kernel
def slip_frames(source, client):
    """Voice samples of a listener that one slip of a talker may spoil."""
    return SPLICE * max(source.frames, client.frames)


@kernel
def drifted_frames(source, ns):
    """By how many samples a talker's clock is off after some time."""
    gained = abs(source.nominal_ps - source.period_ps) / source.nominal_ps
    return gained * source.frames * ns * 1e3 / source.nominal_ps


@kernel
def most_doubtful(source, client):
    """Samples of a turn that may be in doubt before the voice is found: so late it may be."""
    if not source.drifts:
        return 1.0 * NEAR * max(source.frames, client.frames)
    since_ns = source.voice_began_ns - source.former_ns if source.former_ns else 0
    return slip_frames(source, client) + drifted_frames(source, since_ns)


@kernel
def likely_slips(state, now_ns):
    """Slips that a listener may have heard of all drifting talkers so far."""
    run = state.run[0]
    most = 0.0
    for talker in range(state.clients.size):
        source = state.clients[talker]
        if source.drifts:
            frames = drifted_frames(source, now_ns - run.opened_ns + run.settle_ns)
            most += SPARE_SLIPS + 2 * frames / SLIP_FRAMES
    return most


@kernel
def doubt(state, client, index, number, talker, delay, share, kind, arrival_ns):
    """Count a packet of a solo that is not right since a queue may have slipped.

    number: of the turn (loopback: 0). delay: where it should have been, or UNKNOWN.
    share: voice samples in it.
    kind: BIN_WRONG or BIN_SILENT.

    Returns: DOUBTED, or BLAMED if that is not likely any more.
    """
    source = state.clients[talker]
    if client.doubt_turn != number + 1:
        close_doubt(state, index)
        client.doubt_turn = number + 1
        client.doubts = 0
        client.doubts_silent = 0
        client.doubt_frames = 0
        client.doubt_share = 0
        client.doubt_row = 0
        client.doubt_ns = arrival_ns
        client.doubt_delay = delay
    if client.doubts >= 0:
        if client.doubt_frames >= most_doubtful(source, client):
            condemn(state, client, index)
    if client.doubts < 0:
        blame(state, client, index, kind, arrival_ns)
        return BLAMED
    client.doubts += 1
    client.doubts_silent += kind == BIN_SILENT
    client.doubt_frames += client.frames
    client.doubt_share += share
    state.excused[index, number % TURNS] += share
    blame(state, client, index, BIN_CONCEALED, client.doubt_ns)
    return DOUBTED


@kernel
def condemn(state, client, index):
    """What was in doubt is wrong; and what else is wrong in this turn, until it is right again."""
    count, silent, at_ns = client.doubts, client.doubts_silent, client.doubt_ns
    client.concealed -= count
    mark(state, index, BIN_CONCEALED, at_ns, -count)
    for number in range(count):
        blame(state, client, index, BIN_SILENT if number < silent else BIN_WRONG, at_ns)
    state.excused[index, (client.doubt_turn - 1) % TURNS] -= client.doubt_share
    client.doubts = -1
    client.doubt_row = 0


@kernel
def release(state, client):
    """What was in doubt is excused."""
    if client.doubt_row:
        forget_evidence(state, client, client.doubt_row - 1)
    client.doubt_turn = 0
    client.doubts = 0
    client.doubt_row = 0


@kernel
def confirm(state, client, index, talker, arrival_ns):
    """A voice that was in doubt is right again."""
    if client.doubts > 0 and state.clients[talker].drifts:
        client.slips += client.doubt_delay != UNKNOWN
        if client.slips > likely_slips(state, arrival_ns):
            condemn(state, client, index)
    release(state, client)


@kernel
def close_doubt(state, index):
    """Nothing more comes of the turn in which a listener's packets were in doubt."""
    client = state.clients[index]
    if client.doubt_turn == 0:
        return
    turn = state.turns[(client.doubt_turn - 1) % TURNS]
    if client.doubts > 0 and turn.number == client.doubt_turn - 1 and turn.talker >= 0:
        source = state.clients[turn.talker]
        if stays(source, turn) and not any_spoilt(
            source, state.sent_ns[turn.talker], turn.first, turn.until
        ):
            heard = state.heard[index, turn.number % TURNS] > 0
            client.slips += source.drifts
            if (not heard and 2 * client.doubt_frames >= turn.until - turn.first) or (
                source.drifts and client.slips > likely_slips(state, client.doubt_ns)
            ):
                condemn(state, client, index)
    release(state, client)
