"""Return streams at the listener's own rate: how many frames, which, and how they sound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.layout import PatchMode
from shared.protocol import BIT_RESOLUTIONS, parse_datagram
from tests.workers import twins
from tests.workers.desk import SESSION, Desk, decoded, desk_of, noise
from tests.workers.twins import Doubles
from workers.filters import LOOKAHEAD, filter_table
from workers.transmit import adopt, make_lane

RATE_HZ = 48000
ONE = 1 << 32
TABLE = filter_table()


class Matched(twins.Listener):
    """The twin of a return stream at its listener's own rate.

    Attributes:
        line: (wants, frames) of the stream so far, on the hub's timeline.
        position: of the next frame to leave, in 2^-32 of a hub frame.
        clock: ratio that the receiver is certain of; ratio: the last one that it was.
        table: the filter's.
    """

    line: Doubles
    position = -LOOKAHEAD * ONE
    step = 0
    seam = False
    clock: float | None = None
    ratio: float | None = None
    owed = 0.0

    def fill(self, samples: Doubles, wall_us: int, copies: int) -> list[bytes]:
        if self.seam:
            mirrored = [min(i, samples.shape[1] - 1) for i in range(32, 0, -1)]
            self.line[:, -32:] = 2 * samples[:, :1] - samples[:, mirrored]
            self.seam = False
        self.line = np.concatenate([self.line, samples], axis=1)
        if self.clock is not None:
            if self.ratio is None:
                self.owed = min(max(self.clock * self.line.shape[1], -240.0), 240.0)
            self.ratio = self.clock
        if self.ratio is not None:
            payback = min(max(self.owed / (10.0 * RATE_HZ), -2e-4), 2e-4)
            slew = 1 + int(1e-4 * ONE * self.period / RATE_HZ)
            wanted = round((1 / (1 + self.ratio + payback) - 1) * ONE)
            self.step += min(max(wanted - self.step, -slew), slew)
            self.owed += self.period * (self.ratio - (1 / (1 + self.step / ONE) - 1))
        before = self.line.shape[1] - LOOKAHEAD
        return super().fill(self.read(self.due(before)), wall_us, copies)

    def leave_out(self, left: int, wall_us: int, copies: int) -> list[bytes]:
        out = left * ONE // (ONE + self.step)
        self.seam = self.line.shape[1] > 0
        self.line = np.concatenate([self.line, np.zeros((self.wants, left))], axis=1)
        self.position += out * (ONE + self.step)
        return super().leave_out(out, wall_us, copies)

    def due(self, before: int) -> int:
        """Frames to leave that lie before a hub frame."""
        return max(0, -((self.position - before * ONE) // (ONE + self.step)))

    def read(self, count: int) -> Doubles:
        frame, phase = divmod(self.position, ONE)
        around = np.zeros((self.wants, 64))
        padded = np.concatenate([around, self.line, around], axis=1)
        self.position += count * (ONE + self.step)
        if self.step == phase == 0:
            return padded[:, frame + 64 : frame + 64 + count]
        return twins.resample(padded, TABLE, frame + 64, phase, self.step, count)


def matching(desk: Desk) -> None:
    desk.arena.header[0]["match_clients"] = 1
    desk.mode(PatchMode.FULL_MIX)


def certain(desk: Desk, ratio: float) -> None:
    """What the receiver has found of the client's clock."""
    desk.arena.rx[0]["clock_ratio"] = ratio
    desk.arena.rx[0]["clock_certain"] = 1


def tone(desk: Desk, hz: float) -> None:
    """The next tick; the only source is a sine of amplitude 0.5."""
    frames = (desk.tick + 1) * desk.period + np.arange(desk.period)
    wave = 0.5 * np.sin(2 * np.pi * hz / RATE_HZ * frames)
    desk.publish({1: wave.astype(np.float32)[None]})


def numbers(datagrams: list[bytes]) -> list[int]:
    return [parse_datagram(datagram)[0].sequence for datagram in datagrams]


def stream(datagrams: list[bytes]) -> Doubles:
    """First channel of all packets, one after another."""
    return np.concatenate([decoded(datagram)[0] for datagram in datagrams])


def residue_db(heard: Doubles, hz: float) -> float:
    """All that is not that sine, below it."""
    angle = 2 * np.pi * hz / RATE_HZ * np.arange(len(heard))
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(basis, heard, rcond=None)
    return float(10 * np.log10(np.mean((heard - basis @ weights) ** 2) * 2 / np.sum(weights**2)))


# ---- against the twin


@settings(max_examples=50)
@given(
    frames=st.sampled_from([16, 64, 128, 240, 441]),
    period=st.sampled_from([16, 64, 128, 441]),
    bits=st.sampled_from(BIT_RESOLUTIONS),
    wants=st.integers(1, 3),
    redundancy=st.integers(1, 3),
    ratio=st.one_of(st.none(), st.floats(-1e-3, 1e-3)),
    seed=st.integers(0, 1 << 32),
)
def test_datagrams_like_twin(
    frames: int,
    period: int,
    bits: int,
    wants: int,
    redundancy: int,
    ratio: float | None,
    seed: int,
) -> None:
    """Byte for byte until the drift is certain, then to the last bit but one; ticks are missed."""
    rng = np.random.default_rng(seed)
    with desk_of(period=period) as desk:
        matching(desk)
        desk.listener(0, frames=frames, bits=bits, wants=wants, redundancy=redundancy)
        twin = Matched(
            0, frames=frames, bits=bits, wants=wants, sends=2, rate_code=3, period=period,
            upmix=False,
        )  # fmt: skip
        twin.line = np.zeros((wants, 0))
        for step in range(12):
            if rng.random() < 0.2:
                desk.tick += int(rng.integers(1, 9))
            if ratio is not None and step == 4:
                certain(desk, ratio)
                twin.clock = ratio
                # as if the pace had been changing for seconds
                twin.step = desk.lane.returns.steps[0] = round((1 / (1 + ratio) - 1) * ONE)
            strips = {1: noise(rng, 2, period), 2: noise(rng, 1, period)}
            mixed = twin.mix(PatchMode.FULL_MIX, strips, desk.publish(strips))
            expected = twin.tick(desk.tick, mixed, desk.wall_us, redundancy)
            sent = desk.serve(0)
            if twin.clock is None:
                assert sent == expected
            assert [datagram[:16] for datagram in sent] == [other[:16] for other in expected]
            for datagram, other in zip(sent, expected, strict=True):
                assert len(datagram) == len(other)
                accuracy = 1e-6 + (2.0 ** (1 - bits) if bits < 32 else 0)
                np.testing.assert_allclose(decoded(datagram), decoded(other), atol=accuracy)
        assert desk.arena.tx[0]["sequence"] == twin.sequence
        position = desk.lane.returns.frames[0] * ONE + desk.lane.returns.phases[0]
        assert (position, desk.lane.returns.steps[0]) == (twin.position, twin.step)


# ---- single facts


def test_until_the_drift_is_certain_it_is_the_hubs_own_stream_a_little_later() -> None:
    """16 frames later and bit by bit, in the same packets; only a seam is 16 frames long."""
    heard = []
    for matched in (False, True):
        rng = np.random.default_rng(2)
        with desk_of() as desk:
            desk.mode(PatchMode.FULL_MIX)
            desk.arena.header[0]["match_clients"] = int(matched)
            desk.arena.rx[0]["clock_ratio"] = 3e-4  # it may be so
            desk.listener(0, bits=24, frames=64)
            datagrams: list[bytes] = []
            for jump in (0, 0, 0, 3, 0, 0):
                desk.tick += jump
                desk.publish({1: noise(rng, 2, 128)})
                datagrams += desk.serve(0)
            heard.append(np.concatenate([decoded(datagram) for datagram in datagrams], axis=1))
            assert numbers(datagrams) == [0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17]
            assert desk.lane.returns.sessions[0] == (SESSION if matched else 0)
            assert desk.lane.returns.lines.any() == matched
    straight, late = heard
    assert straight.any()
    np.testing.assert_array_equal(late[:, :LOOKAHEAD], 0)
    np.testing.assert_array_equal(late[:, 16:384], straight[:, : 384 - 16])
    np.testing.assert_array_equal(late[:, 400:], straight[:, 384:-16])


@pytest.mark.parametrize("period", [64, 128])
def test_missed_ticks_are_no_click(period: int) -> None:
    """What comes after is as smooth from its first frame on as the tone that it is of."""
    hz = 300.0
    with desk_of(period=period) as desk:
        matching(desk)
        desk.listener(0, frames=64, bits=32, wants=1)
        after: list[bytes] = []
        for jump in (0, 0, 0, 2, 0):
            desk.tick += jump
            tone(desk, hz)
            sent = desk.serve(0)
            after = sent if jump else after + sent
    heard = stream(after)
    assert np.max(np.abs(np.diff(heard, 2))) < 0.5 * (2 * np.pi * hz / RATE_HZ) ** 2 * 1.01


@pytest.mark.parametrize(("ppm", "after_s"), [(208, 4.0), (-300, 5.0), (13, 20.0)])
def test_as_many_frames_as_the_client_counts(ppm: float, after_s: float) -> None:
    """A minute: those that it drifted before that was certain are paid back."""
    seconds, period, frames = 60, 512, 256
    with desk_of(period=period) as desk:
        matching(desk)
        desk.listener(0, bits=8, wants=1, frames=frames)
        sent: list[int] = []
        ticks = seconds * RATE_HZ // period
        for tick in range(ticks):
            if tick * period >= after_s * RATE_HZ:
                certain(desk, ppm * 1e-6)
            desk.publish({})
            datagrams = numbers(desk.serve(0))
            assert abs(len(datagrams) - period // frames) <= 1
            sent += datagrams
        left = int(desk.arena.tx[0]["fill_frames"])
    assert sent == list(range(len(sent)))
    expected = ticks * period * (1 + ppm * 1e-6)
    assert abs(len(sent) * frames + left - expected) < 2.0


@pytest.mark.parametrize(("hz", "limit_db"), [(997, -110), (9973, -100)])
def test_what_a_tone_gathers(hz: float, limit_db: float) -> None:
    """THD+N over a second of what a client at +208 ppm hears, at its own rate."""
    ppm, period = 208e-6, 512
    with desk_of(period=period) as desk:
        matching(desk)
        desk.listener(0, bits=32, wants=1)
        datagrams: list[bytes] = []
        certain(desk, ppm)
        tone(desk, hz)
        desk.serve(0)
        desk.lane.returns.steps[0] = round((1 / (1 + ppm) - 1) * ONE)
        desk.lane.returns.owed[0] = 0
        for _ in range(RATE_HZ // period):
            tone(desk, hz)
            datagrams += desk.serve(0)
    assert residue_db(stream(datagrams)[LOOKAHEAD + 512 :], hz / (1 + ppm)) < limit_db


def test_engaging_is_not_heard() -> None:
    """A tone of which nothing is left where it obeys the equation of its oscillation.

    From the first frame on, through the beginning of the drift, a change of its mind and
    its end: never more than what 500 ppm of another pitch leave (a click would be).
    """
    hz, period = 1000.0, 512
    with desk_of(period=period) as desk:
        matching(desk)
        desk.listener(0, bits=32, wants=1)
        datagrams: list[bytes] = []
        for tick in range(12 * RATE_HZ // period):
            second = tick * period / RATE_HZ
            if 1 < second < 6:
                certain(desk, 300e-6)
            elif 6 < second < 10:
                certain(desk, -300e-6)
            elif second > 10:
                desk.arena.rx[0]["clock_certain"] = 0
            tone(desk, hz)
            datagrams += desk.serve(0)
        assert desk.lane.returns.steps[0] > 0
    heard = stream(datagrams)[LOOKAHEAD + period :]  # after the fade-in
    turn = 2 * np.pi * hz / RATE_HZ
    rest = heard[2:] - 2 * math.cos(turn) * heard[1:-1] + heard[:-2]
    assert np.max(np.abs(rest)) < 0.5 * turn * turn * 1.1e-3


def test_older_parts_are_the_packets_before() -> None:
    with desk_of() as desk:
        matching(desk)
        desk.listener(0, redundancy=2)
        certain(desk, 1e-3)
        before = b""
        rng = np.random.default_rng(4)
        datagrams = 0
        for tick in range(40):
            if tick == 1:
                desk.lane.returns.steps[0] = round((1 / (1 + 1e-3) - 1) * ONE)
            desk.publish({1: noise(rng, 2, 128)})
            for datagram in desk.serve(0):
                size = parse_datagram(datagram)[0].packet_bytes
                assert datagram[size:] == (before or bytes(size))
                before = datagram[:size]
                assert numbers([datagram]) == [datagrams]
                datagrams += 1
        assert datagrams == 40


def test_ticks_that_are_missed_are_missed_at_the_clients_rate() -> None:
    """Half of them: no time gets lost, and the packets' numbers say so."""
    ppm, period, ticks = 500e-6, 128, 2000
    with desk_of(period=period) as desk:
        matching(desk)
        desk.listener(0, bits=8, wants=1, frames=441)
        certain(desk, ppm)
        desk.publish({})
        desk.serve(0)
        desk.lane.returns.steps[0] = round((1 / (1 + ppm) - 1) * ONE)
        desk.lane.returns.owed[0] = 0
        last = 0
        for _ in range(ticks // 2):
            desk.tick += 1
            desk.publish({})
            last = max([last, *numbers(desk.serve(0))])
        tx = desk.arena.tx[0]
        assert last == tx["sequence"] - 1
        sent = int(tx["sequence"]) * 441 + int(tx["fill_frames"])
    assert abs(sent - (period + ticks * period * (1 + ppm))) < 3


def test_gap_too_long_to_be_a_loss_is_none() -> None:
    with desk_of() as desk:
        matching(desk)
        desk.listener(0)
        found = []
        for jump in (0, 900, 950, 1 << 40, 0):
            desk.tick += jump
            desk.publish({1: np.full((2, 128), 0.25, np.float32)})
            found.append(numbers(desk.serve(0)))
            certain(desk, 1e-4)
    assert found == [[0], [901], [902, 903], [904], [905]]  # 902 had begun


def test_another_lane_goes_on_at_the_same_rate() -> None:
    """At once: it fades in, so that no change of pitch is heard."""
    with desk_of() as desk:
        matching(desk)
        desk.listener(0)
        certain(desk, 208e-6)
        found = []
        for tick in range(8):
            if tick == 4:
                desk.lane = make_lane(3, 128, RATE_HZ)
                desk.listener(0)
                adopt(desk.arena, 0, 0, desk.lane)
            desk.publish({})
            found += numbers(desk.serve(0))
        ratio = 1 / (1 + desk.lane.returns.steps[0] / ONE) - 1
    assert abs(ratio - 208e-6) < 1e-6
    assert found == list(range(8))


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, 0.5, -0.01])
def test_no_clock_is_that_far_off(nonsense: float) -> None:
    with desk_of() as desk:
        matching(desk)
        desk.listener(0)
        certain(desk, nonsense)
        for _ in range(5):
            desk.publish({})
            assert len(desk.serve(0)) == 1
        assert desk.lane.returns.steps[0] == 0


def test_next_session_begins_anew() -> None:
    with desk_of() as desk:
        matching(desk)
        desk.listener(0, bits=32)
        certain(desk, 3e-4)
        for _ in range(5):
            desk.publish({1: np.ones((2, 128), np.float32)})
            desk.serve(0)
        desk.arena.rx[0]["clock_certain"] = 0
        desk.listener(0, bits=32, session=SESSION + 1)
        desk.publish({1: np.ones((2, 128), np.float32)})
        (datagram,) = desk.serve(0)
        assert desk.lane.returns.steps[0] == 0
    assert numbers([datagram]) == [0]
    np.testing.assert_array_equal(decoded(datagram)[0][:LOOKAHEAD], 0)
    np.testing.assert_allclose(decoded(datagram)[0][LOOKAHEAD:], np.arange(1, 113) / 128, atol=1e-6)
