"""What the desk does beside what it is asked."""

from __future__ import annotations

import asyncio

import pytest

from tests.hub.studio import Studio


def test_others_have_their_turn_while_a_full_hub_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hub.desk.CLIENTS_A_TURN", 1)
    studio = Studio()
    for port, name in enumerate(("Anna", "Berta", "Carl")):
        studio.house.join(name, 4464 + port)
    turns = 0

    async def leave() -> list[str]:
        looking = asyncio.create_task(studio.desk.clients())
        await asyncio.sleep(0)
        del studio.house.directory.clients[2]
        return [client["name"] for client in await looking]

    async def look() -> list[str]:
        nonlocal turns
        looking = asyncio.create_task(studio.desk.status())
        while not looking.done():
            turns += 1
            await asyncio.sleep(0)
        return [client["name"] for client in looking.result()["clients"]]

    assert asyncio.run(look()) == ["Anna", "Berta", "Carl"]
    assert turns > 3
    assert asyncio.run(leave()) == ["Anna", "Berta"]
    studio.house.membership.close()
