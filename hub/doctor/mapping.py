"""Whether a router gives our UDP port another number for each port of the hub.

No JackTrip hub tells from which port it sees us. But two sessions from one address and port are one
client that has come back, to all of them, and the first falls silent. So a second session is begun
from the very socket that plays in the first: if both go on, the hub sees two ports.
"""

from __future__ import annotations

from dataclasses import dataclass

from hub.doctor.knock import Reply
from hub.doctor.line import Line
from hub.doctor.playing import Ears, Form, Player, take
from hub.doctor.visit import Hub, give_up, hears, leave, wait_for

START_S = 3.0
"""tuttihub waits up to 2 s to see who of two is alive."""
SILENT_S = 0.4
"""Nothing for so long is an end."""
PATIENCE_S = 1.5


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a second session from the same port told.

    Attributes:
        remaps: the hub saw another port; None: it would not have us, or was not heard.
        uses_redundancy: it answers copies with copies; None: not known.
    """

    remaps: bool | None
    uses_redundancy: bool | None


def examine_mapping(hub: Hub, line: Line, ears: Ears, first: Player, form: Form) -> Mapping:
    """Begin the second session while the first plays.

    Args:
        form: of the second; with copies, to see what the hub makes of them.
    """
    answered = hub.hello(line.port)
    if answered.reply is not Reply.PORT:
        return Mapping(None, None)
    if answered.udp_port == first.port:  # all play to one port: a router has nothing to tell apart
        give_up(hub, form, answered.udp_port)
        return Mapping(None, None)
    player = Player(line, answered.udp_port, form, START_S + PATIENCE_S + 1.0)
    try:
        if not hears(ears, player, START_S):
            return Mapping(None, None)
        ended = wait_for(lambda: ears.silent_s(first) > SILENT_S, PATIENCE_S)
        return Mapping(not ended, take(player, ears, line).redundancy > 1)
    finally:
        leave(player, ears)
