"""What operators do at the door: bans, and where they are kept."""

from __future__ import annotations

import asyncio
import json
import threading
from ipaddress import ip_address
from pathlib import Path

from hub.banfile import read_bans
from shared.layout import EndReason, StopOrder
from tests.hub.houses import UNIX_S, Build, House


def test_a_ban_on_a_client_kicks_it_and_keeps_its_source_out(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "bans.json"
    house = build(banfile=path)
    mallory, anna = house.join("Mallory", 1), house.join("Anna", 2)
    target = house.porter.target_of(mallory)
    made = house.ban(target, 60.0, "noise", name=mallory.name)
    assert made == {
        "network": "192.0.2.1", "since_s": UNIX_S + 100, "until_s": UNIX_S + 160,
        "reason": "noise", "name": "Mallory", "kicked": [mallory.slot], "others": 1, "saved": True,
    }  # fmt: skip
    assert house.slot(mallory, "stop") == StopOrder.KICK
    assert anna.active  # it is not she who is meant
    assert not house.porter.gate(ip_address("192.0.2.1"), house.now)
    assert house.porter.gate(ip_address("192.0.2.2"), house.now)
    assert house.refused == {"banned": 1}
    assert json.loads(path.read_text())["bans"][0]["network"] == "192.0.2.1"
    house.now += 60.0
    assert house.porter.gate(ip_address("192.0.2.1"), house.now)


def test_a_ban_on_a_network_kicks_all_of_it(house: House) -> None:
    near = [house.join("a", 1), house.join("b", 2, address="192.0.2.200")]
    far = house.join("c", 3, address="198.51.100.1")
    target = house.porter.target_of(near[0])
    assert not isinstance(target, str)
    made = house.ban(target.supernet(new_prefix=24), None, "")
    assert (made["kicked"], made["others"], made["saved"]) == ([0, 1], 0, False)
    assert far.active


def test_a_ban_on_a_client_with_an_account_is_on_the_account(house: House) -> None:
    mallory = house.join("Mallory", account="mallory")
    target = house.porter.target_of(mallory)
    assert target == "mallory"
    house.ban(target, None, "", name=mallory.name)
    house.end(mallory, EndReason.KICKED)
    assert house.porter.gate(mallory.address, house.now)
    assert house.hello("M", account="mallory", address="198.51.100.1") is None
    assert house.join("Anna").active
    assert house.unban("mallory")
    assert house.hello("M", account="mallory") is not None


def test_a_ban_on_an_account_kicks_all_of_its_sessions(house: House) -> None:
    one, other = (house.join(n, p, account="mallory") for n, p in (("M", 1), ("N", 2)))
    made = house.ban("mallory", None, "", name=one.name)
    assert made["kicked"] == [one.slot, other.slot]
    assert made["others"] == 0


def test_bans_outlive_the_hub(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "bans.json"
    first = build(banfile=path)
    source = first.porter.target_of(first.join("Mallory"))
    first.ban(source, None, "")
    first.ban("mallory", 1.0, "")
    second = build()
    second.now += 10.0
    for ban in read_bans(path):
        second.membership.reception.door.bans.add(ban)
    assert [ban["network"] for ban in second.porter.bans()] == ["192.0.2.1"]
    assert not second.porter.gate(ip_address("192.0.2.1"), second.now)


def test_a_ban_that_cannot_be_saved_holds_and_says_so(build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    house = build(banfile=tmp_path / "file" / "bans.json")
    made = house.ban("mallory", None, "")
    assert not made["saved"]
    assert house.hello("M", account="mallory") is None


def test_a_slow_disk_holds_up_nobody_and_the_last_state_is_written_last(
    build: Build, tmp_path: Path
) -> None:
    path, disk = tmp_path / "bans.json", threading.Event()
    house = build(banfile=path)

    async def run() -> None:
        house.porter._writer.submit(disk.wait)
        names = [f"mallory-{k}" for k in range(20)]
        asked = [asyncio.create_task(house.porter.ban(name, None, "", house.now)) for name in names]
        asked.append(asyncio.create_task(house.porter.unban("mallory-7")))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert house.hello("M", account="mallory-3") is None  # it holds already
        assert not any(task.done() for task in asked)
        disk.set()
        assert all(result["saved"] for result in await asyncio.gather(*asked))
        assert [ban.target for ban in read_bans(path)] == [n for n in names if n != "mallory-7"]

    asyncio.run(run())


def test_a_ban_that_is_not_there_cannot_be_ended(house: House) -> None:
    assert house.unban("nobody") is None
