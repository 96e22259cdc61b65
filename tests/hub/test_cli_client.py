"""The command lines of ``tuttihub client``, ``peer``, ``-C``, ``-s`` and ``-c``."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from hub.cli import cli
from hub.endpoint.config import Audio, EndpointConfig, Reconnect, Role
from hub.endpoint.login import ask
from hub.endpoint.options import markdown
from hub.endpoint.resolving import make_endpoint
from hub.values import Queue
from shared.limits import Underrun

DOCUMENT = Path(__file__).parents[2] / "docs" / "client-options.md"
ENDED = 6


def tuttihub(line: str) -> Result:
    return CliRunner().invoke(cli, line.split(), prog_name="tuttihub")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[EndpointConfig]:
    """The configurations that endpoints would have run with; each ends with an exit code."""
    configs: list[EndpointConfig] = []

    def run(config: EndpointConfig) -> int:
        configs.append(config)
        return ENDED

    module = ModuleType("hub.endpoint.run")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hub.endpoint.run", module)
    return configs


def test_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == markdown(), (
        "run: tuttihub options client > docs/client-options.md"
    )


def test_example_file_of_the_document_is_valid(ran: list[EndpointConfig], tmp_path: Path) -> None:
    path = tmp_path / "end.toml"
    path.write_text(markdown().split("```toml\n")[1].split("```")[0])
    assert tuttihub(f"client h --config {path}").exit_code == ENDED
    assert ran[0].name == "Anna"


@pytest.mark.parametrize(
    ("line", "role", "host"),
    [
        ("client hub.example.org", Role.CLIENT, "hub.example.org"),
        ("-C hub.example.org", Role.CLIENT, "hub.example.org"),
        ("peer", Role.SERVER_PEER, None),
        ("-s", Role.SERVER_PEER, None),
        ("peer ::1", Role.CLIENT_PEER, "::1"),
        ("-c ::1", Role.CLIENT_PEER, "::1"),
    ],
)
def test_roles(line: str, role: Role, host: str | None, ran: list[EndpointConfig]) -> None:
    assert tuttihub(line).exit_code == ENDED
    said = {"reconnect": "silence"} if line.startswith("-") else {}
    assert ran == [make_endpoint(role, host, **said)]


@pytest.mark.parametrize("command", ["client h", "-C h"])
def test_all_options_arrive(command: str, ran: list[EndpointConfig]) -> None:
    line = (
        f"{command} -B 5000 -P 6000 -o 3 -n 3 --sendchannels 1 -q auto5 -r 2 -b 24 -z "
        "--drift off -K Anna -t -A --username anna --password secret -J desk --jack-server two "
        "-D -I 5 -G stat.log --quality off --cpus 0 --no-realtime --log-format json "
        "--log-level debug --duration 2.5"
    )
    result = tuttihub(line)
    assert result.exit_code == ENDED, result.output
    (config,) = ran
    assert (config.bind_port, config.peer_port) == (5003, 6003)
    assert (config.send_channels, config.receive_channels) == (1, 3)
    assert (config.queue, config.redundancy, config.bits) == (Queue(0, 5), 2, 24)
    assert (config.underrun, config.reconnect) == (Underrun.ZERO, Reconnect.NEVER)
    assert (config.name, config.username, config.password) == ("Anna", "anna", "secret")
    assert (config.jack_name, config.jack_server, config.no_connect) == ("desk", "two", True)
    assert (config.iostat_s, config.iostat_log) == (5, Path("stat.log"))
    assert (config.quality, config.cpus, config.realtime) == ("off", (0,), False)
    assert (config.log_format, config.log_level, config.duration_s) == ("json", "debug", 2.5)


def test_sound_without_jack(ran: list[EndpointConfig]) -> None:
    assert tuttihub("client h --play a.wav --record b.wav -F 64").exit_code == ENDED
    (config,) = ran
    assert (config.audio, config.play, config.record) == (
        Audio.FILES, Path("a.wav"), Path("b.wav")
    )  # fmt: skip
    assert config.period_frames == 64


@pytest.mark.parametrize("command", ["client h", "-C h", "peer h"])
def test_command_line_wins_over_the_file(
    command: str, ran: list[EndpointConfig], tmp_path: Path
) -> None:
    path = tmp_path / "end.toml"
    path.write_text('queue = "auto"\nredundancy = 2\nreconnect = "always"\nunderrun = "burg"\n')
    assert tuttihub(f"{command} --config {path} -q8 -t").exit_code == ENDED
    (config,) = ran
    assert (config.queue, config.redundancy) == (Queue(8), 2)
    assert config.reconnect is Reconnect.NEVER


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, True), (0o600, False)])
def test_a_password_that_others_can_read_is_said(
    ran: list[EndpointConfig], tmp_path: Path, mode: int, warned: bool
) -> None:
    path = tmp_path / "end.toml"
    path.write_text('auth = true\nusername = "anna"\npassword = "hunter2"\n')
    path.chmod(mode)
    done = tuttihub(f"client h --config {path}")
    assert done.exit_code == ENDED
    assert (f"chmod 600 {path}" in done.output) == warned
    assert "hunter2" not in done.output


def test_a_file_has_no_settings_of_others(ran: list[EndpointConfig], tmp_path: Path) -> None:
    path = tmp_path / "end.toml"
    path.write_text("hubpatch = 2\n")
    result = tuttihub(f"client h --config {path}")
    assert result.exit_code == 2
    assert "'hubpatch' is not a setting" in result.output


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("client", "Missing argument 'HOST'"),
        ("client a b", "unexpected extra argument"),
        ("client h -q many", "--queue: 'many' is not a number of packets (1..64)"),
        ("-C h -q many", "-q: 'many' is not a number of packets (1..64)"),
        ("-C -h", "HOST: '-h' is not the name or address of a machine"),
        ("peer h -K Anna", "-K: is for a hub's clients"),
        ("client h --simloss 1", "--simloss: networks are simulated from outside"),
        ("client h --reconect never", "'--reconnect'"),
        ("client h --username a", "--username needs --auth"),
        ("-c h --tone loud", "--tone: 'loud' is not a frequency (1..20000) or 'none'"),
        ("-s --sections a=3", "--sections is none of the options of -s"),
    ],
)
def test_wrong_options_name_themselves_and_exit_with_2(
    line: str, said: str, ran: list[EndpointConfig]
) -> None:
    result = tuttihub(line)
    assert result.exit_code == 2
    assert said in result.output
    assert not ran


@pytest.mark.parametrize("command", ["client", "peer"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = tuttihub(f"{command} --help")
    assert result.exit_code == 0
    assert f"  tuttihub {command}" in result.output.split("Examples:")[1]


@pytest.mark.parametrize("typed", ["", "anna\n", "\nsecret\n"])
def test_who_gives_no_password_is_told_what_is_missing(typed: str) -> None:
    result = CliRunner().invoke(cli, ["-C", "h", "-A"], input=typed)
    assert result.exit_code == 2
    assert "--auth needs a user name and a password: as options, or on stdin" in result.output


@pytest.mark.parametrize(
    ("options", "typed"),
    [
        ({}, "anna\nse cret\n"),
        ({"username": "anna"}, "se cret"),
        ({"password": "se cret"}, "anna\r\n"),
    ],
)
def test_what_is_missing_of_a_login_is_read_from_stdin(
    options: dict[str, object], typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(typed))
    assert ask(make_endpoint(Role.CLIENT, "h", auth=True, **options)) == ("anna", "se cret")
