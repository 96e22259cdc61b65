"""The control client against a real control socket, and against what is none."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import zmq

from hub.client import ControlError, EventStream, HubClient, HubRefused, HubUnreachable
from hub.directory import ClientInfo
from hub.events import MasterSet, SceneChanged
from hub.messages import results
from hub.messages.fields import MAX_REQUEST_BYTES
from hub.messages.requests import OPS
from hub.publisher import Publisher
from hub.rendezvous import events_endpoint
from hub.values import Queue
from shared.layout import PatchMode
from tests.hub.listening import BAN, RecordingHub, directory, listening, seat
from tests.hub.loops import in_a_loop

T = TypeVar("T")

ANNA = ClientInfo(3, 7, "Anna", "192.0.2.1", 61005, joined_s=0.0)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/control"


@pytest.fixture
def hub(endpoint: str) -> Iterator[RecordingHub]:
    hub = RecordingHub(directory=directory(ANNA))
    seat(hub.arena, 3, 7)
    with listening(endpoint, hub):
        yield hub


def asking(endpoint: str, ask: Callable[[HubClient], Awaitable[T]], timeout_s: float = 5.0) -> T:
    """What a client is answered."""

    async def answer() -> T:
        async with HubClient(endpoint, timeout_s) as client:
            return await ask(client)

    return asyncio.run(answer())


def test_every_request_reaches_the_hub_and_results_are_typed(
    hub: RecordingHub, endpoint: str
) -> None:
    async def ask(client: HubClient) -> None:
        assert await client.ping() == results.Pong("1.2.3", 4321)
        assert await client.patch("fan-out-no-self") == results.Patched("fan-out-no-self")
        assert (await client.gain("Anna", gain_db=-6.0)).gain == pytest.approx(0.501, abs=1e-3)
        await client.gain(3, gain=None)
        await client.gain("Anna", gain_db=-math.inf, listener=3)
        with pytest.raises(ValueError, match="nan"):
            await client.gain("Anna", gain_db=math.nan)
        await client.mute("Anna")
        await client.pan("Anna", "left")
        await client.queue("Anna", "auto5")
        await client.limiter(True)
        assert (await client.lock()).changed
        assert (await client.waiting_room(True)).held == 2
        made = await client.ban("Anna", for_s=60, reason="noise")
        assert (made.kicked, made.saved, made.network) == ([3], False, "192.0.2.1")
        assert (await client.unban(account="mallory")).saved
        hub.listed = [BAN]
        assert [ban.until_s for ban in await client.bans()] == [None]
        await client.kick(3)
        await client.shutdown()

    asking(endpoint, ask)
    assert hub.asked == [
        ("patch", PatchMode.FAN_OUT_NO_SELF),
        ("gain", 3, pytest.approx(0.5011872)),
        ("gain", 3, None),
        ("pair", 3, 3, 0.0),
        ("mute", 3, True),
        ("pan", 3, -100.0),
        ("queue", 3, Queue(0, headroom_ms=5)),
        ("limiter", True),
        ("lock",),
        ("waiting-room", True),
        ("ban client", 3, 60.0, "noise"),
        ("unban", "mallory"),
        ("kick", 3),
        ("shutdown",),
    ]


def test_there_is_a_method_for_every_operation() -> None:
    words = {op: set(op.split("-")) for op in OPS}
    methods = [set(name.split("_")) for name in vars(HubClient) if not name.startswith("_")]
    assert [op for op, parts in words.items() if parts not in methods] == []


def test_status_and_clients_tell_the_same_of_a_client(hub: RecordingHub, endpoint: str) -> None:
    async def ask(client: HubClient) -> None:
        (of_status,) = (await client.status()).clients
        (of_clients,) = await client.clients()
        assert of_status.name == of_clients.name == "Anna"
        assert of_status.format == of_clients.format

    asking(endpoint, ask)


def test_several_ask_at_once(hub: RecordingHub, endpoint: str) -> None:
    async def ask(client: HubClient) -> None:
        asked = (client.ping(), client.mute("Anna"), client.kick("Nobody"), client.ping())
        pong, muted, refused, again = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(refused, HubRefused)
        assert (pong, muted) == (again, results.Muted(3, True))

    asking(endpoint, ask)


def test_refusal_carries_code_and_reason(hub: RecordingHub, endpoint: str) -> None:
    with pytest.raises(HubRefused, match="Nobody") as caught:
        asking(endpoint, lambda client: client.kick("Nobody"))
    assert caught.value.code == "no-client"


def test_fields_are_none_of_the_envelopes(hub: RecordingHub, endpoint: str) -> None:
    asking(endpoint, lambda client: client.request("ping", id=99, v=2), timeout_s=1.0)


def test_what_is_too_large_is_told_and_not_sent(hub: RecordingHub, endpoint: str) -> None:
    async def ask(client: HubClient) -> None:
        with pytest.raises(ControlError, match="larger than a hub takes"):
            await client.request("ping", padding="x" * MAX_REQUEST_BYTES)
        await client.ping()

    asking(endpoint, ask)


def test_events_are_typed_and_end_with_their_client(endpoint: str) -> None:
    async def drained(stream: EventStream) -> None:
        async for _ in stream:
            pass

    @in_a_loop
    async def test() -> None:
        with listening(endpoint, RecordingHub()):
            publisher = Publisher()
            publisher.bind_file(events_endpoint(endpoint))
            async with HubClient(endpoint) as client:
                with pytest.raises(ValueError, match="'weather' is not a topic"):
                    client.events("weather")
                stream = client.events("join", "level")
                heard = asyncio.ensure_future(anext(stream))
                while not heard.done():
                    publisher.tell(SceneChanged(scene="a", what="saved"))  # not asked for
                    publisher.tell(MasterSet(master=0.5))
                    await asyncio.sleep(0.01)
                assert heard.result().event == MasterSet(master=0.5)
                waiting = asyncio.ensure_future(drained(stream))
                await asyncio.sleep(0)
            await waiting
            publisher.close()

    test()


def test_no_socket_is_seen_at_once(endpoint: str) -> None:
    with pytest.raises(HubUnreachable, match="there is no such socket") as caught:
        asking(endpoint, HubClient.ping, timeout_s=600)
    assert endpoint in str(caught.value)


def test_socket_of_a_dead_hub_is_seen_at_once(endpoint: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(endpoint.removeprefix("ipc://"))
    with pytest.raises(HubUnreachable, match="is gone"):
        asking(endpoint, HubClient.ping, timeout_s=600)


def test_what_a_hub_that_is_gone_did_not_take_is_not_the_next_ones(endpoint: str) -> None:
    async def test() -> RecordingHub:
        with listening(endpoint, RecordingHub(directory=directory(ANNA))):
            client = HubClient(endpoint, timeout_s=0.3)
            await client.__aenter__()
            await client.ping()
        with pytest.raises(HubUnreachable, match="no reply within"):
            await client.kick(3)
        with listening(endpoint, RecordingHub(directory=directory(ANNA))) as later:
            async with asyncio.timeout(5.0):
                while True:
                    try:
                        await client.ping()
                        break
                    except HubUnreachable:
                        continue
            await client.close()
            return later

    assert asyncio.run(test()).asked == []


@contextmanager
def scripted(endpoint: str, reply: Callable[[dict[str, Any]], list[bytes]]) -> Iterator[None]:
    """Something that answers one request as it likes."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind(endpoint)

        def serve() -> None:
            sender, request = router.recv_multipart()
            for data in reply(json.loads(request)):
                router.send_multipart([sender, data])

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def reply_to(request: dict[str, Any], **changed: object) -> bytes:
    return json.dumps({"v": 1, "id": request["id"], "ok": True, "result": {}, **changed}).encode()


def test_silence_is_told_after_the_timeout(endpoint: str) -> None:
    with (
        scripted(endpoint, lambda _: []),
        pytest.raises(HubUnreachable, match=r"no reply within 0.1 s"),
    ):
        asking(endpoint, HubClient.ping, timeout_s=0.1)


def test_who_waits_when_it_is_closed_is_told(endpoint: str) -> None:
    async def hang_up(client: HubClient) -> None:
        waiting = asyncio.ensure_future(client.ping())
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(HubUnreachable, match="was closed"):
            await waiting

    with scripted(endpoint, lambda _: []):
        asking(endpoint, hang_up)


def test_reply_to_another_request_is_passed_over(endpoint: str) -> None:
    def late_then_right(request: dict[str, Any]) -> list[bytes]:
        told = {"version": "9", "pid": 5, "of a later hub": True}
        return [reply_to(request, id=0), reply_to(request, result=told)]

    with scripted(endpoint, late_then_right):
        assert asking(endpoint, HubClient.ping) == results.Pong("9", 5)


@pytest.mark.parametrize("junk", [b"", b"\xff", b"[]", b"7"])
def test_reply_that_is_none(endpoint: str, junk: bytes) -> None:
    with (
        scripted(endpoint, lambda _: [junk]),
        pytest.raises(ControlError, match="is no JSON object"),
    ):
        asking(endpoint, HubClient.ping)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"v": 2}, "version 2 of the control protocol"), ({"result": [1]}, "of another kind")],
)
def test_reply_of_another_version_or_kind(
    endpoint: str, changed: dict[str, Any], said: str
) -> None:
    with (
        scripted(endpoint, lambda r: [reply_to(r, **changed)]),
        pytest.raises(ControlError, match=said),
    ):
        asking(endpoint, HubClient.ping)
