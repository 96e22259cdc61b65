"""A hub's load, looked at once a second, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from hub.directory import Directory
from hub.overload.admission import Admission
from hub.overload.gauges import Gauges
from hub.overload.info import OverloadInfo
from hub.overload.resources import REFUSALS
from hub.sessions import Session


class Overload:
    """Reads the gauges and lets the directory show what they say.

    Args:
        admission: is told; ``hub.reception`` asks it.
    """

    def __init__(self, gauges: Gauges, admission: Admission, directory: Directory) -> None:
        self._gauges, self._admission, self._directory = gauges, admission, directory
        self._show()

    def look(self, present: Sequence[Session], now_s: float) -> None:
        """A second has passed; now_s is CLOCK_MONOTONIC."""
        readings = self._gauges.read(present, now_s)
        self._admission.look(readings, sum(session.active for session in present))
        self._show()

    def _show(self) -> None:
        admission = self._admission
        self._directory.hub.overload = OverloadInfo(
            limit=admission.limit,
            used={resource.value: round(used, 4) for resource, used in admission.used.items()},
            line_bps=self._gauges.line_bps,
            refuses=tuple(REFUSALS[resource].value for resource in admission.shut),
        )
