"""What the audio processes ask of the kernel, and the account of the inline lane's work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.rig import Rig, wait_until
from workers.realtime import ZYGOTE_NICE

pytestmark = pytest.mark.living


@pytest.fixture(scope="module")
def plain() -> Iterator[Rig]:
    rig = Rig(slots=2, realtime=False)
    yield rig
    rig.stop()


def test_timers_are_sharp_without_real_time_rights(plain: Rig) -> None:
    plain.open()
    for pid in plain.pids.values():
        assert os.sched_getscheduler(pid) == os.SCHED_OTHER
        slack = Path(f"/proc/{pid}/timerslack_ns")
        wait_until(lambda slack=slack: slack.read_text().strip() == "1")  # type: ignore[misc]


def test_a_mixer_that_sends_itself_accounts_for_it_as_a_lane(plain: Rig) -> None:
    """Work and delay of lane 0 grow by every tick, though nobody listens."""
    lane = plain.arena.lanes[0]
    before = int(lane["ticks"])
    wait_until(lambda: lane["ticks"] > before + 5)
    assert int(lane["work"].sum()) >= before + 5
    assert lane["work_ns"] > 0
    assert lane["sent_ns"] > lane["work_ns"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to SCHED_FIFO")
def test_the_zygote_goes_before_ordinary_processes_and_behind_audio() -> None:
    rig = Rig(slots=2)
    try:
        assert os.sched_getscheduler(rig.zygote.pid) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, rig.zygote.pid) == ZYGOTE_NICE
        mixer = rig.pids[rig.mixer]
        assert os.sched_getscheduler(mixer) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO
    finally:
        rig.stop()
