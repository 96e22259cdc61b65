"""The bridge on a real JACK server, without a hub: run by test_jack_graph.

    python -m tests.end_to_end.jack_graphs SERVER

One bridge after the other, each with other settings, in an arena whose clients are told, not heard.
It prints one JSON object: by scene what ports there were, and what each was connected to.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jack
import numpy as np

from shared.arena import create_arena
from shared.layout import JACK_NAME_BYTES, PatchMode, RxState
from workers import jackports
from workers.jackbridge import Bridge, BridgeSettings
from workers.jackclock import JackClient

PERIOD = 128
SLOTS = 40
TURNS = 200

Client = tuple[str, int, int]
"""Name, channels that it sends, channels that it wants."""
PLAYERS: list[Client] = [("anna", 1, 2), ("bert", 2, 1)]


class Graph:
    """One bridge on a server.

    Args:
        bridge: what kind of one.
    """

    def __init__(
        self,
        server: str,
        patch: PatchMode,
        *,
        upmix: bool,
        slots: int = SLOTS,
        period: int = PERIOD,
        bridge: type[Bridge] = Bridge,
        **settings: Any,
    ) -> None:
        fd, self.arena = create_arena(
            slots=slots, rate_hz=48000, period_frames=period, upmix=upmix, jack=True
        )
        os.close(fd)
        self.arena.control[0]["slots_high"] = slots
        self.arena.control[0]["patch"] = patch
        self.bridge = bridge(self.arena, -1, BridgeSettings(server=server, **settings))

    def seat(self, clients: Sequence[Client], groups: Sequence[int] = ()) -> None:
        """These are there, in slots from 0 on, and nobody else; by group, or each its own."""
        slots: Any = self.arena.slots
        slots["session"] = 0
        for slot, (name, sends, wants) in enumerate(clients):
            record, rx = slots[slot], self.arena.rx[slot]
            record["session"] = rx["session"] = 1 + slot
            record["jack_group"] = 1 + (groups[slot] if groups else slot)
            told = name.encode().ljust(JACK_NAME_BYTES, b"\0")
            record["jack_name"] = np.frombuffer(told, np.uint8)
            rx["state"], rx["channels"], rx["wants"], rx["span"] = RxState.ACTIVE, sends, wants, 64

    def settle(self) -> None:
        """Turns of the bridge, until all that can be done is done."""
        bridge = self.bridge
        bridge.cable_s = bridge.look_s = 0.0
        for _ in range(TURNS):
            bridge._turn(time.monotonic())
            if not bridge.more:
                break
        # what was connected or taken out is told from the next cycle on
        until = int(bridge.beat_desk[jackports.CALLS]) + 3
        deadline = time.monotonic() + 5.0
        while bridge.beat_desk[jackports.CALLS] < until and time.monotonic() < deadline:
            time.sleep(0.001)

    def ports(self) -> dict[str, list[str]]:
        """Of the bridge's groups, and what each is connected to."""
        assert isinstance(self.bridge.beat, JackClient)
        client = self.bridge.beat.client
        found: dict[str, list[str]] = {}
        for group in self.bridge.groups.values():
            for port in client.get_ports(f"^{group.client.name}:"):
                to = client.get_all_connections(port)
                found[port.name] = sorted(each.name for each in to)
        return found


@contextmanager
def graph(
    server: str, patch: PatchMode, *, upmix: bool = False, **settings: Any
) -> Iterator[Graph]:
    made = Graph(server, patch, upmix=upmix, **settings)
    assert made.bridge._open()
    yield made
    for group in made.bridge.groups.values():
        group.client.close()
    assert made.bridge.beat is not None
    made.bridge.beat.close()


def cabled(server: str, patch: PatchMode, **settings: Any) -> dict[str, list[str]]:
    with graph(server, patch, **settings) as made:
        made.seat(PLAYERS)
        made.settle()
        return made.ports()


def grouped(server: str, groups: Sequence[int], names: Sequence[str]) -> dict[str, list[str]]:
    with graph(server, PatchMode.SERVER_TO_CLIENTS, alone=False) as made:
        made.seat([(name, 1, 1) for name in names], groups)
        made.settle()
        return made.ports()


def matrix(server: str) -> dict[str, Any]:
    """Mode 3, before SuperCollider is there and after."""
    with graph(server, PatchMode.RESERVED, connect=False) as made:
        made.seat([("192.168.0.12", 1, 1), ("anna", 1, 1)])
        made.settle()
        before = made.ports()
        synth = jack.Client("SuperCollider", no_start_server=True, servername=server)
        synth.inports.register("in_2")
        synth.outports.register("out_6")
        synth.activate()
        made.settle()
        after = made.ports()
        synth.outports[0].disconnect()
        made.settle()
        undone = made.ports()
        synth.close()
    return {"before": before, "after": after, "undone": undone}


def crowd(server: str) -> dict[str, Any]:
    """More ports than the server has, then fewer."""
    told: dict[str, Any] = {}
    with graph(server, PatchMode.NONE) as made:
        record, bridge = made.arena.jack[0], made.bridge
        made.seat([(f"singer {k}", 8, 8) for k in range(20)])
        made.settle()
        told["opened"], told["left_out"] = int(record["clients"]), int(record["left_out"])
        room_s = bridge.room_s
        made.seat([(f"singer {k}", 8, 8) for k in range(21)])
        made.settle()  # nobody is tried again so soon
        told["asked_again"] = bridge.room_s != room_s
        told["then_left_out"] = int(record["left_out"])
        made.seat([(f"singer {k}", 8, 8) for k in range(10)])
        made.settle()
        for group in bridge.groups.values():
            if group.idle_s is not None:
                group.idle_s -= 60.0  # as if they had left long ago
        made.settle()
        told["last"], told["last_left_out"] = int(record["clients"]), int(record["left_out"])
    return told


def namesakes(server: str) -> list[str]:
    """Three of a name that JACK cannot make longer."""
    with graph(server, PatchMode.NONE) as made:
        made.seat([("x" * 63, 1, 0)] * 3)
        made.settle()
        return sorted(made.ports())


def delayed(server: str) -> tuple[dict[str, list[str]], list[int]]:
    with graph(server, PatchMode.SERVER_TO_CLIENTS, broadcast=8) as made:
        made.seat(PLAYERS)
        made.settle()
        delays = [group.shape.delay for group in made.bridge.groups.values()]
        return made.ports(), delays


def main(server: str) -> None:
    modes = {
        "0": cabled(server, PatchMode.SERVER_TO_CLIENTS),
        "0 -u": cabled(server, PatchMode.SERVER_TO_CLIENTS, upmix=True),
        "0 -D": cabled(server, PatchMode.SERVER_TO_CLIENTS, connect=False),
        "2": cabled(server, PatchMode.FAN_OUT_NO_SELF),
        "2 -i": cabled(server, PatchMode.FAN_OUT_NO_SELF, include=True),
        "3": cabled(server, PatchMode.RESERVED),
        "4 -i -u -D": cabled(server, PatchMode.FULL_MIX, include=True, upmix=True, connect=False),
        "5 -i": cabled(server, PatchMode.NONE, include=True),
    }
    told = {
        "modes": modes,
        "matrix": matrix(server),
        "sections": grouped(server, [0, 2, 2], ["others", "choir", "choir"]),
        "mix": grouped(server, [0, 0, 0], ["mix", "mix", "mix"]),
        "namesakes": namesakes(server),
        "delayed": delayed(server),
        "crowd": crowd(server),
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
