"""The command line: what it understands, what it refuses, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from hub.cli import cli
from hub.config import ServeConfig
from hub.directory import ClientInfo
from hub.pans import Section
from hub.values import HostPort, Queue
from shared.limits import DriftMode, GuardMode, PatchMode, Underrun
from tests.hub.listening import RecordingHub, directory, listening, raised, seat

REMOTE = ["status", "clients", "patch", "gain", "mute", "unmute", "queue", "kick", "shutdown",
          "why", "lock", "unlock", "waiting-room", "admit", "refuse", "ban", "unban",
          "bans"]  # fmt: skip


def tuttihub(*args: str) -> Result:
    return CliRunner().invoke(cli, args, prog_name="tuttihub")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeConfig]:
    """The configurations that hubs would have run with; each ends with exit code 0."""
    configs: list[ServeConfig] = []

    def run(config: ServeConfig) -> int:
        configs.append(config)
        return 0

    server = ModuleType("hub.server")
    server.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hub.server", server)
    return configs


@pytest.mark.parametrize(
    "line",
    [
        "serve -p2 -q 3 -u",
        "-S -p2 -q 3 -u",
        "-Sup2 -q3",
        "-up2 -S -q3",
        "--jacktripserver --hubpatch=2 --queue=3 --upmix",
        "serve -S -p 2 --queue 3 -u",
        "-p 5 -S -q 3 -u -p 2",
    ],
)
def test_jacktrips_habits(line: str, served: list[ServeConfig]) -> None:
    result = tuttihub(*line.split())
    assert result.exit_code == 0, result.output
    (config,) = served
    assert config.patch is PatchMode.FAN_OUT_NO_SELF
    assert (config.queue, config.upmix) == (Queue(3), True)


def test_all_options_arrive(served: list[ServeConfig]) -> None:
    line = (
        "serve -B4500 -o 10 -U50000 -p1 -q auto7 -z --drift off --match-clients off "
        "-T 44100 -F 64 --mono-centre --downmix -6 --sections a=5 --limiter on --guard mute "
        "-I 5 -G stat.log --osc 4470 "
        "--max-clients 9 -A --certfile hub.crt --keyfile hub.key --credsfile users "
        "--allow 192.0.2.0/24,2001:db8::/32 --allow ::ffff:10.0.0.1 --deny 192.0.2.9/32 "
        "--max-per-source 3 --handshake-rate 30 --lock --waiting-room --banfile bans.json "
        "--scenefile scenes.json --control-tcp 127.0.0.1:5 --control-keys keys "
        "--transmit-lanes 2 --metrics off --control off --cpus 0 --mixer-cpus 0 "
        "--no-realtime --log-format json --log-level debug"
    )
    result = tuttihub(*line.split())
    assert result.exit_code == 0, result.output
    assert served == [
        ServeConfig(
            bind_port=4510,
            port_offset=10,
            udp_base=50000,
            patch=PatchMode.LOOPBACK,
            include_server=False,
            upmix=False,
            mono_centre=True,
            downmix=0.5,
            sections=(Section("a", 5.0),),
            limiter=True,
            guard=GuardMode.MUTE,
            queue=Queue(0, headroom_ms=7),
            underrun=Underrun.ZERO,
            zero_underrun=True,
            drift=DriftMode.OFF,
            match_clients=False,
            pacing=True,
            rate_hz=44100,
            period_frames=64,
            iostat_s=5,
            iostat_log=Path("stat.log"),
            auth=True,
            cert_file=Path("hub.crt"),
            key_file=Path("hub.key"),
            creds_file=Path("users"),
            max_clients=9,
            allow=tuple(map(ip_network, ("192.0.2.0/24", "2001:db8::/32", "10.0.0.1/32"))),
            deny=(ip_network("192.0.2.9/32"),),
            per_source=3,
            per_minute=30,
            lock=True,
            waiting_room=True,
            banfile=Path("bans.json"),
            scenefile=Path("scenes.json"),
            control_tcp=HostPort("127.0.0.1", 5),
            control_keys=Path("keys"),
            transmit_lanes=2,
            metrics=None,
            control=None,
            osc=HostPort("127.0.0.1", 4470),
            cpus=(0,),
            mixer_cpus=(0,),
            realtime=False,
            log_format="json",
            log_level="debug",
        )
    ]


def test_command_line_wins_over_the_file(served: list[ServeConfig], tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text('queue = 2\nmetrics = "[::1]:9999"\nrealtime = false\nunderrun = "wavetable"\n')
    assert tuttihub("serve", "--config", str(path), "-q8", "-z").exit_code == 0
    (config,) = served
    assert config.queue == Queue(8)
    assert config.underrun is Underrun.ZERO
    assert config.metrics == HostPort("::1", 9999)
    assert not config.realtime


def test_exit_code_is_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ModuleType("hub.server")
    server.run = lambda config: 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hub.server", server)
    assert tuttihub("serve").exit_code == 3


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-S -q many", "--queue: 'many' is not a number of packets (1..64)"),
        ("serve -p0", "--hubpatch: '0' (server-to-clients) needs a local JACK graph"),
        ("serve -p 3", "--hubpatch: '3' (reserved) needs a local JACK graph"),
        ("serve -i -p2", "--includeserver needs a local JACK graph"),
        ("serve -U65000", "--udpbaseport: '65000' leaves no room"),
        ("serve --config missing.toml", "'missing.toml' cannot be read"),
        ("-S -b 24", "-b: is not needed: every client is answered in its own bit resolution"),
        ("-S -q auto251", "--queue: 'auto251' is not a number of packets (1..64), 'auto', or"),
        ("-S -z --underrun burg", "--underrun: 'burg' contradicts --zerounderrun"),
        ("-S --underrun plc", "--underrun: 'plc' is not a way to fill gaps (zero, wavetable, b"),
        ("-S --drift 50", "--drift: '50' is not a way to treat drifting clocks (off, on, auto)"),
        ("-S --match-clients", "requires an argument"),
        ("-S --match-clients yes", "--match-clients: 'yes' is not 'on' or 'off'"),
        ("-S --bufstrategy 3", "--queue sets its depth, --underrun what gaps are filled with"),
        ("-C example.org", "-C: is for clients"),
        ("-S --quue 3", "--queue"),
        ("-S -q", "requires an argument"),
        ("-p4", "Missing command: write 'tuttihub serve ...' or 'tuttihub -S ...'"),
        ("serve now", "unexpected extra argument"),
        ("sreve", "No such command"),
        ("patch 3", "needs a local JACK graph"),
        ("patch loud", "'loud' is not a patch mode (1 loopback"),
        ("queue Anna 65", "'65' is not a number of packets (1..64), 'auto', or 'autoN'"),
        ("gain Anna loud", "'loud' is not a number of decibels, 'off' or 'default'"),
        ("status --port 0", "--port"),
        ("-S --allow Anna", "--allow: 'Anna' is not a network (192.0.2.0/24, 2001:db8::/32, or an"),
        ("-S --deny ::1,1.2.3", "--deny: '::1,1.2.3' ('1.2.3') is not a network"),
        ("-S --max-per-source 0", "--max-per-source: '0' is not a number of clients (1..1024) or"),
        ("-S --handshake-rate few", "--handshake-rate: 'few' is not a number of connections (1.."),
        ("ban Mallory --for long", "'long' is no time such as 90s, 30m, 2h, 7d, 4w or 1d12h"),
    ],
)
def test_wrong_options_name_themselves_and_exit_with_2(
    line: str, said: str, served: list[ServeConfig]
) -> None:
    result = tuttihub(*line.split())
    assert result.exit_code == 2
    assert said in result.output
    assert not served


@pytest.mark.parametrize("command", ["serve", *REMOTE])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = tuttihub(command, "--help")
    assert result.exit_code == 0
    assert f"  tuttihub {command}" in result.output.split("Examples:")[1]


def test_help_of_the_habit_is_the_help_of_serve() -> None:
    assert tuttihub("-S", "--help").output == tuttihub("serve", "-h").output


def test_version() -> None:
    assert tuttihub("--version").output.startswith("tuttihub ")


def test_start_loads_nothing_slow() -> None:
    """Most commands need none of these, and each costs more time than all the rest."""
    code = "import sys, hub.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    slow = {"numpy", "numba", "zmq", "prometheus_client", "rich", "structlog", "asyncio"}
    assert not slow & set(done.stdout.split())


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[RecordingHub]:
    anna = ClientInfo(3, 7, "Anna [red]", "192.0.2.1", 61005, joined_s=0.0)
    hub = RecordingHub(directory=directory(anna))
    seat(hub.arena, 3, 7)
    with listening(f"ipc://{tmp_path}/control", hub):
        yield hub


@pytest.fixture
def control(tmp_path: Path) -> list[str]:
    return ["--control", f"ipc://{tmp_path}/control"]


def test_commands_do_what_they_say(hub: RecordingHub, control: list[str]) -> None:
    for line in (
        ["patch", "2"],
        ["gain", "3", "-6"],
        ["gain", "Anna [red]", "default"],
        ["gain", "Anna [red]", "off", "--listener", "3"],
        ["mute", "3"],
        ["unmute", "3"],
        ["queue", "Anna [red]", "auto5"],
        ["kick", "Anna [red]"],
        ["shutdown"],
    ):
        result = tuttihub(*line, *control)
        assert (result.exit_code, result.output) == (0, ""), result.output
    assert hub.asked == [
        ("patch", PatchMode.FAN_OUT_NO_SELF),
        ("gain", 3, pytest.approx(0.5011872)),
        ("gain", 3, None),
        ("pair", 3, 3, 0.0),
        ("mute", 3, True),
        ("mute", 3, False),
        ("queue", 3, Queue(0, headroom_ms=5)),
        ("kick", 3),
        ("shutdown",),
    ]


def test_commands_of_the_door_do_what_they_say(hub: RecordingHub, control: list[str]) -> None:
    hub.listed = [
        {"network": "192.0.2.7", "since_s": 0, "until_s": None, "name": "[b]", "reason": "noise"},
        {"account": "mallory", "since_s": 0, "until_s": 60, "name": "", "reason": ""},
    ]
    for line, said in (
        (["lock"], ""),
        (["unlock"], "it was not locked"),
        (["waiting-room", "on"], ""),
        (["waiting-room", "off"], "2 still wait"),
        (["admit", "3"], ""),
        (["refuse", "Anna [red]"], ""),
        (["ban", "Anna [red]", "--for", "1d12h", "--reason", "noise"], "2 others here come from"),
        (["ban", "3"], "it could not be saved, and ends with the hub"),
        (["ban", "192.0.2.7/24", "--for", "90s"], ""),
        (["ban", "mallory", "--account"], ""),
        (["unban", "192.0.2.7"], ""),
        (["unban", "mallory"], ""),
        (["bans"], "for good"),
        (["bans"], "account mallory"),
        (["bans", "--json"], '"reason": "noise"'),
    ):
        result = tuttihub(*line, *control)
        assert result.exit_code == 0, result.output
        assert said in result.output
        assert said or not result.output
    assert hub.asked == [
        ("lock",),
        ("unlock",),
        ("waiting-room", True),
        ("waiting-room", False),
        ("admit", 3),
        ("refuse", 3),
        ("ban client", 3, 129600.0, "noise"),
        ("ban client", 3, None, ""),
        ("ban", ip_network("192.0.2.0/24"), 90.0, ""),
        ("ban", "mallory", None, ""),
        ("unban", ip_network("192.0.2.7/32")),
        ("unban", "mallory"),
    ]


def test_status_as_table(hub: RecordingHub, control: list[str]) -> None:
    result = tuttihub("status", *control)
    assert result.exit_code == 0
    for text in ("tuttihub 1.2.3", "full-mix", "Anna [red]", "192.0.2.1:50003", "active"):
        assert text in result.output


def test_status_as_json(hub: RecordingHub, control: list[str]) -> None:
    state = json.loads(tuttihub("status", "--json", *control).output)
    assert state["hub"]["tcp_port"] == 4464
    assert [(c["slot"], c["name"], c["port"]) for c in state["clients"]] == [
        (3, "Anna [red]", 61005)
    ]
    assert json.loads(tuttihub("clients", "--json", *control).output)[0]["slot"] == 3


def test_why_explains_a_client(hub: RecordingHub, control: list[str]) -> None:
    assert tuttihub("why", *control).output == "nothing is wrong with anybody\n"
    hub.directory.clients[3].conditions = raised("no-udp")
    for line in (["why"], ["why", "3"], ["why", "Anna [red]"], ["why", "192.0.2.1"]):
        result = tuttihub(*line, *control)
        assert result.exit_code == 0
        for text in ("Anna [red], slot 3", "no-udp", "musician: ", "hub: "):
            assert text in result.output
    told = json.loads(tuttihub("why", "3", "--json", *control).output)
    assert [entry["name"] for entry in told["clients"]] == ["Anna [red]"]
    assert told["clients"][0]["conditions"][0]["condition"] == "no-udp"
    assert told["hub"] == []


def test_why_of_nobody_is_an_error(hub: RecordingHub, control: list[str]) -> None:
    result = tuttihub("why", "Bob", *control)
    assert result.exit_code == 1
    assert "tuttihub: 'Bob': no such client is here, nor was let go lately" in result.output


def test_control_endpoint_from_the_environment(
    hub: RecordingHub, control: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTTIHUB_CONTROL", control[1])
    assert tuttihub("mute", "3").exit_code == 0


def test_refusal_of_the_hub_is_an_error(hub: RecordingHub, control: list[str]) -> None:
    result = tuttihub("kick", "Nobody", *control)
    assert result.exit_code == 1
    assert 'tuttihub: client: "Nobody": no client of this name is here' in result.output


@pytest.mark.parametrize("command", REMOTE)
def test_no_hub_is_an_error_that_says_what_to_do(command: str, tmp_path: Path) -> None:
    arguments = {"patch": ["4"], "gain": ["0", "1"], "mute": ["0"], "unmute": ["0"], "kick": ["0"],
                 "queue": ["0", "auto"], "admit": ["0"], "refuse": ["0"], "ban": ["0"],
                 "unban": ["a"], "waiting-room": ["on"]}  # fmt: skip
    endpoint = f"ipc://{tmp_path}/nowhere"
    result = tuttihub(command, *arguments.get(command, []), "--control", endpoint)
    assert result.exit_code == 1
    assert f"no hub answers at {endpoint}: there is no such socket" in result.output
    assert "--control ENDPOINT" in result.output
