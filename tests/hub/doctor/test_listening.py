"""From a take to figures: hubs whose packets are not ours, and what is missing in them."""

from __future__ import annotations

import numpy as np
import pytest

from hub.doctor.listening import listen
from hub.doctor.mark import encode, mark
from hub.doctor.playing import Form, Take
from shared.protocol import AudioHeader, pack_header

FRAMES, RATE_HZ, PACKETS = 128, 48_000, 1200


def loopback(
    frames: int, delay: int = 700, lost: frozenset[int] = frozenset(), bits: int = 16
) -> Take:
    """A hub that returns our sound in packets of its own length; some of them never come."""
    form = Form(bits=bits)
    due_ns = (np.arange(PACKETS) * FRAMES * 1_000_000_000) // RATE_HZ
    signs = mark(PACKETS * FRAMES)
    take = Take(form, due_ns + 20_000, due_ns, signs, redundancy=1)
    sound = np.concatenate([np.zeros(delay, np.int8), signs])
    for number in range(len(signs) // frames):
        if number in lost:
            continue
        header = AudioHeader(0, (65_500 + number) & 0xFFFF, frames, 3, bits, 2, 2)
        samples = sound[number * frames : (number + 1) * frames]
        take.headers.append(header)
        take.at_ns.append(round((number + 1) * frames / RATE_HZ * 1e9))
        take.data.append(pack_header(header) + encode(samples, 2, bits))
    return take


@pytest.mark.parametrize(("frames", "bits"), [(64, 16), (128, 24), (256, 16), (480, 24)])
def test_a_clean_line(frames: int, bits: int) -> None:
    heard = listen(loopback(frames, bits=bits))
    assert heard.hub is not None
    assert (heard.hub.frames, heard.hub.bits, heard.hub.rate_hz) == (frames, bits, 48_000)
    assert heard.back is not None
    assert (heard.back.lost, heard.back.reordered, heard.back.duplicates) == (0, 0, 0)
    assert heard.back.clock_ppm == pytest.approx(0.0, abs=1.0)
    assert heard.back.late.worst_s < 1e-4
    assert heard.there.lost_share == pytest.approx(0.0, abs=0.01)
    assert heard.there.sent_late.worst_s == pytest.approx(20e-6)


def test_losses_back_are_not_taken_for_losses_there() -> None:
    lost = frozenset(range(200, 1100, 50))
    heard = listen(loopback(128, lost=lost))
    assert heard.back is not None
    assert (heard.back.lost, heard.back.runs) == (len(lost), {1: len(lost)})
    assert heard.there.lost_share == pytest.approx(0.0, abs=0.01)


def test_nothing_was_heard() -> None:
    heard = listen(Take(Form(), np.zeros(1, np.int64), np.zeros(1, np.int64), mark(128)))
    assert (heard.hub, heard.back, heard.own, heard.first_sound_s) == (None, None, None, None)
