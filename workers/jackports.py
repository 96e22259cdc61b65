"""What JACK calls once a cycle: a client's sound into its ports, and theirs to those who hear it.

A *group* is one JACK client of ours. Its members are the hub's clients whose sound it plays: one,
or a section, or all. ``receive_k`` has their sound of the cycle's tick, with gain, mute and fades
as the mixer applies them; what comes by ``send_k`` goes to the arena, for the tick's mix. A client
alone keeps its channels as they are; several are summed as the mixer's bus sums them, with their
places. ``broadcast_k`` plays what ``receive_k`` played some packets ago.

The *beat* is one more JACK client, without a sound: every ``receive_1`` is connected to it, so that
JACK runs it when all groups have run.
"""

from __future__ import annotations

import numpy as np

from shared.atomics import fence_acquire, fence_release, load_acquire
from shared.callbacks import address_of, array_at, process_callback
from shared.jacklayout import JACK, JACK_GROUP
from shared.kernels import kernel
from shared.layout import CONTROL, HEADER, RING_FRAMES, RX, SLOT, STRIP_DEPTH, RxState
from shared.libc import memset
from shared.protocol import MAX_CHANNELS
from workers.jackclock import (
    CALL_WORDS,
    DATA,
    cycle_ns,
    elapsed_ns,
    frame_time,
    input_port,
    keeps_time,
    output_port,
)
from workers.jacktime import beat, cycle_tick, rebase
from workers.mix import (
    BALANCE_LEFT,
    BALANCE_RIGHT,
    GAIN,
    PAN_LEFT,
    PAN_RIGHT,
    PANNED,
    glide,
    place,
    read_strip,
)

_ORDER_WORDS = 6
VOICE = np.dtype(
    [
        ("session", np.int64),
        ("live", np.int64),  # channels that sounded in the last cycle
        ("tick", np.int64),  # which that was
        ("changes", np.int64),  # of its strip's order, so far
        ("left", np.int64),  # cycles that the last of them takes yet
        ("order", np.float64, (_ORDER_WORDS,)),  # as ``workers.mix.place`` wants it
        ("gains", np.float64, (3,)),  # at its end, of channels 1, 2 and all others
        ("last", np.float32, (MAX_CHANNELS,)),  # and its last samples
    ]
)
"""What is remembered of a hub's client that plays into JACK."""

(
    HEADER_AT, CONTROL_AT, JACK_AT, RX_AT, SLOTS_AT, GROUPS_AT, RINGS_AT, JACK_IN_AT,
    SLOTS, GROUPS, GROUP, RECEIVES, SENDS, ALONE, MEMBERS_AT, VOICES_AT, SCRATCH_AT,
    BROADCASTS, DELAY, DELAYED_AT, DELAYED_FRAMES, DELAYED_NOW, CALLS,
) = range(23)  # fmt: skip
"""Words that a callback of this module works on; it writes ``DELAYED_NOW`` and ``CALLS``."""
DESK_WORDS = 23
MEMBER_WORDS = 2
"""Of a member: slot, session."""
_ACTIVE, _ENDED = int(RxState.ACTIVE), int(RxState.ENDED)
_FLOAT = 4


def member_words(capacity: int) -> int:
    """Words of a group's table of members: which half holds, then two of count and members."""
    return 1 + 2 * (1 + MEMBER_WORDS * capacity)


@kernel
def _order_of(slot, order):
    """What is ordered of a strip, as ``workers.mix.place`` wants it."""
    order[GAIN], order[PANNED] = slot.gain, slot.panned
    order[PAN_LEFT], order[PAN_RIGHT] = slot.pan_left, slot.pan_right
    order[BALANCE_LEFT], order[BALANCE_RIGHT] = slot.balance_left, slot.balance_right


@kernel
def _read_order(desk, slot, voice, order):
    """Take over what is ordered of a strip, as the mixer does: all of it, or what was before."""
    control = array_at(desk[CONTROL_AT], 1, CONTROL)[0]
    record = array_at(desk[SLOTS_AT], desk[SLOTS], SLOT)[slot]
    count = load_acquire(control, "levels")
    _order_of(record, order)
    changes, fade = record.strip_changes, record.strip_fade
    fence_acquire()
    whole = count % 2 == 0 and load_acquire(control, "levels") == count
    if voice.live == 0:  # who comes is ramped in
        voice.gains[:] = 0.0
        voice.changes, voice.left = changes, 1
    elif whole and voice.changes != changes:
        voice.changes, voice.left = changes, max(fade, 1)
    if whole or voice.live == 0:
        for k in range(_ORDER_WORDS):
            voice.order[k] = order[k]


@kernel
def _add(strip, frames, out):
    for i in range(frames):
        out[i] += strip[i]


@kernel
def _let_go(call, voice, receives, frames):
    """What sounded in the last cycle glides to silence."""
    for k in range(min(voice.live, receives)):
        out = array_at(output_port(call, k, frames), frames, np.float32)
        for i in range(frames):
            out[i] += voice.last[k] * np.float32(0.5 + 0.5 * np.cos(np.pi * (i + 1) / frames))
    voice.live = 0


@kernel
def _play_voice(call, desk, slot, session, tick, frames):
    """A member's sound of a tick, into the receive ports."""
    header = array_at(desk[HEADER_AT], 1, HEADER)[0]
    rx = array_at(desk[RX_AT], desk[SLOTS], RX)[slot]
    voice = array_at(desk[VOICES_AT], desk[SLOTS], VOICE)[slot]
    strip = array_at(desk[SCRATCH_AT], frames, np.float32)
    order = array_at(desk[SCRATCH_AT] + _FLOAT * frames, _ORDER_WORDS, np.float64)
    receives = desk[RECEIVES]
    state = load_acquire(rx, "state")
    has = (state == _ACTIVE or state == _ENDED) and rx.session == session
    if has:
        has = load_acquire(rx, "watermark") >= (tick + 1) * frames
    if voice.session != session:
        voice.session, voice.live = session, 0
        voice.last[:] = 0.0
    if not has or tick != voice.tick + 1:  # JACK's cycles have other numbers after an xrun
        if not has and voice.live > 0 and state == _ACTIVE and rx.session == session:
            array_at(desk[GROUPS_AT], desk[GROUPS], JACK_GROUP)[desk[GROUP]].gaps += 1
        _let_go(call, voice, receives, frames)
    voice.tick = tick
    if not has:
        return
    _read_order(desk, slot, voice, order)
    gain, channels = voice.order[GAIN] * (1.0 - rx.cut), rx.channels
    left, right, both = 1.0, 1.0, False
    if desk[ALONE] == 0:
        left, right, both = place(header, voice.order, channels)
        both = channels == 1 and (both or right != 0.0 or voice.gains[1] != 0.0)
    live = min(2 if both else channels, receives)
    for k in range(live):
        side = min(k, 2)
        goal = gain * (left if side == 0 else right if side == 1 else 1.0)
        to = glide(voice.gains[side], goal, voice.left)
        source = min(k, channels - 1)
        ring_at = desk[RINGS_AT] + _FLOAT * RING_FRAMES * (slot * MAX_CHANNELS + source)
        ring = array_at(ring_at, RING_FRAMES, np.float32)
        mask, position = rx.ring_frames - 1, tick * frames
        read_strip(ring, mask, position, frames, voice.gains[side], to, strip)
        voice.last[k] = strip[frames - 1]
        _add(strip, frames, array_at(output_port(call, k, frames), frames, np.float32))
    for side in range(3):
        goal = gain * (left if side == 0 else right if side == 1 else 1.0)
        voice.gains[side] = glide(voice.gains[side], goal, voice.left)
    voice.left = max(voice.left - 1, 1)
    voice.live = live


@kernel
def _delay(call, desk, frames):
    """Broadcast ports play what the receive ports played ``DELAY`` frames ago."""
    size, now = desk[DELAYED_FRAMES], desk[DELAYED_NOW]
    for k in range(desk[BROADCASTS]):
        line_at = desk[DELAYED_AT] + _FLOAT * size * k
        line = array_at(line_at, size, np.float32)
        played = array_at(output_port(call, k, frames), frames, np.float32)
        out = output_port(call, desk[RECEIVES] + k, frames)
        delayed = array_at(out, frames, np.float32)
        for i in range(frames):
            line[(now + i) % size] = played[i]
            delayed[i] = line[(now + i - desk[DELAY]) % size]
    desk[DELAYED_NOW] = (now + frames) % size


@kernel
def _take(heard, frames, out):
    """What JACK gives, with silence for what is no number; how many samples that was."""
    garbled = 0
    for i in range(frames):
        sound = heard[i]
        if not np.isfinite(sound):
            sound, garbled = np.float32(0.0), garbled + 1
        out[i] = sound
    return garbled


@kernel
def _play_members(call, desk, tick, frames):
    """All members' sound of a tick, into the receive ports, which are silent so far.

    Args:
        tick: −1: none; what sounded glides to silence.
    """
    half = array_at(desk[MEMBERS_AT], 1, np.int64)[0]
    count_at = desk[MEMBERS_AT] + half
    count = array_at(count_at, 1, np.int64)[0]
    members = array_at(count_at + 8, MEMBER_WORDS * count, np.int64)
    for k in range(count):
        slot, session = members[MEMBER_WORDS * k], members[MEMBER_WORDS * k + 1]
        if tick >= 0:
            _play_voice(call, desk, slot, session, tick, frames)
        else:
            voice = array_at(desk[VOICES_AT], desk[SLOTS], VOICE)[slot]
            _let_go(call, voice, desk[RECEIVES], frames)


@kernel
def _take_period(call, desk, tick, frames):
    """What came in by the send ports, to the arena, for who hears it."""
    now = tick % STRIP_DEPTH
    group = array_at(desk[GROUPS_AT], desk[GROUPS], JACK_GROUP)[desk[GROUP]]
    group.ticks[now] = -1
    fence_release()
    into = desk[JACK_IN_AT] + _FLOAT * frames * MAX_CHANNELS * (now * desk[GROUPS] + desk[GROUP])
    for k in range(desk[SENDS]):
        heard = array_at(input_port(call, k, frames), frames, np.float32)
        group.garbled += _take(heard, frames, array_at(into, frames, np.float32))
        into += _FLOAT * frames
    fence_release()
    group.ticks[now] = tick


@kernel
def serve_group(call, desk, frames):
    """One cycle of a group: its members' sound out, JACK's sound in."""
    header, jack = array_at(desk[HEADER_AT], 1, HEADER)[0], array_at(desk[JACK_AT], 1, JACK)[0]
    for k in range(desk[RECEIVES]):
        memset(output_port(call, k, frames), 0, _FLOAT * frames)
    tick = np.int64(-1)  # the hub goes on by its own clock
    if frames == header.period_frames and keeps_time(call, header.rate_hz):
        tick = cycle_tick(jack, frame_time(call), frames)
    _play_members(call, desk, tick, frames)
    _delay(call, desk, frames)
    if tick >= 0:
        _take_period(call, desk, tick, frames)


@process_callback
def play_group(frames, argument):
    """Process callback of a group."""
    call = array_at(address_of(argument), CALL_WORDS, np.int64)
    serve_group(call, array_at(call[DATA], DESK_WORDS, np.int64), np.int64(frames))
    return 0


@kernel
def serve_beat(call, desk, frames):
    """One cycle of the beat."""
    header, jack = array_at(desk[HEADER_AT], 1, HEADER)[0], array_at(desk[JACK_AT], 1, JACK)[0]
    desk[CALLS] += 1
    if frames != header.period_frames or not keeps_time(call, header.rate_hz):
        rebase(jack, -1, 0)
        return
    began_ns = cycle_ns(call)
    beat(header, jack, desk[JACK_AT], frame_time(call), began_ns, elapsed_ns(call))


@process_callback
def play_beat(frames, argument):
    """Process callback of the beat."""
    call = array_at(address_of(argument), CALL_WORDS, np.int64)
    serve_beat(call, array_at(call[DATA], DESK_WORDS, np.int64), np.int64(frames))
    return 0
