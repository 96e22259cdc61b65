"""``tuttihub ctl``: any operation, its exit codes, completion, against a real control socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from hub.cli import cli
from hub.cli_ctl import EXIT_REFUSED, _refusal, _with_names
from hub.connection import HubRefused
from hub.exits import EXIT_WRONG_OPTION as EXIT_WRONG
from hub.messages.requests import OPS
from tests.hub.listening import BAN, RecordingHub, directory, listening
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
        (["mute", "Anna", "maybe"], EXIT_WRONG, "in a shell also on or off"),
        (["mute"], EXIT_WRONG, "client: missing; it is a client's name"),
        (["gain", "Anna"], EXIT_WRONG, "usage: tuttihub ctl gain source gain_db|gain [listener]"),
        (["kick", "anna"], EXIT_REFUSED, 'did you mean "Anna"?'),
        (["dance"], EXIT_WRONG, "unknown-op"),
        (["kick", "client=Bob"], EXIT_REFUSED, "no client of this name"),
        (["kick", "Anna", "now"], EXIT_WRONG, "'now' is one too many"),
        (["ping", "id=5"], EXIT_WRONG, "'id' is none"),
        (["kick", "client=3", "client=3"], EXIT_WRONG, "given twice"),
        (["events", "weather"], EXIT_WRONG, "'weather' is not a topic"),
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
    assert ctl(endpoint, "ping").exit_code == 1


def test_operations_and_fields_are_completed() -> None:
    complete = ShellComplete(cli, {}, "tuttihub", "_TUTTIHUB_COMPLETE")
    assert "scene-recall" in [item.value for item in complete.get_completions(["ctl"], "scene")]
    words = complete.get_completions(["ctl", "scene-recall"], "")
    assert {"name=", "seconds="} <= {item.value for item in words}


def test_names_of_who_is_there_are_completed(hub: RecordingHub, endpoint: str) -> None:
    complete = ShellComplete(cli, {}, "tuttihub", "_TUTTIHUB_COMPLETE")

    def proposed(*words: str) -> set[str]:
        args = ["ctl", "--control", endpoint, *words[:-1]]
        return {item.value for item in complete.get_completions(args, words[-1])}

    assert "Anna" in proposed("mute", "")
    assert proposed("gain", "An") == {"Anna"}
    assert "Anna" not in proposed("gain", "Anna", "")
    assert proposed("gain", "Anna", "listener=A") == {"listener=Anna"}
    endpoint += "-none"
    assert "client=" in proposed("mute", "")


def test_people_get_lists_as_tables_and_what_they_may_not_expect(
    hub: RecordingHub, endpoint: str
) -> None:
    assert ctl(endpoint, "bans").output == "no bans\n"
    hub.listed = [BAN, {**BAN, "network": "[red]", "until_s": 60.0}]
    table = ctl(endpoint, "bans").output
    for text in ("192.0.2.1", "for good", "[red]", "1970-01-01"):
        assert text in table
    assert json.loads(ctl(endpoint, "bans", "--json").output)["bans"] == hub.listed
    for words, said in (
        (["lock"], ""),
        (["unlock"], "it was so already"),
        (["waiting-room", "off"], "2 still wait"),
        (["ban", "Anna"], "2 others here come from there"),
    ):
        result = ctl(endpoint, *words)
        assert (result.exit_code, result.stdout) == (0, "")
        assert said in result.stderr
        assert said or not result.stderr


def test_what_the_hub_knows_by_another_name_is_proposed() -> None:
    def said(code: str, message: str) -> str:
        refused = HubRefused(code, message)
        return _refusal("hear", refused, ["Violins", "Anna"], ["Violins"]).message

    assert said("no-section", 'name: "violin": there is no such section').endswith(
        '(no-section); did you mean "Violins"?'
    )
    assert said("no-client", 'source: "Violins": no client of this name is here').endswith(
        "(no-client); as a section it is source_section=Violins"
    )


def test_lists_of_slots_show_names_and_decibels() -> None:
    rule = {"listener": 1, "source": "violins", "gain": 0.5, "pan": None}
    told = _with_names({"rules": [rule, {**rule, "source": 7, "gain": 0.0}]}, {1: "Bob"})
    assert told["rules"][0] == {
        "listener": "Bob", "source": "violins", "gain dB": "-6.0", "pan": None,
    }  # fmt: skip
    assert (told["rules"][1]["source"], told["rules"][1]["gain dB"]) == (7, "off")
    sections = {"sections": [{"name": "violins", "members": [1, 7]}]}
    assert _with_names(sections, {1: "Bob"})["sections"][0]["members"] == ["Bob", 7]


def test_all_operations_can_be_listed() -> None:
    listed = CliRunner().invoke(cli, ["ctl", "--ops"]).output
    assert "\n  gain source gain_db|gain [listener]\n" in listed
    assert {line.split()[0] for line in listed.splitlines()} == {*OPS, "events"}
