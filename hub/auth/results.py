"""What may come of an attempt to join, and what the client is told."""

from __future__ import annotations

from enum import Enum

from shared.protocol import Answer


class Login(Enum):
    """The outcome of a conversation about credentials; counted under these words."""

    OK = "ok"
    WRONG_CREDENTIALS = "wrong-credentials"
    WRONG_TIME = "wrong-time"
    LIMITED = "limited"
    """The source has failed too often of late: its password was not looked at."""
    BUSY = "busy"
    """Too many wait for their passwords to be checked, or that cannot be done."""
    BROKEN = "broken"
    """TLS failed, or no credentials came out of it in time."""
    REQUIRED = "required"
    NOT_REQUIRED = "not-required"


ANSWERS = {
    Login.WRONG_CREDENTIALS: Answer.WRONG_CREDENTIALS,
    Login.LIMITED: Answer.WRONG_CREDENTIALS,
    Login.WRONG_TIME: Answer.WRONG_TIME,
    Login.REQUIRED: Answer.AUTH_REQUIRED,
    Login.NOT_REQUIRED: Answer.AUTH_NOT_REQUIRED,
}
"""JackTrip has no words for the others: they get none."""
