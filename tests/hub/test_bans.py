"""Bans: whom they keep out and how long, and the file that outlives the hub."""

from __future__ import annotations

import json
import os
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import bans as module
from hub.banfile import BanFileError, default_banfile, read_bans, write_bans
from hub.bans import Ban, Bans, TooManyBans
from hub.networks import Network, parse_network

NET = parse_network("192.0.2.0/24")
INSIDE, OUTSIDE = ip_address("192.0.2.7"), ip_address("198.51.100.1")


def test_a_ban_keeps_its_network_out_until_its_time_is_over() -> None:
    bans = Bans([Ban(NET, 100.0, 200.0, "noise")])
    ban = bans.on(INSIDE, "", 199.9)
    assert ban is not None
    assert ban.reason == "noise"
    assert bans.on(OUTSIDE, "", 199.9) is None
    assert bans.on(INSIDE, "", 200.0) is None
    assert len(bans) == 0


def test_a_ban_on_an_account_holds_wherever_it_comes_from() -> None:
    bans = Bans([Ban("mallory", 0.0)])
    assert bans.on(OUTSIDE, "mallory", 1e9) is not None
    assert bans.on(OUTSIDE, "anna", 1e9) is None
    assert bans.on(OUTSIDE, "", 1e9) is None


def test_a_narrow_ban_that_is_over_does_not_lift_a_wide_one() -> None:
    bans = Bans([Ban(parse_network("192.0.2.7"), 0.0, 10.0), Ban(NET, 0.0)])
    assert bans.on(INSIDE, "", 20.0) is not None


def test_a_ban_is_changed_and_ended() -> None:
    bans = Bans([Ban(NET, 0.0, 10.0)])
    bans.add(Ban(NET, 5.0))
    assert [ban.until_s for ban in bans.standing(20.0)] == [None]
    assert bans.remove(NET) is not None
    assert bans.remove(NET) is None
    assert bans.on(INSIDE, "", 20.0) is None


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BANS", 2)
    bans = Bans([Ban("a", 0.0), Ban("b", 0.0)])
    bans.add(Ban("b", 1.0))
    with pytest.raises(TooManyBans, match="2 bans already"):
        bans.add(Ban("c", 0.0))


_TIME = st.floats(0, 4e9)
_TEXT = st.text(max_size=20)
_TARGET: st.SearchStrategy[Network | str] = st.one_of(
    st.text(min_size=1, max_size=20),
    st.ip_addresses().map(lambda address: parse_network(str(address))),
)
_BAN = st.builds(Ban, _TARGET, _TIME, st.none() | _TIME, _TEXT, _TEXT)


@settings(max_examples=25)
@given(st.lists(_BAN, max_size=5))
def test_bans_survive_their_file(tmp_path_factory: pytest.TempPathFactory, bans: list[Ban]) -> None:
    path = tmp_path_factory.mktemp("bans") / "deep" / "bans.json"
    write_bans(path, bans)
    assert read_bans(path) == bans
    assert path.stat().st_mode & 0o077 == 0
    assert os.listdir(path.parent) == ["bans.json"]


@settings(max_examples=50)
@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["192.0.2.0/24", "network"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["v", "bans", "network", "account", "since_s", "until_s", "reason"]), inner
    ),
    max_leaves=12,
).map(lambda value: json.dumps({"v": 1, "bans": [value]}).encode()))  # fmt: skip
def test_whatever_is_in_the_file_is_bans_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("bans") / "bans.json"
    path.write_bytes(data)
    try:
        bans = read_bans(path)
    except BanFileError:
        return
    write_bans(path, bans)
    assert read_bans(path) == bans


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is no JSON"),
        ("[]", "is no list of bans"),
        ('{"v": 2, "bans": []}', "is no list of bans"),
        ('{"v": 1, "bans": {}}', "has no list 'bans'"),
        ('{"v": 1, "bans": [{"network": "Anna"}]}', "number 0): network 'Anna' is no network"),
        ('{"v": 1, "bans": [{"account": "a", "since_s": NaN}]}', "since_s nan is no time"),
    ],
)
def test_a_file_that_is_no_good_says_why(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "bans.json"
    path.write_text(text)
    with pytest.raises(BanFileError) as caught:
        read_bans(path)
    assert why in str(caught.value)


def test_no_file_holds_no_bans_and_no_file_is_made(tmp_path: Path) -> None:
    assert read_bans(tmp_path / "bans.json") == []
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bans.json"
    write_bans(path, [Ban("mallory", 1.0)])

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bans(path, [])
    assert [ban.text for ban in read_bans(path)] == ["mallory"]
    assert os.listdir(tmp_path) == ["bans.json"]


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HOME": "/home/anna"}, "/home/anna/.local/state/tuttihub/bans-4464.json"),
        ({"HOME": "/home/anna", "XDG_STATE_HOME": "/s"}, "/s/tuttihub/bans-4464.json"),
        ({"HOME": "/h", "XDG_STATE_HOME": "s"}, "/h/.local/state/tuttihub/bans-4464.json"),
        ({"STATE_DIRECTORY": "/var/lib/tuttihub:/b"}, "/var/lib/tuttihub/bans-4464.json"),
    ],
)
def test_where_bans_are_kept(environ: dict[str, str], path: str) -> None:
    assert default_banfile(4464, environ) == Path(path)
