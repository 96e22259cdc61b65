"""A client's stay, from its hello to the closing of its socket.

The table says who is who; here it happens: sockets are bound, records of the arena are
reset and filled, receivers ordered, lanes told. The supervisor alone writes the records
reset here, and only while no receiver lives on that slot.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import structlog

from hub.addresses import Peer, address_words, sockaddr_to
from hub.berths import Berths
from hub.conditions.endings import departure
from hub.directory import ClientInfo, Directory, restart_reason
from hub.door import Door, Refusal
from hub.events import Tell, nobody
from hub.identity import Verdict, decide, may_be_over
from hub.jack.seats import JackSeats
from hub.levels import Levels, from_db
from hub.mail import Mailroom
from hub.movers import absent_rivals, learn_ports
from hub.overload.admission import Admission
from hub.pans import Section, section_of
from hub.reception import Reception
from hub.sessions import Phase, Session, SessionTable
from hub.values import Queue
from hub.visits import account_field, connecting, joined, left, sent_off, turned_away
from shared.arena import Arena, Records
from shared.layout import EndReason, RxState, StopOrder
from shared.messages import MailOp
from shared.protocol import EXIT_PACKET, EXIT_REPEATS, Hello

log = structlog.get_logger()

OBEY_S = 1.0
"""A receiver that has not ended so long after it was told to is killed."""

_STILL_READ = ("ring_frames", "channels")
"""Kept when a record is reset: the mixer may be about to use them, and 0 is no ring size."""


class Staff(Protocol):
    """Who starts and kills receivers."""

    def hire_receiver(self, slot: int, session: int, *, alone: bool = False) -> None: ...
    def dismiss_receiver(self, session: int) -> None: ...
    def release(self, session: int) -> None: ...
    @property
    def sharing(self) -> Collection[int]: ...


class Membership:
    """All stays of a hub.

    Args:
        berths: where its sockets come from.
        lanes: separate transmit lanes.
        queue: ``-q``.
        door: what it leaves open to whom; an open one unless given.
        sections: what newcomers get by their names.
        tell: told who comes and goes.
        jack: gives them their places in a JACK graph.
        admission: whether the hub has time for newcomers.
    """

    def __init__(
        self,
        arena: Arena,
        directory: Directory,
        berths: Berths,
        staff: Staff,
        lanes: int,
        queue: Queue,
        door: Door | None = None,
        sections: Sequence[Section] = (),
        tell: Tell = nobody,
        jack: JackSeats | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.table = SessionTable(len(arena.slots))
        self.mailroom = Mailroom(arena, lanes, self.socket_of)
        self.levels = Levels(arena)
        self.reception = Reception(
            arena, directory, self.table, self.levels, door or Door(), admission=admission
        )
        self.arena = self._arena = arena
        self._states = arena.rx["state"]
        self._tell = tell
        self._jack = jack
        self._directory = directory
        self._berths = berths
        self._staff = staff
        self._queue = queue
        self._sections = sections
        for section in sections:
            self.levels.set_members(section.name, ())
        self._ended: set[int] = set()  # sessions of a take-over whose receiver has ended
        self._dismissed: set[int] = set()

    def socket_of(self, session: int) -> socket.socket | None:
        """A session's UDP socket, None once it is closed."""
        return self._berths.of(session)

    def welcome(self, hello: Hello, peer: Peer, now: float) -> int | None:
        """Take a client in; its UDP port, bound and watched, or None when that cannot be."""
        refusal = self.reception.refusal(hello, peer.address, now)
        if refusal is not None:
            self._turn_away(refusal, peer, now, name=hello.name, **account_field(hello))
            return None
        if self.table.full:
            self._turn_away("full", peer, now, clients=len(self.table))
            return None
        try:
            taken = self._berths.take(peer, now)
        except OSError as error:
            self._turn_away("no-socket", peer, now, error=str(error))
            return None
        if taken is None:
            self._turn_away("no-port", peer, now)
            return None
        port, sock = taken
        session = self.reception.open(hello, peer.address, port, now)
        assert session is not None  # it was not full
        session.round_trip_s = peer.round_trip_s
        self._berths.keep(session, sock, peer)
        # the slot's last owner may not have faded yet: it must not be heard at another's level
        self._arena.rx[session.slot]["state"] = RxState.IDLE
        # a lane that loads what is cleared here must look as far
        self._arena.control[0]["slots_high"] = self.table.slots_high
        with self.levels.together():
            self.levels.clear(session.slot)
            self._join_section(session)
        self.set_queue(session.slot, self._queue)
        self._move_in(session, sock, admit=False)
        self._directory.hub.sessions_started += 1
        connecting(session)
        return port

    def _join_section(self, session: Session) -> None:
        """Give a newcomer the pan and gain of those whose name it has."""
        section = section_of(self._sections, session.name)
        if section is None:
            return
        self.levels.join_section(section.name, session.slot)
        self.levels.set_pan(session.slot, section.pan)
        if section.gain_db is not None:
            self.levels.set_gain(session.slot, from_db(section.gain_db))

    def set_queue(self, slot: int, queue: Queue) -> None:
        """Order how deep a client's queue is; its receiver begins with the next packet.

        Like levels it is the slot's: a client that comes back to its place finds it there.
        """
        self.reception.set_queue(slot, queue)

    def set_newcomers_queue(self, queue: Queue) -> None:
        """Order how deep queues of clients to come are."""
        self._queue = queue

    def poll(self, now: float) -> None:
        """Answer those who knock, kill those who should have ended, tidy left slots."""
        self.greet(now)
        if self._staff.sharing:
            self._notice_released(now)
        for session in self.table.going():
            overdue = session.leaving_s is not None and now - session.leaving_s > OBEY_S
            if overdue and session.number not in self._dismissed:
                self._dismissed.add(session.number)
                log.warning("receiver does not end", slot=session.slot, name=session.name)
                self._staff.dismiss_receiver(session.number)
        self._clear_ports(now)
        rested = self.table.settle(now, self._faded)
        if rested:
            with self.levels.together():
                for slot in rested:
                    self.levels.clear(slot)
            self._arena.control[0]["slots_high"] = self.table.slots_high

    def greet(self, now: float) -> None:
        """Answer those who knock, and look at nobody else."""
        waiting = self.table.waiting()
        self._berths.look(waiting)
        if not waiting:
            return
        slots = [session.slot for session in waiting]
        knocking = np.flatnonzero(self._states[slots] == RxState.KNOCKING).tolist()
        for k in knocking:
            if self._arena.rx[slots[k]]["session"] == waiting[k].number:
                self._knock(waiting[k], now)
        if knocking and self._staff.sharing:
            self._notice_released(now)

    def _notice_released(self, now: float) -> None:
        """Deal with those whom a shared receiver does not serve any more, though it goes on.

        Their sessions have ended, or are left to a receiver of their own.
        """
        states = self._states[: self.table.slots_high]
        found = (states == RxState.ENDED) | (states == RxState.KNOCKING)
        for slot in np.flatnonzero(found).tolist():
            rx = self._arena.rx[slot]
            number, state = int(rx["session"]), int(rx["state"])  # once: whoever is let in plays
            given_up = state == RxState.KNOCKING and rx["pid"] == 0
            if number not in self._staff.sharing or not (given_up or state == RxState.ENDED):
                continue
            self._staff.release(number)
            if given_up:
                self._staff.hire_receiver(slot, number, alone=True)
            else:
                self.receiver_ended((number,), 0, now)

    def _faded(self, slot: int) -> bool:
        """Whether the mixer is past all that a left slot's receiver has written."""
        played = (self._arena.clock[0]["tick"] + 1) * self._arena.header[0]["period_frames"]
        return bool(played >= self._arena.rx[slot]["watermark"])

    def kick(self, session: Session, now: float) -> bool:
        """Tell a client to go; False when it is going already.

        One that is about to come back goes as soon as it is there.
        """
        for newcomer, old in self.table.moves():
            if session in (newcomer, old):
                news, newcomer.kicked = not newcomer.kicked, True
                return news
        if not self.table.leave(session, now):
            return False
        session.kicked = True
        self._arena.slots[session.slot]["stop"] = StopOrder.KICK
        return True

    def set_plain(self, plain: bool) -> None:
        """Have everybody hear what the patch says and nothing else, or their own mixes again."""
        self.levels.set_plain(plain)

    def drop_newest(self, now: float) -> bool:
        """Let the one go who came last, if it is not the last one; whether anybody was."""
        active = [session for session in self.table.sessions() if session.active]
        if len(active) < 2:
            return False
        newest = max(active, key=lambda session: (session.joined_s or 0.0, session.number))
        if not self.table.leave(newest, now):
            return False
        newest.dropped = True
        self._arena.slots[newest.slot]["stop"] = StopOrder.KICK
        log.warning("client let go: too much to do", slot=newest.slot, name=newest.name)
        return True

    def receiver_ended(
        self,
        numbers: Iterable[int],
        status: int,
        now: float,
        *,
        stuck: bool = False,
        alone: bool = True,
    ) -> None:
        """A receiver is no more: so are its sessions, unless it crashed.

        Args:
            status, stuck, alone: as ``hub.duties.ReceiverEnded`` tells.
        """
        replaced = [self._receiver_ended(number, status, now, alone) for number in numbers]
        if any(replaced):
            reason = "stuck" if stuck else restart_reason(status)
            self._directory.hub.count_restart("receiver", reason)

    def _receiver_ended(self, number: int, status: int, now: float, alone: bool) -> bool:
        """A session is without a receiver; whether it goes on with another."""
        session = self.table.by_number(number)
        if session is None:
            return False
        rx = self._arena.rx[session.slot]
        done = rx["session"] == number and rx["state"] == RxState.ENDED
        if any(session in move for move in self.table.moves()):
            self._ended.add(number)
            self._finish_moves(now)
        elif done:
            self._move_out(session, EndReason(int(rx["end_reason"])), now)
        elif session.phase is Phase.LEAVING:
            self._farewell(session)
            self._move_out(session, EndReason.KICKED, now)
        elif session.crashed(now):
            log.error("receiver keeps failing", slot=session.slot, name=session.name)
            self._farewell(session)
            self._move_out(session, EndReason.FAILED, now)
        else:
            log.warning(
                "receiver died and is replaced",
                slot=session.slot,
                name=session.name,
                status=status,
            )
            self._directory.clients[session.slot].receiver_restarts = session.restarts
            self._staff.hire_receiver(session.slot, number, alone=alone)
            return True
        return False

    def post_all(self, lane: int) -> None:
        """Tell a lane's new life the sockets of its listeners."""
        for session in self.table.sessions():
            if self.mailroom.lane_of(session.slot) == lane:
                self.mailroom.post(MailOp.SOCKET, session.slot, session.number)

    def close(self) -> None:
        """Close every socket: the hub is stopping, and all who used them have ended."""
        self.mailroom.close()
        self._berths.close()

    def _turn_away(self, reason: str, peer: Peer, now: float, **fields: Any) -> None:
        self._directory.hub.count_refusal(reason, peer.address, now)
        turned_away(reason, peer, **fields)

    def _knock(self, session: Session, now: float) -> None:
        """A client's first datagram has come: let it in, or let it take its old place."""
        rx = self._arena.rx[session.slot]
        peer_port = int(rx["peer_port"])
        learn_ports(self._arena, self.table)
        others = self.table.met_by(session, peer_port)
        knocked_s = float(rx["joined_ns"]) * 1e-9
        decision = decide(session, peer_port, knocked_s, others, self._heard_s, now)
        match decision.verdict, decision.other:
            case Verdict.LET_IN, _ if self.reception.one_too_many(session) and may_be_over(
                session, knocked_s, others, self._heard_s
            ):
                pass  # it knocks on, until its old self has ended or was heard
            case Verdict.LET_IN, _:
                self._let_in(session, peer_port, now)
            case Verdict.TAKE_OVER, Session() as old:
                self.table.take_over(session, old, peer_port, now)
                for slot in (old.slot, session.slot):
                    self._arena.slots[slot]["stop"] = StopOrder.SILENT
            case Verdict.CLEAR, Session() as other:
                if self.table.leave(other, now):
                    self._arena.slots[other.slot]["stop"] = StopOrder.SILENT

    def _heard_s(self, session: Session) -> float:
        return float(self._arena.rx[session.slot]["valid_ns"]) * 1e-9

    def _let_in(self, session: Session, peer_port: int, now: float) -> None:
        """Nobody is in a newcomer's way: give it its old place back, or a new one."""
        refusal = self.reception.last_refusal(session, now)
        if refusal is not None:
            self._send_off(session, refusal, now)
            return
        self.table.admit(session, peer_port, now)
        known = self.reception.let_in(session, now)
        self.levels.write_unheard(session.slot)
        self._arena.slots[session.slot]["admit"] = session.number
        event = "client is back" if known else "client joined"
        if session.held:
            event = "client waits to be admitted"
        joined(self._tell, event, session, self._arena.rx[session.slot])

    def _send_off(self, session: Session, refusal: Refusal, now: float) -> None:
        """Only who has come back may be let in now, and this one has not."""
        if self.table.leave(session, now):
            self._arena.slots[session.slot]["stop"] = StopOrder.KICK
            self._directory.hub.count_refusal(refusal, session.address, now)
            sent_off(session, str(refusal))

    def _clear_ports(self, now: float) -> None:
        """End who is gone from a port that a client has moved to: without a word."""
        for rival in absent_rivals(self._arena, self.table, now):
            if self.table.leave(rival, now):
                self._arena.slots[rival.slot]["stop"] = StopOrder.SILENT

    def _finish_moves(self, now: float) -> None:
        """Complete the take-overs whose two receivers have both ended."""
        for newcomer, old in self.table.moves():
            if not {newcomer.number, old.number} <= self._ended:
                continue
            session = self.table.replace(newcomer, now)
            self._vacate(newcomer)
            self._vacate(old)
            self._berths.leave(old, now)
            self._directory.hub.sessions_started += 1
            self._directory.hub.reconnects += 1
            self._count_end(EndReason.REPLACED)
            sock = self._berths.hand_on(newcomer, session)
            served = self._arena.rx[newcomer.slot]
            self._move_in(session, sock, admit=True)
            joined(self._tell, "client is back", session, served)
            if newcomer.kicked:
                self.kick(session, now)

    def _move_in(self, session: Session, sock: socket.socket, *, admit: bool) -> None:
        """Make a slot a session's own, and order all that serves it."""
        arena, slot = self._arena, session.slot
        arena.rx[slot]["state"] = RxState.IDLE
        _reset(arena.rx, slot, keep=_STILL_READ)
        _reset(arena.tx, slot)
        record = arena.slots[slot]
        record["peer_high"], record["peer_low"] = address_words(session.address)
        record["ipv6"] = int(sock.family == socket.AF_INET6)
        record["stop"] = StopOrder.NONE
        record["admit"] = session.number if admit else 0
        if self._jack is not None:
            self._jack.seat(session)
        record["session"] = session.number
        arena.control[0]["slots_high"] = self.table.slots_high
        self._directory.clients[slot] = ClientInfo(
            slot=slot,
            session=session.number,
            name=session.name,
            address=str(session.address),
            port=session.port,
            joined_s=session.opened_s,
            account=session.account,
            gain=self.levels.gain(slot),
            muted=self.levels.muted(slot),
            pan=self.levels.pan(slot),
            reconnects=session.reconnects,
            round_trip_s=session.round_trip_s,
        )
        self.mailroom.post(MailOp.SOCKET, slot, session.number)
        self._staff.hire_receiver(slot, session.number)

    def _vacate(self, session: Session) -> None:
        """Take a session's name off its slot. Its voice fades: levels stay as they are."""
        record = self._arena.slots[session.slot]
        record["session"] = 0
        record["jack_group"] = 0
        record["admit"] = 0
        record["stop"] = StopOrder.NONE
        self._directory.clients.pop(session.slot, None)
        self.mailroom.post(MailOp.DROP, session.slot, session.number)
        self._staff.release(session.number)
        for forgotten in (self._ended, self._dismissed):
            forgotten.discard(session.number)

    def _move_out(self, session: Session, reason: EndReason, now: float) -> None:
        """End a session whose receiver has ended."""
        rx = self._arena.rx[session.slot]
        if session.dropped and reason is EndReason.KICKED:
            reason = EndReason.OVERLOAD
        if rx["session"] == session.number and rx["state"] != RxState.ENDED:
            rx["end_reason"] = reason
            rx["state"] = RxState.ENDED
        gone = departure(self._directory.clients[session.slot], reason, now)
        if gone is not None:
            self._directory.hub.departures.append(gone)
        left(self._tell, session, rx, reason, now, gone)
        self.reception.keep(session, now)
        self._count_end(reason)
        self._vacate(session)
        unheard = reason == EndReason.NO_UDP and rx["malformed"] == 0
        goodbye = reason == EndReason.CLIENT_EXIT
        self._berths.leave(session, now, used=not unheard, goodbye=goodbye)
        self.table.close(session, now)

    def _farewell(self, session: Session) -> None:
        """Exit packets in the place of a receiver that could not send them."""
        learn_ports(self._arena, self.table)
        sock, port = self._berths.of(session.number), session.peer_port
        if sock is None or port is None:
            return
        for _ in range(EXIT_REPEATS):
            with contextlib.suppress(OSError):
                sock.sendto(EXIT_PACKET, sockaddr_to(session.address, port))

    def _count_end(self, reason: EndReason) -> None:
        ended = self._directory.hub.sessions_ended
        ended[reason] = ended.get(reason, 0) + 1


def _reset(records: Records, slot: int, keep: tuple[str, ...] = ()) -> None:
    """Zero a slot's record but for some fields."""
    raw = records.view(np.uint8).reshape(len(records), -1)[slot]
    for between in _between(records.dtype, keep):
        raw[between] = 0


@cache
def _between(dtype: np.dtype[np.void], keep: tuple[str, ...]) -> list[slice]:
    """Bytes of a record that are no part of some fields: there are too many to go one by one."""
    bounds = [0]
    for offset, name in sorted((dtype.fields[name][1], name) for name in keep if dtype.fields):
        bounds += [offset, offset + dtype[name].itemsize]
    bounds.append(dtype.itemsize)
    return [slice(*pair) for pair in zip(bounds[::2], bounds[1::2], strict=True)]
