"""Settings: defaults, ranges, what depends on one another, and files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.config import SETTINGS, ServeConfig
from hub.given import Given
from hub.jack.clock import JackClock
from hub.machine_values import CpuList, HostPort, cpu_text
from hub.resolving import make_config, overlay, read_file, resolve
from hub.setting import ConfigError
from hub.values import PacketsOrAuto, Queue, Refused, Whole
from shared.limits import DriftMode, PatchMode, Underrun

RANGES = [(name, s.kind) for name, s in SETTINGS.items() if isinstance(s.kind, Whole)]


def written(**values: object) -> dict[str, Given]:
    return {name: Given(value, SETTINGS[name].flag) for name, value in values.items()}


def on_cores(cores: int, **values: object) -> ServeConfig:
    return resolve(written(**values), environ={}, usable_cpus=set(range(cores)))


def refusal(**values: object) -> str:
    with pytest.raises(ConfigError) as caught:
        on_cores(2, **values)
    return str(caught.value)


def test_defaults_are_those_of_a_jacktrip_hub_in_full_mix() -> None:
    config = on_cores(2)
    assert (config.bind_port, config.udp_base) == (4464, 61002)
    assert config.patch is PatchMode.FULL_MIX
    assert (config.queue, config.rate_hz, config.period_frames) == (Queue(4), 48000, 128)
    assert (config.underrun, config.drift) == (Underrun.BURG, DriftMode.AUTO)
    assert config.match_clients
    assert config.max_clients == len(config.udp_ports) == 1024
    assert config.metrics == HostPort("127.0.0.1", 9464)
    assert config.control == "ipc:///tmp/tuttihub-4464"
    assert config.realtime
    assert not config.upmix
    assert config.cpus is None


@pytest.mark.parametrize(("name", "kind"), RANGES)
@given(data=st.data())
def test_numbers_in_range_are_taken_as_text_and_as_numbers(
    name: str, kind: Whole, data: st.DataObject
) -> None:
    number = data.draw(st.integers(kind.low, kind.high))
    assert kind.parse(number) == kind.parse(str(number)) == number


@pytest.mark.parametrize(("name", "kind"), RANGES)
@given(data=st.data())
def test_anything_else_is_refused_by_flag_value_and_range(
    name: str, kind: Whole, data: st.DataObject
) -> None:
    wrong = data.draw(
        st.integers(max_value=kind.low - 1)
        | st.integers(min_value=kind.high + 1)
        | st.booleans()
        | st.floats()
        | st.none()
        | st.lists(st.integers(), max_size=2)
        | st.text().filter(lambda text: not text.isdecimal() and text != "auto")
    )
    message = refusal(**{name: wrong})
    assert message.endswith(f"({kind.low}..{kind.high})" + (" or 'auto'" if kind.auto else ""))
    assert message.startswith(f"{SETTINGS[name].flag}: {wrong!r} is not ")


def test_message_is_the_one_of_the_house_style() -> None:
    assert refusal(queue="many") == (
        "--queue: 'many' is not a number of packets (1..64), 'auto', "
        "'autoN' with N milliseconds of headroom (0..250), or 'Nms' (1..250)"
    )


@pytest.mark.parametrize("text", ["1_0", "٣", " 4", "4 ", "0x10", "1e2", "+4", "9" * 5000])
def test_only_plain_decimal_digits_are_a_number(text: str) -> None:
    assert "is not a port (1..65535)" in refusal(bind_port=text)
    assert "is not a number of packets" in refusal(queue=text)


@pytest.mark.parametrize(
    ("written", "queue"),
    [
        (1, Queue(1)),
        ("64", Queue(64)),
        ("auto", Queue(0)),
        ("auto0", Queue(0)),
        ("auto5", Queue(0, headroom_ms=5)),
        ("auto250", Queue(0, headroom_ms=250)),
        ("1ms", Queue(0, milliseconds=1)),
        ("250ms", Queue(0, milliseconds=250)),
    ],
)
def test_queue_is_packets_or_automatic_with_headroom(written: object, queue: Queue) -> None:
    assert make_config(queue=written).queue == queue


@pytest.mark.parametrize(
    "wrong", [0, 65, -1, "0", "auto-1", "auto251", "auto1.5", "auto 5", "AUTO", "5auto", "autoauto",
              "0ms", "251ms", "ms", "-5ms", "5 ms", "1.5ms", "auto5ms", "5MS",
              "", True, 4.0, None, ["auto"]],
)  # fmt: skip
def test_any_other_queue_is_refused(wrong: object) -> None:
    assert refusal(queue=wrong).startswith(f"--queue: {wrong!r} is not a number of packets (1..64)")


@given(
    st.builds(Queue, st.integers(1, 64))
    | st.builds(Queue, st.just(0), st.integers(0, 250))
    | st.builds(Queue, st.just(0), st.just(0), st.integers(1, 250))
)
def test_queue_comes_back_from_text_and_from_the_arena(queue: Queue) -> None:
    assert PacketsOrAuto().parse(str(queue)) == queue
    assert Queue.of(queue.order, queue.headroom_ns) == queue


@given(st.text(max_size=9) | st.text("automs0123456789", max_size=9))
def test_no_text_is_anything_but_a_queue_or_refused(text: str) -> None:
    try:
        queue = PacketsOrAuto().parse(text)
    except Refused:
        return
    assert 0 <= queue.packets <= 64
    assert 0 <= queue.headroom_ms <= 250
    assert 0 <= queue.milliseconds <= 250
    assert (queue.packets, queue.headroom_ms, queue.milliseconds).count(0) >= 2


@pytest.mark.parametrize("method", list(Underrun))
def test_underrun_by_name(method: Underrun) -> None:
    assert make_config(underrun=method.name.lower()).underrun is method


def test_other_ways_to_fill_gaps_are_refused_with_those_allowed() -> None:
    assert refusal(underrun="plc") == (
        "--underrun: 'plc' is not a way to fill gaps (zero, wavetable, burg)"
    )


def test_zerounderrun_is_underrun_zero() -> None:
    assert make_config(zero_underrun=True).underrun is Underrun.ZERO
    assert make_config(zero_underrun=True, underrun="zero").underrun is Underrun.ZERO
    assert make_config(zero_underrun=False, underrun="burg").underrun is Underrun.BURG


@pytest.mark.parametrize("method", ["burg", "wavetable"])
def test_zerounderrun_and_another_underrun_contradict_each_other(method: str) -> None:
    assert refusal(zero_underrun=True, underrun=method) == (
        f"--underrun: {method!r} contradicts --zerounderrun: The same as --underrun zero."
    )


def test_of_two_names_of_one_setting_the_command_lines_wins() -> None:
    burg, zero = written(underrun="burg"), written(zero_underrun=True)
    queue = written(queue="auto")
    assert resolve(overlay({**burg, **queue}, zero)).underrun is Underrun.ZERO
    assert resolve(overlay({**zero, **queue}, burg)).underrun is Underrun.BURG
    assert resolve(overlay({**zero, **queue}, {})).underrun is Underrun.ZERO
    assert resolve(overlay({**zero, **queue}, burg)).queue == Queue(0)
    with pytest.raises(ConfigError, match="contradicts"):
        resolve(overlay({**zero, **burg}, queue))


@pytest.mark.parametrize("when", list(DriftMode))
def test_drift_by_name(when: DriftMode) -> None:
    assert make_config(drift=when.name.lower()).drift is when


def test_other_treatments_of_drift_are_refused_with_those_allowed() -> None:
    for wrong in ("always", True, 1):
        assert refusal(drift=wrong) == (
            f"--drift: {wrong!r} is not a way to treat drifting clocks (off, on, auto)"
        )


@pytest.mark.parametrize(("text", "on"), [("on", True), ("off", False), (True, True), (False, 0)])
def test_match_clients_is_on_or_off(text: object, on: bool) -> None:
    assert make_config(match_clients=text).match_clients is bool(on)


@pytest.mark.parametrize("wrong", ["yes", "ON", 1, None, []])
def test_match_clients_is_nothing_else(wrong: object) -> None:
    assert refusal(match_clients=wrong) == f"--match-clients: {wrong!r} is not 'on' or 'off'"


def test_port_offset_moves_tcp_and_udp() -> None:
    config = make_config(port_offset=300)
    assert (config.bind_port, config.udp_base) == (4764, 61302)


def test_bind_port_shifts_the_udp_ports() -> None:
    assert make_config(bind_port="5264").udp_base == 61802


@pytest.mark.parametrize(
    ("written", "port"),
    [("off", None), (False, None), ("auto", 61802), (True, 61802), (4464, 4464), ("50000", 50000)],
)
def test_single_port_is_the_first_of_the_range_unless_it_is_said(
    written: object, port: int | None
) -> None:
    assert make_config(bind_port="5264", single_port=written).single_port == port


def test_single_port_is_a_port_and_not_oscs() -> None:
    for wrong in ("many", 0, 65536, ""):
        assert refusal(single_port=wrong) == (
            f"--single-port: {wrong!r} is not a port (1..65535), 'auto' or 'off'"
        )
    assert refusal(single_port="5000", osc="5000") == (
        "--single-port: '5000' is the port of --osc; take another"
    )


def test_udp_base_is_exact() -> None:
    config = make_config(bind_port=5000, port_offset=7, udp_base=40000)
    assert (config.bind_port, config.udp_base) == (5007, 40000)


@given(
    port=st.integers(1, 65535),
    offset=st.integers(0, 65534),
    base=st.integers(1, 65535) | st.just("auto"),
    clients=st.integers(1, 1024),
)
def test_ports_are_accepted_exactly_when_all_of_them_exist(
    port: int, offset: int, base: int | str, clients: int
) -> None:
    values = {
        "bind_port": port,
        "port_offset": offset,
        "udp_base": base,
        "max_clients": clients,
        "metrics": "off",
    }
    if port + offset > 65535:
        with pytest.raises(ConfigError, match="moves the TCP port"):
            make_config(**values)
        return
    first = 56538 + port + offset if base == "auto" else int(base)
    if first + clients > 65536:
        with pytest.raises(ConfigError, match=r"moves the UDP ports|leaves no room"):
            make_config(**values)
        return
    config = make_config(**values)
    assert config.bind_port == port + offset
    assert config.udp_ports == range(first, first + clients)


def test_udp_range_that_does_not_fit_says_what_would() -> None:
    assert refusal(udp_base=65000) == (
        "--udpbaseport: 65000 leaves no room below 65536 for 1024 clients; "
        "allowed are 1..64512, or fewer --max-clients"
    )
    assert on_cores(2, udp_base=65000, max_clients=536).udp_ports[-1] == 65535


def test_tcp_port_that_pushes_the_udp_ports_out_is_named() -> None:
    message = refusal(bind_port="9000")
    assert message.startswith("--bindport: '9000' moves the UDP ports to 65538..66561")
    assert "--udpbaseport (1..64512 for 1024 clients)" in message


def test_metrics_may_not_have_the_port_of_the_handshake() -> None:
    assert refusal(metrics="127.0.0.1:4464").startswith("--metrics: '127.0.0.1:4464' ")


@pytest.mark.parametrize("mode", [1, 2, 4, 5])
def test_patch_modes_by_number_and_name(mode: int) -> None:
    name = PatchMode(mode).name.lower().replace("_", "-")
    assert make_config(patch=mode).patch is make_config(patch=name).patch is PatchMode(mode)


@pytest.mark.parametrize("mode", ["0", "3", "server-to-clients"])
def test_patch_modes_of_a_jack_graph_say_so(mode: str) -> None:
    message = refusal(patch=mode)
    assert message.startswith(f"--hubpatch: {mode!r} ")
    assert "needs a local JACK graph" in message
    assert "4 full-mix" in message


@pytest.mark.parametrize("mode", ["6", "-1", "fullmix", True, 4.0])
def test_no_patch_mode(mode: object) -> None:
    assert "is not a patch mode (0 server-to-clients, 1 loopback" in refusal(patch=mode)


@pytest.mark.parametrize(
    ("field", "value", "flag"),
    [
        ("include_server", True, "--includeserver"),
        ("no_jack_connect", True, "--nojackportsconnect"),
        ("jack_server", "stage", "--jack-server: 'stage'"),
        ("jack_ports", "mix", "--jack-ports: 'mix'"),
        ("broadcast", 8, "--broadcast: 8"),
    ],
)
def test_what_is_nothing_without_jack_says_so(field: str, value: object, flag: str) -> None:
    assert refusal(**{field: value}).startswith(f"{flag} needs a local JACK graph: start the hub")


def with_jack(clock: JackClock | None, **values: object) -> ServeConfig:
    """A hub's settings where a JACK server has this clock."""
    return resolve(written(jack=True, **values), jack_clock=lambda server: clock)


def test_jack_decides_rate_period_and_mode() -> None:
    config = with_jack(JackClock(44100, 64))
    assert (config.rate_hz, config.period_frames) == (44100, 64)
    assert config.patch is PatchMode.SERVER_TO_CLIENTS
    alone = with_jack(None, patch="4", include_server=True)
    assert (alone.rate_hz, alone.period_frames, alone.patch) == (48000, 128, PatchMode.FULL_MIX)


@pytest.mark.parametrize(
    ("clock", "values", "said"),
    [
        (JackClock(48000, 64), {"period_frames": 128}, "--bufsize: 128 is not what the JACK serv"),
        (JackClock(44100, 64), {"rate_hz": "48000"}, "--srate: '48000' is not what the JACK serv"),
        (JackClock(47999, 64), {}, "--jack finds a JACK server with 47999 Hz, which is not a samp"),
        (JackClock(48000, 2048), {}, "--jack finds a JACK server with 2048 frames, which is not a"),
    ],
)
def test_what_contradicts_jack_is_refused(
    clock: JackClock, values: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        with_jack(clock, **values)
    assert str(refused.value).startswith(said)


def test_ports_of_sections_need_sections() -> None:
    with pytest.raises(
        ConfigError, match=r"^--jack-ports: 'sections' needs --sections, or say mix"
    ):
        with_jack(None, jack_ports="sections")
    assert with_jack(None, jack_ports="sections", sections="choir*=0").sections


def test_rates_are_those_of_the_protocol() -> None:
    assert make_config(rate_hz="44100").rate_hz == 44100
    assert "(22050, 32000, 44100, 48000, 88200, 96000, 192000)" in refusal(rate_hz=48001)


@pytest.mark.parametrize(("cores", "lanes"), [(1, 0), (3, 0), (4, 1), (8, 2), (64, 16), (256, 16)])
def test_automatic_lanes_follow_the_cores(cores: int, lanes: int) -> None:
    assert on_cores(cores).transmit_lanes == lanes


def test_automatic_lanes_follow_the_cpus_that_are_allowed() -> None:
    assert on_cores(16, cpus="0-2").transmit_lanes == 0
    assert on_cores(16, cpus="0-2", transmit_lanes="3").transmit_lanes == 3


def test_cpus_that_are_not_there_are_named() -> None:
    assert refusal(cpus="0-2,9") == (
        "--cpus: '0-2,9' names CPU 2,9, which this process may not use (0-1)"
    )


@given(st.sets(st.integers(0, 4095), min_size=1, max_size=40))
def test_cpu_lists_come_back(cpus: set[int]) -> None:
    kind = CpuList()
    assert kind.parse(cpu_text(cpus)) == kind.parse(list(cpus)) == tuple(sorted(cpus))


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-2-3", "-1", "1,,2", "4096", [True], [], 1.5])
def test_no_cpu_list(text: object) -> None:
    with pytest.raises(Refused):
        CpuList().parse(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0.0.0.0:9464", HostPort("0.0.0.0", 9464)),
        ("[::1]:1", HostPort("::1", 1)),
        ("localhost:65535", HostPort("localhost", 65535)),
        ("off", None),
    ],
)
def test_metrics_addresses(text: str, wanted: HostPort | None) -> None:
    assert make_config(metrics=text).metrics == wanted
    assert wanted is None or str(wanted) == text


@pytest.mark.parametrize("text", ["9464", "host:", "host:0", "host:65536", "::1:9464", 9464, ""])
def test_no_metrics_address(text: object) -> None:
    assert "is not HOST:PORT" in refusal(metrics=text)


def test_control_endpoints() -> None:
    assert make_config(control="off").control is None
    assert make_config(control="ipc:///run/hub").control == "ipc:///run/hub"
    assert "open to everybody" in refusal(control="tcp://0.0.0.0:1234")
    assert "is too long" in refusal(control="ipc:///" + "a" * 107)
    for text in ("ipc://", "ipc://@abstract", "/run/hub", 7):
        assert refusal(control=text).startswith(f"--control: {text!r} ")


def test_control_endpoint_is_named_by_the_tcp_port(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    config = resolve(written(port_offset=6), environ=environ)
    assert config.control == f"ipc://{tmp_path}/tuttihub-4470"


def test_file_has_the_long_flags_as_keys(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(
        'queue = 2\nupmix = true\ncpus = [0]\nmetrics = "off"\nhubpatch = 2\n'
        'underrun = "wavetable"\ndrift = "on"\nmatch-clients = false\n'
    )
    config = resolve(read_file(path), usable_cpus={0, 1})
    assert (config.queue, config.upmix, config.cpus) == (Queue(2), True, (0,))
    assert (config.underrun, config.drift) == (Underrun.WAVETABLE, DriftMode.ON)
    assert not config.match_clients
    assert config.patch is PatchMode.FAN_OUT_NO_SELF
    assert config.metrics is None


def test_wrong_value_in_a_file_names_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text("queue = 65\n")
    with pytest.raises(ConfigError) as caught:
        resolve(read_file(path))
    assert str(caught.value).startswith(f"{path}: queue: 65 is not a number of packets (1..64)")


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text("max_clients = 3\n")
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert "'max_clients' is not a setting; did you mean 'max-clients'?" in str(caught.value)


def test_a_table_of_settings_is_told_that_it_is_none(tmp_path: Path) -> None:
    path = tmp_path / "hub.toml"
    path.write_text("[serve]\nqueue = 3\n")
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert "'serve' is no table of settings: all stand at the top level" in str(caught.value)


@pytest.mark.parametrize("content", [b"queue = = 2", b"\xff\xfe"])
def test_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hub.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no TOML file"):
        read_file(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing.toml' cannot be read: No such file"):
        read_file(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("name", "wrong", "allowed"),
    [
        ("admit_load", "0", "is not a share (0.001..1) or 'off'"),
        ("admit_load", "80%", "is not a share (0.001..1) or 'off'"),
        ("admit_load", 1.5, "is not a share (0.001..1) or 'off'"),
        ("admit_load", True, "is not a share (0.001..1) or 'off'"),
        ("shed_load", "1.01", "is not a share (0.001..1) or 'off'"),
        ("admit_load", "auto", "is not a share (0.001..1) or 'off'"),
        ("line_mbit", "0", "is not a number of Mbit/s (1..1000000), 'auto' or 'off'"),
        ("line_mbit", "1.5", "is not a number of Mbit/s (1..1000000), 'auto' or 'off'"),
        ("line_mbit", "1gbit", "is not a number of Mbit/s (1..1000000), 'auto' or 'off'"),
    ],
)
def test_shares_and_bandwidths_that_cannot_be(name: str, wrong: object, allowed: str) -> None:
    assert refusal(**{name: wrong}) == f"{SETTINGS[name].flag}: {wrong!r} {allowed}"


def test_load_is_limited_unless_told_otherwise() -> None:
    config = on_cores(2)
    assert (config.admit_load, config.shed_load, config.line_mbit) == (0.8, 0.95, "auto")
    config = on_cores(2, admit_load="off", line_mbit="off")
    assert (config.admit_load, config.line_mbit) == (None, None)
    config = on_cores(2, admit_load=0.5, line_mbit="300")
    assert (config.admit_load, config.line_mbit) == (0.5, 300)
