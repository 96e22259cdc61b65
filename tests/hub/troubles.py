"""What may befall clients and a hub, as counters that workers write, second by second."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

from hub.addresses import IPAddress, address_words
from hub.conditions.watch import CLIENT_CONDITIONS, Watch
from hub.conditions.whole import WHOLE
from hub.directory import ClientInfo
from hub.sessions import Session, SessionTable
from shared.jacklayout import JackState
from shared.layout import RxState
from tests.hub.listening import directory, make_arena, seat

HOME, AWAY = ip_address("192.0.2.1"), ip_address("203.0.113.9")
CONDITIONS = {condition.slug: condition for condition in (*CLIENT_CONDITIONS, *WHOLE)}
PERIOD_NS = 128 * 1e9 / 48000


def header_word(
    frames: int = 128, rate: int = 3, bits: int = 16, wants: int = 2, sends: int = 0
) -> int:
    """Bytes 8..15 of an audio header, as the receiver keeps them."""
    (word,) = struct.unpack("<q", struct.pack("<HHBBBB", 77, frames, rate, bits, wants, sends))
    return int(word)


@dataclass
class Trouble:
    """What befalls a client, by the second.

    Attributes:
        rx, tx, clock: how much counters grow a second, instead of as usual.
        jack: fields of the JACK graph's record, while it lasts; "lost" grows by it a second.
        now: fields of the receiving record, while it lasts.
        slots: fields of the slot's record.
        sent: fields of the sending record.
        also: conditions that come with it.
    """

    rx: dict[str, float] = field(default_factory=dict)
    tx: dict[str, float] = field(default_factory=dict)
    clock: dict[str, float] = field(default_factory=dict)
    jack: dict[str, int] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)
    slots: dict[str, float] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)
    also: frozenset[str] = frozenset()


WAITS: dict[str, float] = {"state": RxState.WAITING}
NOTHING = {"packets": 0.0, "windows": 0.0}


def foreign(address: IPAddress) -> dict[str, float]:
    """Where the last foreign datagram came from."""
    return dict(zip(("foreign_high", "foreign_low"), address_words(address), strict=True))


CLIENT_TROUBLES = {
    "no-udp": Trouble(rx=NOTHING, now={**WAITS, "datagrams": 0}),
    "udp-elsewhere": Trouble(
        rx={**NOTHING, "foreign": 375}, now={**WAITS, **foreign(AWAY), "foreign_port": 4464}
    ),
    "wrong-header": Trouble(
        rx={**NOTHING, "malformed": 375}, now={**WAITS, "odd_bytes": 528, "odd_header": -1}
    ),
    "wrong-length": Trouble(
        rx={**NOTHING, "malformed": 375},
        now={**WAITS, "odd_bytes": 500, "odd_header": header_word()},
    ),
    "format-changed": Trouble(
        rx={**NOTHING, "malformed": 375},
        now={"odd_bytes": 272, "odd_header": header_word(frames=64)},
    ),
    "stopped": Trouble(rx=NOTHING, now={"valid_ns": 1}),
    "garbage-32bit": Trouble(now={"garbage": 1, "bits": 32}),
    "waiting-room": Trouble(slots={"held": 1, "gain": 0.0}),
    "measuring-rate": Trouble(
        rx={"windows": 0}, now={"state": RxState.KNOCKING, "rate_code": 7, "rate_hz": 0}
    ),
    "not-served": Trouble(tx={"packets": 0}),
    "send-errors": Trouble(tx={"packets": 0, "errors": 375}),
    "silent-input": Trouble(rx={"silent_windows": 10, "faint_windows": 10}),
    "muted": Trouble(slots={"gain": 0.0}),
    "hears-silence": Trouble(sent={"peak": 0.0}),
    "receiver-died": Trouble(),  # below
    "kernel-drops": Trouble(rx={"kernel_drops": 1}),
    "restarts": Trouble(rx={"restarts": 1}),
    "stalls": Trouble(rx={"stalls": 1}),
    "losses": Trouble(rx={"lost": 2}),
    "queue-short": Trouble(rx={"late": 2}, now={"late_wanted": 500.0}),
    "late-packets": Trouble(rx={"late": 2}),
    "gaps": Trouble(rx={"concealed_frames": 4800}),
    "skips": Trouble(rx={"overflows": 1}),
    "clock-drift": Trouble(now={"clock_ratio": -250e-6, "clock_sigma": 1e-6}),
    "clipping-input": Trouble(rx={"full_windows": 1}),
    "bad-samples": Trouble(rx={"sanitised": 9}, now={"bits": 32}),
    "noise": Trouble(now={"guard": 1}),
    "stuck-tone": Trouble(now={"guard": 2}),
    "constant-offset": Trouble(now={"offsets": 1}),
    "clipping-return": Trouble(tx={"clipped": 50}),
    "second-stream": Trouble(rx={"foreign": 375}, now={**foreign(HOME), "foreign_port": 50001}),
    "strangers": Trouble(rx={"foreign": 1}, now=foreign(AWAY)),
    "faint-input": Trouble(rx={"faint_windows": 10}),
    "one-sided": Trouble(now={"sounding": 1}),
    "mono-input": Trouble(now={"channels": 1, "sounding": 1}),
    "mono-return": Trouble(now={"wants": 1}),
    "queue-long": Trouble(now={"margin_frames": 1440}),
    "other-rate": Trouble(now={"rate_code": 2, "rate_hz": 44100}),
    "alone": Trouble(),  # below
}
HUB_TROUBLES = {
    "mixer-stuck": Trouble(clock={"ticks": 0, "work_ns": 0}),
    "hub-late": Trouble(clock={"missed": 1}),
    "hub-overloaded": Trouble(clock={"work_ns": 0.8e9}),
    "jack-lost": Trouble(jack={"state": JackState.WAITING}),
    "jack-hung": Trouble(jack={"state": JackState.HUNG}),
    "jack-misfit": Trouble(jack={"state": JackState.MISFIT, "rate_hz": 44100}),
    "jack-freewheels": Trouble(jack={"state": JackState.FREEWHEEL}),
    "jack-slow": Trouble(jack={"behind": 1, "graph_ns": 2_000_000}),
    "jack-unsteady": Trouble(jack={"lost": 1}),
    "jack-crowded": Trouble(jack={"left_out": 3}),
}
ELSEWHERE = {
    "receiver-died", "alone", "worker-died", "hub-line", "hub-full", "hub-refuses", "hub-sheds",
    "hub-realtime-limit", "patch-none", "patch-loopback",
}  # fmt: skip
"""Tested on their own."""


class Stage:
    """A hub's arena and the watch over it, at a time of its own."""

    def __init__(self, *names: str, slots: int = 8, **settings: float) -> None:
        self.arena = make_arena(slots=slots)
        for setting, value in settings.items():
            self.arena.header[0][setting] = value
        self.known = directory()
        self.table = SessionTable(slots)
        self.watch = Watch(self.arena, self.known)
        self.now_s = 1000.0
        for name in names:
            self.join(name)

    def join(self, name: str) -> Session:
        """A client that is well."""
        session = self.table.open(name, HOME, 61002, self.now_s)
        assert session is not None
        self.table.admit(session, 50000 + session.slot, self.now_s)
        seat(self.arena, session.slot, session.number, margin_frames=384, late_wanted=96.0)
        record = self.arena.slots[session.slot]
        record["peer_high"], record["peer_low"] = address_words(HOME)
        record["queue_packets"] = 4
        self.known.clients[session.slot] = ClientInfo(
            session.slot, session.number, name, str(HOME), 61002, joined_s=self.now_s
        )
        return session

    def second(self, trouble: Trouble | None = None, victim: int = 0) -> None:
        """A second passes, and is looked at."""
        self.now_s += 1.0
        for session in self.table.sessions():
            befalls = trouble if trouble is not None and session.slot == victim else Trouble()
            self._write(session.slot, befalls)
        usual: dict[str, float] = {"ticks": 375, "work_ns": 2e7}
        for name, grown in {**usual, **(trouble or Trouble()).clock}.items():
            self.arena.clock[0][name] += int(grown)
        jack = self.arena.jack[0]
        well = {"state": JackState.RUNNING, "coupled": 1, "behind": 0, "left_out": 0, "graph_ns": 1}
        for field_, value in {**well, **(trouble or Trouble()).jack}.items():
            jack[field_] = jack[field_] + value if field_ == "lost" else value
        self.watch.look(self.table.sessions(), self.now_s)

    def _write(self, slot: int, befalls: Trouble) -> None:
        rx, tx, record = self.arena.rx[slot], self.arena.tx[slot], self.arena.slots[slot]
        well: dict[str, float] = {
            "state": RxState.ACTIVE, "valid_ns": self.now_s * 1e9, "bits": 16, "channels": 2,
            "wants": 2, "sounding": 3, "margin_frames": 384, "late_wanted": 96.0,
            "clock_sigma": 1e-6, "clock_ratio": 20e-6, "garbage": 0,
            "guard": 0, "offsets": 0,
            "rate_code": 3, "rate_hz": 48000,
        }  # fmt: skip
        for name, value in {**well, **befalls.now}.items():
            rx[name] = value
        usual: dict[str, float] = {"datagrams": 375, "packets": 375, "windows": 10}
        for name, grown in {**usual, **befalls.rx}.items():
            if name == "stalls":
                rx["jitter"][-1] += int(grown)
            elif name not in befalls.now:
                rx[name] += int(grown)
        for name, grown in {"packets": 375.0, **befalls.tx}.items():
            tx[name] += int(grown)
        tx["peak"] = befalls.sent.get("peak", 0.25)
        for name, value in {"gain": 1.0, "held": 0.0, **befalls.slots}.items():
            record[name] = value

    def raised(self, slot: int = 0) -> set[str]:
        """What the directory says of a client."""
        return {one.condition.slug for one in self.known.clients[slot].conditions}

    @property
    def of_the_hub(self) -> set[str]:
        return {one.condition.slug for one in self.known.hub.conditions}
