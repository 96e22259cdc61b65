"""Every option of JackTrip's, and what becomes of it here.

The command lines ``tuttihub -S``, ``-C``, ``-s`` and ``-c``, their refusals and docs/drop-in.md
are made from this table. It holds what `jacktrip --help` of 1.7.0 lists, what that program takes
without listing it, and what later versions have added.
"""

from __future__ import annotations

from hub.dropin.option import Adds, Idle, Mode, Option, Refused, Says, Sets, Use
from shared.limits import MAX_QUEUE_MS, MAX_QUEUE_PACKETS
from shared.protocol import MAX_CHANNELS, MAX_REDUNDANCY, NAME_BYTES

PEERS = (Mode.SERVER_PEER, Mode.CLIENT_PEER)


def _sets(*names: str, note: str = "") -> Sets:
    return Sets(names, note)


def _option(
    flags: str,
    argument: str,
    meaning: str,
    hub: Use,
    client: Use,
    peers: Use | None = None,
    *,
    newer: bool = False,
) -> Option:
    """Flags as 'q queue'; what is not said of the peers is as for a hub's client."""
    short, long = flags.split() if " " in flags else ("", flags)
    uses = {Mode.HUB: hub, Mode.CLIENT: client} | dict.fromkeys(PEERS, peers or client)
    return Option(short, long, argument, meaning, uses, newer)


_OF_ENDS = Idle("a hub gives every client the channels that it asks for")
_JUST_ENDS = Idle("is for the ends of a connection, with JackTrip as well")
_OF_HUBS = Idle("is for hubs")
_OF_CLIENTS = Idle("is for a hub's clients")
_NO_EFFECTS = "effects belong into the JACK graph, where they can be heard and changed"
_NO_CARD = Refused("is of JackTrip's RtAudio builds; a hub has no sound card, or JACK's: --jack")
_OTHER_NUMBERS = Refused(
    "counts sound cards as RtAudio does, so that another one might be taken: "
    "`tuttihub --listdevices` has the numbers of --card"
)
_DEVICE = Sets(
    ("card",),
    "a part of a card's name, as `tuttihub --listdevices` has it; one for both ways",
)
_DEVICES = Says("`tuttihub --listdevices` lists the sound cards that --card takes")
_NO_WINDOW = Refused("opens a window, which tuttihub does not have")
_NO_SIMULATION = Refused(
    "networks are simulated from outside, so that both ways and the clock suffer as well: "
    "`tuttihub loadtest` does it, or `tc qdisc ... netem`"
)
_NO_HEADER = Refused("is for devices that are no longer made, and no hub understands it")
_NO_ROUND_TRIP = Refused(
    "`tuttihub doctor HOST` measures the round trip to a hub, `tuttihub loadtest` how late sound is"
)
_LIMITED = "what comes (i, io) is limited where it is mixed: a hub has --limiter on"
_STRATEGY_NOTE = (
    "there is one buffer for all strategies, of N packets (`-q N`; with 3 and 4 of N milliseconds) "
    "or automatic (`-q auto`); -1 fills gaps with the last packet, the others as --underrun says"
)
_STRATEGIES = {"-1": "wavetable"} | dict.fromkeys("01234")
_STRATEGY = Sets(("underrun",), _STRATEGY_NOTE, _STRATEGIES)
_CHANNELS = f"at most {MAX_CHANNELS}"
_QUEUE = _sets(
    "queue",
    note=f"at most {MAX_QUEUE_PACKETS}; with --bufstrategy 3 and 4 milliseconds, at most "
    f"{MAX_QUEUE_MS}",
)
_BOTH_PORTS = Adds(("bind_port", "peer_port"))

_OTHER_MODE = Refused("one mode at a time")


def _mode(mode: Mode, long: str, argument: str, meaning: str) -> Option:
    uses: dict[Mode, Use] = {each: Says() if each is mode else _OTHER_MODE for each in Mode}
    return Option(mode.value.removeprefix("-"), long, argument, meaning, uses)


MODES: tuple[Option, ...] = (
    _mode(Mode.SERVER_PEER, "server", "", "Run as a peer that waits."),
    _mode(Mode.CLIENT_PEER, "client", "HOST", "Run as a peer that calls another."),
    _mode(Mode.HUB, "jacktripserver", "", "Run as a hub."),
    _mode(Mode.CLIENT, "pingtoserver", "HOST", "Run as a client of a hub."),
)

TABLE: tuple[Option, ...] = (
    *MODES,
    _option(
        "n numchannels",
        "N",
        "Channels sent and received.",
        _OF_ENDS,
        _sets("send_channels", "receive_channels", note=_CHANNELS),
    ),
    _option(
        "receivechannels",
        "N",
        "Channels received.",
        _OF_ENDS,
        _sets("receive_channels", note=_CHANNELS),
    ),
    _option(
        "sendchannels",
        "N",
        "Channels sent.",
        _OF_ENDS,
        _sets("send_channels", note=_CHANNELS),
    ),
    _option("q queue", "N|auto|autoN", "Length of the jitter buffer.", _QUEUE, _QUEUE),
    _option(
        "r redundancy",
        "N",
        "How often everything is sent.",
        Idle("every client is sent as many copies as it sends; JackTrip's hub sends one"),
        _sets("redundancy", note=f"at most {MAX_REDUNDANCY}"),
    ),
    _option(
        "o portoffset", "N", "Added to the ports of both sides.", Adds(("bind_port",)), _BOTH_PORTS
    ),
    _option("B bindport", "N", "This side's port.", _sets("bind_port"), _sets("bind_port")),
    _option(
        "P peerport",
        "N",
        "The other side's port.",
        Idle("a hub answers where its clients are"),
        _sets("peer_port"),
    ),
    _option("U udpbaseport", "N", "First UDP port of a hub.", _sets("udp_base"), _OF_HUBS),
    _option(
        "b bitres",
        "8|16|24|32",
        "Bit resolution.",
        Idle("every client is answered in its own bit resolution"),
        _sets("bits"),
    ),
    _option(
        "z zerounderrun",
        "",
        "Fill gaps with silence.",
        _sets("zero_underrun"),
        _sets("zero_underrun"),
    ),
    _option(
        "t timeout",
        "",
        "Quit after 10 seconds without a packet.",
        Idle("a hub lets every client go that is silent for 10 seconds"),
        _sets("timeout", note="also while who is called has not answered yet"),
    ),
    _option(
        "l loopback",
        "",
        "Send back what comes.",
        Idle("JackTrip says so and does not, either; `-p1` is a hub's loopback"),
        Idle(
            "JackTrip says so and does not, either; connect the receive ports with the send "
            "ports in JACK"
        ),
    ),
    _option(
        "j jamlink",
        "",
        "Speak to a JamLink box.",
        _JUST_ENDS,
        _NO_HEADER,
    ),
    _option(
        "e emptyheader",
        "",
        "Send packets without a header (not listed).",
        _JUST_ENDS,
        _NO_HEADER,
    ),
    _option(
        "J clientname",
        "NAME",
        "Name of the JACK client.",
        _JUST_ENDS,
        _sets("jack_name"),
    ),
    _option(
        "K remotename",
        "NAME",
        "Name that the hub shows.",
        _JUST_ENDS,
        _sets("name", note=f"at most {NAME_BYTES - 1} bytes, where JackTrip cuts"),
        _OF_CLIENTS,
    ),
    _option(
        "appendthreadid",
        "",
        "Number the clients' names.",
        Idle("clients of one name are told apart all the same"),
        Idle("is for a hub's JACK clients"),
    ),
    _option(
        "L localaddress",
        "ADDRESS",
        "This machine's address.",
        Idle("JackTrip takes no notice of it, either"),
        Idle("JackTrip takes no notice of it, either"),
    ),
    _option(
        "D nojackportsconnect",
        "",
        "Leave the JACK ports unconnected.",
        _sets("no_jack_connect", note="brings --jack along; with -p0 and -p3 alone"),
        _sets("no_connect"),
    ),
    _option("bufstrategy", "-1..4", "Kind of jitter buffer.", _STRATEGY, _STRATEGY),
    _option(
        "broadcast",
        "N",
        "Second receive ports with a longer queue.",
        _sets("broadcast", note="brings --jack along"),
        Refused("is at a hub alone: `tuttihub serve --broadcast`"),
    ),
    _option(
        "udprt",
        "",
        "Real-time priority for the network.",
        _sets("realtime", note="the default here"),
        _sets("realtime", note="the default here"),
    ),
    _option(
        "p hubpatch",
        "0..5",
        "Who hears whom.",
        _sets("patch", note="without it: 4, and 0 with --jack; 0 and 3 bring --jack along"),
        _OF_HUBS,
    ),
    _option(
        "i includeserver",
        "",
        "The hub's own machine takes part.",
        _sets("include_server", note="brings --jack along; with -p2 and -p4 alone"),
        _OF_HUBS,
    ),
    _option("u upmix", "", "Mono clients are heard on both sides.", _sets("upmix"), _OF_HUBS),
    _option(
        "f effects",
        "SPEC",
        "Compressor and reverb.",
        Refused(f"is not for hubs; {_NO_EFFECTS}"),
        Refused(_NO_EFFECTS),
    ),
    _option(
        "O overflowlimiting",
        "o|ow|n",
        "Limiter of what a client sends.",
        Idle("is for the ends of a connection; --limiter on limits what a hub sends"),
        Sets(("limiter",), _LIMITED, {"n": "off", "o": "on", "ow": "on"}),
    ),
    _option(
        "a assumednumclients",
        "N",
        "How many voices the limiter is to expect.",
        _JUST_ENDS,
        Idle("the limiter looks at the sound alone: what the hub sums is limited at the hub"),
    ),
    _option(
        "I iostat", "S", "Print statistics every S seconds.", _sets("iostat_s"), _sets("iostat_s")
    ),
    _option(
        "G iostatlog",
        "FILE",
        "File for the statistics.",
        _sets("iostat_log", note="needs -I; the file is appended to"),
        _sets("iostat_log", note="needs -I; the file is appended to"),
    ),
    _option(
        "x examine-audio-delay",
        "S",
        "Measure the round trip through the other side.",
        _NO_ROUND_TRIP,
        _NO_ROUND_TRIP,
    ),
    _option("simloss", "RATE", "Drop packets.", _NO_SIMULATION, _NO_SIMULATION),
    _option("simjitter", "RATE,N", "Delay packets.", _NO_SIMULATION, _NO_SIMULATION),
    _option(
        "A auth",
        "",
        "Passwords: a hub wants them, a client has one.",
        _sets("auth"),
        _sets("auth"),
        Idle("peers know no passwords"),
    ),
    _option("certfile", "FILE", "A hub's certificate.", _sets("cert_file"), _OF_HUBS),
    _option("keyfile", "FILE", "Its private key.", _sets("key_file"), _OF_HUBS),
    _option("credsfile", "FILE", "Its users.", _sets("creds_file"), _OF_HUBS),
    _option(
        "username",
        "NAME",
        "Who joins.",
        _OF_CLIENTS,
        _sets("username", note="needs -A"),
        _OF_CLIENTS,
    ),
    _option(
        "password",
        "TEXT",
        "The password.",
        _OF_CLIENTS,
        _sets("password", note="needs -A"),
        _OF_CLIENTS,
    ),
    _option("v version", "", "Print the version.", Says(), Says()),
    _option(
        "V verbose",
        "",
        "Print more.",
        Sets(("log_level",), "the log says more", {"": "debug"}),
        Sets(("log_level",), "the log says more", {"": "debug"}),
    ),
    _option("h help", "", "Print what is possible.", Says(), Says()),
    _option(
        "T srate",
        "HZ",
        "Sample rate.",
        _sets("rate_hz"),
        _sets("rate_hz", note="with JACK it has to be JACK's"),
        newer=True,
    ),
    _option(
        "F bufsize",
        "FRAMES",
        "Frames a period.",
        _sets("period_frames"),
        _sets("period_frames", note="with JACK it has to be JACK's"),
        newer=True,
    ),
    _option(
        "R rtaudio",
        "",
        "Use a sound card without JACK.",
        _NO_CARD,
        Sets(("audio",), "the system's card, or that of --card", {"": "card"}),
        newer=True,
    ),
    _option("d deviceid", "N", "RtAudio's device.", _NO_CARD, _OTHER_NUMBERS, newer=True),
    _option("audiodevice", "NAME", "RtAudio's device.", _NO_CARD, _DEVICE, newer=True),
    _option("listdevices", "", "List them.", _DEVICES, _DEVICES, newer=True),
    _option("gui", "", "Open the window.", _NO_WINDOW, _NO_WINDOW, newer=True),
    _option("classic-gui", "", "Open the old window.", _NO_WINDOW, _NO_WINDOW, newer=True),
    _option("deeplink", "URL", "Open the window there.", _NO_WINDOW, _NO_WINDOW, newer=True),
)
