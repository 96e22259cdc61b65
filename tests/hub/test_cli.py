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
from hub.machine_values import HostPort
from hub.pans import Section
from hub.values import Queue
from shared.limits import DriftMode, GuardMode, JackPorts, PatchMode, Underrun
from tests.hub.listening import RecordingHub, directory, listening, raised, seat

REMOTE = ["status", "why", "ctl ping", "ctl mute 0 on"]


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
        "-p 5 -S -q 3 -u -p 2",
    ],
)
def test_jacktrips_habits(line: str, served: list[ServeConfig]) -> None:
    result = tuttihub(*line.split())
    assert result.exit_code == 0, result.output
    (config,) = served
    assert config.patch is PatchMode.FAN_OUT_NO_SELF
    assert (config.queue, config.upmix) == (Queue(3), True)


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ("serve --single-port", 61002), ("serve --single-port -p2", 61002),
        ("serve --single-port 4464 -p2", 4464), ("serve --single-port=off", None),
        ("-S --single-port", 61002), ("-S --single-port -p2", 61002),
        ("-S -p2 --single-port 4464", 4464), ("-S --single-port=4464 -p2", 4464),
    ],
)  # fmt: skip
def test_a_single_port_need_not_be_named(
    line: str, port: int | None, served: list[ServeConfig]
) -> None:
    result = tuttihub(*line.split())
    assert result.exit_code == 0, result.output
    assert [config.single_port for config in served] == [port]


def test_all_options_arrive(served: list[ServeConfig]) -> None:
    line = (
        "serve -B4500 -o 10 -U50000 -p1 -q auto7 -z --drift off --match-clients off "
        "-T 44100 -F 64 --mono-centre --downmix -6 --sections a=5 --limiter on --guard mute "
        "-I 5 -G stat.log --osc 4470 "
        "--max-clients 9 -A --certfile hub.crt --keyfile hub.key --credsfile users "
        "--allow 192.0.2.0/24,2001:db8::/32 --allow ::ffff:10.0.0.1 --deny 192.0.2.9/32 "
        "--max-per-source 3 --handshake-rate 30 --lock --waiting-room --banfile bans.json "
        "--scenefile scenes.json --control-tcp 127.0.0.1:5 --control-keys keys "
        "--transmit-lanes 2 --clients-per-worker 4 --metrics off --control off --cpus 0 "
        "--mixer-cpus 0 --admit-load 0.7 --shed-load 0.9 --line-speed 300 "
        "--no-realtime --log-format json --log-level debug"
    )
    result = tuttihub(*line.split())
    assert result.exit_code == 0, result.output
    assert served == [
        ServeConfig(
            bind_port=4510,
            port_offset=10,
            udp_base=50000,
            single_port=None,
            patch=PatchMode.LOOPBACK,
            include_server=False,
            jack=False,
            jack_server=None,
            no_jack_connect=False,
            jack_ports=JackPorts.CLIENTS,
            broadcast=0,
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
            clients_per_worker=4,
            metrics=None,
            control=None,
            osc=HostPort("127.0.0.1", 4470),
            cpus=(0,),
            mixer_cpus=(0,),
            admit_load=0.7,
            shed_load=0.9,
            line_mbit=300,
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
        ("-S -q many", "-q: 'many' is not a number of packets (1..64)"),
        ("serve -p0", "--hubpatch: '0' (server-to-clients) needs a local JACK graph"),
        ("serve -p 3", "--hubpatch: '3' (reserved) needs a local JACK graph"),
        ("serve -i -p2", "--includeserver needs a local JACK graph: start the hub with --jack"),
        ("serve --jack-ports mix", "--jack-ports: 'mix' needs a local JACK graph"),
        ("serve -U65000", "--udpbaseport: '65000' leaves no room"),
        ("serve --config missing.toml", "'missing.toml' cannot be read"),
        ("serve -b 24", "-b: every client is answered in its own bit resolution"),
        ("-S -q auto251", "-q: 'auto251' is not a number of packets (1..64), 'auto', 'au"),
        ("-S -z --underrun burg", "--underrun: 'burg' contradicts -z"),
        ("-S --underrun plc", "--underrun: 'plc' is not a way to fill gaps (zero, wavetable, b"),
        ("-S --drift 50", "--drift: '50' is not a way to treat drifting clocks (off, on, auto)"),
        ("-S --match-clients", "--match-clients needs an argument"),
        ("-S --match-clients yes", "--match-clients: 'yes' is not 'on' or 'off'"),
        ("serve --bufstrategy 3", "there is one buffer for all strategies"),
        ("serve -C h", "-C: is JackTrip's way: write tuttihub -C without a command"),
        ("-S --quue 3", "--queue"),
        ("-S -q", "-q needs an argument"),
        ("serve -q", "requires an argument"),
        ("-p4", "a command is missing, or one of -S, -C HOST, -s, -c HOST"),
        ("serve now", "unexpected extra argument"),
        ("sreve", "No such command"),
        ("mute Anna", "No such command 'mute'"),
        ("status --port 0", "--port"),
        ("-S --allow Anna", "--allow: 'Anna' is not a network (192.0.2.0/24, 2001:db8::/32, or an"),
        ("-S --deny ::1,1.2.3", "--deny: '::1,1.2.3' ('1.2.3') is not a network"),
        ("-S --max-per-source 0", "--max-per-source: '0' is not a number of clients (1..1024) or"),
        ("-S --handshake-rate few", "--handshake-rate: 'few' is not a number of connections (1.."),
    ],
)
def test_wrong_options_name_themselves_and_exit_with_2(
    line: str, said: str, served: list[ServeConfig]
) -> None:
    result = tuttihub(*line.split())
    assert result.exit_code == 2
    assert said in result.output
    assert not served


@pytest.mark.parametrize("command", ["serve", "status", "why", "ctl"])
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = tuttihub(command, "--help")
    assert result.exit_code == 0
    assert f"  tuttihub {command}" in result.output.split("Examples:")[1]


def test_what_changes_nothing_is_said_on_the_way(served: list[ServeConfig]) -> None:
    result = tuttihub("-S", "-b24", "-t")
    assert result.exit_code == 0
    assert "tuttihub: -b: every client is answered in its own bit" in result.output
    assert len(served) == 1


def test_jacktrips_habit_explains_itself() -> None:
    assert tuttihub("-S", "--help").output.startswith("Usage: tuttihub -S")
    assert tuttihub("-S", "-v").output == tuttihub("--version").output


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("cli", ["client"]),
        ("client --recon", ["--reconnect"]),
        ("client h --reconnect s", ["silence"]),
        ("serve --limiter o", ["on", "off"]),
        ("serve --underrun w", ["wavetable"]),
        ("-S --hubp", ["--hubpatch"]),
        ("-C h --recor", ["--record"]),
        ("-C h --simlo", []),
    ],
)
def test_shell_is_told_what_may_come(words: str, offered: list[str]) -> None:
    typed = f"tuttihub {words}"
    env = {"_TUTTIHUB_COMPLETE": "bash_complete", "COMP_WORDS": typed,
           "COMP_CWORD": str(len(typed.split()) - 1)}  # fmt: skip
    output = CliRunner().invoke(cli, prog_name="tuttihub", env=env).output
    assert output.split() == [f"plain,{word}" for word in offered]


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
    assert tuttihub("status").exit_code == 0


@pytest.mark.parametrize("command", REMOTE)
def test_no_hub_is_an_error_that_says_what_to_do(command: str, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/nowhere"
    result = tuttihub(*command.split(), "--control", endpoint)
    assert result.exit_code == 1
    assert f"no hub answers at {endpoint}: there is no such socket" in result.output
    assert "--control ENDPOINT" in result.output


def test_ctrl_c_while_a_command_is_loaded_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_name: str) -> ModuleType:
        raise KeyboardInterrupt

    monkeypatch.setattr("hub.cli.import_module", interrupted)
    result = CliRunner().invoke(cli, ["doctor", "hub.example.org"])
    assert (result.exit_code, result.output) == (130, "tuttihub: interrupted\n")


def test_what_commands_do_is_told_in_whole_sentences() -> None:
    for group in ([], ["loadtest"], ["keys"]):
        listed = CliRunner().invoke(cli, [*group, "--help"], terminal_width=80).output
        assert "..." not in listed.partition("Commands:")[2]
