"""The examination against hubs that misbehave, on loopback."""

from __future__ import annotations

import numpy as np
import pytest

from hub.doctor import examination, mapping, sizes, swallowed, visit
from hub.doctor.examination import Examination, Progress, Wish
from hub.doctor.report import Report
from shared.protocol import EXIT_PACKET, HEADER_BYTES, AudioHeader, pack_header, parse_datagram
from tests.hub.doctor.echo import Answers, EchoHub, echo

pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is silent here will stay so."""
    monkeypatch.setattr(mapping, "PATIENCE_S", 0.5)
    monkeypatch.setattr(examination, "CUT_S", 0.8)
    monkeypatch.setattr(examination, "REST_S", 0.01)
    monkeypatch.setattr(visit, "FAREWELL_S", 0.02)


def examine(*answers: Answers, seconds: float = 0.5) -> Report:
    with EchoHub(*answers) as hub:
        return Examination(Wish("127.0.0.1", hub.port, seconds, 0)).run()


def faults(report: Report) -> dict[str, str]:
    return {finding.fault: finding.detail for finding in report.findings}


def loud(number: int, datagram: bytes) -> list[bytes]:
    sound = np.full((len(datagram) - HEADER_BYTES) // 2, 3277, "<i2").tobytes()
    return [datagram[:HEADER_BYTES] + sound]


def garbage(number: int, datagram: bytes) -> list[bytes]:
    return [bytes(40), b"\xff" * 70, datagram[:10], datagram, b""]


def mute(number: int, datagram: bytes) -> list[bytes]:
    return []


def sends_away(number: int, datagram: bytes) -> list[bytes]:
    return [datagram] if number < 150 else [EXIT_PACKET] * 2


def stops(number: int, datagram: bytes) -> list[bytes]:
    return [datagram] if number < 150 else []


def refuses(number: int, datagram: bytes) -> list[bytes]:
    return [EXIT_PACKET] * 2


def test_an_echo_is_examined() -> None:
    """To this one two sessions from a port are two: as if a router remapped it."""
    steps: list[Progress] = []
    with EchoHub() as hub:
        report = Examination(Wish("127.0.0.1", hub.port, 0.5, 0), steps.append).run()
    assert report.router is not None
    assert report.router.remaps
    assert report.trip is not None
    # four packets are kept, so the fifth brings the first one back
    assert report.trip.sound_s == pytest.approx(4 * 128 / 48_000, rel=0.3)
    assert report.there is not None
    assert report.there.lost_share is not None
    assert report.there.lost_share < 0.05
    assert report.hub is not None
    assert report.hub.uses_redundancy
    shares = [step.share for step in steps]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def own_frames(number: int, datagram: bytes) -> list[bytes]:
    """As JackTrip's hub: in packets of its own, which are as long as ours by chance."""
    if parse_datagram(datagram)[0].frames == 128:
        return [datagram]
    return [pack_header(AudioHeader(0, number & 0xFFFF, 128, 3, 16, 2, 2)) + bytes(512)]


def test_a_hub_that_has_our_packet_size_by_chance() -> None:
    report = examine(own_frames)
    assert report.hub is not None
    assert report.hub.frames == 128
    assert report.hub.mirrors is False
    assert report.advice is not None
    assert report.advice.frames == 128
    assert "hub's own" in report.advice.frames_why


def test_a_hub_that_is_slow_with_further_sessions_swallows_no_long_packets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sizes, "WAIT_S", 0.2)
    monkeypatch.setattr(mapping, "START_S", 0.2)
    report = examine(echo, mute)
    assert "long-packets-swallowed" not in faults(report)
    assert report.path is not None
    assert report.path.mtu is None


def begins_slowly(number: int, datagram: bytes) -> list[bytes]:
    return [datagram] if number > 30 else []


def test_a_session_with_long_packets_that_begins_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """After half a second: it goes on while others are tried, and is asked again."""
    monkeypatch.setattr(sizes, "WAIT_S", 0.3)
    report = examine(echo, begins_slowly, echo)
    assert "long-packets-swallowed" not in faults(report)
    assert report.path is not None
    assert report.path.mtu == 1500


def test_others_are_heard() -> None:
    report = examine(loud)
    assert faults(report)["others-heard"] == "-20 dB"
    assert report.there is not None
    assert report.there.lost_share is None


def test_garbage_changes_nothing() -> None:
    report = examine(garbage)
    assert report.verdict != "unfit"
    assert report.hub is not None
    assert report.hub.frames == 128


def test_being_sent_away_is_no_cut() -> None:
    report = examine(sends_away, seconds=1.0)
    assert list(faults(report))[-1] == "sent-away"
    assert report.exit_code == 6


def test_a_cut_is_looked_into() -> None:
    report = examine(stops, echo, seconds=1.0)
    assert "same port brings it back" in faults(report)["cut-off"]
    assert report.udp is not None
    assert "what the hub sends no longer arrives" in faults(report)["cut-off"]
    assert report.udp.stopped_after_s == pytest.approx(150 * 128 / 48_000, rel=0.3)


def falls_silent(number: int, datagram: bytes) -> list[bytes]:
    silence = bytes(len(datagram) - HEADER_BYTES)
    return [datagram if number < 150 else datagram[:HEADER_BYTES] + silence]


def test_a_way_there_that_is_cut() -> None:
    """The hub goes on sending for ten seconds, and only our own voice is gone."""
    report = examine(falls_silent, seconds=2.0)
    assert "what you send no longer arrives" in faults(report)["cut-off"]
    assert report.exit_code == 6


def says_good_bye_unheard(number: int, datagram: bytes) -> list[bytes]:
    silence = bytes(len(datagram) - HEADER_BYTES)
    return [datagram[:HEADER_BYTES] + silence] if number < 150 else [EXIT_PACKET] * 2


def test_a_good_bye_to_somebody_who_is_not_heard_is_a_cut() -> None:
    """As hubs say it after ten seconds, and as they would not answer a new session then."""
    report = examine(says_good_bye_unheard, mute, seconds=1.0)
    assert "no longer hears you" in faults(report)["cut-off"]
    assert "sent-away" not in faults(report)


def test_a_hub_that_ends() -> None:
    def shut(progress: Progress) -> None:
        if progress.step.startswith("sound has ended"):
            hub.shut()

    with EchoHub(stops) as hub:
        report = Examination(Wish("127.0.0.1", hub.port, 1.0, 0), shut).run()
    assert list(faults(report))[-1] == "hub-gone"
    assert report.exit_code == 4


def begins_late(number: int, datagram: bytes) -> list[bytes]:
    return [datagram] if number > 250 else []


def test_sound_that_comes_late_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub's own JACK may be slow: what is missing is not swallowed yet."""
    monkeypatch.setattr(examination, "START_S", 0.4)
    monkeypatch.setattr(examination, "LATELY_S", 0.3)
    monkeypatch.setattr(swallowed, "COMPLAINTS", 1)
    report = examine(begins_late, echo)
    assert report.verdict != "unfit", faults(report)
    assert report.udp is not None
    assert report.udp.first_sound_s == pytest.approx(0.68, rel=0.3)


def test_a_form_that_nobody_likes() -> None:
    report = examine(refuses)
    assert list(faults(report)) == ["format-refused"]
    assert report.exit_code == 6


def test_a_hub_is_left_as_a_client_leaves_it() -> None:
    """Also when the examination is broken off."""

    def broken_off(progress: Progress) -> None:
        if progress.step.startswith("listening"):
            raise KeyboardInterrupt

    with EchoHub() as hub, pytest.raises(KeyboardInterrupt):
        Examination(Wish("127.0.0.1", hub.port, 5.0, 0), broken_off).run()
    assert hub.good_byes == 2
