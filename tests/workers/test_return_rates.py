"""Return streams at another sample rate than the hub's: how many frames, which, how they sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.kernels import kernel
from shared.layout import PatchMode
from shared.protocol import BIT_RESOLUTIONS, RATES_HZ, parse_datagram
from tests.workers import twins
from tests.workers.desk import Desk, decoded, desk_of, noise
from tests.workers.twins import Doubles, Floats
from workers import returns
from workers.filters import PHASES, conversion_table, passband_hz
from workers.pacing import PHASES as PHASES_A_PERIOD

ONE = 1 << 32
PAIRS = [
    (48000, 22050), (48000, 32000), (48000, 44100), (48000, 88200), (48000, 96000),
    (48000, 192000), (44100, 48000), (96000, 44100), (192000, 22050), (48000, 46012),
]  # fmt: skip
"""(hub, client), Hz; the last is nobody's."""


class Converted(twins.Listener):
    """The twin of a return stream at another rate: positions are fractions, and never drift.

    Attributes:
        left: frames of the stream that have left, or were left out.
        line: (wants, taps + frames): silence, and the stream so far, on the hub's timeline.
    """

    hub_hz: int
    client_hz: int
    table: Floats
    line: Doubles
    left = 0
    seam = False

    def begin(self, hub_hz: int, client_hz: int) -> None:
        nearest = client_hz if client_hz in RATES_HZ else 44100
        self.hub_hz, self.client_hz = hub_hz, client_hz
        self.table = conversion_table(hub_hz, nearest)
        self.line = np.zeros((self.wants, self.taps))

    @property
    def taps(self) -> int:
        return int(self.table.shape[1])

    def fill(self, samples: Doubles, wall_us: int, copies: int) -> list[bytes]:
        if self.seam:
            mirrored = [min(i, samples.shape[1] - 1) for i in range(self.taps, 0, -1)]
            self.line[:, -self.taps :] = 2 * samples[:, :1] - samples[:, mirrored]
            self.seam = False
        self.line = np.concatenate([self.line, samples], axis=1)
        return super().fill(self.read(), wall_us, copies)

    def leave_out(self, left: int, wall_us: int, copies: int) -> list[bytes]:
        out = left * ONE // -(-self.hub_hz * ONE // self.client_hz)
        self.seam = self.line.shape[1] > self.taps
        self.line = np.concatenate([self.line, np.zeros((self.wants, left))], axis=1)
        self.left += out
        return super().leave_out(out, wall_us, copies)

    def read(self) -> Doubles:
        """All frames that lie before the end of the line less the filter's look-ahead."""
        known = (self.line.shape[1] - self.taps // 2) * self.client_hz  # in 1 / client_hz
        first = self.taps // 2 * self.client_hz + self.left * self.hub_hz
        at = np.arange(first, known, self.hub_hz)
        self.left += len(at)
        row, between = np.divmod(at % self.client_hz * PHASES / self.client_hz, 1)
        lower, upper = self.table[row.astype(int)], self.table[row.astype(int) + 1]
        weights = lower + between[:, None] * (upper.astype(float) - lower)
        start = at // self.client_hz - self.taps // 2 + 1
        windows = self.line[:, start[:, None] + np.arange(self.taps)]
        frames: Doubles = np.einsum("cik,ik->ci", windows, weights)
        return frames


@contextmanager
def converting(hub_hz: int, period: int = 128, pacing: bool = False) -> Iterator[Desk]:
    with desk_of(period=period, rate_hz=hub_hz) as desk:
        desk.arena.header[0]["pacing"] = pacing
        desk.mode(PatchMode.FULL_MIX)
        yield desk


# ---- against the twin


@settings(max_examples=60)
@given(
    pair=st.sampled_from(PAIRS),
    frames=st.sampled_from([16, 64, 128, 441, 480]),
    period=st.sampled_from([16, 64, 128, 441]),
    bits=st.sampled_from(BIT_RESOLUTIONS),
    wants=st.integers(1, 3),
    redundancy=st.integers(1, 3),
    seed=st.integers(0, 1 << 32),
)
def test_datagrams_like_twin(
    pair: tuple[int, int],
    frames: int,
    period: int,
    bits: int,
    wants: int,
    redundancy: int,
    seed: int,
) -> None:
    """The client's own packet size, bits, channels and rate code; ticks are missed."""
    rng = np.random.default_rng(seed)
    with converting(pair[0], period) as desk:
        code = RATES_HZ.index(pair[1]) if pair[1] in RATES_HZ else 7
        desk.listener(
            0, frames=frames, bits=bits, wants=wants, redundancy=redundancy, rate_code=code,
            rate_hz=pair[1],
        )  # fmt: skip
        twin = Converted(
            0, frames=frames, bits=bits, wants=wants, sends=2, rate_code=code, period=period,
            upmix=False,
        )  # fmt: skip
        twin.begin(*pair)
        for _ in range(12):
            if rng.random() < 0.2:
                desk.tick += int(rng.integers(1, 9))
            half = np.float32(0.5)  # what is resampled may overshoot
            strips = {1: half * noise(rng, 2, period), 2: half * noise(rng, 1, period)}
            mixed = twin.mix(PatchMode.FULL_MIX, strips, desk.publish(strips))
            expected = twin.tick(desk.tick, mixed, desk.wall_us, redundancy)
            sent = desk.serve(0)
            assert [datagram[:16] for datagram in sent] == [other[:16] for other in expected]
            for datagram, other in zip(sent, expected, strict=True):
                assert len(datagram) == len(other)
                accuracy = 2e-6 + (2.0 ** (1 - bits) if bits < 32 else 0)
                np.testing.assert_allclose(decoded(datagram), decoded(other), atol=accuracy)
        assert desk.arena.tx[0]["sequence"] == twin.sequence
        assert desk.arena.tx[0]["fill_frames"] == len(twin.filling)


@kernel
def _run(listener, lane_returns, period, ticks):  # type: ignore[no-untyped-def]
    """The pace of so many ticks, nothing read; frames that left."""
    left = 0
    lookahead = lane_returns.lookaheads[listener]
    for _ in range(ticks):
        lane_returns.ends[listener] += period
        count = returns._outputs_before(lane_returns.ends[listener] - lookahead, listener,
                                        lane_returns)  # fmt: skip
        after = lane_returns.phases[listener] + count * (ONE + lane_returns.steps[listener])
        lane_returns.frames[listener] += after >> 32
        lane_returns.phases[listener] = after & (ONE - 1)
        returns._correct(count, listener, lane_returns)
        left += count
    return left


@pytest.mark.parametrize(("hub_hz", "client_hz"), PAIRS)
def test_an_hour_has_as_many_frames_as_the_clients_rate_says(hub_hz: int, client_hz: int) -> None:
    """To the frame, whenever one looks."""
    period, seconds = 128, 3600
    with converting(hub_hz, period) as desk:
        desk.listener(0, wants=1, bits=8, rate_hz=client_hz)
        desk.publish({})
        desk.serve(0)
        ticks, lane_returns = 1, desk.lane.returns
        left = -(-period * client_hz // hub_hz)
        for more in (1, 374, 2625, 17_000, seconds * hub_hz // period):
            left += _run(0, lane_returns, period, more)
            ticks += more
            assert left == -(-ticks * period * client_hz // hub_hz)


# ---- pacing


@settings(max_examples=40)
@given(
    pair=st.sampled_from(PAIRS),
    period=st.sampled_from([64, 128, 256, 441]),
    frames=st.one_of(st.sampled_from([16, 64, 128, 256, 441, 480]), st.integers(16, 1024)),
)
def test_packets_are_as_far_apart_as_they_last(
    pair: tuple[int, int], period: int, frames: int
) -> None:
    hub_hz, client_hz = pair
    at: list[float] = []
    with converting(hub_hz, period, pacing=True) as desk:
        desk.listener(0, frames=frames, bits=8, wants=1, rate_hz=client_hz)
        while len(at) < 40:
            desk.publish({})
            at += [desk.tick * period + after for after, _ in desk.serve_timed(0)]
        phases = int(desk.lane.schedule.state[PHASES_A_PERIOD])
    assert np.all(np.abs(np.diff(at) - frames * hub_hz / client_hz) < period / phases + 1e-6)


# ---- sound


def tones(desk: Desk, hz: list[float]) -> None:
    """The next tick; the only source has a sine of amplitude 0.5 in each channel."""
    frames = (desk.tick + 1) * desk.period + np.arange(desk.period)
    rate_hz = int(desk.arena.header[0]["rate_hz"])
    waves = [0.5 * np.sin(2 * np.pi * one / rate_hz * frames) for one in hz]
    desk.publish({1: np.array(waves, np.float32)})


def heard_tones(hub_hz: int, client_hz: int, hz: list[float]) -> Doubles:
    """(tones, frames): a fifth of a second of what a client hears, settled."""
    with converting(hub_hz, 512) as desk:
        desk.listener(0, frames=128, bits=32, wants=len(hz), rate_hz=client_hz)
        datagrams: list[bytes] = []
        for _ in range(hub_hz // 5 // 512):
            tones(desk, hz)
            datagrams += desk.serve(0)
    assert {parse_datagram(datagram)[0].frames for datagram in datagrams} == {128}
    heard = np.concatenate([decoded(datagram) for datagram in datagrams], axis=1)
    return heard[:, client_hz // 40 :]


def split(heard: Doubles, rate_hz: int, hz: float) -> tuple[float, float]:
    """Level of that sine, and of all else, in dB of the sine that was played."""
    angle = 2 * np.pi * hz / rate_hz * np.arange(len(heard))
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    weights, *_ = np.linalg.lstsq(basis, heard, rcond=None)
    rest = float(np.mean((heard - basis @ weights) ** 2)) * 2
    level = float(np.sum(weights**2))
    return 10 * np.log10(level / 0.25), 10 * np.log10(rest / 0.25 + 1e-30)


@pytest.mark.parametrize(("hub_hz", "client_hz"), PAIRS)
def test_tones_are_clean_and_as_loud_as_they_were(hub_hz: int, client_hz: int) -> None:
    """Up to the edge of the passband; what lies beyond the slope is not heard folded."""
    lower = min(hub_hz, client_hz if client_hz in RATES_HZ else 44100)
    edge = passband_hz(lower)
    hz = [997.0, 0.45 * edge, edge]
    folds = hub_hz / 2 > lower - edge + 100
    heard = heard_tones(hub_hz, client_hz, hz + ([lower - edge + 100] if folds else []))
    for one, channel in zip(hz, heard, strict=False):
        level_db, rest_db = split(channel, client_hz, one)
        assert abs(level_db) < 0.01, one
        assert rest_db < -90, one
    if folds:
        assert 10 * np.log10(2 * np.mean(heard[-1] ** 2) / 0.25) < -90


@pytest.mark.parametrize("client_hz", [22050, 192000])
def test_levels_are_published_ten_times_a_second(client_hz: int) -> None:
    """Of what is sent: a tenth of a second of the client's own frames."""
    with converting(48000) as desk:
        desk.listener(0, wants=1, rate_hz=client_hz)
        ticks = 0
        while desk.arena.tx[0]["peak"] == 0.0:
            tones(desk, [997.0])
            desk.serve(0)
            ticks += 1
        level = desk.arena.tx[0]["rms"]
    assert abs(ticks - 4800 / 128) < 1.5
    assert abs(level - 0.5**1.5) < 0.02


def test_a_rate_that_was_measured_is_followed_and_one_that_was_told_is_kept() -> None:
    ratios = []
    for code, client_hz in ((7, 46012), (2, 44100)):
        with converting(48000, 512) as desk:
            desk.listener(0, wants=1, bits=8, rate_code=code, rate_hz=client_hz)
            desk.arena.rx[0]["clock_ratio"], desk.arena.rx[0]["clock_certain"] = 3e-4, 1
            for _ in range(400):
                desk.publish({})
                desk.serve(0)
            ratios.append(48000 / client_hz / (1 + desk.lane.returns.steps[0] / ONE) - 1)
    assert abs(ratios[0] - 3e-4) < 5e-5  # and what it is owed yet
    assert abs(ratios[1]) < 1e-9
