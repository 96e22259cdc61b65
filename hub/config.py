"""What `tuttihub serve` can be told: every setting once, as a field of ``ServeConfig``.

A field's metadata is a ``Setting``: flags, kind of value, default as a user would write
it, unit and help. The command line, the keys of a TOML file and docs/options.md are all
rendered from it. What was written travels as ``Given`` (with its origin, so that an error
names the flag or the file), and ``resolve`` turns it into a ServeConfig, in which nothing
is 'auto' any more::

    command line --+
                   +-- {field: Given} -- resolve --> ServeConfig
    TOML file -----+
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hub.banfile import default_banfile
from hub.door import AUTO_PER_MINUTE, AUTO_PER_SOURCE, DoorRules
from hub.endpoint import default_control
from hub.networks import Network
from hub.pans import Downmix, Section, Sections
from hub.values import (
    NEEDS_JACK,
    Choice,
    Control,
    CpuList,
    FileOrOff,
    FilePath,
    HostPort,
    HostPortOrOff,
    Kind,
    Named,
    Networks,
    OnOff,
    PacketsOrAuto,
    Patch,
    Queue,
    Refused,
    Switch,
    Whole,
    cpu_text,
    nearest,
)
from shared.limits import (
    MAX_LANES,
    MAX_PERIOD_FRAMES,
    MIN_PERIOD_FRAMES,
    DriftMode,
    GuardMode,
    PatchMode,
    Underrun,
)
from shared.protocol import (
    DEFAULT_TCP_PORT,
    DEFAULT_UDP_BASE,
    MAX_CLIENTS,
    RATES_HZ,
    default_udp_base,
)

MAX_PORT = 65535
MAX_PER_MINUTE = 1_000_000
CORES_FOR_A_LANE = 4
"""A lane is worth its wake-up only where it has a core beside mixer, receivers and kernel."""


class ConfigError(ValueError):
    """A setting has a value that it cannot have.

    Attributes:
        option: where the value stood: '--queue', or 'hub.toml: queue'.
        value: the value as it was written.
        problem: what is wrong with it and what is allowed.
    """

    def __init__(self, option: str, value: object, problem: str, *, switch: bool = False) -> None:
        # a switch has no value that its user would recognise
        super().__init__(f"{option} {problem}" if switch else f"{option}: {value!r} {problem}")
        self.option, self.value, self.problem = option, value, problem


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as flags, TOML and documentation show it.

    Attributes:
        long: the long flag and the TOML key, without dashes in front.
        short: the short flag's letter, or nothing.
        kind: what its value may be.
        default: as a user would write it.
        help: one sentence; it follows the unit, if there is one.
        unit: of the value.
        jacktrip: what the option is called in JackTrip, or nothing.
    """

    long: str
    short: str
    kind: Kind
    default: str | bool
    help: str
    unit: str = ""
    jacktrip: str = ""

    @property
    def flag(self) -> str:
        return f"--{self.long}"


def _setting(
    flags: str,
    kind: Kind,
    default: str | bool,
    help: str,
    *,
    unit: str = "",
    jacktrip: bool = False,
) -> dict[str, Setting]:
    """Metadata of a field; flags is 'q queue' or, without a short flag, 'max-clients'."""
    short, long = flags.split() if " " in flags else ("", flags)
    original = f"-{short} --{long}".removeprefix("- ") if jacktrip else ""
    return {"setting": Setting(long, short, kind, default, help, unit, original)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """Settings of one hub, complete and checked; made by ``resolve`` or ``make_config``.

    Attributes:
        bind_port: TCP port of the handshake, ``port_offset`` already added.
        udp_base: first UDP port; clients get udp_base .. udp_base + max_clients − 1.
        underrun: what gaps are filled with, ``zero_underrun`` taken into account.
        downmix: factor on left plus right for mono listeners; 0: they hear the left alone.
        transmit_lanes: separate lanes; 0: the mixer sends.
        metrics: where Prometheus scrapes, or None.
        control: ZeroMQ endpoint of the control socket, or None.
        per_source, per_minute: limits for one source, or None for 'auto'.
        banfile: where bans are kept, or None.
        cpus, mixer_cpus: CPUs for workers and for the mixer, or None for all.
    """

    bind_port: int = field(
        metadata=_setting(
            "B bindport",
            Whole("a port", 1, MAX_PORT),
            str(DEFAULT_TCP_PORT),
            "TCP port that clients connect to. Another port also shifts the UDP ports.",
            jacktrip=True,
        )
    )
    port_offset: int = field(
        metadata=_setting(
            "o portoffset",
            Whole("a number of ports", 0, MAX_PORT - 1),
            "0",
            "Added to the TCP port, and so to the UDP ports unless --udpbaseport sets them.",
            jacktrip=True,
        )
    )
    udp_base: int = field(
        metadata=_setting(
            "U udpbaseport",
            Whole("a port", 1, MAX_PORT, auto=True),
            "auto",
            "First UDP port; every client gets one of its own from there on. "
            f"auto: {DEFAULT_UDP_BASE}, shifted as far as the TCP port is from {DEFAULT_TCP_PORT}.",
            jacktrip=True,
        )
    )
    patch: PatchMode = field(
        metadata=_setting(
            "p hubpatch",
            Patch(),
            "4",
            "Who hears whom: everybody themselves only (1), everybody the others (2), "
            "everybody all (4), nobody anything (5). Can be changed live.",
            jacktrip=True,
        )
    )
    include_server: bool = field(
        metadata=_setting(
            "i includeserver",
            Switch(missing=NEEDS_JACK),
            False,
            "Sound of the hub's own machine takes part. Needs JACK: not available yet.",
            jacktrip=True,
        )
    )
    upmix: bool = field(
        metadata=_setting(
            "u upmix",
            Switch(),
            False,
            "Mono clients are heard on both sides by those who receive two channels.",
            jacktrip=True,
        )
    )
    mono_centre: bool = field(
        metadata=_setting(
            "mono-centre",
            Switch(),
            False,
            "Mono clients sound from the centre for those who receive two channels: on both "
            "sides, 3 dB softer on each. (--upmix: on both sides at full level.)",
        )
    )
    downmix: float = field(
        metadata=_setting(
            "downmix",
            Downmix(),
            "auto",
            "What those hear who receive one channel: the left alone (off), or left plus right, "
            "lowered by 3 dB (a placed mono client as loud as it is) or 6 dB (never louder than "
            "the louder side). auto: -3 with --mono-centre or a pan in --sections, else off.",
            unit="dB",
        )
    )
    sections: tuple[Section, ...] = field(
        metadata=_setting(
            "sections",
            Sections(),
            "none",
            "Pan (-100 left .. 100 right) and gain of newcomers by their names: "
            "`violin*=-40,cello*=30/-3`. The first pattern that fits counts.",
        )
    )
    limiter: bool = field(
        metadata=_setting(
            "limiter",
            OnOff(),
            "off",
            "Limit every mix that is sent, softly above -1 dBFS, so that it never clips. "
            "Can be changed live.",
        )
    )
    guard: GuardMode = field(
        metadata=_setting(
            "guard",
            Named("what to do about noise and stuck tones", GuardMode, "WHAT"),
            "watch",
            "A client that sends full-scale noise or a stuck tone for three seconds is said so "
            "(watch), lowered by 20 dB (limit) or muted (mute) until it behaves; "
            "off: nobody looks.",
        )
    )
    queue: Queue = field(
        metadata=_setting(
            "q queue",
            PacketsOrAuto(),
            "4",
            "How much of a client's sound waits for packets that come late. "
            "Less is quicker, more is steadier. auto: as much as the client's packets need; "
            "autoN: N milliseconds more than that. Can be changed live.",
            unit="packets of the client",
            jacktrip=True,
        )
    )
    underrun: Underrun = field(
        metadata=_setting(
            "underrun",
            Named("a way to fill gaps", Underrun, "METHOD"),
            "burg",
            "What gaps in a client's sound are filled with: a quick fade to silence (zero), "
            "the last packet over and over (wavetable), or what the sound around the gap "
            "predicts (burg).",
        )
    )
    zero_underrun: bool = field(
        metadata=_setting(
            "z zerounderrun", Switch(), False, "The same as --underrun zero.", jacktrip=True
        )
    )
    drift: DriftMode = field(
        metadata=_setting(
            "drift",
            Named("a way to treat drifting clocks", DriftMode, "WHEN"),
            "auto",
            "Resample clients whose clock is not the hub's: never (off), from their first "
            "packet (on), or as soon as it certainly differs (auto; bit-exact until then).",
        )
    )
    match_clients: bool = field(
        metadata=_setting(
            "match-clients",
            OnOff(),
            "off",
            "Send to each client at its own clock's rate, so that its buffer neither runs dry "
            "nor over.",
        )
    )
    pacing: bool = field(
        metadata=_setting(
            "pacing",
            OnOff(),
            "on",
            "Send the packets of clients whose packet size is not the hub's evenly, not in "
            "bursts with each tick.",
        )
    )
    rate_hz: int = field(
        metadata=_setting(
            "T srate",
            Choice("a sample rate of JackTrip's", RATES_HZ, "HZ"),
            "48000",
            "Sample rate of the mix; clients of other rates are converted.",
            unit="Hz",
            jacktrip=True,
        )
    )
    period_frames: int = field(
        metadata=_setting(
            "F bufsize",
            Whole("a number of frames", MIN_PERIOD_FRAMES, MAX_PERIOD_FRAMES, metavar="FRAMES"),
            "128",
            "The hub mixes this much at a time; clients may have other packet sizes.",
            unit="frames",
            jacktrip=True,
        )
    )
    auth: bool = field(
        metadata=_setting(
            "A auth",
            Switch(),
            False,
            "Only users of --credsfile may join, with their passwords. "
            "Needs --certfile and --keyfile as well.",
            jacktrip=True,
        )
    )
    cert_file: Path | None = field(
        metadata=_setting(
            "certfile",
            FilePath(),
            "none",
            "Certificate for --auth, PEM; `tuttihub cert` makes one. Read anew when it changes.",
            jacktrip=True,
        )
    )
    key_file: Path | None = field(
        metadata=_setting(
            "keyfile",
            FilePath(),
            "none",
            "Its private key, RSA, PEM, without a passphrase. Read anew when it changes.",
            jacktrip=True,
        )
    )
    creds_file: Path | None = field(
        metadata=_setting(
            "credsfile",
            FilePath(),
            "none",
            "Who may join, with which password, and when; `tuttihub passwd` writes it. "
            "Read anew when it changes.",
            jacktrip=True,
        )
    )
    max_clients: int = field(
        metadata=_setting(
            "max-clients",
            Whole("a number of clients", 1, MAX_CLIENTS),
            str(MAX_CLIENTS),
            "How many may be connected; as many UDP ports are kept for them.",
            unit="clients",
        )
    )
    allow: tuple[Network, ...] = field(
        metadata=_setting(
            "allow",
            Networks("all"),
            "all",
            "Only these networks may connect; more than one with commas, or the option again.",
        )
    )
    deny: tuple[Network, ...] = field(
        metadata=_setting(
            "deny",
            Networks("none"),
            "none",
            "These networks may not connect, even if --allow names them.",
        )
    )
    per_source: int | None = field(
        metadata=_setting(
            "max-per-source",
            Whole("a number of clients", 1, MAX_CLIENTS, auto=True),
            "auto",
            "How many may be connected from one source: an IPv4 address, or an IPv6 /64. "
            f"auto: {AUTO_PER_SOURCE}, and from the hub's own machine any number.",
            unit="clients",
        )
    )
    per_minute: int | None = field(
        metadata=_setting(
            "handshake-rate",
            Whole("a number of connections", 1, MAX_PER_MINUTE, auto=True),
            "auto",
            "How many TCP connections one source may open a minute, all at once if it likes. "
            f"auto: {AUTO_PER_MINUTE}, and from the hub's own machine any number.",
            unit="connections a minute",
        )
    )
    lock: bool = field(
        metadata=_setting(
            "lock",
            Switch(),
            False,
            "Let no newcomers in until `tuttihub unlock`. Can be changed live.",
        )
    )
    waiting_room: bool = field(
        metadata=_setting(
            "waiting-room",
            Switch(),
            False,
            "Newcomers are connected, but unheard and hear nothing until `tuttihub admit`.",
        )
    )
    banfile: Path | None = field(
        metadata=_setting(
            "banfile",
            FileOrOff(),
            "auto",
            "Where bans are kept, so that they survive a restart. auto: tuttihub/bans-PORT.json "
            "in $XDG_STATE_HOME, or else in ~/.local/state; of a systemd service: bans-PORT.json "
            "in its state directory.",
        )
    )
    transmit_lanes: int = field(
        metadata=_setting(
            "transmit-lanes",
            Whole("a number of processes", 0, MAX_LANES, auto=True),
            "auto",
            "Processes that encode and send beside the mixer; 0: the mixer does it. "
            f"auto: 0 below {CORES_FOR_A_LANE} cores, from there on one for every "
            f"{CORES_FOR_A_LANE}.",
            unit="processes",
        )
    )
    metrics: HostPort | None = field(
        metadata=_setting(
            "metrics",
            HostPortOrOff(),
            "127.0.0.1:9464",
            "Where Prometheus finds the counters, under /metrics.",
        )
    )
    control: str | None = field(
        metadata=_setting(
            "control",
            Control(),
            "auto",
            "Socket for `tuttihub status` and its like. "
            "auto: tuttihub-PORT in $XDG_RUNTIME_DIR, or else in /tmp.",
        )
    )
    cpus: tuple[int, ...] | None = field(
        metadata=_setting("cpus", CpuList(), "all", "CPUs that audio processes may run on.")
    )
    mixer_cpus: tuple[int, ...] | None = field(
        metadata=_setting(
            "mixer-cpus", CpuList(), "all", "CPUs for the mixer; all: the same as --cpus."
        )
    )
    realtime: bool = field(
        metadata=_setting(
            "realtime",
            Switch(),
            True,
            "Real-time scheduling and locked memory for audio, as far as permitted.",
        )
    )
    log_format: str = field(
        metadata=_setting(
            "log-format",
            Choice("a log format", ("text", "json"), "FORMAT"),
            "text",
            "Log lines on stderr for people, or as JSON objects for machines.",
        )
    )
    log_level: str = field(
        metadata=_setting(
            "log-level",
            Choice("a log level", ("debug", "info", "warning", "error"), "LEVEL"),
            "info",
            "The least important events that are logged.",
        )
    )

    @property
    def door_rules(self) -> DoorRules:
        """What the door is told."""
        return DoorRules(
            self.allow,
            self.deny,
            self.per_source,
            self.per_minute,
            self.lock,
            self.waiting_room,
        )

    @property
    def udp_ports(self) -> range:
        """The UDP ports that clients are given."""
        return range(self.udp_base, self.udp_base + self.max_clients)


SETTINGS: dict[str, Setting] = {f.name: f.metadata["setting"] for f in fields(ServeConfig)}
"""Settings by field name, in the order of documentation."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and where: '--queue', or 'hub.toml: queue'."""

    value: object
    origin: str


def make_config(**values: object) -> ServeConfig:
    """ServeConfig from fields as a user would write them; the others have their defaults.

    >>> make_config(period_frames=64, metrics="off").period_frames
    64
    """
    return resolve({name: Given(value, SETTINGS[name].flag) for name, value in values.items()})


def resolve(
    given: Mapping[str, Given],
    *,
    environ: Mapping[str, str] = os.environ,
    usable_cpus: Set[int] | None = None,
) -> ServeConfig:
    """Parse, complete and check.

    Args:
        given: what was written, by field name; what is missing has its default.
        usable_cpus: CPUs this process may use; None asks the kernel.

    Raises:
        ConfigError: the first value that cannot be.
    """
    written = {
        name: given.get(name) or Given(setting.default, setting.flag)
        for name, setting in SETTINGS.items()
    }
    values: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        entry = written[name]
        try:
            values[name] = setting.kind.parse(entry.value)
        except Refused as refused:
            switched_on = isinstance(setting.kind, Switch) and entry.value is True
            raise ConfigError(entry.origin, entry.value, str(refused), switch=switched_on) from None
    _complete_underrun(values, given)
    _check_auth(values, written)
    _complete_channels(values, written)
    _complete_ports(values, written)
    _complete_cpus(values, written, usable_cpus)
    if values["control"] == "auto":
        values["control"] = default_control(values["bind_port"], environ)
    if values["banfile"] == "auto":
        values["banfile"] = default_banfile(values["bind_port"], environ)
    return ServeConfig(**values)


def overlay(file: Mapping[str, Given], line: Mapping[str, Given]) -> dict[str, Given]:
    """Settings of a file and of the command line, which wins."""
    merged = {**file, **line}
    one, other = "underrun", "zero_underrun"  # two names of one setting
    if one in line or other in line:
        for name in {one, other} - line.keys():
            merged.pop(name, None)
    return merged


def _complete_underrun(values: dict[str, Any], given: Mapping[str, Given]) -> None:
    """Let ``-z`` be what it is short for, unless something else was said as well."""
    if not values["zero_underrun"]:
        return
    if "underrun" in given and values["underrun"] is not Underrun.ZERO:
        entry, zero = given["underrun"], given["zero_underrun"].origin
        raise ConfigError(
            entry.origin, entry.value, f"contradicts {zero}, which is --underrun zero; say one"
        )
    values["underrun"] = Underrun.ZERO


def _check_auth(values: Mapping[str, Any], written: Mapping[str, Given]) -> None:
    """All three files, or nobody could join."""
    names = ("cert_file", "key_file", "creds_file")
    missing = [SETTINGS[name].flag for name in names if values[name] is None]
    if values["auth"] and missing:
        raise ConfigError(
            written["auth"].origin,
            True,
            f"needs {' and '.join(missing)}; `tuttihub cert` and `tuttihub passwd` make such files",
            switch=True,
        )


def _complete_channels(values: dict[str, Any], written: Mapping[str, Given]) -> None:
    """Let mono listeners hear both sides where voices have places."""
    if values["mono_centre"] and values["upmix"]:
        raise ConfigError(
            written["mono_centre"].origin,
            True,
            f"and {written['upmix'].origin} contradict each other: both say how mono clients are "
            "heard on two channels; say one",
            switch=True,
        )
    if values["downmix"] is None:
        placed = values["mono_centre"] or any(s.pan is not None for s in values["sections"])
        values["downmix"] = Downmix().parse("-3" if placed else "off")


def _complete_ports(values: dict[str, Any], written: Mapping[str, Given]) -> None:
    """Fold the offset in, place the UDP ports, and check that all fit."""

    def wrong(name: str, problem: str) -> ConfigError:
        return ConfigError(written[name].origin, written[name].value, problem)

    base, clients = values["udp_base"], values["max_clients"]
    values["bind_port"] += values["port_offset"]
    port = values["bind_port"]
    if port > MAX_PORT:
        raise wrong("port_offset", f"moves the TCP port to {port}; at most {MAX_PORT} exists")
    highest = MAX_PORT + 1 - clients
    if base is None:
        base = values["udp_base"] = default_udp_base(port)
        if base > highest:
            raise wrong(
                "port_offset" if values["port_offset"] else "bind_port",
                f"moves the UDP ports to {base}..{base + clients - 1}, beyond {MAX_PORT}; "
                f"say --udpbaseport (1..{highest} for {clients} clients) or fewer --max-clients",
            )
    elif base > highest:
        raise wrong(
            "udp_base",
            f"leaves no room below 65536 for {clients} clients; "
            f"allowed are 1..{highest}, or fewer --max-clients",
        )
    if values["metrics"] is not None and values["metrics"].port == port:
        raise wrong("metrics", f"has the port of the handshake; take another than {port}")


def _complete_cpus(
    values: dict[str, Any], written: Mapping[str, Given], usable_cpus: Set[int] | None
) -> None:
    """Check the CPU lists against the machine and choose the number of lanes."""
    usable = os.sched_getaffinity(0) if usable_cpus is None else usable_cpus
    for name in ("cpus", "mixer_cpus"):
        if missing := set(values[name] or ()) - usable:
            raise ConfigError(
                written[name].origin,
                written[name].value,
                f"names CPU {cpu_text(missing)}, which this process may not use "
                f"({cpu_text(usable)})",
            )
    if values["transmit_lanes"] is None:
        cores = len(values["cpus"] or usable)
        lanes = cores // CORES_FOR_A_LANE
        values["transmit_lanes"] = min(lanes, MAX_LANES)


def read_file(path: Path) -> dict[str, Given]:
    """Settings of a TOML file: long flags without dashes as keys, all at the top level.

    Raises:
        ConfigError: it cannot be read, is no TOML, or has a key that is no setting.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("--config", str(path), f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("--config", str(path), f"is no TOML file: {error}") from None
    names = {setting.long: name for name, setting in SETTINGS.items()}
    given: dict[str, Given] = {}
    for key, value in document.items():
        if key not in names:
            problem = f"is not a setting{nearest(key, names)} (allowed: {', '.join(names)})"
            raise ConfigError(str(path), key, problem)
        given[names[key]] = Given(value, f"{path}: {key}")
    return given
