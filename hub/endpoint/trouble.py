"""What the records of a session tell of a peer that is not heard, or not any more."""

from __future__ import annotations

import struct
from typing import Any

from hub.addresses import address_of_words
from shared.protocol import EXIT_BYTES, HEADER_BYTES

HUSH_S = 1.0
COMPLAINTS = 2
"""So many, and nothing else for HUSH_S: a machine on the way may complain once by mistake."""


class ClosedPort:
    """Notices that nobody listens at the peer's port any more, long before silence ends a session.

    Its machine then answers our datagrams with ICMP, which wakes the receiver without bringing
    it anything. Only a connected socket hears of that.
    """

    def __init__(self) -> None:
        self._datagrams = -1
        self._since_s, self._wakeups = 0.0, 0

    def look(self, rx: Any, now_s: float) -> bool:
        """Whether it is so; to be asked often."""
        datagrams, wakeups = int(rx["datagrams"]), int(rx["wakeups"])
        if datagrams != self._datagrams:
            self._datagrams, self._since_s, self._wakeups = datagrams, now_s, wakeups
            return False
        return now_s - self._since_s >= HUSH_S and wakeups - self._wakeups >= COMPLAINTS


def why_unheard(rx: Any, tx: Any, other_side: str) -> tuple[str, dict[str, object]]:
    """Why nothing has been heard of a session's peer: a sentence and its figures, for the log.

    Args:
        rx, tx: records of what came, and of what was sent.
        other_side: what it is, "hub" or "peer".
    """
    if rx["malformed"] and rx["odd_bytes"] == EXIT_BYTES:
        return f"the {other_side} answers with a good-bye: it will not have us", {}
    if rx["malformed"]:
        figures: dict[str, object] = {"datagrams": int(rx["malformed"])}
        figures["bytes"] = int(rx["odd_bytes"])
        if rx["odd_bytes"] >= HEADER_BYTES:
            raw = struct.pack("=q", int(rx["odd_header"]))
            _, frames, _, bits, wants, sends = struct.unpack("<HHBBBB", raw)
            figures |= {"frames": frames, "bits": bits, "channels": sends or wants}
        return f"what the {other_side} sends is no sound that JackTrip's clients send", figures
    if rx["foreign"]:
        address = address_of_words(int(rx["foreign_high"]), int(rx["foreign_low"]))
        return (
            f"nothing comes from the {other_side}, but something from elsewhere",
            {"address": str(address), "port": int(rx["foreign_port"])},
        )
    if rx["wakeups"] >= COMPLAINTS and not rx["datagrams"]:
        return f"the {other_side}'s machine says that nobody listens at its UDP port", {}
    if tx["errors"] and tx["errors"] * 2 > tx["packets"]:
        return "this machine's network does not take what is sent", {"not_sent": int(tx["errors"])}
    return (
        f"nothing has come from the {other_side} for 10 seconds: is it there, or does a "
        "firewall, here or there, let no UDP through?",
        {},
    )
