"""``tuttihub ctl``: any operation, its exit codes, completion, against a real control socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from hub.cli import cli
from hub.cli_ctl import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_WRONG, parse_field
from tests.hub.listening import RecordingHub, directory, listening
from tests.hub.test_client import ANNA


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/control"


@pytest.fixture
def hub(endpoint: str) -> Iterator[RecordingHub]:
    with listening(endpoint, RecordingHub(directory=directory(ANNA))) as hub:
        yield hub


def ctl(endpoint: str, *words: str) -> Result:
    return CliRunner().invoke(cli, ["ctl", "--control", endpoint, *words])


def test_an_operation_is_asked_for_with_its_fields(hub: RecordingHub, endpoint: str) -> None:
    result = ctl(endpoint, "--json", "gain", "source=Anna", "gain_db=-Infinity")
    assert (result.exit_code, json.loads(result.output)["gain"]) == (0, 0.0)
    assert ctl(endpoint, "mute", "client=3", "muted=true").output == ""
    assert hub.asked == [("gain", 3, 0.0), ("mute", 3, True)]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["mute", "client=Anna", "muted=maybe"], EXIT_WRONG, "is not true or false"),
        (["dance"], EXIT_WRONG, "unknown-op"),
        (["kick", "client=Bob"], EXIT_REFUSED, "no client of this name"),
        (["kick", "client"], EXIT_WRONG, "not FIELD=VALUE"),
        (["ping", "id=5"], EXIT_WRONG, "'id' is none"),
        (["ping", "op=x"], EXIT_WRONG, "'op' is none"),
        (["ping", "self=1"], EXIT_WRONG, "'self' is none"),
    ],
)
def test_exit_codes(
    hub: RecordingHub, endpoint: str, words: list[str], code: int, said: str
) -> None:
    result = ctl(endpoint, *words)
    assert result.exit_code == code
    assert said in result.output


def test_what_is_not_saved_is_said(hub: RecordingHub, endpoint: str) -> None:
    result = ctl(endpoint, "ban", "client=Anna")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "not saved" in result.stderr


def test_nobody_there(endpoint: str) -> None:
    assert ctl(endpoint, "ping").exit_code == EXIT_UNREACHABLE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("name=low", "low"), ("name=12", "12"), ("members=" + "1" * 5000 + ",a", ["1" * 5000, "a"]),
        ("members=Anna,3", ["Anna", 3]), ("members=Anna", ["Anna"]),
        ("members=3", [3]), ("gains=[[1,null]]", [[1, None]]), ("pan=null", None),
    ],
)  # fmt: skip
def test_fields(text: str, value: Any) -> None:
    assert parse_field(text)[1] == value


def test_operations_and_fields_are_completed() -> None:
    complete = ShellComplete(cli, {}, "tuttihub", "_TUTTIHUB_COMPLETE")
    assert "scene-recall" in [item.value for item in complete.get_completions(["ctl"], "scene")]
    words = complete.get_completions(["ctl", "scene-recall"], "")
    assert {"name=", "seconds="} <= {item.value for item in words}
