"""From settings to exit code, where things go wrong before anybody plays."""

from __future__ import annotations

import pytest

from hub.endpoint.config import Role
from hub.endpoint.exits import EXIT_FAILED
from hub.endpoint.resolving import make_endpoint
from hub.endpoint.run import run


def test_what_nobody_has_foreseen_is_logged_and_an_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command(*_: object, **__: object) -> list[str]:
        raise ZeroDivisionError("unforeseen")

    # in this process, which must not go before others for the rest of the tests
    config = make_endpoint(Role.CLIENT, "127.0.0.1", tone_hz=440, log_format="json", realtime=False)
    assert run(config, command) == EXIT_FAILED
    told = capsys.readouterr().err
    assert '"event": "failed"' in told
    assert "ZeroDivisionError: unforeseen" in told
