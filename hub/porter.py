"""The porter: asks the door of every source, and does at the door what operators want.

A ban holds at once. Its file is written by a thread, one state after the other, and who made it
is answered when that is done; one that cannot be written holds until the hub ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from hub.addresses import IPAddress
from hub.banfile import write_bans
from hub.bans import Ban
from hub.directory import Directory
from hub.events import (
    Admitted,
    Banned,
    LockSet,
    Tell,
    TurnedAway,
    Unbanned,
    WaitingRoomSet,
    nobody,
)
from hub.log import log_limited
from hub.membership import Membership
from hub.networks import Network, network_text, source_network
from hub.sessions import Session

log = structlog.get_logger()


class Porter:
    """Looks after the door of a hub.

    Args:
        banfile: where bans are kept; None: nowhere.
        unix_s: Unix time.
        tell: told of every change.
    """

    def __init__(
        self,
        membership: Membership,
        directory: Directory,
        banfile: Path | None,
        unix_s: Callable[[], float] = time.time,
        tell: Tell = nobody,
    ) -> None:
        self._tell = tell
        self._membership = membership
        self._directory = directory
        self._banfile = banfile
        self._unix_s = unix_s
        self._door = membership.reception.door
        self._writer = ThreadPoolExecutor(1, "bans")  # one: the last state is written last
        self._show()

    def gate(self, address: IPAddress, now: float) -> bool:
        """Whether a source that has connected may say its hello; counted and logged if not."""
        refusal = self._door.knock(address, now, self._unix_s())
        if refusal is None:
            return True
        self._directory.hub.count_refusal(refusal, address, now)
        log_limited(
            log.warning,
            f"source refused: {refusal}",
            peer_key=str(address),
            address=str(address),
            reason=str(refusal),
        )
        return False

    def lock(self, now: float) -> bool:
        """Let no newcomers in; False when that is no news."""
        news = self._door.lock(now)
        self._show()
        log.info("door locked", clients=len(self._membership.table))
        self._tell(LockSet(locked=True))
        return news

    def unlock(self) -> bool:
        """Let newcomers in again; False when that is no news."""
        news = self._door.unlock()
        self._show()
        log.info("door unlocked")
        self._tell(LockSet(locked=False))
        return news

    def set_waiting_room(self, on: bool) -> int:
        """Have newcomers wait to be admitted, or not; how many wait already, and go on to."""
        self._door.waiting_room = on
        self._show()
        held = sum(session.held for session in self._membership.table.sessions())
        log.info("waiting room opened" if on else "waiting room closed", held=held)
        self._tell(WaitingRoomSet(on=on, held=held))
        return held

    def admit(self, session: Session) -> bool:
        """Let somebody out of the waiting room; False when it is not there."""
        if not self._membership.reception.admit(session):
            return False
        log.info("client admitted", slot=session.slot, name=session.name)
        self._tell(Admitted(slot=session.slot, name=session.name))
        return True

    def refuse(self, session: Session, now: float) -> bool:
        """Send somebody away who waits to be admitted; False when it does not."""
        if not session.held or not self._membership.kick(session, now):
            return False
        self._directory.hub.count_refusal("refused", session.address, now)
        log.info("client refused", slot=session.slot, name=session.name)
        self._tell(TurnedAway(slot=session.slot, name=session.name))
        return True

    def target_of(self, session: Session) -> Network | str:
        """What a ban on a client is on: its account, or else its source."""
        return session.account or source_network(session.address)

    async def ban(
        self, target: Network | str, for_s: float | None, reason: str, now: float, name: str = ""
    ) -> dict[str, Any]:
        """Ban a network or an account, and send those away who are meant.

        Args:
            name: of the client that is meant; then the others of its source stay, as long
                as they do not leave.

        Returns:
            The ban, who was kicked, how many others it will keep out, whether it was saved.

        Raises:
            TooManyBans: there is no room for it.
        """
        since = self._unix_s()
        ban = Ban(target, since, None if for_s is None else since + for_s, reason, name)
        self._door.bans.standing(since)  # those that are over make room
        self._door.bans.add(ban)
        meant = [s for s in self._membership.table.sessions() if _covers(target, s)]
        source = not isinstance(target, str)  # of others as well, perhaps
        others = [s for s in meant if source and name and s.name != name]
        kicked = [s for s in meant if s not in others and self._membership.kick(s, now)]
        log.info(
            "ban made",
            target=ban.text,
            until=None if ban.until_s is None else round(ban.until_s),
            reason=reason,
            kicked=[s.name for s in kicked],
        )
        slots = [s.slot for s in kicked]
        self._tell(Banned(target=ban.text, until_s=ban.until_s, reason=reason, kicked=slots))
        return {
            **ban.as_json(),
            "kicked": slots,
            "others": len(others),
            "saved": await self._save(),
        }

    async def unban(self, target: Network | str) -> dict[str, Any] | None:
        """End a ban; None when there is none on just this."""
        ban = self._door.bans.remove(target)
        if ban is None or ban.over(self._unix_s()):
            return None
        log.info("ban ended", target=ban.text)
        self._tell(Unbanned(target=ban.text))
        return {**ban.as_json(), "saved": await self._save()}

    def bans(self) -> list[dict[str, Any]]:
        """All bans that stand."""
        return [ban.as_json() for ban in self._door.bans.standing(self._unix_s())]

    async def _save(self) -> bool:
        """Whether the bans are where the hub's next start will find them."""
        bans = self._door.bans.standing(self._unix_s())
        self._show()
        if self._banfile is None:
            return False
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, write_bans, self._banfile, bans)
        except OSError as error:
            log.error("bans cannot be saved", path=str(self._banfile), why=str(error))
            return False
        return True

    def _show(self) -> None:
        """Let the directory show the state of the door."""
        info, rules = self._directory.hub.door, self._door.rules
        info.locked = self._door.locked
        info.waiting_room = self._door.waiting_room
        info.bans = len(self._door.bans)
        info.allow = [network_text(network) for network in rules.allow]
        info.deny = [network_text(network) for network in rules.deny]


def _covers(target: Network | str, session: Session) -> bool:
    if isinstance(target, str):
        return session.account == target
    return session.address.version == target.version and session.address in target
