"""A hub in its processes, and hand-made clients: who comes, goes, and comes back."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zmq

from hub.listener import raise_descriptor_limit
from hub.messages.requests import OPS, result_of
from hub.rendezvous import events_endpoint
from loadtest.conduct.ports import PORTS
from tests.end_to_end.hubs import tuttihub_command
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, LiveHub, StartHub
from tests.hub.musicians import Musician, say_hello
from tests.hub.pipes import Pipe
from tests.hub.steadily import steadily
from tests.hub.test_messages import schema_of

pytestmark = pytest.mark.living

COLD_START_S = 180.0
"""Kernels may have to be compiled."""


def soon(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, DEADLINE_S, what, poll_s=0.01)


def plays_on(musician: Musician, packets: int = 100) -> None:
    """Wait until so many more packets have come back."""
    before = musician.packets
    soon(lambda: musician.packets >= before + packets, f"{packets} more packets")


def test_a_client_hears_itself_from_the_port_it_was_given(hub: LiveHub) -> None:
    with Musician(hub.port, "Anna", level=634) as anna:
        client = hub.active("Anna")
        assert client["port"] == anna.port
        assert client["peer_port"] == anna.udp_port
        assert client["address"] == "127.0.0.1"
        soon(lambda: anna.hears == 634, "Anna hears herself")
        plays_on(anna)
        assert anna.heard[0][0].sequence == 0
        assert anna.skipped() <= hub.missed_ticks()
        assert anna.strangers == 0
    hub.empty()


def test_an_ipv6_client_is_served_over_ipv6(hub: LiveHub) -> None:
    try:
        six = Musician(hub.port, "Six", level=577, address="::1")
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    with six:
        assert hub.active("Six")["address"] == "::1"
        soon(lambda: six.hears == 577, "Six hears itself")
    hub.empty()


def test_names_and_the_nameless(hub: LiveHub) -> None:
    with (
        Musician(hub.port, "dup"),
        Musician(hub.port, "dup"),
        Musician(hub.port, None),
        Musician(hub.port, ""),
    ):
        soon(
            lambda: (
                {c["name"] for c in hub.present()} == {"dup", "dup-01", "127.0.0.1", "127.0.0.1-01"}
            ),
            "four names",
        )
    hub.empty()


def test_the_mix_follows_patch_gain_mute_and_pair(hub: LiveHub) -> None:
    with (
        Musician(hub.port, "Anna", level=600) as anna,
        Musician(hub.port, "Berta", level=300) as berta,
    ):
        for name in ("Anna", "Berta"):
            hub.active(name)
        soon(lambda: (anna.hears, berta.hears) == (900, 900), "full mix")
        hub.ask("patch", mode=2)
        soon(lambda: (anna.hears, berta.hears) == (300, 600), "fan-out-no-self")
        hub.ask("patch", mode=1)
        soon(lambda: (anna.hears, berta.hears) == (600, 300), "loopback")
        hub.ask("patch", mode="none")
        soon(lambda: (anna.hears, berta.hears) == (0, 0), "nothing")
        hub.ask("patch", mode="full-mix")
        hub.ask("gain", source="Anna", gain=0.5)
        soon(lambda: (anna.hears, berta.hears) == (600, 600), "Anna at half")
        hub.ask("gain", source="Anna", listener="Berta", gain=0.0)
        soon(lambda: (anna.hears, berta.hears) == (600, 300), "not for Berta")
        hub.ask("mute", client="Berta", muted=True)
        soon(lambda: (anna.hears, berta.hears) == (300, 0), "Berta muted")
        found = hub.find("Berta")
        assert found is not None
        assert found["muted"]
        hub.ask("mute", client="Berta", muted=False)
        hub.ask("gain", source="Anna", listener="Berta", gain=None)
        hub.ask("gain", source="Anna", gain=None)
        soon(lambda: (anna.hears, berta.hears) == (900, 900), "full mix again")
    hub.empty()


def test_levels_do_not_pass_to_the_slots_next_client(start_hub: StartHub) -> None:
    hub = start_hub("--max-clients", "1")  # whoever comes next gets the same slot
    with Musician(hub.port, "Anna", level=600):
        slot = hub.active("Anna")["slot"]
        hub.ask("mute", client="Anna", muted=True)
        hub.ask("gain", source="Anna", listener="Anna", gain=0.25)
    hub.empty()
    time.sleep(0.5)  # the slot rests; should that take longer, it is given at once
    with Musician(hub.port, "Berta", level=600) as berta:
        assert hub.active("Berta")["slot"] == slot
        soon(lambda: berta.hears == 600, "Berta hears herself")


def test_a_queue_is_changed_live(hub: LiveHub) -> None:
    with Musician(hub.port, "Anna", level=634) as anna:
        assert hub.active("Anna")["queue"]["order"] == "4"
        for order in ("8", "auto5", "auto"):
            assert hub.ask("queue", client="Anna", queue=order)["queue"] == order
            assert hub.active("Anna")["queue"]["order"] == order
        soon(lambda: "queue set" in hub.process.log(), "the log tells of it")
        soon(lambda: anna.hears == 634, "Anna hears herself")
    hub.empty()


def test_settings_of_the_receiving_side_arrive_in_the_hub(start_hub: StartHub) -> None:
    hub = start_hub("-q", "auto3", "-z", "--drift", "off", "--match-clients", "off")
    state = hub.state()["hub"]
    assert (state["queue"], state["underrun"], state["drift"]) == ("auto3", "zero", "off")
    assert not state["match_clients"]
    with Musician(hub.port, "Anna"):
        assert hub.active("Anna")["queue"]["order"] == "auto3"


def test_a_kicked_client_is_told(hub: LiveHub) -> None:
    with Musician(hub.port, "Anna") as anna:
        hub.active("Anna")
        hub.ask("kick", client="Anna")
        soon(lambda: anna.exits == 2, "two exit packets")
        hub.empty()
        soon(lambda: "reason='kicked'" in hub.process.log(), "the log tells of it")


def test_a_client_of_another_rate_hears_and_is_heard_in_its_own(hub: LiveHub) -> None:
    with (
        Musician(hub.port, "Vinyl", rate_code=2, frames=441, level=300) as vinyl,
        Musician(hub.port, "Anna", level=1000) as anna,
    ):
        soon(lambda: anna.hears == 1300, "Vinyl and herself for Anna")
        soon(lambda: vinyl.hears == 1300, "Anna and itself for Vinyl")
        assert {(header.rate_code, header.frames) for header, _ in vinyl.heard} == {(2, 441)}
        rates = {client["name"]: client["format"]["rate_hz"] for client in hub.state()["clients"]}
        assert rates == {"Vinyl": 44100, "Anna": 48000}


def test_a_killed_client_that_comes_back_has_its_place_again(hub: LiveHub) -> None:
    with Musician(hub.port, "Berta", level=300) as berta:
        anna = Musician(hub.port, "Anna", level=600)
        first = hub.active("Anna")
        hub.ask("gain", source="Anna", listener="Berta", gain=0.5)
        soon(lambda: berta.hears == 600, "Anna at half for Berta")
        anna.fall_silent()
        anna.leave()  # closes the socket; nothing is sent after it fell silent

        with Musician(hub.port, "Anna", level=600, udp_port=anna.udp_port) as again:
            soon(lambda: len(hub.present()) == 2 and again.packets > 100, "Anna is back")
            second = hub.active("Anna")
            assert second["slot"] == first["slot"]
            assert second["session"] != first["session"]
            assert second["port"] == again.port != first["port"]
            soon(lambda: berta.hears == 600, "Anna still at half for Berta")
            assert again.exits == 0
            soon(lambda: again.hears == 900, "Anna hears both")
            hub.ask("gain", source="Anna", listener="Berta", gain=None)  # or it is remembered
    hub.empty()


def test_who_comes_back_later_and_from_elsewhere_finds_its_place(hub: LiveHub) -> None:
    with Musician(hub.port, "Berta", level=300):
        with Musician(hub.port, "Anna", level=600):
            slot = hub.active("Anna")["slot"]
            hub.ask("gain", source="Anna", gain=0.5)
            hub.ask("gain", source="Anna", listener="Berta", gain=0.0)
            hub.ask("queue", client="Anna", queue="auto5")
        soon(lambda: len(hub.present()) == 1, "Anna has left")
        with Musician(hub.port, "Carla", level=0) as carla:
            assert hub.active("Carla")["slot"] != slot
            with Musician(hub.port, "Anna", level=600) as anna:  # at another port
                found = hub.active("Anna")
                assert (found["slot"], found["queue"]["order"]) == (slot, "auto5")
                soon(lambda: anna.hears == carla.hears == 600, "Anna is at half for most")
                hub.ask("gain", source="Anna", gain=None)
                hub.ask("gain", source="Anna", listener="Berta", gain=None)
                hub.ask("queue", client="Anna", queue="4")
    hub.empty()


def test_living_namesakes_stay_and_a_silent_one_is_replaced(hub: LiveHub) -> None:
    first = Musician(hub.port, "Twin", level=600)
    slot = hub.active("Twin")["slot"]
    with Musician(hub.port, "Twin", level=300) as second:
        hub.active("Twin-01")
        soon(lambda: (first.hears, second.hears) == (900, 900), "both Twins hear both")
        hub.ask("gain", source="Twin", gain=0.5)
        first.fall_silent()
        with Musician(hub.port, "Twin", level=600) as again:
            soon(lambda: again.packets > 100, "Twin is back")
            found = hub.active("Twin")
            assert (found["slot"], len(hub.present())) == (slot, 2)
            soon(lambda: (again.hears, second.hears) == (600, 600), "at its level")
            assert (first.exits, again.exits, second.exits) == (0, 0, 0)
            assert second.strangers == 0
            hub.ask("gain", source="Twin", gain=None)
    first.leave()
    hub.empty()


def test_who_sends_nothing_holds_a_slot_for_a_while_only(hub: LiveHub) -> None:
    port = say_hello(hub.port, "Ghost")
    assert port is not None
    found = hub.find("Ghost")
    assert found is not None
    assert found["state"] == "waiting"
    wait_until(lambda: hub.find("Ghost") is None, 20.0, "Ghost is gone")
    soon(lambda: "reason='no udp'" in hub.process.log(), "the log tells of it")


def test_a_killed_receiver_is_replaced_on_the_same_port(hub: LiveHub) -> None:
    with (
        Musician(hub.port, "Anna", level=600) as anna,
        Musician(hub.port, "Berta", level=300) as berta,
    ):
        pid = hub.active("Anna")["receiver_pid"]
        hub.active("Berta")
        soon(lambda: (anna.hears, berta.hears) == (900, 900), "both hear both")
        os.kill(pid, signal.SIGKILL)

        def replaced() -> bool:
            client = hub.find("Anna")
            return client is not None and client["receiver_pid"] not in (None, pid)

        soon(replaced, "Anna has another receiver")
        plays_on(anna)
        soon(lambda: (anna.hears, berta.hears) == (900, 900), "both hear both again")
        client = hub.active("Anna")
        assert client["receiver_restarts"] == 1
        assert client["port"] == anna.port
        # numbering went on: no packet to her was left out or sent twice
        assert anna.skipped() <= hub.missed_ticks()
    hub.empty()


def test_a_receiver_that_dies_again_and_again_ends_its_session(hub: LiveHub) -> None:
    with Musician(hub.port, "Anna") as anna:
        hub.active("Anna")
        killed: set[int] = set()

        def gone() -> bool:
            client = hub.find("Anna")
            if client is None:
                return True
            pid = client["receiver_pid"]
            if pid is not None and pid not in killed:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            return False

        soon(gone, "Anna's session has ended")
        assert len(killed) == 5
        soon(lambda: anna.exits == 2, "and she was told")
        soon(lambda: "reason='failed'" in hub.process.log(), "the log tells of it")
    hub.empty()


def test_garbage_hurts_nobody(hub: LiveHub) -> None:
    rng = random.Random(1)
    with Musician(hub.port, "Anna", level=600) as anna:
        hub.active("Anna")
        with (
            steadily(hub, 600, anna),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as vandal,
        ):
            vandal.bind(("127.0.0.2", 0))
            for _ in range(300):
                junk = rng.randbytes(rng.choice([0, 1, 15, 16, 17, 63, 64, 528, 1472]))
                vandal.sendto(junk, ("127.0.0.1", anna.port))
                with socket.create_connection(("127.0.0.1", hub.port)) as tcp:
                    tcp.sendall(rng.randbytes(rng.randrange(4)))
            plays_on(anna)
        soon(lambda: hub.active("Anna")["received"]["foreign"] == 300, "all that junk")
    hub.empty()


def test_the_music_goes_on_while_the_supervisor_sleeps(hub: LiveHub) -> None:
    with Musician(hub.port, "Anna", level=600) as anna:
        hub.active("Anna")
        with steadily(hub, 600, anna):
            os.kill(hub.process.pid, signal.SIGSTOP)
            try:
                plays_on(anna, 200)
            finally:
                os.kill(hub.process.pid, signal.SIGCONT)
    hub.empty()


def test_a_full_hub_turns_away_until_somebody_leaves(start_hub: StartHub) -> None:
    hub = start_hub("--max-clients", "2")
    with Musician(hub.port, "Anna") as anna, Musician(hub.port, "Berta"):
        assert say_hello(hub.port, "Carla") is None
        soon(lambda: "hub is full" in hub.process.log(), "it is told")
        soon(lambda: hub.state()["hub"]["hellos_refused"] == {"full": 1}, "it is counted, once")
        anna.leave()
        soon(lambda: len(hub.present()) == 1, "Anna has left")
        served: list[Musician] = []

        def carla_comes() -> bool:
            try:
                served.append(Musician(hub.port, "Carla"))
            except ConnectionRefusedError:  # Anna's receiver may take a moment to end
                return False
            return True

        soon(carla_comes, "there is room for Carla")
        with served[0] as carla:
            soon(lambda: carla.packets > 0, "Carla is served")


def test_ten_thousand_idle_connections_cost_nobody_a_packet(hub: LiveHub) -> None:
    limit = raise_descriptor_limit()
    with Musician(hub.port, "Anna", level=600) as anna:
        hub.active("Anna")
        idle = []
        try:
            for k in range(min(10_000, limit - 1_000)):
                address = f"127.0.1.{1 + k % 200}"  # more ports than one address has
                idle.append(
                    socket.create_connection(
                        ("127.0.0.1", hub.port), DEADLINE_S, source_address=(address, 0)
                    )
                )
            with Musician(hub.port, "Berta", level=300):
                soon(lambda: anna.hears == 900, "a newcomer is heard")
            assert anna.skipped() <= hub.missed_ticks()
            assert hub.active("Anna")["received"]["lost"] == 0
        finally:
            for sock in idle:
                sock.close()
    hub.empty()


def test_a_hub_that_nobody_reads_goes_on() -> None:
    """What it prints goes into one pipe, which was full before it began."""
    port = PORTS.take()
    endpoint = f"ipc:///tmp/tuttihub-test-{os.getpid()}-{port}"
    control = Path(endpoint.removeprefix("ipc://"))
    pipe = Pipe()
    pipe.fill()
    command = [
        *tuttihub_command(), "serve", "-B", str(port), "-U", str(PORTS.take(4)),
        "--max-clients", "4", "--metrics", "off", "--control", endpoint, "--banfile", "off",
        "--scenefile", "off", "-I", "1",
    ]  # fmt: skip
    hub = subprocess.Popen(command, stdout=pipe.writing, stderr=pipe.writing)
    try:
        wait_until(control.is_socket, COLD_START_S, "the hub is ready")
        with zmq.Context() as context, context.socket(zmq.SUB) as sock:
            sock.linger, sock.rcvtimeo = 0, int(1000 * DEADLINE_S)
            sock.subscribe(b"leave")
            sock.connect(events_endpoint(endpoint))
            with Musician(port, "Anna", level=600) as anna:
                soon(lambda: anna.hears == 600, "Anna hears herself")
                plays_on(anna, 600)  # long enough for some statistics
            assert sock.recv_multipart()[0] == b"leave"
        hub.send_signal(signal.SIGINT)
        assert hub.wait(DEADLINE_S) == 0
    finally:
        hub.kill()
        hub.wait()
        pipe.close()
        control.unlink(missing_ok=True)


EVERYTHING: list[dict[str, object]] = [
    {"op": "ping"}, {"op": "status"}, {"op": "clients"},
    {"op": "patch", "mode": "full-mix"}, {"op": "gain", "source": "Anna", "gain_db": -6},
    {"op": "gain", "source": "Anna", "listener": "Berta", "gain": 0.5},
    {"op": "status"}, {"op": "gain", "source": "Anna", "listener": "Berta", "gain": None},
    {"op": "gain", "source": "Anna", "gain": None}, {"op": "pan", "client": "Anna", "pan": -40},
    {"op": "pan", "client": "Anna", "pan": None}, {"op": "guard", "client": "Anna"},
    {"op": "limiter", "on": True, "client": "Anna"}, {"op": "limiter", "on": False},
    {"op": "mute", "client": "Anna", "muted": False},
    {"op": "queue", "client": "Berta", "queue": "auto5"}, {"op": "lock"}, {"op": "unlock"},
    {"op": "waiting-room", "on": False}, {"op": "admit", "client": "Anna"},
    {"op": "refuse", "client": "Anna"}, {"op": "ban", "network": "192.0.2.0/24", "for_s": 60},
    {"op": "bans"}, {"op": "unban", "network": "192.0.2.0/24"},
    {"op": "section", "name": "low", "members": ["Berta"]}, {"op": "sections"},
    {"op": "hear", "listener": "Anna", "source_section": "low", "gain_db": -3}, {"op": "hearing"},
    {"op": "scene-save", "name": "a"}, {"op": "scenes"}, {"op": "scenes", "name": "a"},
    {"op": "section-remove", "name": "low"},
    {"op": "matrix", "listeners": ["Anna"], "sources": ["Berta"], "gains": [[1.0]]},
    {"op": "master", "gain_db": 0}, {"op": "rename", "client": "Berta", "name": "Bertha"},
    {"op": "conceal", "client": "Anna", "underrun": "burg"},
    {"op": "batch", "requests": [{"op": "patch", "mode": 4}, {"op": "master", "gain": 1.0}]},
    {"op": "scene-recall", "name": "a", "seconds": 0}, {"op": "scene-delete", "name": "a"},
    {"op": "kick", "client": "Nobody"}, {"op": "kick", "client": "Bertha"},
]  # fmt: skip


def test_all_that_is_asked_answered_and_told_fits_the_schema(hub: LiveHub) -> None:
    requests, replies = schema_of("request"), schema_of("reply")
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.linger = 0
        with context.socket(zmq.SUB) as events:
            events.linger = 0
            events.subscribe(b"")
            events.connect(events_endpoint(hub.control))
            sock.connect(hub.control)
            sock.rcvtimeo = int(1000 * DEADLINE_S)
            while not events.poll(50):  # the hub does not know yet that somebody listens
                hub.ask("scene-save", name="first")
            with Musician(hub.port, "Anna"), Musician(hub.port, "Berta"):
                hub.active("Anna")
                hub.active("Berta")
                told, asked = set(), set()
                for number, fields in enumerate(EVERYTHING):
                    request = {"v": 1, "id": number, **fields}
                    requests.validate(request)
                    sock.send(json.dumps(request).encode())
                    reply = json.loads(sock.recv())
                    replies.validate(reply)
                    assert reply["id"] == number
                    asked.add(fields["op"])
                    if reply["ok"]:
                        kind = result_of(OPS[str(fields["op"])])
                        typed = msgspec.convert(reply["result"], kind)
                        assert msgspec.to_builtins(typed) == reply["result"], "nothing untold of"
                    else:
                        assert fields["op"] in ("admit", "refuse", "kick")
                assert asked == OPS.keys() - {"shutdown"}
            hub.empty()
            while events.poll(200):
                event = json.loads(events.recv_multipart()[1])
                schema_of("event").validate(event)
                told.add(event["event"])
    assert told >= {"join", "leave", "level", "scene"}
