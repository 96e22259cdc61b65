"""CPU: of this very process and machine, and of cgroups as kernels show them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hub.overload.cores import Cores
from hub.overload.realtime import FULL, NEAR, RealtimeLimit, realtime_limit

RT = {
    "proc/sys/kernel/sched_rt_runtime_us": "950000",
    "proc/sys/kernel/sched_rt_period_us": "1000000",
}
VERSION_2 = {
    "proc/self/cgroup": "0::/system.slice/tuttihub.service\n",
    "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
    "sys/fs/cgroup/system.slice/cpu.stat": "usage_usec 7\nnr_periods 9\nnr_throttled 2\n",
    "sys/fs/cgroup/system.slice/tuttihub.service/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/system.slice/tuttihub.service/cpu.stat": "usage_usec 7\nnr_throttled 3\n",
}
VERSION_1 = {
    "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n0::/\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.stat": "nr_periods 0\nnr_throttled 0\n",
    "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/a/cpu.stat": "nr_periods 4\nnr_throttled 5\n",
}


def machine(root: Path, *trees: dict[str, str]) -> Path:
    for tree in trees:
        for name, text in tree.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root


def test_the_time_that_a_process_has_run_is_what_the_kernel_says() -> None:
    cores = Cores(1, realtime=False)
    cores.used_s([os.getpid()])
    before = time.process_time()
    while time.process_time() - before < 0.05:
        pass
    used_s = cores.used_s([os.getpid()])
    assert 0.04 <= used_s <= time.process_time() - before + 0.02


def test_processes_that_are_gone_have_run_no_more() -> None:
    cores = Cores(1, realtime=False)
    assert cores.used_s([2**22 + 1]) == 0.0
    cores.used_s([os.getpid()])
    assert cores.used_s([]) == 0.0


def test_without_schedstat_the_time_is_that_of_stat(tmp_path: Path) -> None:
    row = "7 (a )b) S " + " ".join(str(k) for k in range(4, 40))
    cores = Cores(1, realtime=False, root=machine(tmp_path, {"proc/7/stat": row}))
    assert cores.used_s([7]) == (14 + 15) / os.sysconf("SC_CLK_TCK")


def test_real_time_processes_may_have_less_than_their_cores(tmp_path: Path) -> None:
    root = machine(tmp_path, RT)
    assert realtime_limit(root) == RealtimeLimit(0.95, 1.0)
    assert Cores(2, realtime=True, root=root).capacity == pytest.approx(1.9)
    assert Cores(2, realtime=False, root=root).capacity == 2.0
    machine(root, {"proc/sys/kernel/sched_rt_runtime_us": "-1\n"})
    assert realtime_limit(root) is None
    assert Cores(2, realtime=True, root=root).capacity == 2.0


def test_the_busiest_core_is_that_on_which_most_was_used(tmp_path: Path) -> None:
    def used(pid: int, seconds: float, core: int) -> dict[str, str]:
        row = f"{pid} (a )b) S " + " ".join(str(k) for k in range(4, 39)) + f" {core} 0"
        return {f"proc/{pid}/schedstat": f"{int(seconds * 1e9)} 0 9\n", f"proc/{pid}/stat": row}

    root = machine(tmp_path, used(7, 1.0, 0), used(8, 1.0, 1), used(9, 1.0, 1))
    cores = Cores(2, realtime=True, root=root)
    cores.used_s([7, 8, 9])
    assert cores.busiest_s(0.0) == 2.0
    machine(root, used(7, 1.7, 0), used(8, 1.4, 1), used(9, 1.1, 1))
    assert cores.used_s([7, 8, 9]) == pytest.approx(1.2)
    assert cores.busiest_s(0.0) == pytest.approx(0.7)
    assert cores.busiest_s(1.3) == pytest.approx(1.2)  # at most; nobody was looked for


def test_a_pause_is_told_by_what_was_used_and_by_ticks_missed_together() -> None:
    limit, tick_s = RealtimeLimit(0.95, 1.0), 128 / 48000
    assert limit.missed(tick_s) == 18
    assert limit.paused(FULL, 1, tick_s)
    assert not limit.paused(FULL, 0, tick_s)
    assert limit.paused(NEAR, 9, tick_s)
    assert not limit.paused(NEAR, 8, tick_s)
    assert not limit.paused(0.99 * NEAR, 375, tick_s)


@pytest.mark.parametrize("words", [("-1", "1000000"), ("1000000", "1000000"), ("950000", "x")])
def test_where_nothing_is_kept_from_real_time_there_is_no_limit(
    tmp_path: Path, words: tuple[str, str]
) -> None:
    root = machine(tmp_path, dict(zip(RT, words, strict=True)))
    assert realtime_limit(root) is None
    assert realtime_limit(tmp_path / "nowhere") is None


@pytest.mark.parametrize("tree", [VERSION_2, VERSION_1], ids=["version 2", "version 1"])
def test_a_quota_is_a_limit_and_its_end_is_noticed_once(
    tmp_path: Path, tree: dict[str, str]
) -> None:
    root = machine(tmp_path, RT, tree)
    cores = Cores(8, realtime=True, root=root)
    assert cores.capacity == 1.5
    assert not cores.throttled()
    last = [name for name in tree if name.endswith("cpu.stat")][-1]
    machine(root, {last: "nr_periods 9\nnr_throttled 8\n"})
    assert [cores.throttled(), cores.throttled()] == [True, False]


def test_what_a_host_takes_is_not_there_to_be_used(tmp_path: Path) -> None:
    second = os.sysconf("SC_CLK_TCK")

    def stolen(seconds: float) -> dict[str, str]:
        row = f"9 9 9 9 9 9 9 {round(seconds * second)} 0 0\n"
        return {"proc/stat": f"cpu  {row}cpu0 {row}cpu1 {row}intr 5 5\nctxt 7\n"}

    root = machine(tmp_path, RT, stolen(3.0))
    cores = Cores(4, realtime=True, root=root)
    assert cores.given_s(1.0) == pytest.approx(3.8)
    machine(root, stolen(4.0))  # of two cores together
    assert cores.given_s(1.0) == pytest.approx(1.9)
    machine(root, stolen(99.0))
    assert cores.given_s(1.0) == pytest.approx(0.38)
    machine(root, {"proc/stat": "\n"})
    assert cores.given_s(1.0) == pytest.approx(3.8)


def test_a_machine_that_tells_nothing_has_its_cores(tmp_path: Path) -> None:
    cores = Cores(3, realtime=True, root=tmp_path)
    assert cores.capacity == 3.0
    assert not cores.throttled()


def test_a_container_may_see_its_own_cgroup_as_the_top(tmp_path: Path) -> None:
    tree = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/cpu.stat": "nr_throttled 1\n",
    }
    assert Cores(2, realtime=False, root=machine(tmp_path, tree)).capacity == 0.5
