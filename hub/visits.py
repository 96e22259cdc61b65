"""What is told of clients that come and go, in the log and as events."""

from __future__ import annotations

from typing import Any

import structlog

from hub.addresses import Peer
from hub.directory import Departure
from hub.events import Joined, Left, Tell
from hub.log import log_limited
from hub.sessions import Session
from shared.arena import Records
from shared.layout import EndReason
from shared.protocol import Hello

log = structlog.get_logger()

JOINS_LOGGED_PER_S = 50.0
REFUSALS_LOGGED_PER_S = 5.0
"""More than an ensemble needs, less than a hostile host can cause."""


def connecting(session: Session) -> None:
    """A client has said hello and was given a port."""
    log_limited(
        log.info,
        "client connecting",
        per_s=JOINS_LOGGED_PER_S,
        slot=session.slot,
        name=session.name,
        address=str(session.address),
        port=session.port,
        **account_field(session),
    )


def turned_away(reason: str, peer: Peer, **fields: Any) -> None:
    """A client was given no port."""
    log_limited(
        log.warning,
        "hub is full" if reason == "full" else "client turned away",
        per_s=REFUSALS_LOGGED_PER_S,
        peer_key=str(peer.address),
        reason=reason,
        peer=str(peer),
        **fields,
    )


def sent_off(session: Session, reason: str) -> None:
    """A client that was given a port is not let in."""
    log_limited(
        log.warning,
        "client sent off",
        per_s=REFUSALS_LOGGED_PER_S,
        peer_key=str(session.address),
        reason=reason,
        name=session.name,
        address=str(session.address),
    )


def joined(tell: Tell, event: str, session: Session, rx: Records) -> None:
    """A client is in, or waits to be admitted.

    Args:
        event: "client joined", "client is back" or "client waits to be admitted".
        rx: its receiver's record, with its format.
    """
    tell(
        Joined(
            slot=session.slot, name=session.name, address=str(session.address),
            back=event == "client is back", held=session.held,
        )
    )  # fmt: skip
    log_limited(
        log.info,
        event,
        per_s=JOINS_LOGGED_PER_S,
        slot=session.slot,
        name=session.name,
        address=str(session.address),
        peer_port=session.peer_port,
        port=session.port,
        rate_hz=int(rx["rate_hz"]) or None,
        frames=int(rx["frames"]),
        bits=int(rx["bits"]),
        sends=int(rx["channels"]),
        wants=int(rx["wants"]),
        redundancy=int(rx["redundancy"]),
    )


def left(
    tell: Tell,
    session: Session,
    rx: Records,
    reason: EndReason,
    now: float,
    gone: Departure | None,
) -> None:
    """A client is no more.

    Args:
        rx: its receiver's record, as it ended.
        gone: what conditions it had.
    """
    told = Left(
        slot=session.slot,
        name=session.name,
        address=str(session.address),
        reason=reason.name.lower().replace("_", " "),
        seconds=round(now - session.opened_s, 1),
    )
    tell(told)
    log_limited(
        log.info,
        "client left",
        per_s=JOINS_LOGGED_PER_S,
        **told.fields(),
        packets=int(rx["packets"]),
        lost=int(rx["lost"]),
        late=int(rx["late"]),
        underruns=int(rx["underruns"]),
        restarts=session.restarts,
        **({"condition": gone.conditions[0]["condition"]} if gone is not None else {}),
    )


def account_field(session: Session | Hello) -> dict[str, str]:
    """For the log: the account, where there is one."""
    return {"account": session.account} if session.account else {}
