"""Who is who: whether a newcomer is somebody who was here, and what becomes of whom it meets.

A musician is known by its account and name, or else by its name and source (an IPv4 address,
or an IPv6 /64); who gave no name is called like its address. That is good enough for those
who are gone, whose place it gets back. The present are another matter: two musicians behind
one router may well be called the same, and neither may ever push the other out. What a
newcomer finds when its first datagram has come decides; S is another session of the hub::

    S is                                      and S                    the newcomer
    ---------------------------------------   ----------------------   ---------------------
 1  at its address and port, same musician    is active                takes S over, at once
 2  at its address and port, another one      is active                has S end without a word,
                                                                       then is judged again
 3  at its address and port                   is leaving, or moving    waits for its end
 4  the same named musician, at another       was heard since then     is let in beside S
 5  address or port, active                   is silent for 2 s        takes S over
 6                                            neither                  waits, 2 s at most
 7  more than one such                        is silent for 2 s        is let in beside them
 8  the same nameless one, at another port    whatever                 is let in beside S
 9  nobody of these                                                    is let in, and gets the
                                                                       place back that is
                                                                       remembered, if any

1 to 3 are JackTrip's own rule: no two living clients share an address and a port. 4 to 6 tell
a client that was started again, and to which its router gave another port, from a namesake:
the living send hundreds of packets a second. Of several silent ones (7) it cannot be told
which has come back, and one of the others may be heard again any moment. Those without a name
are too easily taken for one another (8). Whoever is taken over is not sent exit packets: they
would end the client that has just come back.

A newcomer that would be let in beside S while its source has all the sessions it may have waits as
long as S has not been heard since, for S may be its own old self, and ends after 10 s of silence
(``may_be_over``). When S lives, the newcomer is one too many.

What remains: who is silent for 2 s, its network being out, while a namesake joins from behind
the same router, is taken for having come back. Two names keep two musicians apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from hub.addresses import IPAddress, address_bytes
from hub.networks import source_key

if TYPE_CHECKING:
    from hub.sessions import Session

SILENT_S = 2.0
"""Who was not heard for so long may be gone: three hundred packets and more are missing."""

Key = tuple[str, str, tuple[int, int]]
"""What is equal for two sessions of one musician: account, name, source."""


class Verdict(Enum):
    """What becomes of a newcomer."""

    LET_IN = "let in"
    WAIT = "wait"
    TAKE_OVER = "take over"
    """It goes on in the place of a session."""
    CLEAR = "clear"
    """A session of somebody else must end before it can be let in."""


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    other: Session | None = None


def musician_key(account: str, wanted_name: str, address: IPAddress) -> Key:
    """By what a musician is known.

    Args:
        account: proved with a password, or nothing.
        wanted_name: as in its session, never empty.
    """
    return account, wanted_name, (0, 0) if account else source_key(address)


def nameless_name(address: IPAddress) -> str:
    """What somebody is called who gave no name."""
    return str(address).replace(":", "_")


def is_nameless(session: Session) -> bool:
    return not session.account and session.wanted_name == nameless_name(session.address)


def decide(
    newcomer: Session,
    peer_port: int,
    knocked_s: float,
    others: Iterable[Session],
    heard_s: Callable[[Session], float],
    now: float,
) -> Decision:
    """Judge a newcomer whose first datagram has come, by the table above.

    Args:
        peer_port: where that datagram came from.
        knocked_s: when it came.
        others: the hub's sessions; those of another musician at another port change nothing.
        heard_s: when an active session was heard last.
    """
    address, known = address_bytes(newcomer.address), []
    for other in others:
        if other is newcomer:
            continue
        same = other.key == newcomer.key
        if other.peer_port == peer_port and address_bytes(other.address) == address:
            if not other.active:
                return Decision(Verdict.WAIT, other)
            return Decision(Verdict.TAKE_OVER if same else Verdict.CLEAR, other)
        if same and other.active:
            known.append(other)
    if not known or is_nameless(newcomer):
        return Decision(Verdict.LET_IN)
    silent = [other for other in known if now - heard_s(other) >= SILENT_S]
    for other in known:
        if other not in silent and heard_s(other) <= knocked_s:
            return Decision(Verdict.WAIT, other)
    if len(silent) == 1:
        return Decision(Verdict.TAKE_OVER, silent[0])
    return Decision(Verdict.LET_IN)


def may_be_over(
    newcomer: Session,
    knocked_s: float,
    others: Iterable[Session],
    heard_s: Callable[[Session], float],
) -> bool:
    """Whether a session of a newcomer's musician is leaving, or was not heard since it knocked."""
    return any(
        other.key == newcomer.key
        and other is not newcomer
        and (other.leaving_s is not None or (other.active and heard_s(other) <= knocked_s))
        for other in others
    )
