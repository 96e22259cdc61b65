"""A hub that is later to some than to others, or slips, is found out by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtest.conduct.outcome import FindingKind
from shared.layout import PatchMode
from tests.loadtest.hearing.rig import Hub1, Pcm, Rig, ensemble, examined, findings, only

Kind = FindingKind


def test_a_client_whose_voice_is_later_than_others_is_named() -> None:
    players = ensemble(6)
    players[4].queue += 1280

    found = only(examined(Rig(players, turn_ns=60_000_000)).findings, Kind.DELAYED)

    assert found.source == 4
    assert found.frames == pytest.approx(1280, abs=64)


class Late(Hub1):
    """What listener 2 gets comes ten packets late."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Pcm]] = []

    def returns(self, listener: int, packet: int, number: int, pcm: Pcm) -> list[tuple[int, Pcm]]:
        if listener != 2:
            return [(number, pcm)]
        self.waiting.append((number, pcm))
        return [self.waiting.pop(0)] if len(self.waiting) > 10 else []


def test_a_client_whose_return_is_later_than_others_is_named() -> None:
    rig = Rig(ensemble(6), turn_ns=60_000_000, hub=Late())

    found = only(examined(rig).findings, Kind.DELAYED)

    assert found.listener == 2
    assert found.frames == pytest.approx(1280, abs=128)


class Slipping(Hub1):
    """From its 200th packet on, listener 1 hears talker 0 37 samples later."""

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        return 0 * pcm if self.slipped(listener, packet) and talker == 0 else pcm

    def extra(self, listener: int, packet: int, hear: Callable[[int, int], Pcm]) -> Pcm | int:
        return hear(0, -37) if self.slipped(listener, packet) else 0

    def slipped(self, listener: int, packet: int) -> bool:
        return listener == 1 and packet >= 200


@pytest.mark.parametrize("mode", [PatchMode.FULL_MIX, PatchMode.FAN_OUT_NO_SELF])
def test_a_slip_is_named_with_its_length(mode: PatchMode) -> None:
    found = findings(Slipping(), mode)

    assert {each.kind for each in found} <= {Kind.MOVED, Kind.DROPOUT}, [e.text for e in found]
    moved = [each for each in found if each.kind == Kind.MOVED]
    assert moved
    assert {(each.listener, each.source, each.frames) for each in moved} == {(1, 0, 37)}
