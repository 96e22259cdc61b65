"""Unmodified clients at a hub with ``-A``: who gets in, and what the others are told."""

from __future__ import annotations

from datetime import datetime, timedelta

from hub.auth.times import DAYS
from tests.end_to_end.hubs import Hub, own_hub_only, tuttihub
from tests.end_to_end.measuring import LEAD_FRAMES, SIGNAL_FRAMES, Take, assert_hears, undisturbed
from tests.end_to_end.peers import JackTripClient
from tests.end_to_end.processes import wait_until
from tests.end_to_end.sound import noise
from tests.end_to_end.stage import Stage

TOLD_S = 20.0
REQUIRED = "requires authentication"
NOT_REQUIRED = "does not require authentication"
WRONG_CREDENTIALS = "Incorrect username or password"
WRONG_TIME = "not authorized to access the server at this time"


def guarded_hub(stage: Stage) -> Hub:
    """A hub that clara may join, with a password beyond ASCII, and robert on another day."""
    certificate, key, users = (stage.directory / name for name in ("hub.crt", "hub.key", "users"))
    another_day = DAYS[(datetime.now() - timedelta(days=3)).weekday()]
    tuttihub("cert", certificate, key)
    tuttihub("passwd", users, "clara", stdin="wieck é\n")
    tuttihub("passwd", users, "robert", "--times", f"{another_day}*", stdin="schumann\n")
    files = ("--certfile", certificate, "--keyfile", key, "--credsfile", users)
    return stage.hub(4, options=["-A", *map(str, files)])


def asking(user: str, password: str) -> list[str]:
    """A client's options."""
    return ["-A", "--username", user, "--password", password]


def assert_told(client: JackTripClient, text: str) -> None:
    wait_until(lambda: text in client.process.log(), TOLD_S, f"{client.name} says {text!r}")
    assert "Received Connection from Peer" not in client.process.log()


@own_hub_only
def test_who_may_join_and_who_may_not(stage: Stage) -> None:
    hub = guarded_hub(stage)
    refused = [
        (stage.start_client(hub, name, options=options), text)
        for name, options, text in (
            ("plain", [], REQUIRED),
            ("wrong", asking("clara", "wieck e"), WRONG_CREDENTIALS),
            ("unknown", asking("Clara", "wieck é"), WRONG_CREDENTIALS),
            ("early", asking("robert", "schumann"), WRONG_TIME),
        )
    ]
    clara = stage.client(hub, "clara", options=asking("clara", "wieck é"))
    for client, text in refused:
        assert_told(client, text)
        client.stop()

    hub.wait_for_clients(1)
    (shown,) = hub.clients()
    assert (shown["name"], shown["account"]) == ("clara", "clara")
    logins = {
        name.split('"')[1]: count
        for name, count in hub.counters().items()
        if name.startswith("tuttihub_logins_total") and count
    }
    assert logins == {"ok": 1, "required": 1, "wrong-credentials": 2, "wrong-time": 1}
    voice = noise(77, SIGNAL_FRAMES, 0.9, lead=LEAD_FRAMES)

    def judge(take: Take) -> None:
        assert_hears(take, clara, 1, [voice.in_hub])

    undisturbed(lambda: stage.record(hub, {("clara", 1): voice}, [clara]), judge)


@own_hub_only
def test_who_brings_credentials_to_an_open_hub_is_told(stage: Stage) -> None:
    hub = stage.hub(4)
    client = stage.start_client(hub, "asks", options=asking("clara", "wieck"))
    assert_told(client, NOT_REQUIRED)
    assert hub.status()["hub"]["auth"] == {
        "required": False, "accounts": None, "certificate_expiry_s": None,
        "logins": {"not-required": 1},
    }  # fmt: skip
    assert hub.clients() == []
