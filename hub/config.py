"""What `tuttihub serve` can be told: every setting once, as a field of ``ServeConfig``.

A field's metadata is a ``Setting``: flags, kind of value, default as a user would write
it, unit and help. The command line, the keys of a TOML file and docs/options.md are all
rendered from it; ``hub.resolving`` makes one from what was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hub.door import AUTO_PER_MINUTE, AUTO_PER_SOURCE, DoorRules
from hub.jack.settings import JackSettings
from hub.machine_values import (
    Control,
    CpuList,
    FileOrOff,
    FilePath,
    HostPort,
    HostPortOrOff,
    LocalPortOrOff,
    Networks,
    PortOrOff,
)
from hub.networks import Network
from hub.overload.settings import OverloadSettings
from hub.pans import Downmix, Section, Sections
from hub.process_settings import ProcessSettings, described_settings
from hub.setting import Setting, described
from hub.sharing import ALONE_A_CORE, AUTO_PLACES
from hub.values import MAX_PORT, Choice, Named, OnOff, PacketsOrAuto, Patch, Queue, Switch, Whole
from shared.limits import (
    MAX_LANES,
    MAX_PERIOD_FRAMES,
    MAX_SHARING,
    MIN_PERIOD_FRAMES,
    DriftMode,
    GuardMode,
    PatchMode,
    Underrun,
)
from shared.protocol import DEFAULT_TCP_PORT, DEFAULT_UDP_BASE, MAX_CLIENTS, RATES_HZ

MAX_PER_MINUTE = 1_000_000
MAX_IOSTAT_S = 86_400
DEFAULT_RATE_HZ, DEFAULT_PERIOD_FRAMES = 48000, 128
CORES_FOR_A_LANE = 4
"""A lane is worth its wake-up only where it has a core beside mixer, receivers and kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig(OverloadSettings, JackSettings, ProcessSettings):
    """Settings of one hub, complete and checked; made by ``resolve`` or ``make_config``.

    Attributes:
        patch: who hears whom, 'auto' resolved.
        bind_port: TCP port of the handshake, ``port_offset`` already added.
        udp_base: first UDP port; clients get udp_base .. udp_base + max_clients − 1.
        single_port: UDP port that serves all clients, or None.
        underrun: what gaps are filled with, ``zero_underrun`` taken into account.
        downmix: factor on left plus right for mono listeners; 0: they hear the left alone.
        transmit_lanes: separate lanes; 0: the mixer sends.
        clients_per_worker: clients that share a receiver; None: auto.
        metrics: where Prometheus scrapes, or None.
        control: ZeroMQ endpoint of the control socket, or None.
        osc: UDP address that takes OSC, or None.
        per_source, per_minute: limits for one source, or None for 'auto'.
        banfile: where bans are kept, or None.
        scenefile: where scenes are kept, or None.
        control_tcp: where the control socket is, too, for who has a key, or None.
        control_keys: folder of those keys, or None.
        iostat_s: seconds between two reports of JackTrip's kind; 0: none.
        iostat_log: where they go, or None for stdout.
        cpus, mixer_cpus: CPUs for workers and for the mixer, or None for all.
    """

    bind_port: int = field(
        metadata=described(
            "B bindport",
            Whole("a port", 1, MAX_PORT),
            str(DEFAULT_TCP_PORT),
            "TCP port that clients connect to. Another port also shifts the UDP ports.",
            jacktrip=True,
        )
    )
    port_offset: int = field(
        metadata=described(
            "o portoffset",
            Whole("a number of ports", 0, MAX_PORT - 1),
            "0",
            "Added to the TCP port, and so to the UDP ports unless --udpbaseport sets them.",
            jacktrip=True,
        )
    )
    udp_base: int = field(
        metadata=described(
            "U udpbaseport",
            Whole("a port", 1, MAX_PORT, auto=True),
            "auto",
            "First UDP port; every client gets one of its own from there on. "
            f"auto: {DEFAULT_UDP_BASE}, shifted as far as the TCP port is from {DEFAULT_TCP_PORT}.",
            jacktrip=True,
        )
    )
    single_port: int | None = field(
        metadata=described(
            "single-port",
            PortOrOff(),
            "off",
            "All clients come to this one UDP port, for the sake of firewalls. Who could be taken "
            "for another of its address is given one from --udpbaseport on. auto, or no value: "
            "the first of those.",
            bare="auto",
        )
    )
    patch: PatchMode = field(
        metadata=described(
            "p hubpatch",
            Patch(jack=True, auto=True),
            "auto",
            "Who hears whom: everybody themselves only (1), everybody the others (2), "
            "everybody all (4), nobody anything (5); with --jack also the hub's own machine and "
            "nobody else (0), or that and TU Berlin's list (3). auto: 4, with --jack 0. "
            "Can be changed live.",
            jacktrip=True,
        )
    )
    include_server: bool = field(
        metadata=described(
            "i includeserver",
            Switch(),
            False,
            "With --jack and modes 2 and 4: sound of the hub's own machine takes part.",
            jacktrip=True,
        )
    )
    upmix: bool = field(
        metadata=described(
            "u upmix",
            Switch(),
            False,
            "Mono clients are heard on both sides by those who receive two channels.",
            jacktrip=True,
        )
    )
    mono_centre: bool = field(
        metadata=described(
            "mono-centre",
            Switch(),
            False,
            "Mono clients sound from the centre for those who receive two channels: on both "
            "sides, 3 dB softer on each. (--upmix: on both sides at full level.)",
        )
    )
    downmix: float = field(
        metadata=described(
            "downmix",
            Downmix(),
            "auto",
            "What those hear who receive one channel: the left alone (off), or left plus right, "
            "lowered by 3 dB (a placed mono client as loud as it is) or 6 dB (never louder than "
            "the louder side). auto: -3 with --mono-centre or a pan in --sections, else off.",
        )
    )
    sections: tuple[Section, ...] = field(
        metadata=described(
            "sections",
            Sections(),
            "none",
            "Pan (-100 left .. 100 right) and gain of newcomers by their names: "
            "`violin*=-40,cello*=30/-3`. The first pattern that fits counts.",
        )
    )
    limiter: bool = field(
        metadata=described(
            "limiter",
            OnOff(),
            "off",
            "Limit every mix that is sent, softly above -1 dBFS, so that it never clips. "
            "Can be changed live.",
        )
    )
    guard: GuardMode = field(
        metadata=described(
            "guard",
            Named("what to do about noise and stuck tones", GuardMode, "WHAT"),
            "watch",
            "A client that sends full-scale noise or a stuck tone for three seconds is said so "
            "(watch), lowered by 20 dB (limit) or muted (mute) until it behaves; "
            "off: nobody looks.",
        )
    )
    queue: Queue = field(
        metadata=described(
            "q queue",
            PacketsOrAuto(),
            "4",
            "How much of a client's sound waits for packets that come late. "
            "Less is quicker, more is steadier. auto: as much as the client's packets need; "
            "autoN: N milliseconds more than that; Nms: so many milliseconds. Can be changed live.",
            unit="packets of the client",
            jacktrip=True,
        )
    )
    underrun: Underrun = field(
        metadata=described(
            "underrun",
            Named("a way to fill gaps", Underrun, "METHOD"),
            "burg",
            "What gaps in a client's sound are filled with: a quick fade to silence (zero), "
            "the last packet over and over (wavetable), or what the sound around the gap "
            "predicts (burg).",
        )
    )
    zero_underrun: bool = field(
        metadata=described(
            "z zerounderrun", Switch(), False, "The same as --underrun zero.", jacktrip=True
        )
    )
    drift: DriftMode = field(
        metadata=described(
            "drift",
            Named("a way to treat drifting clocks", DriftMode, "WHEN"),
            "auto",
            "Resample clients whose clock is not the hub's: never (off), from their first "
            "packet (on), or as soon as it certainly differs (auto; bit-exact until then).",
        )
    )
    match_clients: bool = field(
        metadata=described(
            "match-clients",
            OnOff(),
            "on",
            "Send to each client at its own clock's rate as soon as it certainly differs, so that "
            "its buffer neither runs dry nor over.",
        )
    )
    pacing: bool = field(
        metadata=described(
            "pacing",
            OnOff(),
            "on",
            "Send the packets of clients whose packet size is not the hub's evenly, not in "
            "bursts with each tick.",
        )
    )
    rate_hz: int = field(
        metadata=described(
            "T srate",
            Choice("a sample rate of JackTrip's", RATES_HZ, "HZ", auto=True),
            "auto",
            "Sample rate of the mix; clients of other rates are converted. "
            f"auto: {DEFAULT_RATE_HZ}, with --jack that of the JACK server.",
            unit="Hz",
            jacktrip=True,
        )
    )
    period_frames: int = field(
        metadata=described(
            "F bufsize",
            Whole("a number of frames", MIN_PERIOD_FRAMES, MAX_PERIOD_FRAMES, True, "FRAMES"),
            "auto",
            "The hub mixes this much at a time; clients may have other packet sizes. "
            f"auto: {DEFAULT_PERIOD_FRAMES}, with --jack that of the JACK server.",
            unit="frames",
            jacktrip=True,
        )
    )
    iostat_s: int = field(
        metadata=described(
            "I iostat",
            Whole("a number of seconds", 0, MAX_IOSTAT_S),
            "0",
            "Print a line of statistics for each client so often, in JackTrip's format; 0: never.",
            unit="seconds",
            jacktrip=True,
        )
    )
    iostat_log: Path | None = field(
        metadata=described(
            "G iostatlog",
            FilePath(),
            "none",
            "File that --iostat's lines are appended to, instead of stdout.",
            jacktrip=True,
        )
    )
    auth: bool = field(
        metadata=described(
            "A auth",
            Switch(),
            False,
            "Only users of --credsfile may join, with their passwords. "
            "Needs --certfile and --keyfile as well.",
            jacktrip=True,
        )
    )
    cert_file: Path | None = field(
        metadata=described(
            "certfile",
            FilePath(),
            "none",
            "Certificate for --auth, PEM; `tuttihub cert` makes one. Read anew when it changes.",
            jacktrip=True,
        )
    )
    key_file: Path | None = field(
        metadata=described(
            "keyfile",
            FilePath(),
            "none",
            "Its private key, RSA, PEM, without a passphrase. Read anew when it changes.",
            jacktrip=True,
        )
    )
    creds_file: Path | None = field(
        metadata=described(
            "credsfile",
            FilePath(),
            "none",
            "Who may join, with which password, and when; `tuttihub passwd` writes it. "
            "Read anew when it changes.",
            jacktrip=True,
        )
    )
    max_clients: int = field(
        metadata=described(
            "max-clients",
            Whole("a number of clients", 1, MAX_CLIENTS),
            str(MAX_CLIENTS),
            "How many may be connected; as many UDP ports are kept for them.",
            unit="clients",
        )
    )
    allow: tuple[Network, ...] = field(
        metadata=described(
            "allow",
            Networks("all"),
            "all",
            "Only these networks may connect; more than one with commas, or the option again.",
        )
    )
    deny: tuple[Network, ...] = field(
        metadata=described(
            "deny",
            Networks("none"),
            "none",
            "These networks may not connect, even if --allow names them.",
        )
    )
    per_source: int | None = field(
        metadata=described(
            "max-per-source",
            Whole("a number of clients", 1, MAX_CLIENTS, auto=True),
            "auto",
            "How many may be connected from one source: an IPv4 address, or an IPv6 /64. "
            f"auto: {AUTO_PER_SOURCE}, and from the hub's own machine any number.",
            unit="clients",
        )
    )
    per_minute: int | None = field(
        metadata=described(
            "handshake-rate",
            Whole("a number of connections", 1, MAX_PER_MINUTE, auto=True),
            "auto",
            "How many TCP connections one source may open a minute, all at once if it likes. "
            f"auto: {AUTO_PER_MINUTE}, and from the hub's own machine any number.",
            unit="connections a minute",
        )
    )
    lock: bool = field(
        metadata=described(
            "lock",
            Switch(),
            False,
            "Let no newcomers in until `tuttihub ctl unlock`. Can be changed live.",
        )
    )
    waiting_room: bool = field(
        metadata=described(
            "waiting-room",
            Switch(),
            False,
            "Newcomers are connected, but unheard and hear nothing until `tuttihub ctl admit`. "
            "Can be changed live.",
        )
    )
    scenefile: Path | None = field(
        metadata=described(
            "scenefile",
            FileOrOff(),
            "auto",
            "Where scenes are kept. auto: scenes-PORT.json beside the bans.",
        )
    )
    banfile: Path | None = field(
        metadata=described(
            "banfile",
            FileOrOff(),
            "auto",
            "Where bans are kept, so that they survive a restart. auto: tuttihub/bans-PORT.json "
            "in $XDG_STATE_HOME, or else in ~/.local/state; of a systemd service: bans-PORT.json "
            "in its state directory.",
        )
    )
    transmit_lanes: int = field(
        metadata=described(
            "transmit-lanes",
            Whole("a number of processes", 0, MAX_LANES, auto=True),
            "auto",
            "Processes that encode and send beside the mixer; 0: the mixer does it. "
            f"auto: 0 below {CORES_FOR_A_LANE} cores, from there on one for every "
            f"{CORES_FOR_A_LANE}.",
            unit="processes",
        )
    )
    clients_per_worker: int | None = field(
        metadata=described(
            "clients-per-worker",
            Whole("a number of clients", 1, MAX_SHARING, auto=True),
            "auto",
            "Clients whose packets one process receives. 1: who crashes it is alone in it; more "
            "costs less. auto: 1, and beyond "
            f"{ALONE_A_CORE} clients a core {AUTO_PLACES} for all.",
            unit="clients",
        )
    )
    metrics: HostPort | None = field(
        metadata=described(
            "metrics",
            HostPortOrOff(),
            "127.0.0.1:9464",
            "Where Prometheus finds the counters, under /metrics.",
        )
    )
    control: str | None = field(
        metadata=described(
            "control",
            Control(),
            "auto",
            "Socket for `tuttihub status` and its like. "
            "auto: tuttihub-PORT in $XDG_RUNTIME_DIR, or else in /tmp.",
        )
    )
    osc: HostPort | None = field(
        metadata=described(
            "osc",
            LocalPortOrOff(),
            "off",
            "UDP port for OSC as JackTrip's hub has it: queues set, latencies asked for. "
            "There is no password: keep it on loopback.",
        )
    )
    control_tcp: HostPort | None = field(
        metadata=described(
            "control-tcp",
            HostPortOrOff(),
            "off",
            "The control socket over TCP, too: encrypted, and only for those whose keys are in "
            "--control-keys. Events have the next port.",
        )
    )
    control_keys: Path | None = field(
        metadata=described(
            "control-keys",
            FileOrOff(),
            "auto",
            "Folder of the keys that `tuttihub keys` makes. auto: keys-PORT beside the bans.",
        )
    )
    cpus: tuple[int, ...] | None = field(
        metadata=described("cpus", CpuList(), "all", "CPUs that audio processes may run on.")
    )
    mixer_cpus: tuple[int, ...] | None = field(
        metadata=described(
            "mixer-cpus", CpuList(), "all", "CPUs for the mixer; all: the same as --cpus."
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


SETTINGS: dict[str, Setting] = described_settings(ServeConfig)
"""Settings by field name, in the order of documentation."""
