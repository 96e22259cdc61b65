"""Of a hundred datagrams five are lost each way: what redundancy can repair is repaired.

The relay knows which datagrams it lost, and so which packets nobody could have saved: with
`-r 2` those whose own datagram and the next one were both lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.end_to_end.hubs import Hub, own_hub_only
from tests.end_to_end.measuring import LEAD_FRAMES, TAIL_FRAMES, Take, undisturbed
from tests.end_to_end.peers import RATE_HZ, JackTripClient
from tests.end_to_end.processes import wait_until
from tests.end_to_end.relay import Relay, Way
from tests.end_to_end.sound import (
    Exact,
    Samples,
    Voice,
    find_lag,
    noise,
    returned,
    roughness,
    shifted,
    sine,
    snr_db,
    stretches_of,
)
from tests.end_to_end.stage import Stage
from tests.end_to_end.weather import PERFECT, Fate, Path

_PERIOD = 128
_FADE_FRAMES = 128
"""After a gap the hub fades over so long into what comes then."""
_ACCOUNT_PACKETS = 1100
"""So far behind the newest the hub takes a packet for lost, and a little more."""
_QUEUE = 8
"""Deep on both sides: a machine that is late for some milliseconds makes no difference."""
_MUSIC_FRAMES = 2 * RATE_HZ
_FRAMES = LEAD_FRAMES + _MUSIC_FRAMES + TAIL_FRAMES
_BAD = Path(loss=0.05)
_SMOOTH = 1.3
_CONCEALED_DB = 8.0
"""Of a tone of which every twentieth packet is lost; with silence in the gaps 13 less 3."""
_WINDOW = 2048
"""Of sixteen packets: without what a hub repairs, up and down, a fifth of them would be whole."""
_LOSSES = ("tuttihub_client_underruns_total", ": lost +")
"""Troubles that a bad network makes."""
_TONE_HZ = 523.25
_PROTOCOL = re.compile(r"prot: (\d+)/(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Losses:
    """What one direction of a bad network did to the packets of a client.

    Attributes:
        gone: datagrams lost.
        repairable: packets whose own datagram was lost, but not one that repeats them.
        runs: lengths of the gaps that nothing can repair, packets.
    """

    gone: int
    repairable: int
    runs: list[int]

    @property
    def packets(self) -> int:
        """That nothing can repair."""
        return sum(self.runs)


def losses(passages: NDArray[Any], client: int, way: Way, copies: int) -> Losses:
    """By the relay's own account.

    Args:
        passages: (datagrams,) PASSAGE.
        client: in the order of their hellos.
        copies: packets a datagram.
    """
    ours = passages[passages["client"] == client]
    ours = ours[(ours["down"] == way) & (ours["sequence"] >= 0)]
    first = int(ours["sequence"].min())
    passed = np.zeros(int(ours["sequence"].max()) - first + 1, np.bool_)
    passed[ours["sequence"][ours["fate"] == Fate.PASSED] - first] = True
    carried = passed.copy()
    for age in range(1, copies):
        carried[:-age] |= passed[age:]
    runs = [end - start for start, end in stretches_of(~carried, 1)]
    return Losses(int(np.count_nonzero(~passed)), int(np.count_nonzero(carried & ~passed)), runs)


def heard_frames(recording: Samples, reference: Exact) -> NDArray[np.int64]:
    """Where in the reference each frame of a recording comes from; -1: nowhere.

    A frame is recognised with its neighbours, four samples of 16 bits in a row, which noise
    has at one place only. So it needs no alignment, and finds what was cut, or came twice.

    Args:
        recording: (n,) float32 of a 16-bit client; reference: (m,) float64, as it should be.
    """
    wanted, found = _quadruples(reference), _quadruples(recording)
    order = np.argsort(wanted, kind="stable")
    at = np.minimum(np.searchsorted(wanted[order], found), len(wanted) - 1)
    places = np.where(wanted[order[at]] == found, order[at], -1)
    frames = np.full(len(recording), -1, np.int64)
    for offset in range(4):
        part = frames[offset : len(places) + offset]
        part[places >= 0] = places[places >= 0] + offset
    return frames


def _quadruples(samples: NDArray[np.floating]) -> NDArray[np.int64]:
    """Each four neighbouring 16-bit samples as one number."""
    whole = np.rint(samples.astype(np.float64) * 32768).astype(np.int64) & 0xFFFF
    count = len(whole) - 3
    return sum((whole[k : k + count] << (16 * k) for k in range(4)), np.zeros(count, np.int64))


@dataclass(frozen=True, slots=True)
class Counted:
    """What everybody has counted so far.

    Attributes:
        passages: (datagrams,) PASSAGE, by the relay.
        hub: packets lost, repaired and late of each client, by the hub.
        client: packets lost and revived, by the client.
    """

    passages: NDArray[Any]
    hub: dict[str, Counter[str]]
    client: Counter[str]

    @classmethod
    def now(cls, hub: Hub, relay: Relay, client: JackTripClient) -> Counted:
        # Its first report sets all counters back.
        reports = wait_until(
            lambda: _PROTOCOL.findall(client.process.log()), 10.0, f"statistics of {client.name}"
        )
        lost, _, revived = (int(text) for text in reports[-1])
        received = {one["name"]: one["received"] for one in hub.clients()}
        return cls(
            relay.passages(),
            {
                name: Counter({key: counts[key] for key in ("lost", "repaired", "late")})
                for name, counts in received.items()
            },
            Counter(lost=lost, revived=revived),
        )


def wait_for_packets(hub: Hub, count: int) -> None:
    """Until the hub has had so many more of everybody."""

    def fewest() -> int:
        return min(int(client["received"]["packets"]) for client in hub.clients())

    wanted = fewest() + count
    wait_until(lambda: fewest() >= wanted, 30.0, f"{count} more packets", poll_s=0.2)


def assert_repaired(rose: Counter[str], up: Losses) -> None:
    """All that could be, but for what came too late itself."""
    assert rose["lost"] == up.packets
    assert up.repairable - rose["late"] <= rose["repaired"] <= up.repairable


def halted(take: Take) -> bool:
    """Whether there was more than what losses do."""
    return any(not any(word in reason for word in _LOSSES) for reason in take.all_disturbances())


def assert_revived(rose: Counter[str], down: Losses, take: Take) -> None:
    """As many as the network lost; of a client that was disturbed, too, about as many."""
    wanted = Counter(lost=down.gone, revived=down.repairable)
    if rose != wanted:
        assert halted(take), f"{rose} instead of {wanted}"
        for key, count in wanted.items():
            assert abs(rose[key] - count) <= count / 2, f"{rose} instead of {wanted}"


def windows(frames: int) -> list[tuple[int, int]]:
    """Of a recording, within the music."""
    starts = range(LEAD_FRAMES + _WINDOW, frames - TAIL_FRAMES - _WINDOW, _WINDOW)
    return [(start, start + _WINDOW) for start in starts]


def assert_concealed(concealed: Samples, tone: Exact) -> None:
    """A tone goes on through its gaps.

    A click is a step of the slope; a tone that goes on has none.
    """
    assert roughness(concealed) <= _SMOOTH * roughness(tone)
    expected = shifted(tone, find_lag(concealed, tone), len(concealed))
    assert snr_db(concealed, expected) >= _CONCEALED_DB


def is_concealed(part: Samples, tone: Exact) -> bool:
    """The same of a window, whatever the tone's phase is there."""
    angle = 2 * np.pi * _TONE_HZ / RATE_HZ * np.arange(len(part))
    waves = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    expected = waves @ np.linalg.lstsq(waves, part.astype(np.float64), rcond=None)[0]
    smooth = roughness(part) <= _SMOOTH * roughness(tone)
    return bool(smooth and snr_db(part, expected) >= _CONCEALED_DB)


def assert_mostly(hold: Iterable[bool]) -> None:
    """Of a take that was disturbed, more than half the windows are right."""
    right = list(hold)
    assert sum(right) > len(right) / 2, f"{sum(right)} of {len(right)} windows are right"


def assert_only_gaps(heard: NDArray[np.int64], voice: Voice, up: Losses, down: Losses) -> None:
    """All of the music was heard once and in order, but for what nothing could repair."""
    places = heard[heard >= LEAD_FRAMES]
    assert bool((np.diff(places) > 0).all()), "something was played twice"
    missing = np.ones(len(voice.in_hub), np.bool_)
    missing[:LEAD_FRAMES] = False
    missing[places] = False
    gaps = [end - start for start, end in stretches_of(missing, 1)]
    allowed = [length * _PERIOD + _FADE_FRAMES for length in up.runs]
    allowed += [length * _PERIOD for length in down.runs]
    report = f"gaps of {gaps} frames, where {sorted(allowed)} were lost for good"
    assert len(gaps) <= len(allowed), report
    # The longest gap within the longest loss, and so on.
    for gap, room in zip(sorted(gaps, reverse=True), sorted(allowed, reverse=True), strict=False):
        assert gap <= room, report


def test_losses_that_can_be_repaired_are_told_from_others() -> None:
    passages = np.zeros(9, [("client", int), ("down", int), ("sequence", int), ("fate", int)])
    passages["sequence"] = np.arange(20, 29)
    passages["fate"][[2, 5, 6]] = Fate.LOST

    assert losses(passages, 0, Way.UP, 2) == Losses(3, 2, [1])
    assert losses(passages, 0, Way.UP, 1) == Losses(3, 0, [1, 2])


def test_frames_are_found_wherever_they_are() -> None:
    reference = noise(5, 1000, 0.4).in_hub
    recording = np.concatenate((np.zeros(50), reference[:300], reference[428:], reference[:9]))
    found = heard_frames(recording.astype(np.float32), reference)

    expected = [-1] * 50 + [*range(300), *range(428, 1000), *range(9)]
    assert found.tolist() == expected


@own_hub_only
def test_what_redundancy_can_repair_is_repaired_and_the_rest_is_concealed(stage: Stage) -> None:
    """By the hub's counters and the client's, and by what is heard.

    One client sends and gets every packet twice, and suffers both ways. The other has no
    redundancy, and a clean way back: what it hears is the hub's concealment.
    """
    hub = stage.hub(1, options=["-q", str(_QUEUE)])
    with Relay(hub.port, seed=11) as relay:
        twice, once = (
            stage.client(
                hub, name, queue=_QUEUE, remote_name=name, hub_port=relay.port, options=options
            )
            for name, options in (("twice", ["-r", "2"]), ("once", []))
        )
        stage.everybody_in(hub)
        voices = {
            ("twice", 1): noise(31, _MUSIC_FRAMES, 0.45, lead=LEAD_FRAMES),
            ("once", 1): sine(_TONE_HZ, _MUSIC_FRAMES, 0.45, RATE_HZ, lead=LEAD_FRAMES),
        }
        counted: list[Counted] = []

        def take() -> Take:
            relay.forget()
            before = Counted.now(hub, relay, twice)
            relay.impair(up=_BAD)
            relay.impair(down=_BAD, client=0)
            taken = stage.record(hub, voices, [twice, once], frames=_FRAMES)
            relay.impair(up=PERFECT, down=PERFECT)
            wait_for_packets(hub, _ACCOUNT_PACKETS)
            counted[:] = [before, Counted.now(hub, relay, twice)]
            return taken

        def judge(take: Take) -> None:
            before, after = counted
            up, down, bare = (
                losses(after.passages, 0, Way.UP, 2),
                losses(after.passages, 0, Way.DOWN, 2),
                losses(after.passages, 1, Way.UP, 1),
            )
            assert min(up.repairable, down.repairable, bare.packets) > 15
            assert_repaired(after.hub["twice"] - before.hub["twice"], up)
            assert (after.hub["once"] - before.hub["once"])["lost"] == bare.packets
            assert_revived(after.client - before.client, down, take)

            voice, tone = voices["twice", 1], voices["once", 1].in_hub
            heard = heard_frames(take.at(twice, 1), returned(voice.in_hub, 16))
            concealed = take.at(once, 1)
            try:
                assert_only_gaps(heard, voice, up, down)
                assert_concealed(concealed, tone)
            except AssertionError:
                if not halted(take):
                    raise
                spans = windows(len(heard))
                assert_mostly(bool((np.diff(heard[low:high]) == 1).all()) for low, high in spans)
                assert_mostly(is_concealed(concealed[low:high], tone) for low, high in spans)

        undisturbed(take, judge)
