"""What one end of a connection can be told: every setting once, as a field of ``EndpointConfig``.

As with ``hub.config``, a field's metadata is a ``Setting``, from which the command lines of
``tuttihub client`` and ``tuttihub peer`` and their documentation are rendered;
``hub.endpoint.resolving`` makes one from what was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from hub.machine_values import CpuList, FilePath
from hub.process_settings import ProcessSettings, described_settings
from hub.setting import Setting, described
from hub.values import (
    MAX_PORT,
    Choice,
    Named,
    Number,
    OnOff,
    PacketsOrAuto,
    Queue,
    Secret,
    Switch,
    Text,
    Whole,
)
from shared.limits import MAX_PERIOD_FRAMES, MIN_PERIOD_FRAMES, DriftMode, Underrun
from shared.protocol import (
    DEFAULT_TCP_PORT,
    MAX_CHANNELS,
    MAX_REDUNDANCY,
    NAME_BYTES,
    RATES_HZ,
)

MAX_IOSTAT_S = 86_400
MAX_DURATION_S = 7 * 86_400.0
MAX_TONE_HZ = 20_000.0
MAX_JACK_NAME_BYTES = 63
MAX_CARD_BYTES = 200
MAX_CREDENTIAL_BYTES = 4096
SILENCE_S = 10.0
"""How long the other side may be silent before it counts as gone, as with JackTrip."""


class Role(IntEnum):
    """Which end of a connection this is."""

    CLIENT = 0
    """Of a hub: TCP first, then the UDP port that the hub names (``-C``)."""
    SERVER_PEER = 1
    """Waits for the other peer's first datagram (``-s``)."""
    CLIENT_PEER = 2
    """Sends to the other peer at once (``-c``)."""


class Audio(IntEnum):
    """Where sound comes from and goes to."""

    JACK = 0
    FILES = 1
    """Files or a generator, at the pace of this machine's clock."""
    CARD = 2
    """A sound card that belongs to no JACK server."""


LIVE = (Audio.JACK, Audio.CARD)
"""Where sound is that somebody makes and hears."""


class Reconnect(IntEnum):
    """When to begin anew instead of ending."""

    NEVER = 0
    SILENCE = 1
    """When the other side cannot be reached or has been silent for 10 s."""
    ALWAYS = 2
    """Also when it has said good-bye."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig(ProcessSettings):
    """Settings of one endpoint, complete and checked; made by ``resolve`` or ``make_endpoint``.

    Attributes:
        role: which end this is.
        host: name or address of the other side; None for SERVER_PEER.
        bind_port: own UDP port, ``port_offset`` already added. None: the default one
            if it is free, else any.
        peer_port: TCP port of the hub, or UDP port of the peer, ``port_offset`` added.
        send_channels, receive_channels: ``channels`` taken into account.
        queue: of what is received, in packets of the sender.
        underrun: ``zero_underrun`` taken into account.
        reconnect: ``timeout`` taken into account.
        rate_hz: None: that of JACK, of the file that is played; else 48000.
        period_frames: None: that of JACK; else 128.
        duration_s: end after so long; None: with ``play`` at its end, else when told.
        tone_hz: the generator sends this tone, or nothing.
        jack_name: of the JACK client; never empty.
        jack_server: None: as the environment says.
        password: None with ``auth``: asked for when it is needed.
    """

    role: Role
    host: str | None
    bind_port: int | None = field(
        metadata=described(
            "B bindport",
            Whole("a port", 1, MAX_PORT, auto=True),
            "auto",
            "This machine's UDP port. "
            f"auto: {DEFAULT_TCP_PORT}; for a hub's client any other if that is in use.",
            jacktrip=True,
        )
    )
    peer_port: int = field(
        metadata=described(
            "P peerport",
            Whole("a port", 1, MAX_PORT),
            str(DEFAULT_TCP_PORT),
            "The other side's port: TCP of a hub, UDP of a peer.",
            jacktrip=True,
        )
    )
    port_offset: int = field(
        metadata=described(
            "o portoffset",
            Whole("a number of ports", 0, MAX_PORT - 1),
            "0",
            "Added to the ports of both sides.",
            jacktrip=True,
        )
    )
    channels: int = field(
        metadata=described(
            "n numchannels",
            Whole("a number of channels", 1, MAX_CHANNELS),
            "2",
            "Channels sent, and channels received.",
            jacktrip=True,
        )
    )
    send_channels: int = field(
        metadata=described(
            "sendchannels",
            Whole("a number of channels", 1, MAX_CHANNELS, auto=True),
            "auto",
            "Channels sent. auto: as many as --numchannels.",
            jacktrip=True,
        )
    )
    receive_channels: int = field(
        metadata=described(
            "receivechannels",
            Whole("a number of channels", 1, MAX_CHANNELS, auto=True),
            "auto",
            "Channels received. auto: as many as --numchannels.",
            jacktrip=True,
        )
    )
    queue: Queue = field(
        metadata=described(
            "q queue",
            PacketsOrAuto(),
            "4",
            "How much of what comes waits for packets that come late. Less is quicker, more is "
            "steadier. auto: as much as they need; autoN: N milliseconds more than that; Nms: so "
            "many milliseconds.",
            unit="packets",
            jacktrip=True,
        )
    )
    redundancy: int = field(
        metadata=described(
            "r redundancy",
            Whole("a number of copies", 1, MAX_REDUNDANCY),
            "1",
            "How often everything is sent, so that single losses do not matter.",
            jacktrip=True,
        )
    )
    bits: int = field(
        metadata=described(
            "b bitres",
            Choice("a bit resolution", (8, 16, 24, 32), "BITS"),
            "16",
            "Resolution of what is sent; JackTrip wants the same on both sides.",
            unit="bits",
            jacktrip=True,
        )
    )
    underrun: Underrun = field(
        metadata=described(
            "underrun",
            Named("a way to fill gaps", Underrun, "METHOD"),
            "burg",
            "What gaps are filled with: a quick fade to silence (zero), the last packet over and "
            "over (wavetable), or what the sound around the gap predicts (burg).",
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
            "Resample what comes to this machine's clock: never (off), from the first packet "
            "(on), or as soon as the clocks certainly differ (auto; bit-exact until then).",
        )
    )
    limiter: bool = field(
        metadata=described(
            "limiter",
            OnOff(),
            "off",
            "Limit what is sent, softly above -1 dBFS, so that it never clips.",
        )
    )
    name: str = field(
        metadata=described(
            "K remotename",
            Text("a name", NAME_BYTES - 1, "NAME"),
            "",
            "The musician's name, as the hub shows it.",
            jacktrip=True,
        )
    )
    reconnect: Reconnect = field(
        metadata=described(
            "reconnect",
            Choice("a time to connect again", ("auto", "never", "silence", "always"), "WHEN"),
            "auto",
            "Connect again when the other side is not there or silent for 10 seconds (silence), "
            "also when it has said good-bye (always), or never: end instead. auto: always for a "
            "hub's client, which thus outlives the hub's restart; silence for peers.",
        )
    )
    timeout: bool = field(
        metadata=described(
            "t timeout", Switch(), False, "The same as --reconnect never.", jacktrip=True
        )
    )
    auth: bool = field(
        metadata=described(
            "A auth",
            Switch(),
            False,
            "Give the hub a user name and a password, encrypted.",
            jacktrip=True,
        )
    )
    username: str = field(
        metadata=described(
            "username",
            Text("a user name", MAX_CREDENTIAL_BYTES, "NAME"),
            "",
            "Who joins, for --auth; asked for if missing.",
            jacktrip=True,
        )
    )
    password: str = field(
        repr=False,
        metadata=described(
            "password",
            Secret("a password", MAX_CREDENTIAL_BYTES, "TEXT"),
            "",
            "The password of --username; asked for if missing, which keeps it from other users "
            "of this machine.",
            jacktrip=True,
        ),
    )
    audio: Audio = field(
        metadata=described(
            "audio",
            Choice("a place for sound", ("auto", "jack", "card", "files"), "WHERE"),
            "auto",
            "Where sound comes from and goes to: JACK, a sound card without JACK, or files alone. "
            "auto: files if --play, --record or --tone is given, card if --card is, else JACK.",
        )
    )
    card: str = field(
        metadata=described(
            "card",
            Text("a sound card", MAX_CARD_BYTES, "CARD"),
            "",
            "Sound card of --audio card, by its number or a part of its name; if missing, the "
            "system's.",
        )
    )
    jack_name: str = field(
        metadata=described(
            "J clientname",
            Text("a name", MAX_JACK_NAME_BYTES, "NAME"),
            "",
            "Name of the JACK client here; if missing, that of the other side.",
            jacktrip=True,
        )
    )
    jack_server: str = field(
        metadata=described(
            "jack-server",
            Text("a name", MAX_JACK_NAME_BYTES, "NAME"),
            "",
            "Name of the JACK server; if missing, $JACK_DEFAULT_SERVER or `default`.",
        )
    )
    no_connect: bool = field(
        metadata=described(
            "D nojackportsconnect",
            Switch(),
            False,
            "Leave the JACK ports unconnected instead of connecting them with the sound card's.",
            jacktrip=True,
        )
    )
    rate_hz: int | None = field(
        metadata=described(
            "T srate",
            Choice("a sample rate of JackTrip's", ("auto", *RATES_HZ), "HZ"),
            "auto",
            "Sample rate; with JACK it has to be JACK's, and a sound card has to know it. "
            "auto: JACK's or the played file's, else 48000.",
            unit="Hz",
            jacktrip=True,
        )
    )
    period_frames: int | None = field(
        metadata=described(
            "F bufsize",
            Whole(
                "a number of frames",
                MIN_PERIOD_FRAMES,
                MAX_PERIOD_FRAMES,
                auto=True,
                metavar="FRAMES",
            ),
            "auto",
            "Frames a packet; with JACK they have to be JACK's. auto: JACK's, else 128.",
            unit="frames",
            jacktrip=True,
        )
    )
    play: Path | None = field(
        metadata=described(
            "play",
            FilePath(),
            "none",
            "Send this sound file; with --audio jack or card, along with what is played there.",
        )
    )
    tone_hz: float | None = field(
        metadata=described(
            "tone",
            Number("a frequency", 1.0, MAX_TONE_HZ, "HZ"),
            "none",
            "Send a quiet tone (-20 dBFS) on all channels; otherwise as --play.",
            unit="Hz",
        )
    )
    record: Path | None = field(
        metadata=described(
            "record", FilePath(), "none", "Write what is received to this sound file."
        )
    )
    overwrite: bool = field(
        metadata=described(
            "overwrite", Switch(), False, "Replace the file of --record if it is there already."
        )
    )
    duration_s: float | None = field(
        metadata=described(
            "duration",
            Number("a number of seconds", 0.1, MAX_DURATION_S, "S"),
            "none",
            "Leave after so long. none: with files alone at the end of what --play plays, else "
            "on Ctrl-C.",
            unit="seconds",
        )
    )
    quality: str = field(
        metadata=described(
            "quality",
            Choice("a way to show the connection's quality", ("auto", "line", "log", "off"), "HOW"),
            "auto",
            "Show loss, gaps, delay and drift: one line that is renewed each second, or a line "
            "of the log every 10 seconds. auto: a line on a terminal, else the log.",
        )
    )
    iostat_s: int = field(
        metadata=described(
            "I iostat",
            Whole("a number of seconds", 0, MAX_IOSTAT_S),
            "0",
            "Print a line of statistics so often, in JackTrip's format; 0: never.",
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
    cpus: tuple[int, ...] | None = field(
        metadata=described("cpus", CpuList(), "all", "CPUs that audio may run on.")
    )


SETTINGS: dict[str, Setting] = described_settings(EndpointConfig)
"""Settings by field name, in the order of documentation."""

OF_CLIENTS = ("name", "auth", "username", "password")
"""Those that only a hub asks for."""


def settings_of(role: Role) -> dict[str, Setting]:
    """What an end of this kind can be told, by field."""
    kept = () if role is Role.CLIENT else OF_CLIENTS
    return {name: setting for name, setting in SETTINGS.items() if name not in kept}
