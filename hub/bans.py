"""Bans: who may not come in for a while, or for good. Pure logic; ``now`` is Unix time.

A ban is on a network or on an account. Unlike everything else of the control plane it is
counted on the wall clock, since it outlives the hub: ``hub.banfile`` keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

from hub.addresses import IPAddress
from hub.networks import Network, NetworkSet, network_text, parse_network

MAX_BANS = 10_000
MAX_REASON_CHARS = 200


class TooManyBans(ValueError):
    """There is no room for another ban."""


@dataclass(frozen=True, slots=True)
class Ban:
    """One ban.

    Attributes:
        target: a network, or the name of an account.
        since_s: Unix time.
        until_s: Unix time, None for good.
        reason: for people; may be empty.
        name: whom it was meant for, as shown then; may be empty.
    """

    target: Network | str
    since_s: float
    until_s: float | None = None
    reason: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """The target as people write it."""
        return self.target if isinstance(self.target, str) else network_text(self.target)

    def over(self, now: float) -> bool:
        return self.until_s is not None and now >= self.until_s

    def as_json(self) -> dict[str, Any]:
        """As the control socket and the file have it; ``from_json`` reads it back."""
        kind = "account" if isinstance(self.target, str) else "network"
        return {
            kind: self.text,
            "since_s": self.since_s,
            "until_s": self.until_s,
            "reason": self.reason,
            "name": self.name,
        }

    @classmethod
    def from_json(cls, given: object) -> Ban:
        """Check and take over what ``as_json`` made.

        Raises:
            ValueError: what is wrong with it.
        """
        if not isinstance(given, dict):
            raise ValueError(f"{given!r} is no object")
        if ("network" in given) == ("account" in given):
            raise ValueError(f"{given!r} has not exactly one of 'network' and 'account'")
        network, account = given.get("network"), given.get("account")
        target: Network | str
        if isinstance(network, str):
            try:
                target = parse_network(network)
            except ValueError:
                raise ValueError(f"network {network!r} is no network") from None
        elif isinstance(account, str) and account:
            target = account
        else:
            raise ValueError(f"{given!r} names neither a network nor an account")
        since, until = given.get("since_s"), given.get("until_s")
        reason, name = given.get("reason", ""), given.get("name", "")
        if not _is_time(since):
            raise ValueError(f"since_s {since!r} is no time")
        if until is not None and not _is_time(until):
            raise ValueError(f"until_s {until!r} is no time and not null")
        if not isinstance(reason, str) or not isinstance(name, str):
            raise ValueError(f"reason {reason!r} and name {name!r} are not both texts")
        return cls(target, float(since), None if until is None else float(until), reason, name)


def _is_time(given: object) -> TypeGuard[float]:
    return isinstance(given, (int, float)) and not isinstance(given, bool) and 0 <= given < 1e12


class Bans:
    """The bans that stand; those whose time is over go when they are met."""

    def __init__(self, bans: Iterable[Ban] = ()) -> None:
        self._bans: dict[Network | str, Ban] = {}
        self._networks = NetworkSet()
        for ban in bans:
            self.add(ban)

    def __len__(self) -> int:
        return len(self._bans)

    def add(self, ban: Ban) -> None:
        """Ban a target, or change its ban.

        Raises:
            TooManyBans: there are MAX_BANS.
        """
        if ban.target not in self._bans and len(self._bans) >= MAX_BANS:
            raise TooManyBans(f"there are {MAX_BANS} bans already; end some with unban")
        self._bans[ban.target] = ban
        if not isinstance(ban.target, str):
            self._networks.add(ban.target)

    def remove(self, target: Network | str) -> Ban | None:
        """End a ban; the one it was, or None."""
        ban = self._bans.pop(target, None)
        if ban is not None and not isinstance(target, str):
            self._networks.discard(target)
        return ban

    def on(self, address: IPAddress, account: str, now: float) -> Ban | None:
        """The ban that keeps out a source, or the holder of an account (empty: none)."""
        for network in list(self._networks.covering(address)):
            ban = self._standing(network, now)
            if ban is not None:
                return ban
        return self._standing(account, now) if account else None

    def standing(self, now: float) -> list[Ban]:
        """All that stand, oldest first."""
        return [ban for target in list(self._bans) if (ban := self._standing(target, now))]

    def _standing(self, target: Network | str, now: float) -> Ban | None:
        ban = self._bans.get(target)
        if ban is not None and ban.over(now):
            self.remove(target)
            return None
        return ban
