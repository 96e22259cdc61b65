"""Clients and a hub without sockets or a clock: what the judge hears is known to the sample.

Hub time is counted in samples. Client j's sample n leaves at ``start[j] + n`` and sounds in the
hub ``queue[j]`` samples later; packet q of listener i holds hub time ``begin[i] + q × frames``
onwards, and arrives when its last sample has been.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from loadtest.clients.judge import take_packet
from loadtest.clients.state import (
    BUCKETS,
    CAPTURE,
    CLIENT,
    DELAY,
    LOST_NS,
    NEVER,
    NOBODY,
    PLAY,
    RUN,
    STAMPS,
    TURN,
    TURNS,
    UNKNOWN,
    Expectation,
    State,
)
from loadtest.clients.turns import advance, enter, settle_rest, voice
from loadtest.clients.voices import EVERYBODY, SOLO
from loadtest.conduct.outcome import Outcome
from loadtest.scenario.model import Format, Hub, Scenario, Section
from shared.layout import PatchMode
from tests.loadtest.hearing import twins

Pcm = npt.NDArray[np.int64]
RATE_HZ = 48000
SECOND_NS = 1_000_000_000
TIMELINE_BINS = 64


@dataclass(slots=True)
class Player:
    """A client of the rig: its format and where it is in time (samples)."""

    format: Format = field(default_factory=Format)
    start: int = 0
    queue: int = 256
    begin: int = 0
    first_number: int = 0
    drifts: bool = False


class Hub1:
    """A right hub; wrong ones override a method."""

    def part(self, listener: int, talker: int, packet: int, pcm: Pcm, sounding: int) -> Pcm:
        """What a talker adds to a listener's packet; (channels of the talker, frames)."""
        return pcm

    def extra(self, listener: int, packet: int, hear: Callable[[int, int], Pcm]) -> Pcm | int:
        """What is added beyond that; hear(talker, shift): a talker's part, so much earlier."""
        return 0

    def total(self, listener: int, packet: int, pcm: Pcm) -> Pcm:
        """The packet as it is sent; (channels, frames)."""
        return pcm

    def returns(self, listener: int, packet: int, number: int, pcm: Pcm) -> list[tuple[int, Pcm]]:
        """The packets sent in place of this one."""
        return [(number, pcm)]


@dataclass(slots=True)
class Rig:
    """A run.

    Attributes:
        lost_up: (client, packet) that the emulated network loses.
        late_ms: extra delay of a packet in the emulated network.
        lost_down: (client, packet).
    """

    players: list[Player]
    mode: PatchMode = PatchMode.FULL_MIX
    upmix: bool = False
    hub: Hub1 = field(default_factory=Hub1)
    seconds: float = 1.2
    talk_ns: int = 12_000_000
    turn_ns: int = 30_000_000
    tutti_every: int = 4
    tutti_level: int | None = None
    lost_up: set[tuple[int, int]] = field(default_factory=set)
    lost_down: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> Outcome:
        """Play it; the outcome has not been examined yet."""
        sections = tuple(
            Section(name=str(k), clients=1, format=player.format)
            for k, player in enumerate(self.players)
        )
        if len({player.format for player in self.players}) == 1:
            sections = (Section(clients=len(self.players), format=self.players[0].format),)
        scenario = Scenario(
            hub=Hub(mode=self.mode, upmix=self.upmix),
            seconds=self.seconds,
            sections=sections,
        )
        self._make()
        for k, client in enumerate(self.state.clients):
            client["section"] = scenario.section_of(k)
        count = len(self.players)
        length = round((self.seconds + 0.4) * RATE_HZ)
        signals = [np.zeros((p.format.sends, length + 8192), np.int64) for p in self.players]
        events = [(p.start + p.format.frames, 0, k, 0) for k, p in enumerate(self.players)]
        events += [(p.begin + p.format.frames, 1, k, 0) for k, p in enumerate(self.players)]
        heapq.heapify(events)
        while events:
            time, returned, index, packet = heapq.heappop(events)
            frames = self.players[index].format.frames
            now_ns = self._ns(time)
            if time > length:
                break
            advance(self.expectation, self.state, now_ns)
            if returned:
                self._return(index, packet, signals, now_ns)
            else:
                self._send(index, packet, signals[index], now_ns)
            heapq.heappush(events, (time + frames, returned, index, packet + 1))
        settle_rest(self.expectation, self.state)
        assert count == len(self.state.clients)
        return Outcome(scenario, self.state)

    expectation: Expectation = field(init=False)
    state: State = field(init=False)

    def _ns(self, samples: int) -> int:
        return SECOND_NS + samples * SECOND_NS // RATE_HZ

    def _make(self) -> None:
        count = len(self.players)
        self.expectation = Expectation(
            int(self.mode), int(self.upmix), count, self.tutti_every, 50_000, 0
        )
        clients = np.zeros(count, CLIENT)
        level = 16383 // count if self.tutti_level is None else self.tutti_level
        for k, (client, player) in enumerate(zip(clients, self.players, strict=True)):
            shape = player.format
            client["section"] = k
            client["frames"], client["bits"] = shape.frames, shape.bits
            client["sends"], client["wants"] = shape.sends, shape.wants
            client["redundancy"], client["checkable"] = 1, 1
            client["nominal_ps"] = client["period_ps"] = shape.frames * 10**12 // RATE_HZ
            client["mask"] = ~0xFF if shape.bits == 8 else -1
            client["tutti_level"] = level
            client["tolerance"] = 130 if shape.bits == 8 else 0
            client["drifts"] = player.drifts
            client["wish"] = client["stage"] = PLAY
            client["start_ns"] = self._ns(player.start + shape.frames)
        run = np.zeros(1, RUN)
        run["opened_ns"] = self._ns(RATE_HZ // 10)
        run["closed_ns"] = run["opened_ns"] + round(self.seconds * SECOND_NS)
        run["settle_ns"] = 20_000_000
        run["turn_ns"], run["talk_ns"] = self.turn_ns, self.talk_ns
        run["tutti_ns"] = self.talk_ns
        run["bin_ns"] = SECOND_NS // 10
        run["capture_stride"] = 1
        run["turn"] = -1
        run["stall_ns"] = -SECOND_NS
        widest = max(p.format.frames * p.format.wants for p in self.players)
        self.state = State(
            clients=clients,
            run=run,
            turns=np.zeros(TURNS, TURN),
            sent_ns=np.zeros((count, STAMPS), np.int64),
            histograms=np.zeros((count, 3, BUCKETS), np.int64),
            timeline=np.zeros((count, TIMELINE_BINS, 6), np.int32),
            heard=np.zeros((count, TURNS), np.int32),
            excused=np.zeros((count, TURNS), np.int32),
            delays=np.full((count, count), UNKNOWN, np.int32),
            delay_log=np.zeros(20_000, DELAY),
            tutti_first=np.full((64, count), NEVER, np.int64),
            tutti_log=np.zeros(6000, CAPTURE),
            tutti_pcm=np.zeros((6000, widest), np.int16),
            evidence=np.zeros(2000, CAPTURE),
            evidence_pcm=np.zeros((2000, widest), np.int16),
            drops=np.zeros(1, np.int64),
            timespec=np.zeros(2, np.int64),
        )
        self.state.turns["talker"] = NOBODY
        for k in range(count):
            enter(self.state, k)

    def _send(self, index: int, packet: int, signal: Pcm, now_ns: int) -> None:
        client, frames = self.state.clients[index], self.players[index].format.frames
        kind = voice(self.expectation, self.state, index, now_ns)
        lost = (index, packet) in self.lost_up
        self.state.sent_ns[index, packet % STAMPS] = LOST_NS if lost else now_ns
        numbers = packet * frames + np.arange(frames)
        voiced = (numbers >= client["voice_from"]) & (numbers < client["voice_until"])
        mask, level = int(client["mask"]), int(client["tutti_level"])
        for channel, row in enumerate(signal):
            pcm = np.zeros(frames, np.int64)
            if kind == SOLO:
                pcm = twins.solo(index, channel, numbers, mask)
            elif kind == EVERYBODY:
                pcm = twins.tutti(index, channel, numbers, mask, level)
            if not lost:
                row[numbers] = np.where(voiced, pcm, 0)
        client["packet"] = packet + 1

    def hear(self, signals: list[Pcm], talker: int, low: int, frames: int) -> Pcm:
        """(sends, frames) of a talker from hub time low on."""
        player = self.players[talker]
        numbers = low - player.start - player.queue + np.arange(frames)
        pcm = signals[talker][:, np.maximum(numbers, 0)]
        return np.where(numbers >= 0, pcm, 0)

    def heard(self, talker: int, listener: int) -> bool:
        match self.mode:
            case PatchMode.LOOPBACK:
                return talker == listener
            case PatchMode.FAN_OUT_NO_SELF:
                return talker != listener
            case PatchMode.FULL_MIX:
                return True
            case _:
                return False

    def spread(self, pcm: Pcm, wants: int) -> Pcm:
        """A talker's channels as a listener has them."""
        if self.upmix and len(pcm) == 1 and wants > 1:
            pcm = np.concatenate([pcm, pcm])
        out = np.zeros((wants, pcm.shape[1]), np.int64)
        out[: len(pcm)] = pcm[:wants]
        return out

    def _return(self, index: int, packet: int, signals: list[Pcm], now_ns: int) -> None:
        player = self.players[index]
        frames, wants = player.format.frames, player.format.wants
        low = player.begin + packet * frames
        parts = {t: self.hear(signals, t, low, frames) for t in range(len(signals))}
        sounding = sum(bool(part.any()) for part in parts.values())

        def hear(talker: int, shift: int) -> Pcm:
            return self.spread(self.hear(signals, talker, low + shift, frames), wants)

        total = np.zeros((wants, frames), np.int64)
        for talker, pcm in parts.items():
            if self.heard(talker, index):
                pcm = self.hub.part(index, talker, packet, pcm, sounding)
                total += self.spread(pcm, wants)
        total = total + self.hub.extra(index, packet, hear)
        total = self.hub.total(index, packet, total)
        if player.format.bits == 8:
            coded = np.clip(np.round(total / 32768 * 127), -127, 127)
            total = np.round(coded * 32768 / 127).astype(np.int64)
        number = player.first_number + packet
        for sent, pcm in self.hub.returns(index, packet, number, total):
            if (index, packet) in self.lost_down:
                continue
            flat = np.clip(pcm, -32768, 32767).astype(np.int16).ravel()
            take_packet(
                self.expectation, self.state, index, sent & 0xFFFF, flat, now_ns + 300_000, 0
            )
