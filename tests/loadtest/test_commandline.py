"""What all commands read and write alike."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click
import pytest

from loadtest.commandline import Numbers, cores, interruptible, need_writable, pinned, write_whole


@pytest.mark.parametrize(
    ("text", "found"), [("0", {0}), ("0,2-3", {0, 2, 3}), ("1-1", {1}), ("3,3", {3})]
)
def test_lists_of_cores(text: str, found: set[int]) -> None:
    assert cores(text, "--hub-cpu", range(4)) == found


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "2-1", "0,4", "0-9"])
def test_what_is_no_list_of_our_cores_is_named(text: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        cores(text, "--hub-cpu", {0, 1, 3})

    assert repr(text) in refused.value.message
    assert refused.value.param_hint == "--hub-cpu"


def test_lists_of_numbers() -> None:
    assert Numbers(1, 9).convert("3,1,3", None, None) == (3, 1)
    assert Numbers(1, 9, empty=True).convert("", None, None) == ()
    for text in ("", "1;2", "1,,2"):
        with pytest.raises(click.BadParameter, match=r"no list of numbers 1\.\.9"):
            Numbers(1, 9).convert(text, None, None)
    with pytest.raises(click.BadParameter, match=r"10 is not in 1\.\.9"):
        Numbers(1, 9).convert("1,10", None, None)


def test_pinned_until_the_end_of_the_block() -> None:
    before = os.sched_getaffinity(0)
    with pinned(max(before)):
        assert os.sched_getaffinity(0) == {max(before)}
    assert os.sched_getaffinity(0) == before


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    need_writable(path, "--json")
    assert list(tmp_path.iterdir()) == []

    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")

    assert path.read_text() == "old"


def test_a_file_that_cannot_be_written_is_named_before(tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter, match=r"nowhere/r\.json: No such file"):
        need_writable(tmp_path / "nowhere" / "r.json", "--json")
    need_writable(None, "--json")


def test_what_is_no_plain_file_is_not_replaced() -> None:
    null = Path("/dev/null")
    need_writable(null, "--json")
    write_whole(null, "nothing")

    assert null.is_char_device()


def test_a_ctrl_c_has_its_exit_code() -> None:
    with pytest.raises(SystemExit) as ended, interruptible():
        raise KeyboardInterrupt
    assert ended.value.code == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_others_ends_the_program_in_order(number: signal.Signals) -> None:
    done = []
    outside = signal.signal(number, signal.SIG_DFL)  # nohup's deafness is obeyed elsewhere

    def work() -> None:
        try:
            signal.raise_signal(number)
        finally:
            done.append("cleaned up")

    try:
        with pytest.raises(SystemExit) as ended, interruptible():
            work()
        after = signal.getsignal(number)
    finally:
        signal.signal(number, outside)

    assert ended.value.code == 128 + number
    assert done == ["cleaned up"]
    assert after is signal.SIG_DFL
