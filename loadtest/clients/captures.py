"""Returned packets that are kept, to be taken apart after the run; all of it bounded."""

from __future__ import annotations

from loadtest.clients.state import NOBODY
from shared.kernels import kernel

OF_A_LISTENER, OF_A_TURN, OF_BOTH = 64, 96, 3
"""Wrong packets kept of one listener, of one turn, and of one listener in one turn: the first
of a fault tell what it is."""


@kernel
def _keep(state, client, index, position, pcm, arrival_ns, record, samples):
    """Fill in a record and its row of samples."""
    run = state.run[0]
    record.listener = index
    record.turn = run.turn
    record.position = position
    record.arrival_ns = arrival_ns
    record.frames = client.frames
    record.channels = client.wants
    record.stall_ns = run.stall_ns
    for m in range(min(client.frames * client.wants, samples.size)):
        samples[m] = pcm[m]


@kernel
def captured(state, turn, index):
    """Whether a listener's packets of a tutti are kept."""
    run = state.run[0]
    return (index + turn.tutti) % max(run.capture_stride, 1) == 0


@kernel
def keep_tutti(state, turn, index, position, pcm, arrival_ns):
    """Keep a packet of a tutti, while there is room.

    turn: the tutti's record. pcm: (channels * frames,) int16, planar, 16-bit steps.
    """
    run = state.run[0]
    if run.tutti_packets >= state.tutti_log.size or not captured(state, turn, index):
        return
    record = state.tutti_log[run.tutti_packets]
    _keep(
        state, state.clients[index], index, position, pcm, arrival_ns, record,
        state.tutti_pcm[run.tutti_packets],
    )  # fmt: skip
    record.turn = turn.number
    record.tutti = turn.tutti
    run.tutti_packets += 1


@kernel
def keep_evidence(
    state, index, position, pcm, arrival_ns, talker, delay, first, until, own_first, own_until
):
    """Keep a wrong packet of a solo, while its listener, its turn and the log have room.

    talker, delay, first, until: the voice that was expected, as far as it is known.
    own_first, own_until: sample numbers of the listener's own voice, if that may be what is heard.

    Returns: its row + 1; 0: there was no room.
    """
    run, client = state.run[0], state.clients[index]
    if client.evidence_turn != run.turn + 1:
        client.evidence_turn = run.turn + 1
        client.evidence_in_turn = 0
    if (
        (run.evidence >= state.evidence.size and run.evidence_free == 0)
        or client.evidence >= OF_A_LISTENER
        or (run.turn >= 0 and client.evidence_in_turn >= OF_BOTH)
        or (run.turn >= 0 and run.evidence_of_turn >= OF_A_TURN)
    ):
        return 0
    row = run.evidence_free - 1
    if row >= 0:
        run.evidence_free = state.evidence[row].position
    else:
        row = run.evidence
        run.evidence += 1
    record = state.evidence[row]
    _keep(state, client, index, position, pcm, arrival_ns, record, state.evidence_pcm[row])
    record.tutti = -1
    record.talker = talker
    record.delay = delay
    record.first = first
    record.until = until
    record.own_first = own_first
    record.own_until = own_until
    run.evidence_of_turn += 1
    client.evidence += 1
    client.evidence_in_turn += 1
    return row + 1


@kernel
def forget_evidence(state, client, row):
    """Evidence of a client turned out to be none: its row may be written again."""
    run, record = state.run[0], state.evidence[row]
    if record.turn == run.turn:
        run.evidence_of_turn -= 1
    if client.evidence_turn == record.turn + 1:
        client.evidence_in_turn -= 1
    client.evidence -= 1
    record.listener = NOBODY
    record.talker = NOBODY
    record.position = run.evidence_free
    run.evidence_free = row + 1
