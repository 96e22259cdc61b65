"""One end of a connection: what comes is played, what this machine has to say is sent.

It is a hub of three slots (``shared.layout.EndpointSlot``), whose mixer calls ``exchange`` in
every tick::

    network ──► receiver ──► ring of PEER ──► strip ──► line of DEVICE ──► file or sound card
    network ◄── packets of STREAM ◄── bus ◄── strip ◄── ring of DEVICE ◄── file or sound card

So jitter buffer, concealment, drift, ramps, encoding and redundancy are the hub's own. STREAM is
a listener without a voice: the bus that it hears is what DEVICE has to say, alone.
"""

from __future__ import annotations

from shared.atomics import load_acquire, store_release
from shared.kernels import kernel
from shared.layout import RING_FRAMES, STRIP_DEPTH, EndpointSlot, RxState

_PEER, _DEVICE, _STREAM = int(EndpointSlot.PEER), int(EndpointSlot.DEVICE), int(EndpointSlot.STREAM)
_ENDED = int(RxState.ENDED)


@kernel
def _play(arena, tick):
    """What the peer sends onto the device's line; where it sends nothing, silence."""
    frames, now, mask = arena.header[0].period_frames, tick % STRIP_DEPTH, RING_FRAMES - 1
    device, heard = arena.tx[_DEVICE], arena.voices[now, _PEER]
    start = tick * frames
    missed = min((tick - device.last_tick - 1) * frames, RING_FRAMES - frames)
    for channel in range(arena.rx[_DEVICE].wants):
        line, strip = arena.lines[_DEVICE, channel], arena.strips[now, _PEER, channel]
        for i in range(start - missed, start):
            line[i & mask] = 0.0
        for i in range(frames):
            line[(start + i) & mask] = strip[i] if channel < heard else 0.0
    store_release(device, "last_tick", tick)


@kernel
def exchange(arena, tick, lane):
    """Between a tick's mixing and its sending: play the peer, and let it hear the device.

    Args:
        arena: shared.arena.Arena of an endpoint; ``mix_tick`` has made the tick's strips.
        lane: workers.transmit.Lane; nothing more is sent to a peer whose session has ended.
    """
    frames, now = arena.header[0].period_frames, tick % STRIP_DEPTH
    peer, stream = arena.rx[_PEER], arena.rx[_STREAM]
    _play(arena, tick)
    for channel in range(stream.wants):
        bus, strip = arena.buses[now, channel], arena.strips[now, _DEVICE, channel]
        says = channel < arena.voices[now, _DEVICE]
        for i in range(frames):
            bus[i] = strip[i] if says else 0.0
    if load_acquire(peer, "state") == _ENDED and peer.session == stream.session:
        lane.sessions[_STREAM] = 0
