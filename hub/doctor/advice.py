"""What to start JackTrip with, by what was measured, and the reason for each setting.

A queue of N packets lets one be N − 1 packets' time late. Of the packet sizes the one is taken
with which sound is back soonest, among those that this computer sends in time and the path carries
whole.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from hub.doctor.pace import MAY_BE_LATE
from hub.doctor.report import Advice
from shared.protocol import DEFAULT_TCP_PORT, HEADER_BYTES

SIZES = (64, 128, 256, 512)
USUAL_FRAMES = 128
LEAST_QUEUE, MOST_QUEUE = 2, 64
MOST_COPIES = 4
WORTH_COPIES, LITTLE = 0.5, 0.1
"""Of what is lost, copies have to mend so much; one more copy is worth more than that."""
KEEPS_UP = 0.5
"""Of a packet's time, how late this computer may send it."""
UNEVEN_S = 0.0002
"""Added to what was seen: sound cards do not call to the microsecond."""
WORTH_S, WORTH_SHARE = 0.002, 0.2
"""A packet of another length than usual has to win so much, and such a share of the delay: shorter
ones cost everybody processor time."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What advice is given by.

    Attributes:
        late_s: what all but one in 2000 packets of the hub keep within.
        sent_late_s: the same of our own when they are sent.
        lost_share: of packets, on the worse of the two ways.
        runs: how many were lost together, and how often.
        hub_frames: of the hub's own packets, if it does not answer in ours.
        uses_redundancy: the hub repairs by copies; None: not known.
        longest_payload: bytes of a datagram that passes whole; None: not known.
        round_trip_s: of the network.
        sound_s: from our packet to that which returned it; None: it was not returned.
    """

    host: str
    port: int = DEFAULT_TCP_PORT
    channels: int = 2
    bits: int = 16
    rate_hz: int = 48_000
    late_s: float = 0.0
    sent_late_s: float = 0.0
    lost_share: float = 0.0
    runs: dict[int, int] | None = None
    hub_frames: int | None = None
    uses_redundancy: bool | None = None
    longest_payload: int | None = None
    round_trip_s: float = 0.0
    sound_s: float | None = None
    authenticated: bool = False


def advise(measured: Measured) -> Advice:
    """The settings that suit."""
    copies, copies_why = _redundancy(measured)
    frames, frames_why = _frames(measured, copies)
    if copies > 1 and not _fits(measured, frames, copies) and _fits(measured, frames, 1):
        copies = 1
        copies_why = "copies would make packets longer than the path carries"
    queue = _queue(measured, frames, copies)
    size = _datagram_bytes(measured, frames, copies)
    return Advice(
        queue=queue,
        queue_why=_queue_why(measured, frames, queue, copies),
        redundancy=copies,
        redundancy_why=copies_why,
        frames=frames,
        frames_why=frames_why,
        rate_hz=measured.rate_hz,
        bits=measured.bits,
        datagram_bytes=size,
        whole=measured.longest_payload is None or size <= measured.longest_payload,
        command=_command(measured, queue, copies),
        delay_s=round(_told_delay_s(measured, frames, copies), 6),
    )


def _datagram_bytes(measured: Measured, frames: int, copies: int) -> int:
    return copies * (HEADER_BYTES + frames * measured.channels * (measured.bits // 8))


def _fits(measured: Measured, frames: int, copies: int) -> bool:
    limit = measured.longest_payload
    return limit is None or _datagram_bytes(measured, frames, copies) <= limit


def _queue(measured: Measured, frames: int, copies: int) -> int:
    period_s = frames / measured.rate_hz
    margin = math.ceil((measured.late_s + UNEVEN_S) / period_s)
    return min(max(1 + margin + copies - 1, LEAST_QUEUE), MOST_QUEUE)


def _delay_s(measured: Measured, frames: int, copies: int) -> float:
    """From our microphone to our ear by way of the hub: two queues, two packets, the network."""
    period_s = frames / measured.rate_hz
    queue = _queue(measured, frames, copies)
    return measured.round_trip_s + 2 * period_s + 2 * queue * period_s


def _told_delay_s(measured: Measured, frames: int, copies: int) -> float:
    """As it was measured up to our own queue, where that was possible with such packets."""
    if measured.sound_s is None or frames != (measured.hub_frames or USUAL_FRAMES):
        return _delay_s(measured, frames, copies)
    period_s = frames / measured.rate_hz
    return measured.sound_s + (1 + _queue(measured, frames, copies)) * period_s


def _redundancy(measured: Measured) -> tuple[int, str]:
    if measured.lost_share <= MAY_BE_LATE:
        return 1, "next to nothing is lost: copies would only cost bandwidth"
    percent = f"{100 * measured.lost_share:.2g} %"
    if measured.uses_redundancy is False:
        return 1, f"{percent} of the packets are lost, but this hub makes no use of copies"
    told = f"{percent} of the packets are lost"
    runs = measured.runs or {}
    lost = sum(length * times for length, times in runs.items())
    if not lost:
        return 2, f"{told}: a copy in the next one mends single losses"
    left = {
        copies: sum(length * times for length, times in runs.items() if length >= copies) / lost
        for copies in range(2, MOST_COPIES + 1)
    }
    for copies, share in left.items():
        if share * measured.lost_share <= MAY_BE_LATE:
            together = "single ones" if copies == 2 else f"up to {copies - 1} together"
            return copies, f"{told}, {together}: copies in later packets mend that"
    copies = min(copies for copies, share in left.items() if share <= left[MOST_COPIES] + LITTLE)
    if left[copies] > 1.0 - WORTH_COPIES:
        return 1, f"{told}, up to {max(runs)} together: copies would mend few of them"
    return copies, f"{told}: copies in later packets mend {100 * (1 - left[copies]):.0f} % of that"


def _frames(measured: Measured, copies: int) -> tuple[int, str]:
    if measured.hub_frames is not None:
        return measured.hub_frames, "the hub's own packets have this length"
    possible = [
        frames
        for frames in SIZES
        if _fits(measured, frames, 1)
        and measured.sent_late_s <= KEEPS_UP * frames / measured.rate_hz
    ]
    if not possible:
        if measured.sent_late_s > KEEPS_UP * SIZES[0] / measured.rate_hz:
            return max(
                (frames for frames in SIZES if _fits(measured, frames, 1)), default=SIZES[0]
            ), "this computer does not keep up with shorter ones"
        return SIZES[0], "the path carries no longer ones"
    best = min(possible, key=lambda frames: _delay_s(measured, frames, copies))
    if USUAL_FRAMES in possible and _fits(measured, USUAL_FRAMES, copies):
        usual_s = _delay_s(measured, USUAL_FRAMES, copies)
        won_s = usual_s - _delay_s(measured, best, copies)
        if best == USUAL_FRAMES or won_s < max(WORTH_S, WORTH_SHARE * usual_s):
            return USUAL_FRAMES, "shorter packets would win next to nothing on this line"
        return best, f"{1000 * won_s:.1f} ms less delay than with {USUAL_FRAMES}"
    if best > USUAL_FRAMES and USUAL_FRAMES not in possible:
        return best, "this computer does not keep up with shorter ones"
    return best, "longer packets would not pass whole"


def _queue_why(measured: Measured, frames: int, queue: int, copies: int) -> str:
    late = f"all but one packet in 2000 are less than {1000 * measured.late_s:.1f} ms late"
    margin_ms = 1000 * (queue - 1) * frames / measured.rate_hz
    copied = ", and a copy comes one packet later" if copies > 1 else ""
    return f"{late}{copied}: {queue} packets wait for {margin_ms:.1f} ms"


def _command(measured: Measured, queue: int, copies: int) -> str:
    parts = ["jacktrip", "-C", measured.host]
    if measured.port != DEFAULT_TCP_PORT:
        parts += ["-P", str(measured.port)]
    parts += ["-n", str(measured.channels), "-q", str(queue)]
    parts += ["-r", str(copies)] if copies > 1 else []
    parts += ["-b", str(measured.bits)] if measured.bits != 16 else []
    parts += ["-A"] if measured.authenticated else []
    return shlex.join(parts)
