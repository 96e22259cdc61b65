"""Settings of an endpoint: defaults, what depends on one another, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub.endpoint.config import SETTINGS, Audio, EndpointConfig, Reconnect, Role
from hub.endpoint.resolving import make_endpoint, resolve
from hub.given import Given
from hub.setting import ConfigError
from hub.values import Queue
from shared.limits import DriftMode, Underrun

HOST = "hub.example.org"


def client(**values: object) -> EndpointConfig:
    return make_endpoint(Role.CLIENT, HOST, **values)


def refusal(role: Role = Role.CLIENT, **values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        make_endpoint(role, HOST, **values)
    return str(caught.value)


def test_defaults_are_those_of_a_jacktrip_client() -> None:
    config = client()
    assert (config.host, config.peer_port, config.bind_port) == (HOST, 4464, None)
    assert (config.send_channels, config.receive_channels) == (2, 2)
    assert (config.queue, config.redundancy, config.bits) == (Queue(4), 1, 16)
    assert (config.underrun, config.drift) == (Underrun.BURG, DriftMode.AUTO)
    assert (config.audio, config.jack_name) == (Audio.JACK, HOST)
    assert (config.name, config.password) == ("", "")
    assert config.reconnect is Reconnect.ALWAYS
    assert make_endpoint(Role.CLIENT_PEER, HOST).reconnect is Reconnect.SILENCE
    assert config.rate_hz is config.period_frames is config.duration_s is None


@pytest.mark.parametrize(
    ("role", "values", "ports"),
    [
        (Role.CLIENT, {}, (None, 4464)),
        (Role.CLIENT, {"port_offset": 2}, (4466, 4466)),
        (Role.CLIENT, {"bind_port": 5000, "peer_port": 6000}, (5000, 6000)),
        (Role.SERVER_PEER, {}, (4464, 4464)),
        (Role.CLIENT_PEER, {"bind_port": "5000", "port_offset": "1"}, (5001, 4465)),
    ],
)
def test_ports(role: Role, values: dict[str, object], ports: tuple[int | None, int]) -> None:
    config = make_endpoint(role, HOST, **values)
    assert (config.bind_port, config.peer_port) == ports


def test_channels_each_way_are_those_of_both_ways_unless_said() -> None:
    config = client(channels=3, receive_channels=5)
    assert (config.send_channels, config.receive_channels) == (3, 5)


def test_short_words_for_what_has_a_longer_one() -> None:
    assert client(zero_underrun=True).underrun is Underrun.ZERO
    assert client(timeout=True).reconnect is Reconnect.NEVER


@pytest.mark.parametrize(
    ("values", "audio"),
    [
        ({"play": "a.wav"}, Audio.FILES),
        ({"tone_hz": 440, "record": "b.wav"}, Audio.FILES),
        ({"audio": "files"}, Audio.FILES),
        ({"audio": "jack", "play": "a.wav", "record": "b.wav"}, Audio.JACK),
        ({"audio": "card", "tone_hz": 440}, Audio.CARD),
        ({"card": "USB"}, Audio.CARD),
    ],
)
def test_where_sound_comes_from(values: dict[str, object], audio: Audio) -> None:
    assert client(**values).audio is audio


def test_name_of_the_jack_client_is_one_that_jack_takes() -> None:
    assert make_endpoint(Role.CLIENT, "2001:db8::1").jack_name == "2001_db8__1"
    assert make_endpoint(Role.SERVER_PEER).jack_name == "JackTrip"
    assert client(jack_name="left desk").jack_name == "left desk"


def test_a_colon_in_a_jack_name_is_none_of_jacks() -> None:
    assert client(jack_name="a:b").jack_name == "a_b"


def test_password_is_not_shown() -> None:
    config = client(auth=True, username="anna", password="hunter2")
    assert "hunter2" not in repr(config)
    assert "hunter2" not in refusal(password="hunter2")
    for wrong in ("hunter2\0", "hunter2" * 600, ["hunter2"]):
        said = refusal(auth=True, username="anna", password=wrong)
        assert said.startswith("--password is ")
        assert "hunter2" not in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"port_offset": 65000}, "--portoffset: 65000 moves --bindport to 69464; at most 65535"),
        ({"channels": 17}, "--numchannels: 17 is not a number of channels (1..16)"),
        ({"bits": 20}, "--bitres: 20 is not a bit resolution (8, 16, 24, 32)"),
        ({"redundancy": 0}, "--redundancy: 0 is not a number of copies (1..8)"),
        ({"name": "å" * 32}, "is 64 bytes long, and a name has at most 63"),
        ({"name": "a\0b"}, "--remotename: 'a\\x00b' is not a name"),
        ({"zero_underrun": True, "underrun": "burg"}, "contradicts --zerounderrun: The same as"),
        ({"timeout": True, "reconnect": "always"}, "--reconnect: 'always' contradicts --timeout"),
        ({"username": "anna"}, "--username needs --auth"),
        ({"play": "a.wav", "tone_hz": 440}, "--tone: 440 and --play contradict each other"),
        ({"audio": "jack", "card": "USB"}, "--card: 'USB' needs --audio card, not jack"),
        ({"play": "a.wav", "record": "./a.wav"}, "--record: './a.wav' is the file that --play"),
        ({"overwrite": True}, "--overwrite needs --record"),
        ({"duration_s": "1e3"}, "--duration: '1e3' is not a number of seconds (0.1..604800)"),
        ({"duration_s": 0.0}, "--duration: 0.0 is not a number of seconds"),
        ({"tone_hz": float("nan")}, "--tone: nan is not a frequency (1..20000) or 'none'"),
        ({"iostat_log": "stat"}, "--iostatlog: 'stat' needs --iostat with 1 second or more"),
    ],
)
def test_what_cannot_be_names_option_value_and_what_is_allowed(
    values: dict[str, Any], said: str
) -> None:
    assert said in refusal(**values)


def test_peers_know_no_passwords() -> None:
    assert refusal(Role.CLIENT_PEER, auth=True) == (
        "--auth is for a hub's clients: peers know no passwords"
    )


@pytest.mark.parametrize("host", ["", " ", "a b", "a\n", "--help", "x" * 254])
def test_host_is_a_name_or_an_address(host: str) -> None:
    with pytest.raises(ConfigError, match="HOST"):
        make_endpoint(Role.CLIENT, host)


def test_cpus_are_those_of_this_process() -> None:
    given = {"cpus": Given("7", "--cpus")}
    with pytest.raises(ConfigError, match=r"--cpus: '7' names CPU 7"):
        resolve(Role.CLIENT, HOST, given, usable_cpus={0, 1})


def test_files_are_paths_and_durations_have_decimals() -> None:
    config = client(play="a.wav", record="b.wav", duration_s="2.5", rate_hz=44100)
    assert (config.play, config.record) == (Path("a.wav"), Path("b.wav"))
    assert (config.duration_s, config.rate_hz) == (2.5, 44100)


def test_no_flag_stands_for_two_settings() -> None:
    longs = [setting.long for setting in SETTINGS.values()]
    shorts = [setting.short for setting in SETTINGS.values() if setting.short]
    assert len(set(longs)) == len(longs)
    assert len(set(shorts)) == len(shorts)
