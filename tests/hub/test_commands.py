"""The control socket's language: what is understood, and how the rest is refused."""

from __future__ import annotations

import asyncio
import json
import math
from ipaddress import ip_network
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.commands import answer
from hub.directory import ClientInfo
from hub.levels import MAX_GAIN
from hub.messages.fields import MAX_ID_CHARS, VERSION
from hub.values import Queue
from shared.layout import PatchMode
from tests.hub.listening import BAN, RecordingHub, directory

ANNA = ClientInfo(slot=2, session=7, name="Anna", address="192.0.2.1", port=61002, joined_s=0.0)
BERTA = ClientInfo(slot=5, session=8, name="Berta", address="192.0.2.2", port=61003, joined_s=0.0)


@pytest.fixture
def hub() -> RecordingHub:
    return RecordingHub(directory=directory(ANNA, BERTA))


def reply_to(hub: RecordingHub, data: bytes) -> dict[str, Any]:
    reply: dict[str, Any] = json.loads(asyncio.run(answer(data, hub)))
    assert reply["v"] == VERSION
    return reply


def ask(hub: RecordingHub, op: object, **fields: object) -> dict[str, Any]:
    """Result of a good request."""
    reply = reply_to(hub, json.dumps({"v": 1, "id": 7, "op": op, **fields}).encode())
    assert reply["ok"], reply
    assert reply["id"] == 7
    result: dict[str, Any] = reply["result"]
    return result


def refusal(hub: RecordingHub, data: bytes) -> tuple[str, str]:
    """Code and message of a refused request, which changed nothing."""
    reply = reply_to(hub, data)
    assert not reply["ok"]
    assert hub.asked == []
    return reply["error"]["code"], reply["error"]["message"]


def refused(hub: RecordingHub, op: object, **fields: object) -> tuple[str, str]:
    return refusal(hub, json.dumps({"v": 1, "op": op, **fields}).encode())


@pytest.mark.parametrize("field", ["op", "id", "client"])
def test_what_is_nested_deeply_is_refused_like_any_other(hub: RecordingHub, field: str) -> None:
    for depth in (100, 900, 950, 983, 1000):
        fields = {"v": b"1", "op": b'"mute"', "client": b"2", "muted": b"true"}
        fields[field] = b"[" * depth + b"]" * depth
        text = b",".join(b'"%s":%s' % (name.encode(), value) for name, value in fields.items())
        assert refusal(hub, b"{%s}" % text)[0] in ("unknown-op", "bad-field", "bad-json")


def test_ping_tells_version_and_pid(hub: RecordingHub) -> None:
    assert ask(hub, "ping") == {"version": "1.2.3", "pid": 4321}


def test_status_and_clients_list_who_is_here(hub: RecordingHub) -> None:
    assert [c["name"] for c in ask(hub, "status")["clients"]] == ["Anna", "Berta"]
    assert [c["slot"] for c in ask(hub, "clients")["clients"]] == [2, 5]


@pytest.mark.parametrize("mode", [2, "2", "fan-out-no-self"])
def test_a_patch_mode_goes_by_number_or_name(hub: RecordingHub, mode: object) -> None:
    assert ask(hub, "patch", mode=mode) == {"patch": "fan-out-no-self"}
    assert hub.asked == [("patch", PatchMode.FAN_OUT_NO_SELF)]


@pytest.mark.parametrize("mode", [0, 3, 6, -1, "mix", None, True, [2], 2.5, {}])
def test_other_patch_modes_are_refused_with_those_allowed(hub: RecordingHub, mode: object) -> None:
    code, message = refused(hub, "patch", mode=mode)
    assert code == "bad-field"
    assert message.startswith(f"mode: {json.dumps(mode)} ")
    assert "4 full-mix" in message


@pytest.mark.parametrize("client", [2, "Anna"])
def test_a_client_goes_by_slot_or_name(hub: RecordingHub, client: object) -> None:
    ask(hub, "mute", client=client, muted=True)
    ask(hub, "kick", client=client)
    assert hub.asked == [("mute", 2, True), ("kick", 2)]


@pytest.mark.parametrize(
    ("fields", "gain"),
    [
        ({"gain_db": -6.0}, 10 ** (-6 / 20)),
        ({"gain_db": 0}, 1.0),
        ({"gain_db": -120}, 1e-6),
        ({"gain_db": 24}, MAX_GAIN),
        ({"gain_db": -math.inf}, 0.0),
        ({"gain": 0.5}, 0.5),
        ({"gain": 0}, 0.0),
        ({"gain": None}, None),
        ({"gain_db": None}, None),
    ],
)
def test_a_gain_is_a_factor_or_decibels(
    hub: RecordingHub, fields: dict[str, object], gain: float | None
) -> None:
    ask(hub, "gain", source="Anna", **fields)
    ((what, slot, given),) = hub.asked
    assert (what, slot) == ("gain", 2)
    assert given == (None if gain is None else pytest.approx(gain))


def test_a_gain_may_be_one_listeners(hub: RecordingHub) -> None:
    result = ask(hub, "gain", source="Anna", listener=5, gain=0.5)
    assert hub.asked == [("pair", 5, 2, 0.5)]
    assert result == {"source": 2, "listener": 5, "gain": 0.5, "gain_db": -6.02}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gain_db": 24.1}, "gain_db: 24.1 is not a number of decibels (-120..24)"),
        ({"gain_db": -121}, "gain_db: -121 is not a number of decibels (-120..24)"),
        ({"gain_db": math.nan}, "gain_db: NaN is not a number of decibels (-120..24)"),
        ({"gain_db": math.inf}, "gain_db: Infinity is not a number of decibels (-120..24)"),
        ({"gain_db": "loud"}, 'gain_db: "loud" is not a number of decibels (-120..24)'),
        ({"gain_db": True}, "gain_db: true is not a number of decibels (-120..24)"),
        ({"gain": -0.1}, "gain: -0.1 is not a factor (0..15.85)"),
        ({"gain": 16}, "gain: 16 is not a factor (0..15.85)"),
        ({"gain": [1]}, "gain: [1] is not a factor (0..15.85)"),
        ({}, "exactly one of gain_db, gain"),
        ({"gain": 1, "gain_db": 0}, "exactly one of gain_db, gain"),
    ],
)
def test_other_gains_are_refused(
    hub: RecordingHub, fields: dict[str, object], message: str
) -> None:
    code, said = refused(hub, "gain", source="Anna", **fields)
    assert code == "bad-field"
    assert message in said


@pytest.mark.parametrize(
    ("given", "queue"),
    [(3, Queue(3)), ("64", Queue(64)), ("auto", Queue(0)), ("auto5", Queue(0, headroom_ms=5))],
)
def test_a_queue_is_packets_or_automatic(hub: RecordingHub, given: object, queue: Queue) -> None:
    assert ask(hub, "queue", client="Anna", queue=given) == {"client": 2, "queue": str(queue)}
    assert hub.asked == [("queue", 2, queue)]


@pytest.mark.parametrize("given", [0, 65, "auto251", "deep", None, True, 2.5, [], {}])
def test_other_queues_are_refused(hub: RecordingHub, given: object) -> None:
    code, message = refused(hub, "queue", client="Anna", queue=given)
    assert code == "bad-field"
    assert message.startswith(f"queue: {json.dumps(given)} is not a number of packets (1..64)")


@pytest.mark.parametrize("client", [3, "Carla", -1, 10**30, ""])
def test_who_is_not_here_is_named(hub: RecordingHub, client: object) -> None:
    code, message = refused(hub, "kick", client=client)
    assert code == "no-client"
    assert json.dumps(client) in message


@pytest.mark.parametrize("client", [None, 2.0, True, ["Anna"], {}])
def test_what_is_no_client_is_refused(hub: RecordingHub, client: object) -> None:
    assert refused(hub, "mute", client=client, muted=True)[0] == "bad-field"


def test_a_missing_field_is_named(hub: RecordingHub) -> None:
    assert refused(hub, "mute", client="Anna")[1] == "muted: missing; it is true or false"
    assert refused(hub, "queue", client="Anna")[1].startswith("queue: missing; it is a number")
    assert refused(hub, "kick")[1].startswith("client: missing; it is a client's name")


def test_an_unknown_field_is_named_with_those_allowed(hub: RecordingHub) -> None:
    code, message = refused(hub, "mute", client="Anna", mutde=True)
    assert code == "bad-field"
    assert message == "\"mutde\" is not a field of 'mute' (allowed: client, muted)"
    assert refused(hub, "ping", x=1)[1].endswith("(it has none)")


def test_who_is_leaving_cannot_be_kicked(hub: RecordingHub) -> None:
    hub.kick = lambda client: False  # type: ignore[method-assign]
    assert refused(hub, "kick", client="Anna") == ("going", 'client: "Anna" is leaving already')


@pytest.mark.parametrize("op", ["fly", "", None, 3, ["kick"], {}])
def test_an_unknown_op_lists_those_known(hub: RecordingHub, op: object) -> None:
    code, message = refused(hub, op)
    assert code == "unknown-op"
    listed = "ping, status, clients, patch, gain, pan, guard, limiter, mute, queue, kick, lock"
    assert listed in message


@pytest.mark.parametrize("version", [0, 2, None, "1", True, 1.5])
def test_another_version_is_refused(hub: RecordingHub, version: object) -> None:
    code, message = refusal(hub, json.dumps({"v": version, "op": "ping"}).encode())
    assert code == "bad-version"
    assert message.endswith("(allowed: 1)")


@pytest.mark.parametrize("sent", ["x", 7, 0, 1.5, None, "ö" * MAX_ID_CHARS])
def test_the_id_comes_back(hub: RecordingHub, sent: object) -> None:
    reply = reply_to(hub, json.dumps({"v": 1, "id": sent, "op": "ping"}).encode())
    assert reply["id"] == sent
    assert reply["ok"]


@pytest.mark.parametrize("sent", ["x" * (MAX_ID_CHARS + 1), [], {}, True, 2**63])
def test_another_id_is_refused(hub: RecordingHub, sent: object) -> None:
    code, message = refusal(hub, json.dumps({"v": 1, "id": sent, "op": "ping"}).encode())
    assert code == "bad-field"
    assert message.startswith("id: ")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[" * 60_000, b"9" * 5000, b"[]", b"null", b'"op"', b"NaN"],
)
def test_what_is_no_json_object_is_refused(hub: RecordingHub, data: bytes) -> None:
    code, message = refusal(hub, data)
    assert code == "bad-json"
    assert len(message) < 300


def test_a_number_of_numpy_is_a_number(hub: RecordingHub) -> None:
    async def clients() -> list[dict[str, Any]]:
        return [{"gain_db": np.float64(-6.5)}]

    hub.clients = clients  # type: ignore[method-assign]
    assert ask(hub, "clients") == {"clients": [{"gain_db": -6.5}]}


def test_a_failure_inside_is_answered_too(hub: RecordingHub) -> None:
    async def fail() -> dict[str, Any]:
        raise RuntimeError("out of luck")

    hub.status = fail  # type: ignore[method-assign]
    code, message = refused(hub, "status")
    assert code == "internal"
    assert "out of luck" in message


@given(st.binary(max_size=200))
def test_no_bytes_go_unanswered(data: bytes) -> None:
    assert not reply_to(RecordingHub(), data)["ok"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
_FIELDS = [
    "id", "mode", "network", "account", "for_s", "reason",
    "client", "source", "listener", "gain", "gain_db", "muted", "queue", "pan", "on",
    "x",
]  # fmt: skip
_OPS = [
    "ping", "status", "clients", "patch", "gain", "mute", "queue", "kick", "pan", "guard",
    "limiter", "waiting-room", "lock", "unlock", "admit", "refuse", "ban", "unban", "bans",
    "shutdown",
]  # fmt: skip


@given(st.sampled_from(_OPS), st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=5))
def test_no_request_fails_inside(op: str, fields: dict[str, object]) -> None:
    hub = RecordingHub(directory=directory(ANNA, BERTA))
    reply = reply_to(hub, json.dumps({"v": 1, "op": op, **fields}).encode())
    assert reply["ok"] or reply["error"]["code"] != "internal"
    assert reply["ok"] or hub.asked == []


def test_the_doors_requests_arrive(hub: RecordingHub) -> None:
    assert ask(hub, "lock") == {"locked": True, "changed": True}
    assert ask(hub, "unlock") == {"locked": False, "changed": False}
    assert ask(hub, "waiting-room", on=True) == {"on": True, "held": 2}
    ask(hub, "admit", client="Anna")
    ask(hub, "refuse", client=5)
    ask(hub, "ban", client="Anna", for_s=60, reason="noise")
    ask(hub, "ban", network="192.0.2.7/24")
    ask(hub, "ban", account="mallory", for_s=None)
    ask(hub, "unban", network="::ffff:192.0.2.7")
    hub.listed = [BAN]
    assert ask(hub, "bans") == {"bans": [BAN]}
    assert hub.asked == [
        ("lock",),
        ("unlock",),
        ("waiting-room", True),
        ("admit", 2),
        ("refuse", 5),
        ("ban client", 2, 60.0, "noise"),
        ("ban", ip_network("192.0.2.0/24"), None, ""),
        ("ban", "mallory", None, ""),
        ("unban", ip_network("192.0.2.7/32")),
    ]


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({}, "bad-field", "exactly one of client, network, account must be given"),
        ({"client": 2, "network": "::1"}, "bad-field", "exactly one of client, network, account"),
        ({"client": "Bob"}, "no-client", 'client: "Bob": no client of this name is here'),
        ({"network": "Anna"}, "bad-field", 'network: "Anna" is not a network (192.0.2.0/24'),
        ({"network": 7}, "bad-field", "network: 7 is not a network"),
        ({"network": "0.0.0.0/0"}, "bad-field", 'network: "0.0.0.0/0" is everybody: lock the hub'),
        ({"account": ""}, "bad-field", 'account: "" is not the name of an account'),
        ({"client": 2, "for_s": 0}, "bad-field", "for_s: 0 is not a number of seconds (up to"),
        ({"client": 2, "for_s": math.inf}, "bad-field", "for_s: Infinity is not a number of"),
        ({"client": 2, "for_s": "2h"}, "bad-field", 'for_s: "2h" is not a number of seconds'),
        ({"client": 2, "reason": 7}, "bad-field", "reason: 7 is not a line of text up to 200"),
        ({"client": 2, "reason": "a\nb"}, "bad-field", "is not a line of text up to 200"),
        ({"client": 2, "reason": "\ud800"}, "bad-field", "is not a line of text up to 200"),
    ],
)
def test_a_ban_that_cannot_be_is_refused(
    hub: RecordingHub, fields: dict[str, object], code: str, message: str
) -> None:
    found, said = refused(hub, "ban", **fields)
    assert found == code
    assert message in said


def test_who_does_not_wait_is_not_admitted_and_what_is_no_ban_does_not_end(
    hub: RecordingHub,
) -> None:
    hub.holds = False
    for op, fields, code in (
        ("admit", {"client": "Anna"}, "not-waiting"),
        ("refuse", {"client": 2}, "not-waiting"),
        ("unban", {"account": "mallory"}, "no-ban"),
    ):
        reply = reply_to(hub, json.dumps({"v": 1, "op": op, **fields}).encode())
        assert reply["error"]["code"] == code


@pytest.mark.parametrize(
    ("given", "pan"), [("left", -100), (-40, -40), (None, None), ("default", None)]
)
def test_a_pan_is_a_number_a_word_or_nothing(
    hub: RecordingHub, given: object, pan: float | None
) -> None:
    assert ask(hub, "pan", client="Anna", pan=given) == {"client": 2, "pan": pan}
    assert hub.asked == [("pan", 2, pan)]


def test_other_pans_are_refused(hub: RecordingHub) -> None:
    assert refused(hub, "pan", client="Anna", pan=200)[1].startswith("pan: 200 is not a pan")
    assert refused(hub, "pan", client="Anna")[1].startswith("pan: missing; it is a pan")


def test_the_guard_lets_a_client_be_and_the_limiter_is_switched(hub: RecordingHub) -> None:
    assert refused(hub, "limiter", on="on")[0] == "bad-field"
    ask(hub, "guard", client="Berta")
    ask(hub, "limiter", on=True)
    assert hub.asked == [("guard", 5), ("limiter", True)]
