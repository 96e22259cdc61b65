"""Who is let in, with what place: door, memory and levels brought together.

``hub.membership`` asks at a hello, and again when the client's first datagram has come; only
then a place is given back, so that nobody can hold another's by hellos alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hub.addresses import IPAddress
from hub.directory import Directory
from hub.door import Door, Refusal
from hub.identity import Key, musician_key, nameless_name
from hub.levels import UNITY, Levels
from hub.overload.admission import Admission
from hub.overload.resources import REFUSALS
from hub.places import Place, Places
from hub.sessions import Phase, Session, SessionTable
from hub.values import Queue
from shared.arena import Arena
from shared.protocol import Hello

BACK_S = 60.0
"""Who left no longer ago is back, and no newcomer who has to wait until the hub is less busy."""


class Reception:
    """Lets musicians in and remembers them.

    Args:
        admission: whether there is room for newcomers; for all of them unless given.
        unix_s: Unix time, on which bans are.
    """

    def __init__(
        self,
        arena: Arena,
        directory: Directory,
        table: SessionTable,
        levels: Levels,
        door: Door,
        unix_s: Callable[[], float] = time.time,
        admission: Admission | None = None,
    ) -> None:
        self.door = door
        self.admission = admission or Admission(None)
        self.places = Places()
        self._arena = arena
        self._directory = directory
        self._table = table
        self._levels = levels
        self._unix_s = unix_s

    def refusal(self, hello: Hello, address: IPAddress, now: float) -> Refusal | None:
        """What a hello is refused for; who may have come back is judged when it knocks."""
        key = _key(hello, address)
        if self.door.bans.on(address, hello.account, self._unix_s()) is not None:
            return Refusal.BANNED
        same = self._table.of_musician(key)
        here = any(other.active for other in same)
        # each of those who are here may come back, and has two sessions for a moment
        coming = sum(other.phase in (Phase.WAITING, Phase.MOVING) for other in same)
        full = self.door.crowded(address, self._table.of_source(address))
        if full and coming >= len(same) - coming:
            return Refusal.TOO_MANY
        if self.door.hasty(address, self._table.waiting_of(address)):
            return Refusal.TOO_MANY
        place = self.places.find(key, hello.udp_port, now)
        if not here and not self._may_pass(place):
            return Refusal.LOCKED
        return None if here or _is_back(place, now) else self._overload()

    def open(self, hello: Hello, address: IPAddress, port: int, now: float) -> Session | None:
        """A session for a newcomer, in the slot it had last if that is free; None: no slot is."""
        place = self.places.find(_key(hello, address), hello.udp_port, now)
        session = self._table.open(
            hello.name,
            address,
            port,
            now,
            hello.account,
            prefer=place.slot if place else None,
            avoid=self.places.avoided(),
        )
        if session is not None:
            session.udp_port = hello.udp_port
            session.musician = self.places.new_musician()
            session.unaffordable = self._overload()
            self.admission.came()
            session.surplus = self.door.crowded(address, self._table.of_source(address) - 1)
        return session

    def one_too_many(self, session: Session) -> bool:
        """Whether somebody who has nobody's place to take over finds its source full."""
        present = self._table.of_source(session.address) - 1
        return session.surplus and self.door.crowded(session.address, present)

    def last_refusal(self, session: Session, now: float) -> Refusal | None:
        """What somebody is refused for that has nobody's place to take over."""
        if self.one_too_many(session):
            return Refusal.TOO_MANY
        place = self.places.find(session.key, session.udp_port, now)
        if not self._may_pass(place):
            return Refusal.LOCKED
        return None if _is_back(place, session.opened_s) else session.unaffordable

    def let_in(self, session: Session, now: float) -> bool:
        """Give a session its place: what it left, or the waiting room; whether it is known."""
        with self._levels.together():
            place = self.places.take(session.key, session.udp_port, now)
            session.held = self.door.waiting_room and not (place and place.admitted)
            self._levels.set_held(session.slot, session.held)
            session.known = place is not None
            if place is not None:
                self._restore(session, place)
        return session.known

    def admit(self, session: Session) -> bool:
        """Let somebody out of the waiting room; False when it is not there."""
        if not session.held:
            return False
        session.held = False
        self._levels.set_held(session.slot, False)
        return True

    def set_queue(self, slot: int, queue: Queue) -> None:
        """Order how deep a client's queue is; its receiver obeys with the next packet."""
        record = self._arena.slots[slot]
        record["headroom_ns"] = queue.headroom_ns
        record["queue_packets"] = queue.order

    def keep(self, session: Session, now: float) -> None:
        """Remember the place of a musician who was let in, and leaves."""
        if session.joined_s is None or (session.held and not session.known):
            return
        slot, record = session.slot, self._arena.slots[session.slot]
        self.places.keep_pairs(
            (listener.musician, source.musician, heard)
            for ear, voice, heard in self._levels.involving(slot)
            if (listener := self._table.by_slot(ear)) and (source := self._table.by_slot(voice))
        )
        self.places.keep(
            Place(
                musician=session.musician,
                key=session.key,
                udp_port=session.udp_port,
                slot=slot,
                name=session.name,
                gain=self._levels.gain(slot),
                muted=self._levels.muted(slot),
                pan=self._levels.pan(slot),
                queue=Queue.of(int(record["queue_packets"]), int(record["headroom_ns"])),
                admitted=not (session.kicked or session.held),
                left_s=now,
                sections=tuple(self._levels.hearing.sections_of(slot)),
                told=tuple(self._levels.with_sections(slot)),
                reconnects=session.reconnects,
                limited=int(record["limited"]),
                underrun=int(record["underrun"]),
                dropped=session.dropped,
            )
        )

    def _overload(self) -> Refusal | None:
        """What the hub has too little of for one more."""
        resource = self.admission.refuses()
        return None if resource is None else REFUSALS[resource]

    def _may_pass(self, place: Place | None) -> bool:
        """Whether the lock lets somebody in who has left this place, or none."""
        if not self.door.locked:
            return True
        return place is not None and place.admitted and self.door.knows(place.left_s)

    def _restore(self, session: Session, place: Place) -> None:
        slot = session.slot
        session.musician = place.musician
        self._table.rename(session, place.name)
        self._levels.set_gain(slot, None if place.gain == UNITY else place.gain)
        self._levels.set_muted(slot, place.muted)
        self._levels.set_pan(slot, place.pan)
        self.set_queue(slot, place.queue)
        record = self._arena.slots[slot]
        record["limited"], record["underrun"] = place.limited, place.underrun
        slots = {other.musician: other.slot for other in self._table.sessions()}
        for listener, source, heard in self.places.take_pairs(place.musician, set(slots)):
            self._levels.set_heard(slots[listener], slots[source], heard, ordered=False)
        for name, members in self._levels.hearing.sections.items():
            wanted = members | {slot} if name in place.sections else members - {slot}
            self._levels.set_members(name, wanted)
        for listens, name, heard in place.told:
            if name in self._levels.hearing.sections:
                who, what = (slot, name) if listens else (name, slot)
                self._levels.set_heard(who, what, heard, ordered=False)
        client = self._directory.clients[slot]
        client.name, client.gain, client.muted = session.name, place.gain, place.muted
        client.pan = place.pan
        session.reconnects = client.reconnects = place.reconnects + 1
        self._directory.hub.reconnects += 1


def _is_back(place: Place | None, now: float) -> bool:
    """Whether who left this place comes back at once, and nobody wanted it gone."""
    if place is None or not place.admitted or place.dropped:
        return False
    return now - place.left_s <= BACK_S


def _key(hello: Hello, address: IPAddress) -> Key:
    """That of the session which a hello opens."""
    name = hello.name or hello.account or nameless_name(address)
    return musician_key(hello.account, name, address)
