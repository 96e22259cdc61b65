"""Conditions of a client that is heard, but not well, or not as somebody may expect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hub.conditions.condition import Condition, Severity
from hub.conditions.looks import SPAN, Flags, Reals, Values, View
from hub.conditions.unheard import all_silent, foreign_source, foreign_stream, garbage, stopped
from hub.snapshot import drift_known
from shared.limits import Noticed

BAD_SHARE = 1e-3
"""Packets lost or late of all, over ten seconds, that are heard in the long run."""
BAD_PACKETS = 3
GAP_SHARE = 0.01
"""Of the sound, made up."""
MUCH_DRIFT = 200e-6
LONG_QUEUE_S = 0.010
"""Latency that a fixed queue costs for nothing."""
SOUNDING_LEFT, SOUNDING_RIGHT = 1, 2


def _share(view: View, name: str) -> Reals:
    """Of the packets due in the last ten seconds: how many were lost, or late."""
    due = view.grown("rx.packets", SPAN) + view.grown("rx.lost", SPAN)
    share: Reals = view.grown(name, SPAN) / np.maximum(due, 1)
    return share


def _many(view: View, name: str) -> Flags:
    """Too many packets of the last ten seconds, whether or not there were some just now."""
    enough = view.grown(name, SPAN) >= BAD_PACKETS
    return view.active & enough & (_share(view, name) > BAD_SHARE)


def _again(view: View, name: str) -> Flags:
    """Some just now, and too many of the last ten seconds: one bad moment counts once."""
    return _many(view, name) & (view.grown(name) > 0)


def hurt(view: View) -> Flags:
    """Packets were lost or late just now, or have stopped."""
    return _again(view, "rx.lost") | _again(view, "rx.late") | stopped(view)


def _losing(view: View) -> Flags:
    return _again(view, "rx.lost") & ~stopped(view)


def _fixed(view: View) -> Flags:
    fixed: Flags = view.now("slots.queue_packets") != 0
    return fixed


def _queue_short(view: View) -> Flags:
    later: Flags = view.real("rx.late_wanted") > view.now("rx.margin_frames")
    return _again(view, "rx.late") & _fixed(view) & later


def _late(view: View) -> Flags:
    return _again(view, "rx.late") & ~_queue_short(view)


def _queue_long(view: View) -> Flags:
    spare = view.now("rx.margin_frames") - view.real("rx.late_wanted")
    return view.active & _fixed(view) & (spare > LONG_QUEUE_S * view.rate_hz)


def _stalling(view: View) -> Flags:
    return view.active & (view.grown("rx.stalls") > 0)


def _restarting(view: View) -> Flags:
    return view.active & (view.grown("rx.restarts") > 0)


def _gaps(view: View) -> Flags:
    made_up = view.grown("rx.concealed_frames", SPAN)
    frames = view.grown("rx.packets", SPAN) * view.now("rx.frames") + made_up
    much: Flags = made_up > GAP_SHARE * np.maximum(frames, 1)
    known = _many(view, "rx.lost") | _many(view, "rx.late") | stopped(view)
    known |= (view.grown("rx.stalls", SPAN) > 0) | (view.grown("rx.restarts", SPAN) > 0)
    return view.active & much & (view.grown("rx.concealed_frames") > 0) & ~known


def _skipping(view: View) -> Flags:
    return view.active & (view.grown("rx.overflows") > 0)


def _drifting(view: View) -> Flags:
    sigma, ratio = view.real("rx.clock_sigma"), view.real("rx.clock_ratio")
    known = drift_known({"clock_sigma": sigma})
    found: Flags = view.active & known & (np.abs(ratio) > MUCH_DRIFT)
    return found


def _kernel_drops(view: View) -> Flags:
    return view.active & (view.grown("rx.kernel_drops") > 0)


def _receiver_died(view: View) -> Flags:
    return view.present & (view.grown("session.restarts") > 0)


def _clipping(view: View) -> Flags:
    return view.active & (view.grown("rx.full_windows") > 0) & ~garbage(view)


def _bad_samples(view: View) -> Flags:
    return view.active & (view.grown("rx.sanitised") > 0) & ~garbage(view)


def _noise(view: View) -> Flags:
    found: Flags = view.active & (view.now("rx.guard") == Noticed.NOISE)
    return found


def _stuck_tone(view: View) -> Flags:
    found: Flags = view.active & (view.now("rx.guard") == Noticed.TONE)
    return found


def _offset(view: View) -> Flags:
    return view.active & (view.now("rx.offsets") > 0)


def _clipping_return(view: View) -> Flags:
    return view.active & (view.grown("tx.clipped") > 0)


def _second_stream(view: View) -> Flags:
    same: Flags = (view.now("rx.foreign_high") == view.now("slots.peer_high")) & (
        view.now("rx.foreign_low") == view.now("slots.peer_low")
    )
    return foreign_stream(view) & same & ~view.waiting


def _strangers(view: View) -> Flags:
    odd = view.grown("rx.foreign") + view.grown("rx.malformed")
    return view.active & (odd > 0) & (view.grown("rx.packets") > odd) & ~_second_stream(view)


def _faint(view: View) -> Flags:
    windows = view.grown("rx.windows")
    faint = view.grown("rx.faint_windows") == windows
    found: Flags = view.active & (windows > 0) & faint & ~all_silent(view)
    return found


def _one_sided(view: View) -> Flags:
    sounding = view.seen_lately("rx.sounding") & (SOUNDING_LEFT | SOUNDING_RIGHT)
    one: Flags = (sounding == SOUNDING_LEFT) | (sounding == SOUNDING_RIGHT)
    return view.active & (view.now("rx.channels") >= 2) & one


def _mono_input(view: View) -> Flags:
    others_hear_two = np.any(view.active & (view.now("rx.wants") >= 2))
    mono: Flags = view.now("rx.channels") == 1
    placed: Flags = (view.now("slots.panned") != 0) | view.upmix
    return view.active & mono & others_hear_two & ~placed


def _mono_return(view: View) -> Flags:
    others_send_two = np.any(view.active & (view.now("rx.channels") >= 2))
    mono: Flags = view.now("rx.wants") == 1
    return view.active & mono & others_send_two & (not view.downmix)


def _client_rate(view: View) -> Values:
    """Frames a second of each client's own; the hub's where that is not known."""
    rate = view.now("rx.rate_hz")
    return np.where(rate > 0, rate, view.rate_hz)


def _other_rate(view: View) -> Flags:
    found: Flags = view.active & (_client_rate(view) != view.rate_hz)
    return found


def _rates(view: View, slot: int) -> str:
    return f"{_client_rate(view)[slot]} Hz; the hub mixes at {view.rate_hz} Hz"


def _percent(name: str, what: str) -> Callable[[View, int], str]:
    def detail(view: View, slot: int) -> str:
        share, count = _share(view, name)[slot], view.grown(name, SPAN)[slot]
        return f"{count} of its packets {what} in ten seconds, {100 * share:.2g} %"

    return detail


def _queue_detail(view: View, slot: int) -> str:
    late_ms = 1000 * view.real("rx.late_wanted")[slot] / view.rate_hz
    margin_ms = 1000 * view.now("rx.margin_frames")[slot] / view.rate_hz
    return f"packets are up to {late_ms:.1f} ms late, its queue can wait {margin_ms:.1f} ms"


def _drift_detail(view: View, slot: int) -> str:
    ppm = 1e6 * view.real("rx.clock_ratio")[slot]
    return f"{abs(ppm):.0f} ppm too {'fast' if ppm > 0 else 'slow'}"


def _gap_detail(view: View, slot: int) -> str:
    made_up = view.grown("rx.concealed_frames", SPAN)[slot]
    return f"{1000 * made_up / _client_rate(view)[slot]:.0f} ms made up in ten seconds"


def _stall_detail(view: View, slot: int) -> str:
    return f"{view.grown('rx.stalls', SPAN)[slot]} pauses in ten seconds"


def _drops_detail(view: View, slot: int) -> str:
    return f"{view.grown('rx.kernel_drops', SPAN)[slot]} datagrams in ten seconds"


SUFFERING = (
    Condition(
        "receiver-died", Severity.WARNING,
        "The hub's process for this client died and was replaced.",
        "Nothing: it goes on at the same place. Tell who runs the hub if it comes again.",
        "Look at the log: killed by the system for want of memory? If not, report it.",
        _receiver_died, raise_s=0.0, clear_s=15.0,
    ),
    Condition(
        "kernel-drops", Severity.WARNING,
        "The hub's machine had no room for its packets and dropped them.",
        "Nothing you can do: tell who runs the hub.",
        "Allow larger socket buffers (net.core.rmem_max) and real-time priority; is the machine "
        "too busy, or is this port being flooded?",
        _kernel_drops, raise_s=0.0, clear_s=15.0, detail=_drops_detail,
    ),
    Condition(
        "restarts", Severity.WARNING,
        "Its stream stopped and began anew: its computer or sound card stalled.",
        "Look for xruns in JACK: a longer period, no power saving, fewer programs, a cable in "
        "place of Wi-Fi.",
        "It is the musician's machine, unless the same happens to many at once.",
        _restarting, raise_s=0.0, clear_s=15.0,
    ),
    Condition(
        "stalls", Severity.WARNING,
        "Its packets come in bursts, with pauses of 50 ms and more between them.",
        "This is what Wi-Fi does: use a network cable. With a cable: is somebody uploading on "
        "your line?",
        "tuttihub ctl queue CLIENT auto makes the best of it; a cable is better.",
        _stalling, raise_s=2.0, clear_s=15.0, detail=_stall_detail,
    ),
    Condition(
        "losses", Severity.WARNING,
        "Packets of it are lost on the way to the hub.",
        "Start JackTrip with -r 2, which sends everything twice; use a cable and no Wi-Fi; send "
        "fewer channels if your upload is full.",
        "The musician's line, unless many suffer at once. -r 2 at the client repairs it.",
        _losing, raise_s=3.0, clear_s=10.0, detail=_percent("rx.lost", "were lost"),
    ),
    Condition(
        "queue-short", Severity.WARNING,
        "Its packets come later than its queue at the hub can wait.",
        "Ask who runs the hub for a longer queue for you, or auto; use a cable.",
        "tuttihub ctl queue CLIENT auto, or a larger number.",
        _queue_short, raise_s=3.0, clear_s=10.0, detail=_queue_detail,
    ),
    Condition(
        "late-packets", Severity.WARNING,
        "Its packets come too late, time and again.",
        "Use a cable; a longer period in JACK makes packets fewer.",
        "tuttihub ctl queue CLIENT auto5 gives it 5 ms more than it seems to need.",
        _late, raise_s=3.0, clear_s=10.0, detail=_percent("rx.late", "were late"),
    ),
    Condition(
        "gaps", Severity.WARNING,
        "A part of its sound is made up by the hub since it was not there in time.",
        "Look for xruns in JACK; use a cable.",
        "Is the hub's machine busy (ticks missed)? Otherwise a longer queue for this client.",
        _gaps, raise_s=3.0, clear_s=10.0, detail=_gap_detail,
    ),
    Condition(
        "skips", Severity.WARNING,
        "Its sound is skipped now and then since its queue runs over.",
        "Nothing: tell who runs the hub.",
        "Its clock is faster than the hub's, or its line lets go in bursts: --drift auto, and "
        "tuttihub ctl queue CLIENT auto.",
        _skipping, raise_s=2.0, clear_s=15.0,
    ),
    Condition(
        "clock-drift", Severity.WARNING,
        "Its sound card's clock is more than 200 ppm off the hub's.",
        "Does JACK run at the rate that the sound card really has? Are two devices bound into one "
        "without resampling, or is it a virtual machine? Any real sound card keeps within 100 ppm.",
        "It is resampled (--drift auto), so that nobody hears it. If everybody is off by as much, "
        "it is the hub's clock.",
        _drifting, raise_s=5.0, clear_s=5.0, detail=_drift_detail,
    ),
    Condition(
        "clipping-input", Severity.WARNING,
        "What it sends is at full scale: it distorts before it reaches the hub.",
        "Turn down the gain of your microphone or sound card until peaks stay below full scale.",
        "Turning it down at the hub does not help: it is distorted already.",
        _clipping, raise_s=3.0, clear_s=10.0,
    ),
    Condition(
        "bad-samples", Severity.WARNING,
        "Some of its 32 bit samples are no numbers, or far beyond full scale.",
        "Something before JackTrip in JACK, a plug-in most likely, puts out broken samples: take "
        "out one after the other.",
        "These samples are silence to the others; nothing to do at the hub.",
        _bad_samples, raise_s=1.0, clear_s=10.0,
    ),
    Condition(
        "noise", Severity.WARNING,
        "It sends noise as loud as can be, for seconds.",
        "Look at your inputs: feedback, an open connector, a wrong sample format.",
        "With --guard limit or mute it is turned down until it behaves; else "
        "tuttihub ctl mute CLIENT on. "
        "If it is music: tuttihub ctl guard CLIENT.",
        _noise, raise_s=0.0, clear_s=1.0,
    ),
    Condition(
        "stuck-tone", Severity.WARNING,
        "It sends a bare, steady tone, loud, for seconds: a howl, a hum or a test tone.",
        "Microphone and loudspeaker too close? Use headphones; stop a tuner or a test tone.",
        "With --guard limit or mute it is turned down until it behaves; else "
        "tuttihub ctl mute CLIENT on. "
        "If it is meant: tuttihub ctl guard CLIENT.",
        _stuck_tone, raise_s=0.0, clear_s=1.0,
    ),
    Condition(
        "constant-offset", Severity.INFO,
        "Its sound has a constant offset (DC); the hub takes it out.",
        "A fault of the sound card or its driver: another input, or a high-pass, ends it.",
        "Nothing: it does no harm here.",
        _offset, raise_s=0.0, clear_s=3.0,
    ),
    Condition(
        "clipping-return", Severity.WARNING,
        "The mix that it is sent is too loud and clips.",
        "Ask who mixes to turn it down.",
        "Turn down who is loud: tuttihub ctl gain NAME -6.",
        _clipping_return, raise_s=3.0, clear_s=10.0,
    ),
    Condition(
        "second-stream", Severity.WARNING,
        "A second stream from its address, but another port, comes to its port at the hub.",
        "Is JackTrip running twice? Stop both, and start one.",
        "Two JackTrips behind one router, one of which was given this port by mistake; or a "
        "router that changed its port before the old one fell silent.",
        _second_stream, raise_s=2.0, clear_s=3.0, detail=foreign_source,
    ),
    Condition(
        "strangers", Severity.INFO,
        "Datagrams that are not its own come to its port; they are ignored.",
        "Nothing: you are heard.",
        "Scanners, or somebody who tries. It harms nobody.",
        _strangers, raise_s=2.0, clear_s=10.0, detail=foreign_source,
    ),
    Condition(
        "faint-input", Severity.INFO,
        "It is very quiet: never above −60 dBFS.",
        "If you are playing, turn up the gain of your microphone or sound card, and see that the "
        "right input is connected to JackTrip.",
        "Nothing, if it is a rest. tuttihub ctl gain CLIENT 12 also raises the noise.",
        _faint, raise_s=15.0, clear_s=2.0,
    ),
    Condition(
        "one-sided", Severity.INFO,
        "Only one of its first two channels has sound: others hear it on one side.",
        "With one microphone, send one channel (-n 1, or --sendchannels 1), or connect it to both "
        "of JackTrip's send ports.",
        "Ask for --sendchannels 1, and serve with --mono-centre or -u.",
        _one_sided, raise_s=10.0, clear_s=2.0,
    ),
    Condition(
        "mono-input", Severity.INFO,
        "It sends one channel: others hear it on the left only.",
        "Nothing, or send two channels (-n 2).",
        "tuttihub ctl pan CLIENT centre; or serve with --mono-centre or -u, for all of them.",
        _mono_input, raise_s=3.0, clear_s=0.0,
    ),
    Condition(
        "mono-return", Severity.INFO,
        "It receives one channel: of others it hears the left only.",
        "Start JackTrip with --receivechannels 2.",
        "Ask for --receivechannels 2, or serve with --downmix -3: it then hears both sides.",
        _mono_return, raise_s=3.0, clear_s=0.0,
    ),
    Condition(
        "queue-long", Severity.INFO,
        "Its queue at the hub is longer than its packets need: that is latency for nothing.",
        "Your line is better than the queue supposes: ask for a shorter one.",
        "tuttihub ctl queue CLIENT auto, or a smaller number.",
        _queue_long, raise_s=60.0, clear_s=5.0, detail=_queue_detail,
    ),
    Condition(
        "other-rate", Severity.INFO,
        "Its sample rate is another than the hub's: its sound is converted, both ways.",
        "Nothing. JACK at the hub's rate saves about a millisecond each way.",
        "Nothing to do: docs/formats.md tells what the conversion costs.",
        _other_rate, raise_s=0.0, clear_s=0.0, detail=_rates,
    ),
)  # fmt: skip
"""By urgency."""
