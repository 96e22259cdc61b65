"""One session with the hub: a hello, then playing; what all steps of an examination are made of.

JackTrip's own hub gives a client's place away at once when it leaves, and ends as a whole if its
UDP port is not closed yet when the next one is given it (seen with 1.7.0 on a busy machine). So no
hello follows a good-bye closely: sessions that are over play on, and all are left in the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from hub.doctor.knock import Account, Answered, Reply, say_hello
from hub.doctor.line import Line
from hub.doctor.names import Address
from hub.doctor.playing import Ears, Form, Player

LOOK_S = 0.02
STILL_S, FAREWELL_S = 0.3, 0.4
REST_S = 1.0
"""Between a good-bye and the next hello, where one must follow the other."""
GLIMPSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Hub:
    """Whom we visit, and as whom."""

    address: Address
    port: int
    name: str
    account: Account | None = None

    def hello(self, udp_port: int) -> Answered:
        return say_hello(self.address, self.port, udp_port, self.name, self.account)

    def begin(self, line: Line, form: Form, longest_s: float) -> tuple[Answered, Player | None]:
        """Say hello and play; no player: the hub would not have us."""
        answered = self.hello(line.port)
        if answered.reply is not Reply.PORT:
            return answered, None
        return answered, Player(line, answered.udp_port, form, longest_s)


def give_up(hub: Hub, form: Form, port: int) -> None:
    """Leave without having played, so that no hub waits for us: a moment, from another socket."""
    line = Line(hub.address)
    try:
        player = Player(line, port, form, GLIMPSE_S + 1.0)
        time.sleep(GLIMPSE_S)
        player.stop(good_bye=True)
    finally:
        line.close()


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_S)
    return True


def leave(player: Player, ears: Ears) -> None:
    """Stop playing; good-bye is said to a hub that is heard now: a port that is not ours any longer
    may be somebody else's."""
    player.stop(ears.silent_s(player) < STILL_S and not ears.sent_away(player))


def hears(ears: Ears, player: Player, timeout_s: float) -> bool:
    """Whether the hub answers with audio within a time.

    A good-bye ends the waiting, but not at once: it may be meant for whom the hub had at this port
    before.
    """
    wait_for(
        lambda: ears.last_ns(player) is not None or ears.sent_away(player, FAREWELL_S), timeout_s
    )
    return ears.last_ns(player) is not None
