"""From a take to what it says: packets both ways, round trips, the hub's own format."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np

from hub.doctor import pace
from hub.doctor.mark import MARKED_BITS, Own, Returned, decode, find_own
from hub.doctor.playing import Form, Take
from hub.doctor.report import (
    BackReport,
    HubFormat,
    InterruptionReport,
    QuantilesReport,
    ThereReport,
)
from shared.protocol import RATES_HZ, AudioHeader

SETTLE_S = 0.3
"""At the beginning buffers fill, sound is faded in, and JackTrip's hub opens its socket three
times."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a take says.

    Attributes:
        first_sound_s: from our first packet to the hub's first; None: nothing came.
        last_ns: when the hub's last packet came.
    """

    first_sound_s: float | None
    last_ns: int
    hub: HubFormat | None
    there: ThereReport
    back: BackReport | None
    own: Own | None


def common_header(take: Take) -> AudioHeader | None:
    """One of those that most of the hub's packets have."""
    if not take.headers:
        return None
    kinds = Counter((h.frames, h.rate_code, h.bits, h.sends) for h in take.headers)
    kind = kinds.most_common(1)[0][0]
    return next(h for h in take.headers if (h.frames, h.rate_code, h.bits, h.sends) == kind)


def rate_of(header: AudioHeader) -> int | None:
    """Sample rate that a header tells; None: it tells none."""
    return RATES_HZ[header.rate_code] if header.rate_code < len(RATES_HZ) else None


def listen(take: Take) -> Heard:
    """Judge all that was played and heard."""
    sent_late = pace.lateness((take.sent_ns - take.due_ns) / 1e9)
    header = common_header(take)
    own = None
    first_s, last_ns, back = None, 0, None
    if header is not None:
        first_s = (take.at_ns[0] - int(take.sent_ns[0])) / 1e9
        last_ns = take.at_ns[-1]
        period_s = header.frames / (rate_of(header) or take.form.rate_hz)
        back = _back(take, period_s)
        own = _own(take, header)
    there = ThereReport(
        sent=len(take.sent_ns),
        unsent=take.unsent,
        sent_late=_quantiles(sent_late),
        lost_share=None if own is None or own.present is None else round(1.0 - own.present, 6),
        others_db=None if own is None else own.loud_db,
    )
    return Heard(first_s, last_ns, _format(take, header), there, back, own)


def _format(take: Take, header: AudioHeader | None) -> HubFormat | None:
    if header is None:
        return None
    return HubFormat(
        rate_hz=rate_of(header),
        frames=header.frames,
        bits=header.bits,
        channels=header.sends,
        mirrors=None,
        uses_redundancy=None,
    )


def _settled_ns(take: Take) -> int:
    return take.at_ns[0] + round(SETTLE_S * 1e9)


def _back(take: Take, period_s: float) -> BackReport | None:
    settled_ns = _settled_ns(take)
    kept = [index for index, at_ns in enumerate(take.at_ns) if at_ns >= settled_ns]
    if len(kept) < 2:
        return None
    at_ns = np.array([take.at_ns[index] for index in kept], np.int64)
    numbers = pace.unwrap([take.headers[index].sequence for index in kept])
    order = pace.order(numbers, at_ns, period_s)
    # of copies the first counts, and a packet held up by a standing line is none that is late
    _, first = np.unique(numbers, return_index=True)
    clock, late_s = pace.follow(numbers[first], at_ns[first], period_s)
    late_s = pace.in_time(late_s, period_s)
    return BackReport(
        received=order.received,
        lost=order.lost,
        lost_share=round(order.lost_share, 6),
        runs=order.runs,
        reordered=order.reordered,
        duplicates=order.duplicates,
        interruptions=[InterruptionReport(each.at_s, each.for_s) for each in order.interruptions],
        late=_quantiles(pace.lateness(late_s)),
        clock_ppm=clock.ppm,
        clock_error_ppm=clock.error_ppm,
    )


def _quantiles(late: pace.Lateness) -> QuantilesReport:
    return QuantilesReport(late.typical_s, late.rare_s, late.needed_s, late.worst_s)


def _own(take: Take, header: AudioHeader) -> Own | None:
    """Our own voice, if there is a mark to look for."""
    form: Form = take.form
    if not form.marked or form.bits not in MARKED_BITS or header.bits not in MARKED_BITS:
        return None
    settled_ns = _settled_ns(take)
    numbers = pace.unwrap([each.sequence for each in take.headers])
    indices = sorted(range(len(numbers)), key=lambda index: (int(numbers[index]), index))
    packets = [
        Returned(
            int(numbers[index]), take.at_ns[index], decode(take.data[index], take.headers[index])
        )
        for index, _ in _firsts(indices, numbers)
        if take.headers[index].frames == header.frames and take.at_ns[index] >= settled_ns
    ]
    return find_own(packets, take.signs, form.frames, form.rate_hz, take.sent_ns)


def _firsts(indices: list[int], numbers: pace.Numbers) -> list[tuple[int, int]]:
    """One index a number."""
    grouped = itertools.groupby(indices, key=lambda index: int(numbers[index]))
    return [(next(group), number) for number, group in grouped]
