"""What becomes of the JACK bridge: said once a second, when it has changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from hub.events import JackChanged, Tell
from hub.log import log_limited
from shared.arena import Arena
from shared.jacklayout import JackState

log = structlog.get_logger()
_PER_S = 1.0


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen."""

    state: JackState
    coupled: bool
    fits: tuple[int, int]
    behind: bool
    left_out: int
    deaths: int = 0


class JackWatch:
    """Logs and tells; ``look`` is called once a second.

    Args:
        tell: told of events.
        who: lives by JACK's clock.
        what: has it.
    """

    def __init__(
        self, arena: Arena, tell: Tell, who: str = "hub", what: str = "jack server"
    ) -> None:
        self._arena = arena
        self._who, self._what = who, what
        self._tell = tell
        self._last = _Look(JackState.OFF, False, (0, 0), False, 0)

    def look(self) -> None:
        """Compare with the last time."""
        jack = self._arena.jack[0]
        deaths = int(jack["deaths"])  # first: it is counted once the state is told
        now = _Look(
            JackState(int(jack["state"])),
            bool(jack["coupled"]),
            (int(jack["rate_hz"]), int(jack["period_frames"])),
            bool(jack["behind"]),
            int(jack["left_out"]),
            deaths,
        )
        last, self._last = self._last, now
        waits = (JackState.OFF, JackState.WAITING)
        if now.deaths > last.deaths and not {now.state, last.state} & set(waits):
            gone = replace(now, state=JackState.WAITING)  # it went and came between two looks
            self._say_state(gone, last)
            last = gone
        if (now.state, now.fits) != (last.state, last.fits):
            self._say_state(now, last)
        if now.coupled != last.coupled:
            self._say_clock(now)
        if now.behind != last.behind:
            self._say_behind(now, int(jack["graph_ns"]))
        if now.left_out != last.left_out and now.state is JackState.RUNNING:
            self._say_room(now, int(jack["clients"]))
        if now != last:
            self._tell(
                JackChanged(
                    state=now.state.name.lower(),
                    clock="jack" if now.coupled else "own",
                    left_out=now.left_out,
                )
            )

    def _say_state(self, now: _Look, last: _Look) -> None:
        header = self._arena.header[0]
        rate_hz, period_frames = now.fits
        match now.state:
            case JackState.RUNNING:
                log.info(f"{self._what} found", rate_hz=rate_hz, period_frames=period_frames)
            case JackState.MISFIT:
                log.warning(
                    "jack server does not fit",
                    rate_hz=rate_hz,
                    period_frames=period_frames,
                    wanted_rate_hz=int(header["rate_hz"]),
                    wanted_period_frames=int(header["period_frames"]),
                    advice=f"the {self._who} goes on by its own clock, without JACK's sound; give "
                    f"jackd the {self._who}'s rate and period, or restart the {self._who} with "
                    "JACK's",
                )
            case JackState.FREEWHEEL:
                log.warning(
                    "jack freewheels",
                    advice=f"the {self._who} goes on by its own clock, without JACK's sound, until "
                    "JACK's time is the world's again",
                )
            case JackState.HUNG:
                log.error(
                    f"{self._what} hangs",
                    advice=f"the {self._who} goes on by its own clock; a jackd that does not go on "
                    "is to be ended (SIGKILL, if SIGTERM does not) and started anew",
                )
            case JackState.WAITING if last.state is JackState.OFF:
                log.warning(f"no {self._what} yet", advice=f"the {self._who} runs by its own clock")
            case JackState.WAITING if last.state is not JackState.WAITING:
                log.error(
                    f"{self._what} is gone", advice=f"the {self._who} goes on by its own clock"
                )

    def _say_clock(self, now: _Look) -> None:
        clock = self._what.removesuffix(" server") if now.coupled else "own"
        log_limited(log.info, f"clock of the {self._who}", per_s=_PER_S, clock=clock)

    def _say_behind(self, now: _Look, graph_ns: int) -> None:
        header = self._arena.header[0]
        share = graph_ns * int(header["rate_hz"]) / 1e9 / int(header["period_frames"])
        advice = {"advice": "longer periods (jackd -p), or fewer and lighter programs in JACK"}
        log_limited(
            log.warning if now.behind else log.info,
            "jack graph is slow: its sound is used a period later"
            if now.behind
            else "jack graph is quick again: its sound is used in time",
            per_s=_PER_S,
            share_of_period=round(share, 2),
            **(advice if now.behind else {}),
        )

    def _say_room(self, now: _Look, clients: int) -> None:
        if now.left_out:
            log.warning(
                "jack has no room for all",
                without_ports=now.left_out,
                with_ports=clients,
                advice="they are heard and hear as ever, but not in JACK; --jack-ports sections or "
                "mix needs fewer ports, jackd -p N allows more"
                if self._who == "hub"
                else "JACK is asked again; jackd -p N allows more ports",
            )
        else:
            log.info("jack has room for all", with_ports=clients)
