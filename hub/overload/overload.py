"""A hub's load, looked at once a second, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from hub.directory import Directory
from hub.events import LoadShed, Tell, nobody
from hub.overload.admission import Admission
from hub.overload.gauges import Gauges
from hub.overload.info import OverloadInfo, overload_text
from hub.overload.resources import REFUSALS
from hub.overload.shedding import Shedding, Step
from hub.sessions import Session
from shared.arena import Arena
from shared.layout import Shed

log = structlog.get_logger()

HURRY_S = 0.25
"""So often is asked whether ticks are missed."""
_WORDS = {
    Step.NOTHING: Shed(0),
    Step.METERS: Shed.METERS,
    Step.MIXES: Shed.METERS,
    Step.CONCEALMENT: Shed.METERS | Shed.ORDERS,
}
"""What the audio processes are told at each step."""


class Ensemble(Protocol):
    """Who plays, and what they hear."""

    def set_plain(self, plain: bool) -> None:
        """Have everybody hear what the patch says and nothing else, or their own mixes again."""

    def drop_newest(self, now: float) -> bool:
        """Let the one go who came last; False where nobody can be."""


class Overload:
    """Reads the gauges, tells those who decide, and does what they decide.

    Args:
        arena: ``CONTROL.shed`` is written.
        admission: is told; ``hub.reception`` asks it.
        tell: told of each step.
    """

    def __init__(
        self,
        arena: Arena,
        gauges: Gauges,
        admission: Admission,
        shedding: Shedding,
        ensemble: Ensemble,
        directory: Directory,
        tell: Tell = nobody,
    ) -> None:
        self._arena, self._gauges, self._admission = arena, gauges, admission
        self._shedding, self._ensemble, self._directory = shedding, ensemble, directory
        self._tell = tell
        self._step = Step.NOTHING
        self._ticks = self._counted()
        self._hurry_s = 0.0
        self._show()

    def look(self, present: Sequence[Session], now_s: float) -> None:
        """A second has passed; now_s is CLOCK_MONOTONIC."""
        readings = self._gauges.read(present, now_s)
        playing = sum(session.active for session in present)
        self._admission.look(readings, playing)
        self._obey(self._shedding.look(readings, playing), now_s)
        self._show()

    def hurry(self, now_s: float) -> None:
        """To be called more often: where many ticks are missed no second is to be lost."""
        if now_s < self._hurry_s:
            return
        self._hurry_s = now_s + HURRY_S
        before, self._ticks = self._ticks, self._counted()
        ticks, missed = (now - then for now, then in zip(self._ticks, before, strict=True))
        self._obey(self._shedding.hurry(ticks, missed), now_s)

    def _counted(self) -> tuple[int, int]:
        """Ticks mixed, and ticks that mixer or lanes have missed."""
        clock = self._arena.clock[0]
        return int(clock["ticks"]), int(clock["missed"]) + int(self._arena.lanes["missed"].sum())

    def _obey(self, drop: int, now_s: float) -> None:
        """Do what was decided."""
        step = self._shedding.step
        if step is not self._step:
            further, self._step = step > self._step, step
            self._arena.control[0]["shed"] = int(_WORDS[step])
            self._ensemble.set_plain(step >= Step.MIXES)
            self._show()
            told = overload_text(self._directory.hub.overload)
            names = [each.name.lower() for each in self._shedding.left_out]
            if further:
                log.warning("load is shed", left_out=names, load=told)
            else:
                log.info("less load is shed", left_out=names, load=told)
            self._tell(LoadShed(left_out=names))
        for _ in range(drop):
            if not self._ensemble.drop_newest(now_s):
                break
            self._directory.hub.clients_dropped += 1

    def _show(self) -> None:
        admission, shedding = self._admission, self._shedding
        self._directory.hub.overload = OverloadInfo(
            limit=admission.limit,
            shed_limit=shedding.limit,
            used={resource.value: round(used, 4) for resource, used in admission.used.items()},
            line_bps=self._gauges.line_bps,
            refuses=tuple(REFUSALS[resource].value for resource in admission.shut),
            sheds=tuple(step.name.lower() for step in shedding.left_out),
            shed_times={step.name.lower(): n for step, n in shedding.taken.items()},
            realtime_limit=self._gauges.realtime_limit,
            realtime_used=round(self._gauges.realtime_used, 4),
            realtime_paused=self._gauges.realtime_paused,
        )
