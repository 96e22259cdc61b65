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

from loadtest.clients.judge import drop_packet, take_packet
from loadtest.clients.state import (
    ABSENT,
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
from loadtest.clients.turns import advance, depart, enter, settle_rest, voice
from loadtest.clients.voices import EVERYBODY, SOLO
from loadtest.conduct.outcome import Finding, FindingKind, Outcome
from loadtest.hearing import examine
from loadtest.scenario.model import Format, Hub, Scenario, Section
from shared.layout import PatchMode
from tests.loadtest.hearing import twins

MODES = [PatchMode.LOOPBACK, PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX, PatchMode.NONE]

Pcm = npt.NDArray[np.int64]
RATE_HZ = 48000
SECOND_NS = 1_000_000_000
TIMELINE_BINS = 64
SEND, RETURN, LEAVE, ENTER = range(4)
FADE = 128
"""Samples of a voice's mirrored end that a hub plays when no more comes."""


@dataclass(slots=True)
class Player:
    """A client of the rig: its format and where it is in time (samples).

    Attributes:
        start: hub time of its sample 0; queue: how much later that sounds.
        begin: hub time of the first sample that returns to it.
        skew_ppm: its clock is so much too fast; then a packet is left out, or comes twice,
            whenever it has gained, or lost, one.
        away: (from, to) hub times between which it is away; it returns as a new client.
        vanish: it leaves without a word: the hub plays what it has, and that mirrored, to its end.
    """

    format: Format = field(default_factory=Format)
    start: int = 0
    queue: int = 256
    begin: int = 0
    first_number: int = 0
    skew_ppm: float = 0.0
    away: tuple[int, int] | None = None
    vanish: bool = False


@dataclass(slots=True)
class Life:
    """A client from when it joins to when it leaves.

    Attributes:
        start, begin: as the player's.
        signal: (channels, samples) what it sends, by its sample numbers.
        ended: hub time from which nothing of it sounds; sent: samples that it has sent.
        returned: newest returned packets (number, samples), for redundant datagrams.
    """

    start: int
    begin: int
    signal: Pcm
    ended: int = NEVER
    sent: int = 0
    vanished: bool = False
    returned: list[tuple[int, npt.NDArray[np.int16]]] = field(default_factory=list)


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
        lost_down: (client, packet) of the datagrams that return.
        tutti_ns: length of a tutti, if not that of a solo.
        fade_frames: of a new stream that the hub may fade in.
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
    tutti_ns: int = 0
    fade_frames: int = 192
    lost_up: set[tuple[int, int]] = field(default_factory=set)
    lost_down: set[tuple[int, int]] = field(default_factory=set)

    def run(self) -> Outcome:
        """Play it; the outcome has not been examined yet."""
        sections = tuple(
            Section(name=str(k), clients=1, format=player.format)
            for k, player in enumerate(self.players)
        )
        skewed = any(player.skew_ppm for player in self.players)
        if len({player.format for player in self.players}) == 1 and not skewed:
            sections = (Section(clients=len(self.players), format=self.players[0].format),)
        scenario = Scenario(
            hub=Hub(mode=self.mode, upmix=self.upmix),
            seconds=self.seconds,
            sections=sections,
        )
        self._make()
        for k, client in enumerate(self.state.clients):
            client["section"] = scenario.section_of(k)
        self.length = round((self.seconds + 0.4) * RATE_HZ)
        self.lives = [[] for _ in self.players]
        self.events = []
        for k, player in enumerate(self.players):
            self._enter(k, player.start, player.begin)
            if player.away:
                self._push(player.away[0], LEAVE, k, 0)
                self._push(player.away[1], ENTER, k, 0)
        while self.events:
            time, what, index, life, packet = heapq.heappop(self.events)
            if time > self.length:
                break
            advance(self.expectation, self.state, self._ns(time))
            player, client = self.players[index], self.state.clients[index]
            if what == ENTER:
                self._enter(index, time, time + player.begin)
            elif what == LEAVE:
                last = self.lives[index][-1]
                last.vanished = player.vanish
                if not player.vanish:
                    last.ended = time
                client["stage"] = ABSENT
                depart(self.state, index)
            elif client["stage"] == PLAY and life == len(self.lives[index]):
                each = self._send if what == SEND else self._return
                each(index, packet, self._ns(time))
                self._next(what, index, packet + 1)
        settle_rest(self.expectation, self.state)
        return Outcome(scenario, self.state)

    expectation: Expectation = field(init=False)
    state: State = field(init=False)
    length: int = field(init=False)
    lives: list[list[Life]] = field(init=False)
    events: list[tuple[int, int, int, int, int]] = field(init=False)

    def _push(self, time: int, what: int, index: int, packet: int) -> None:
        heapq.heappush(self.events, (time, what, index, len(self.lives[index]), packet))

    def _next(self, what: int, index: int, packet: int) -> None:
        """Packet number `packet` is sent, or returns, when its last sample has been."""
        player, life = self.players[index], self.lives[index][-1]
        samples = (packet + 1) * player.format.frames
        if what == SEND:
            self._push(life.start + int(samples / (1 + player.skew_ppm / 1e6)), what, index, packet)
        else:
            self._push(life.begin + samples, what, index, packet)

    def _enter(self, index: int, start: int, begin: int) -> None:
        player, client = self.players[index], self.state.clients[index]
        signal = np.zeros((player.format.sends, self.length + 8192), np.int64)
        self.lives[index].append(Life(start, begin, signal))
        client["packet"] = 0
        client["start_ns"] = self._ns(start + player.format.frames)
        self.state.sent_ns[index] = LOST_NS
        enter(self.state, index)
        client["stage"] = PLAY
        self._next(SEND, index, 0)
        self._next(RETURN, index, 0)

    def _ns(self, samples: int) -> int:
        return SECOND_NS + samples * SECOND_NS // RATE_HZ

    def _make(self) -> None:
        count = len(self.players)
        self.expectation = Expectation(
            int(self.mode),
            int(self.upmix),
            count,
            self.tutti_every,
            50_000,
            0,
            self.fade_frames,
        )
        clients = np.zeros(count, CLIENT)
        level = 16383 // count if self.tutti_level is None else self.tutti_level
        for k, (client, player) in enumerate(zip(clients, self.players, strict=True)):
            shape = player.format
            client["section"] = k
            client["frames"], client["bits"] = shape.frames, shape.bits
            client["sends"], client["wants"] = shape.sends, shape.wants
            client["redundancy"], client["checkable"] = shape.redundancy, 1
            client["nominal_ps"] = shape.frames * 10**12 // RATE_HZ
            client["period_ps"] = int(client["nominal_ps"] / (1 + player.skew_ppm / 1e6))
            client["mask"] = ~0xFF if shape.bits == 8 else -1
            client["tutti_level"] = level
            client["tolerance"] = 130 if shape.bits == 8 else 0
            client["drifts"] = player.skew_ppm != 0
            client["wish"] = client["stage"] = PLAY
        run = np.zeros(1, RUN)
        run["opened_ns"] = self._ns(RATE_HZ // 10)
        run["closed_ns"] = run["opened_ns"] + round(self.seconds * SECOND_NS)
        run["settle_ns"] = 20_000_000
        run["turn_ns"], run["talk_ns"] = self.turn_ns, self.talk_ns
        run["tutti_ns"] = self.tutti_ns or self.talk_ns
        run["longest_ns"] = max(p.format.frames for p in self.players) * SECOND_NS // RATE_HZ
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
        self.state.turns["tutti"] = -1

    def _send(self, index: int, packet: int, now_ns: int) -> None:
        life = self.lives[index][-1]
        signal = life.signal
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
        life.sent = (packet + 1) * frames

    def hear(self, talker: int, low: int, frames: int) -> Pcm:
        """(sends, frames) of a talker from hub time low on."""
        player = self.players[talker]
        if len(self.lives[talker]) == 1 and not player.skew_ppm and not player.away:
            first = low - player.start - player.queue
            if first >= 0:
                return self.lives[talker][0].signal[:, first : first + frames]
        total = np.zeros((player.format.sends, frames), np.int64)
        times = low + np.arange(frames)
        for life in self.lives[talker]:
            numbers = times - life.start - player.queue
            if player.skew_ppm:
                packets = np.trunc(numbers * player.skew_ppm / 1e6 / player.format.frames)
                numbers = numbers + packets.astype(np.int64) * player.format.frames
            fade = np.ones(frames)
            if life.vanished:
                over = numbers - life.sent
                fade = np.where(over < 0, 1.0, np.maximum(1 - over / FADE, 0))
                numbers = np.where(over < 0, numbers, life.sent - 1 - over)
            pcm = np.round(life.signal[:, np.maximum(numbers, 0)] * fade).astype(np.int64)
            total += np.where((numbers >= 0) & (times < life.ended), pcm, 0)
        return total

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

    def _return(self, index: int, packet: int, now_ns: int) -> None:
        player, life = self.players[index], self.lives[index][-1]
        frames, wants = player.format.frames, player.format.wants
        low = life.begin + packet * frames
        parts = {t: self.hear(t, low, frames) for t in range(len(self.players))}
        sounding = sum(bool(part.any()) for part in parts.values())

        def hear(talker: int, shift: int) -> Pcm:
            return self.spread(self.hear(talker, low + shift, frames), wants)

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
            flat = np.clip(pcm, -32768, 32767).astype(np.int16).ravel()
            life.returned = [*life.returned, (sent & 0xFFFF, flat)][-player.format.redundancy :]
            if (index, packet) in self.lost_down:
                self.state.clients[index]["dropped_down"] += 1
                drop_packet(self.expectation, self.state, index, sent & 0xFFFF)
                continue
            for back, (one, samples) in enumerate(life.returned, 1 - len(life.returned)):
                take_packet(
                    self.expectation, self.state, index, one, samples, now_ns + 300_000,
                    int(back < 0),
                )  # fmt: skip


def ensemble(clients: int = 4) -> list[Player]:
    """Alike but for where they are in time; numbers of one wrap around."""
    return [
        Player(start=37 * k, queue=256 + 16 * k, begin=91 * k, first_number=65_000 + 200 * k)
        for k in range(clients)
    ]


def examined(rig: Rig) -> Outcome:
    outcome = rig.run()
    examine(outcome)
    return outcome


def findings(hub: Hub1, mode: PatchMode = PatchMode.FULL_MIX, clients: int = 4) -> list[Finding]:
    return examined(Rig(ensemble(clients), mode, hub=hub)).findings


def only(found: list[Finding], kind: FindingKind) -> Finding:
    """The one finding that there is."""
    assert [each.kind for each in found] == [kind], [each.text for each in found]
    return found[0]
