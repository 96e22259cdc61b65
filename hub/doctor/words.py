"""Every fault that the doctor knows: its name, what it says to a musician, and what to do.

Names are for ever: scripts know them. ``docs/doctor.md`` has this table (``rendering``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Verdict(StrEnum):
    """How it went, as a whole."""

    FIT = "fit"
    PLAYABLE = "playable"
    UNFIT = "unfit"


class Exit(IntEnum):
    """Exit codes of the command."""

    FIT = 0
    ADVICE = 1
    WRONG_OPTION = 2
    NO_NAME = 3
    NO_HUB = 4
    NOT_LET_IN = 5
    NO_UDP = 6
    NOT_EXAMINED = 7


EXITS = {
    Exit.FIT: "all is well",
    Exit.ADVICE: "you can play, and something could be better",
    Exit.WRONG_OPTION: "a wrong option",
    Exit.NO_NAME: "the hub's name has no address",
    Exit.NO_HUB: "no hub answers there",
    Exit.NOT_LET_IN: "the hub is there, and does not let you in",
    Exit.NO_UDP: "sound does not get through, or not for long",
    Exit.NOT_EXAMINED: "the examination itself failed, or was broken off",
}


class Severity(StrEnum):
    """How bad a fault is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Fault:
    """One of them.

    Attributes:
        says: what it is, one plain sentence.
        do: what to do about it.
        code: exit code it leads to, if nothing worse is found.
    """

    slug: str
    severity: Severity
    says: str
    do: str
    code: Exit


def _error(code: Exit, slug: str, says: str, do: str) -> Fault:
    return Fault(slug, Severity.ERROR, says, do, code)


def _warning(slug: str, says: str, do: str) -> Fault:
    return Fault(slug, Severity.WARNING, says, do, Exit.ADVICE)


def _info(slug: str, says: str, do: str) -> Fault:
    return Fault(slug, Severity.INFO, says, do, Exit.FIT)


FAULTS: dict[str, Fault] = {
    fault.slug: fault
    for fault in (
        _error(
            Exit.NO_NAME, "name-unknown",
            "There is no such name.",
            "Is it spelt as you were told? Ask who runs the hub.",
        ),
        _error(
            Exit.NO_NAME, "name-server-silent",
            "Nobody who knows names on the internet could be asked: perhaps you are offline.",
            "Does a web page open? If not, mend that first. The hub's numeric address would do.",
        ),
        _error(
            Exit.NO_HUB, "tcp-refused",
            "The machine is there, and no hub runs on it at this port, or a firewall says so.",
            "Ask whether the hub is started, and on which port (-P).",
        ),
        _error(
            Exit.NO_HUB, "tcp-no-answer",
            "Nothing answers: the machine is off, the address wrong, or a firewall swallows TCP.",
            "Ask whether the hub runs; try from another network, such as a telephone's.",
        ),
        _error(
            Exit.NO_HUB, "tcp-prohibited",
            "A firewall forbids the way to the hub's port, and says so.",
            "If it is yours, open TCP 4464. If it is the hub's, tell who runs it.",
        ),
        _error(
            Exit.NO_HUB, "host-unreachable",
            "The network where the hub should be says that its machine is not there.",
            "Is the address right? Ask whether the hub's machine is on.",
        ),
        _error(
            Exit.NO_HUB, "tcp-unreachable",
            "There is no way to the hub from here.",
            "Is this computer online? With a VPN: try without. A hub in your own network: is its "
            "machine on? Ask there.",
        ),
        _error(
            Exit.NO_HUB, "not-a-hub",
            "Something else than a JackTrip hub answers at this port.",
            "Ask for the hub's port (-P); usually it is 4464.",
        ),
        _error(
            Exit.NO_HUB, "hub-silent",
            "Somebody opens, and says nothing: the hub is just starting, it hangs, or it is none.",
            "Try again in a minute; tell who runs the hub.",
        ),
        _warning(
            "first-address-dead",
            "The name's first address does not answer, and JackTrip tries no other.",
            "Connect to the address that answers, instead of the name.",
        ),
        _error(
            Exit.NOT_LET_IN, "turned-away",
            "The hub takes your hello and closes without a word: it is full, locked, or you "
            "are not wanted.",
            "Ask who runs the hub; try again when somebody has left.",
        ),
        _error(
            Exit.NOT_LET_IN, "turned-away-unheard",
            "The hub breaks the connection before it has heard you: your network may not come "
            "in, or you have tried too often.",
            "Wait a minute and try again; ask who runs the hub.",
        ),
        _error(
            Exit.NOT_LET_IN, "name-refused",
            "The hub lets you in without a name, and not with this one.",
            "Choose another name (-K).",
        ),
        _error(
            Exit.NOT_LET_IN, "password-wanted",
            "The hub wants a user name and a password.",
            "Connect with -A and your user name, here and with jacktrip.",
        ),
        _error(
            Exit.NOT_LET_IN, "password-not-wanted",
            "The hub takes no passwords, and refuses whoever brings one.",
            "Connect without -A.",
        ),
        _error(
            Exit.NOT_LET_IN, "password-unknown",
            "This hub is too old to know what passwords are.",
            "Connect without -A.",
        ),
        _error(
            Exit.NOT_LET_IN, "password-wrong",
            "User name or password are wrong.",
            "Type them again; mind upper and lower case.",
        ),
        _error(
            Exit.NOT_LET_IN, "wrong-time",
            "Your password is right, but not at this time.",
            "Come at your time, or ask for more.",
        ),
        _error(
            Exit.NOT_LET_IN, "login-broken",
            "The encrypted conversation about your password came to nothing.",
            "Tell who runs the hub to look at its certificate.",
        ),
        _warning(
            "local-port-busy",
            "The UDP port that JackTrip would use is taken on this computer: another JackTrip "
            "is running. Examined with another one.",
            "End the other JackTrip, or give one of them another port (jacktrip -B).",
        ),
        _error(
            Exit.NO_UDP, "udp-port-closed",
            "The hub's machine refuses UDP at the port that the hub gave us: nobody listens "
            "there, or its firewall says no.",
            "Tell who runs the hub: UDP 61002 and up must be open, and behind a router lead to "
            "the same machine as TCP 4464.",
        ),
        _error(
            Exit.NO_UDP, "udp-prohibited",
            "A firewall forbids UDP to the hub, and says so.",
            "If it is yours, open UDP 61002 and up. If it is the hub's, tell who runs it.",
        ),
        _error(
            Exit.NO_UDP, "udp-out-swallowed",
            "What you send never arrives at the hub: a firewall swallows UDP on the way there.",
            "Guest networks, schools, offices and VPNs do that: use another network, and one at a "
            "time. At the hub, UDP 61002 and up must be open.",
        ),
        _error(
            Exit.NO_UDP, "udp-in-swallowed",
            "The hub gets what you send, but what it sends back is swallowed on the way to you.",
            "Your own firewall or router blocks incoming UDP: let answers to UDP 4464 in.",
        ),
        _error(
            Exit.NO_UDP, "udp-swallowed",
            "The hub lets you in, but no sound comes back: UDP is swallowed, one way or both.",
            "Try another network. If it is the same there, tell who runs the hub to open UDP "
            "61002 and up.",
        ),
        _error(
            Exit.NO_UDP, "format-refused",
            "The hub says good-bye as soon as it hears you: it wants another sample rate or "
            "resolution than any that was tried.",
            "Ask who runs the hub which sample rate and bits it has.",
        ),
        _error(
            Exit.NO_UDP, "sent-away",
            "The hub said good-bye in mid-session.",
            "It was stopped, or somebody sent you away: ask who runs it.",
        ),
        _error(
            Exit.NO_UDP, "cut-off",
            "Sound came for some time and then no more: something on the way cuts it.",
            "Protection against floods in a router or at the provider, a VPN, or a mobile "
            "network do that: use another network, or longer packets.",
        ),
        _error(
            Exit.NO_UDP, "line-dead",
            "Sound came for some time, and then nothing got through any more, not even TCP.",
            "Does a web page open? If not, your own line is down; otherwise the hub's.",
        ),
        _error(
            Exit.NO_HUB, "hub-gone",
            "The hub was there, and is no more.",
            "It was stopped or has crashed: tell who runs it.",
        ),
        _warning(
            "hub-other-rate",
            "The hub runs at another sample rate than 48000 Hz, and does not convert.",
            "Set your sound card (JACK) to the hub's rate; JackTrip refuses any other.",
        ),
        _warning(
            "hub-other-bits",
            "The hub uses another resolution than 16 bit.",
            "Give JackTrip the same (-b).",
        ),
        _info(
            "hub-other-period",
            "The hub's own packets have another length than yours.",
            "It works all the same; the same length as the hub's gives the least delay.",
        ),
        _warning(
            "interruptions",
            "The line stood still for moments.",
            "A cable instead of Wi-Fi; nobody else should use the line meanwhile.",
        ),
        _warning(
            "losses-there",
            "Packets get lost on the way to the hub, or come too late for it: you crackle for "
            "everybody.",
            "A cable instead of Wi-Fi; what is recommended below; a longer queue for you at the "
            "hub.",
        ),
        _warning(
            "losses-back",
            "Packets of the hub get lost on the way to you: everybody crackles for you.",
            "A cable instead of Wi-Fi; what is recommended below.",
        ),
        _warning(
            "hub-paused",
            "The hub is silent for 50 ms nearly every second: its machine is full, and its kernel "
            "stops real-time programs for a moment.",
            "It is not your line: tell who runs the hub. Fewer musicians, or a faster machine "
            "(kernel.sched_rt_runtime_us).",
        ),
        _warning(
            "late-packets",
            "Packets come very unevenly: a queue that waits for them costs a lot of delay.",
            "A cable instead of Wi-Fi; nobody else should use the line meanwhile.",
        ),
        _warning(
            "long-way",
            "The way to the hub is long: playing together in time is hard.",
            "A hub nearer to all of you; choose slow pieces, or let one lead.",
        ),
        _info(
            "reordered",
            "Packets overtake each other.",
            "JackTrip throws away those that were overtaken. A VPN or two lines at once do that.",
        ),
        _warning(
            "long-packets-swallowed",
            "Packets that are longer than the path carries vanish, and nobody says so.",
            "Keep packets shorter than what passes (below): fewer channels, a shorter period, "
            "no redundancy. Tell your provider, or set a lower MTU.",
        ),
        _info(
            "short-path",
            "The path carries shorter packets than usual: a VPN, a tunnel, or DSL.",
            "Nothing, as long as yours are shorter (below).",
        ),
        _warning(
            "fragments-swallowed",
            "Long packets must travel in pieces, and the pieces do not get through.",
            "Keep packets shorter than what passes (below): fewer channels, a shorter period, "
            "no redundancy.",
        ),
        _info(
            "port-remapped",
            "A router gives each of your connections another UDP port.",
            "No trouble with a hub; JackTrip from one musician to another (-s, -c) would fail.",
        ),
        _info(
            "behind-router",
            "You are behind a router that lends you its address.",
            "No trouble with a hub. For JackTrip from one musician to another (-s) its port must "
            "be opened.",
        ),
        _warning(
            "own-machine-late",
            "This computer does not send in time: it is busy, or saves power.",
            "Close other programs, plug in the charger; allow real-time priority (rtprio).",
        ),
        _warning(
            "own-machine-drops",
            "This computer had no room for packets that came.",
            "Close other programs; allow real-time priority (rtprio).",
        ),
        _warning(
            "clock-apart",
            "Your clock and the hub's run unusually far apart: a click every few seconds with "
            "hubs that do not resample.",
            "Check what rate JACK and the sound card really have.",
        ),
        _info(
            "own-voice-absent",
            "The hub does not return your own sound, so that losses on the way to it cannot be "
            "seen from here.",
            "Examine a hub in loopback (tuttihub serve -p1), or ask who runs the hub to look "
            "(tuttihub status).",
        ),
        _info(
            "others-heard",
            "Others are playing, so that your own sound could not be followed all the time.",
            "Come again when nobody plays, for the losses on the way to the hub.",
        ),
    )
}  # fmt: skip
