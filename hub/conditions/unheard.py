"""Conditions of a client that is not heard, or hears nothing."""

from __future__ import annotations

import numpy as np

from hub.addresses import address_of_words
from hub.conditions.condition import Condition, Severity
from hub.conditions.looks import Flags, Reals, Values, View
from shared.layout import PatchMode, RxState
from shared.protocol import (
    EXIT_BYTES,
    HEADER_BYTES,
    MAX_CHANNELS,
    MAX_FRAMES,
    MIN_FRAMES,
    RATE_UNDEFINED,
    RATES_HZ,
    SENDS_NOTHING,
)

STREAM_PER_S = 20.0
"""Datagrams a second that are a stream and no accident; the slowest client sends 47."""
SILENT_PACKETS_S = 1.0
"""Without a packet for so long: its stream has stopped."""


def odd_format(view: View) -> tuple[Values, Values, Values, Values, Values]:
    """Of the last malformed datagram: frames, rate code, bits, channels wanted, and sent."""
    header = view.now("rx.odd_header")
    # bytes 8..15 of it, of which the first two are its number
    frames, rate_code, bits, wants, sends = (
        (header >> shift) & mask
        for shift, mask in ((16, 0xFFFF), (32, 0xFF), (40, 0xFF), (48, 0xFF), (56, 0xFF))
    )
    sends = np.where(sends == 0, wants, np.where(sends == SENDS_NOTHING, 0, sends))
    return frames, rate_code, bits, wants, sends


def _header_fits(view: View) -> Flags:
    """Whether that was JackTrip's header."""
    frames, rate_code, bits, wants, sends = odd_format(view)
    length = view.now("rx.odd_bytes")
    fits: Flags = (
        (length >= HEADER_BYTES)
        & (length != EXIT_BYTES)
        & (frames >= MIN_FRAMES)
        & (frames <= MAX_FRAMES)
        & (rate_code <= RATE_UNDEFINED)
        & np.isin(bits, (8, 16, 24, 32))
        & (wants >= 1)
        & (wants <= MAX_CHANNELS)
        & (sends >= 1)
        & (sends <= MAX_CHANNELS)
    )
    return fits


def _odd_packet_bytes(view: View) -> Values:
    frames, _, bits, _, sends = odd_format(view)
    return HEADER_BYTES + frames * sends * (bits // 8)


def _length_fits(view: View) -> Flags:
    """Whether it was as long as its header says, or several times that."""
    length, size = view.now("rx.odd_bytes"), _odd_packet_bytes(view)
    fits: Flags = (length >= size) & (length % size == 0)
    return fits


def _unreadable(view: View) -> Flags:
    """It sends a stream, and little or nothing of it is audio."""
    odd: Flags = view.per_s("rx.malformed") >= STREAM_PER_S
    return view.present & odd & (view.grown("rx.malformed") > view.grown("rx.packets"))


def _stranger(view: View) -> Flags:
    """The last foreign datagram came from another address, and not only another port."""
    same: Flags = (view.now("rx.foreign_high") == view.now("slots.peer_high")) & (
        view.now("rx.foreign_low") == view.now("slots.peer_low")
    )
    return ~same


def silent_for_s(view: View) -> Reals:
    """Time since each client's last packet, seconds."""
    found: Reals = view.newest.now_s - view.now("rx.valid_ns").astype(np.float64) * 1e-9
    return found


def foreign_stream(view: View) -> Flags:
    """Somebody else sends a stream to a client's port."""
    stream: Flags = view.per_s("rx.foreign") >= STREAM_PER_S
    return view.present & stream


def _no_udp(view: View) -> Flags:
    found: Flags = view.waiting & (view.now("rx.datagrams") == 0)
    return found


def _udp_elsewhere(view: View) -> Flags:
    return view.waiting & foreign_stream(view) & _stranger(view)


def _wrong_header(view: View) -> Flags:
    unreadable = _unreadable(view)
    return unreadable & ~_header_fits(view) if unreadable.any() else unreadable


def _wrong_length(view: View) -> Flags:
    unreadable = _unreadable(view)
    return unreadable & _header_fits(view) & ~_length_fits(view) if unreadable.any() else unreadable


def _format_changed(view: View) -> Flags:
    unreadable = _unreadable(view) & ~view.waiting
    return unreadable & _header_fits(view) & _length_fits(view) if unreadable.any() else unreadable


def stopped(view: View) -> Flags:
    """It was heard, and sends nothing any more."""
    gone: Flags = silent_for_s(view) > SILENT_PACKETS_S
    found: Flags = view.active & gone & (view.grown("rx.packets") == 0)
    return found


def garbage(view: View) -> Flags:
    """Its 32-bit sender is the broken one, and it is muted."""
    broken: Flags = view.now("rx.garbage") != 0
    return view.active & broken


def all_silent(view: View) -> Flags:
    """Not one sample but zero since the look before."""
    windows = view.grown("rx.windows")
    found: Flags = view.active & (windows > 0) & (view.grown("rx.silent_windows") == windows)
    return found


def _silent(view: View) -> Flags:
    return all_silent(view) & ~garbage(view)


def _held(view: View) -> Flags:
    held: Flags = view.now("slots.held") != 0
    return view.present & held


def _muted(view: View) -> Flags:
    found: Flags = view.present & (view.real("slots.gain") == 0.0) & ~_held(view)
    return found


def _measuring(view: View) -> Flags:
    knocking: Flags = view.now("rx.state") == RxState.KNOCKING
    unknown = (view.now("rx.rate_code") == RATE_UNDEFINED) & (view.now("rx.rate_hz") == 0)
    found: Flags = view.present & knocking & unknown
    return found


def _send_errors(view: View) -> Flags:
    return view.active & (view.grown("tx.errors") > 0)


def _not_served(view: View) -> Flags:
    ticking = view.clock_grown("ticks") > 0
    served = (view.grown("tx.packets") > 0) | (view.grown("tx.errors") > 0)
    return view.active & ~served & ticking


def alone(view: View) -> Flags:
    """It is the only one that could be heard."""
    here = view.active & ~_held(view)
    found: Flags = here & (np.count_nonzero(here) == 1)
    return found


def _hears_silence(view: View) -> Flags:
    mixing = view.newest.patch in (PatchMode.FULL_MIX, PatchMode.FAN_OUT_NO_SELF)
    sent = view.grown("tx.packets") > 0
    silent: Flags = view.real("tx.peak") == 0.0
    if "meters" in view.newest.overload.sheds:
        return np.zeros_like(silent)
    return view.active & mixing & sent & silent & ~alone(view) & ~_held(view)


def foreign_source(view: View, slot: int) -> str:
    """Where the last foreign datagram came from."""
    address = address_of_words(
        int(view.now("rx.foreign_high")[slot]), int(view.now("rx.foreign_low")[slot])
    )
    expected = address_of_words(
        int(view.now("slots.peer_high")[slot]), int(view.now("slots.peer_low")[slot])
    )
    port, count = view.now("rx.foreign_port")[slot], view.now("rx.foreign")[slot]
    if not count:
        return _last_odd(view, slot)
    return f"{count} datagrams, the last from {address} port {port}; expected from {expected}"


def _last_odd(view: View, slot: int) -> str:
    length, count = view.now("rx.odd_bytes")[slot], view.now("rx.malformed")[slot]
    return f"{count} datagrams, the last of {length} bytes"


def _odd_length(view: View, slot: int) -> str:
    return f"{_last_odd(view, slot)}, where its header makes {_odd_packet_bytes(view)[slot]}"


def _formats(view: View, slot: int) -> str:
    frames, rate_code, bits, _, sends = (int(values[slot]) for values in odd_format(view))
    began = (
        int(view.now(f"rx.{name}")[slot]) for name in ("frames", "rate_code", "bits", "channels")
    )
    return f"began with {_format(*began)}, sends {_format(frames, rate_code, bits, sends)}"


def _format(frames: int, rate_code: int, bits: int, channels: int) -> str:
    rate = f"{RATES_HZ[rate_code]} Hz" if rate_code < RATE_UNDEFINED else "an unnamed rate"
    return f"{frames} frames, {rate}, {bits} bit, {channels} ch"


def _age(view: View, slot: int) -> str:
    return f"{view.now('session.age_s')[slot]:.0f} s since its handshake"


def _silence(view: View, slot: int) -> str:
    return f"{silent_for_s(view)[slot]:.0f} s since its last packet"


UNHEARD = (
    Condition(
        "no-udp", Severity.ERROR,
        "It has shaken hands over TCP, but not one UDP packet of it has come.",
        "A firewall or router between you and the hub blocks UDP: allow JackTrip to send and "
        "receive UDP, leave any VPN or guest network, then connect again.",
        "Open the hub's UDP ports, inbound, in the machine's firewall and in the provider's. If "
        "others are heard, it is the musician's side.",
        _no_udp, raise_s=2.0, clear_s=0.0, detail=_age,
    ),
    Condition(
        "udp-elsewhere", Severity.ERROR,
        "Its UDP comes from another address than its handshake came from, so it is not trusted.",
        "Turn off the VPN, proxy or second network (Wi-Fi and cable at once, a phone's hotspot), "
        "so that all of JackTrip leaves by the same line; then connect again.",
        "A carrier's NAT, a VPN or a second line gives TCP and UDP different addresses; or IPv6 "
        "and IPv4 are mixed: let the musician connect by the hub's IPv4 address.",
        _udp_elsewhere, raise_s=2.0, detail=foreign_source,
    ),
    Condition(
        "wrong-header", Severity.ERROR,
        "What it sends does not begin with JackTrip's header.",
        "Start JackTrip without --emptyheader and --jamlink; check that it is JackTrip and no "
        "other program that sends to this port.",
        "Another program, another header (-e, -j), or a device between that alters packets.",
        _wrong_header, raise_s=2.0, detail=_last_odd,
    ),
    Condition(
        "wrong-length", Severity.ERROR,
        "Its packets are not as long as their header says.",
        "Choose a smaller packet (JACK's period, 128 or 256 frames), fewer channels or less -r: "
        "a device on the way cuts packets that are long.",
        "Fragments are dropped or cut on the way (a VPN, PPPoE, a firewall): packets above some "
        "1400 bytes are at risk.",
        _wrong_length, raise_s=2.0, detail=_odd_length,
    ),
    Condition(
        "format-changed", Severity.ERROR,
        "It has changed its packet size, rate, bits or channels in mid-session.",
        "Stop JackTrip and connect again, after every change of JACK's settings.",
        "Kick it: JackTrip connects anew when the musician starts it again.",
        _format_changed, raise_s=2.0, detail=_formats,
    ),
    Condition(
        "stopped", Severity.ERROR,
        "It was heard, but nothing comes from it any more.",
        "Is the computer asleep, the network gone, JACK or the sound card stopped? Otherwise "
        "connect again. After ten seconds the hub gives your place away.",
        "Its computer sleeps or its line is down; after ten seconds of this it is let go.",
        stopped, raise_s=0.0, clear_s=1.0, detail=_silence,
    ),
    Condition(
        "garbage-32bit", Severity.ERROR,
        "It sends 32 bit, and what comes is no sound, by an error in JackTrip: it is muted.",
        "Start JackTrip without -b 32; 16 bit (the default) or 24 bit are fine.",
        "Ask for -b 16 or -b 24. It hears the others all the same.",
        garbage, raise_s=0.0, clear_s=2.0,
    ),
    Condition(
        "waiting-room", Severity.ERROR,
        "It is in the waiting room: nobody hears it, and it hears nobody, until it is admitted.",
        "Wait: the host has to let you in.",
        "tuttihub ctl admit CLIENT, or tuttihub ctl kick CLIENT.",
        _held, raise_s=0.0, clear_s=0.0, detail=_age,
    ),
    Condition(
        "measuring-rate", Severity.ERROR,
        "It does not say its sample rate, so the hub measures it; until then it is not heard.",
        "Wait for some seconds. It goes at once with JACK at 44100, 48000, 88200 or 96000 Hz.",
        "On a bad line it takes up to 20 seconds.",
        _measuring, raise_s=2.0, clear_s=0.0, detail=_age,
    ),
    Condition(
        "not-served", Severity.ERROR,
        "The hub sends nothing to it.",
        "Connect again.",
        "A worker of the hub does not do its work: look at the log for mixer and lanes.",
        _not_served, raise_s=3.0, clear_s=1.0,
    ),
    Condition(
        "send-errors", Severity.ERROR,
        "The hub's machine refuses to send to it.",
        "Connect again; if that does not help, tell who runs the hub.",
        "A firewall's output rule, a full send buffer (net.core.wmem_max) or a missing route.",
        _send_errors, raise_s=2.0, clear_s=5.0,
    ),
    Condition(
        "silent-input", Severity.WARNING,
        "Its packets come, but every sample is zero: digital silence.",
        "Nothing is connected to JackTrip's inputs, or the microphone is off: in your patchbay "
        "(QjackCtl, Carla) connect the microphone (system:capture) to JackTrip's send ports; look "
        "for a mute switch, and whether the system lets JackTrip use the microphone.",
        "Nothing to do at the hub: the network is fine.",
        _silent, raise_s=8.0, clear_s=1.0,
    ),
    Condition(
        "muted", Severity.INFO,
        "The hub has muted it, or turned its gain off: nobody hears it.",
        "Ask who mixes to let you be heard.",
        "tuttihub ctl mute CLIENT off, or tuttihub ctl gain CLIENT default.",
        _muted, raise_s=0.0, clear_s=0.0,
    ),
    Condition(
        "hears-silence", Severity.INFO,
        "Others are here, but all that it is sent is silence.",
        "Wait until somebody plays. If you should hear them: your sound arrives, theirs does not "
        "reach you; ask who mixes.",
        "Are the others silent or muted? Has this listener levels of its own (a star at its gain)?",
        _hears_silence, raise_s=8.0, clear_s=1.0,
    ),
    Condition(
        "alone", Severity.INFO,
        "Nobody else is here to be heard.",
        "Wait for the others; your line to the hub is fine.",
        "Nothing to do.",
        alone, raise_s=3.0, clear_s=0.0,
    ),
)  # fmt: skip
"""By urgency."""
