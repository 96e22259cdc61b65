"""The line of quality: what it says, and what it leaves out where it has no room."""

from __future__ import annotations

from io import StringIO

import pytest

from hub.endpoint.quality import Quality, Ticker
from hub.outlet import Outlet

ALL = Quality(375.2, 3, 1, 7, 10.66, 8.02, 12.41, 1000, 2, 4, 5)
WHOLE = (
    "lost 3 · late 1 · filled in 10.7 ms · waits 8.0 ms · xruns 5 · missed 4 · not sent 2 · "
    "repaired 7 · drift +12.4 ppm · received 375/s"
)


def test_what_is_well_is_not_said() -> None:
    well = Quality(375.0, 0, 0, 0, 0.0, 8.0, None, 1000, 0, 0)
    assert well.line() == "lost 0 · late 0 · filled in 0.0 ms · waits 8.0 ms · received 375/s"
    assert not {"xruns", "drift_ppm"} & well.fields().keys()
    assert ALL.line() == WHOLE
    assert ALL.fields()["xruns"] == 5


@pytest.mark.parametrize("columns", [10, 40, 80, 200])
def test_the_last_line_fits_the_terminal_and_keeps_what_matters(columns: int) -> None:
    stream = StringIO()
    outlet = Outlet(stream, lambda lines: None)
    Ticker(outlet, lambda: columns).show("100:42", ALL)
    assert outlet.close()
    shown = stream.getvalue().removeprefix("\r\x1b[K")
    assert len(shown) < max(columns, 16)
    assert f"100:42 {WHOLE}".startswith(shown)
    assert "lost 3" in shown
