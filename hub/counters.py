"""What the arena counts, as users see it: one line a field.

The collector exports every line; ``tuttihub status`` shows the same fields by their names
in the arena. A new counter of ``shared.layout`` is one line here (a test says so when it
is missing), or one word in ``NO_METRICS`` if it is no business of the user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.limits import Concealed

PREFIX = "tuttihub_"

Kind = Literal["counter", "gauge", "histogram"]
NANO = 1e-9


@dataclass(frozen=True, slots=True)
class Row:
    """One metric.

    Attributes:
        field: of the section's record.
        name: of the metric, without prefix and '_total'.
        help: what it tells.
        kind: counter unless said otherwise.
        scale: from the field's unit to the metric's.
        total: of a histogram: the field with the sum of all values.
        by: of a field that is an array: the label, and what each entry stands for.
        whole: the field with the sum of all entries, which ``status`` shows instead.
    """

    field: str
    name: str
    help: str
    kind: Kind = "counter"
    scale: float = 1.0
    total: str = ""
    by: tuple[str, tuple[str, ...]] | None = None
    whole: str = ""


RX = (
    Row("datagrams", "client_received_datagrams", "UDP datagrams from the client"),
    Row("bytes", "client_received_bytes", "UDP payload from the client"),
    Row("packets", "client_received_packets", "Audio packets received, repetitions left out"),
    Row("lost", "client_lost_packets", "Audio packets that never came"),
    Row("late", "client_late_packets", "Audio packets that came after they were due"),
    Row("duplicates", "client_duplicate_packets", "Audio packets that had come before"),
    Row("reordered", "client_reordered_packets", "Audio packets overtaken by a later one"),
    Row("repaired", "client_repaired_packets", "Audio packets only redundancy brought in time"),
    Row("malformed", "client_malformed_datagrams", "Datagrams that were no audio of the client's"),
    Row("foreign", "client_foreign_datagrams", "Datagrams from another address than the client's"),
    Row(
        "concealed",
        "client_concealed_frames",
        "Frames filled in for audio not there, by method",
        by=("method", tuple(method.name.lower() for method in Concealed)),
        whole="concealed_frames",
    ),
    Row("underruns", "client_underruns", "Gaps in the client's audio, of any length"),
    Row("bridged", "client_bridged_gaps", "Gaps filled between known sound on both sides"),
    Row("overflows", "client_overflows", "Times that audio was skipped to shorten the queue"),
    Row("overflow_frames", "client_overflow_frames", "Frames skipped to shorten the queue"),
    Row("glided_frames", "client_glided_frames", "Delay added or taken away by resampling"),
    Row("grown_frames", "client_grown_frames", "Delay added at once, in gaps"),
    Row("engaged", "client_resampling_engagements", "Times that the client's resampling began"),
    Row("moves", "client_port_moves", "Times that the client's UDP port changed in mid-session"),
    Row("restarts", "client_timeline_restarts", "Times that the client's timing was set anew"),
    Row("kernel_drops", "client_dropped_datagrams", "Datagrams the kernel had no room for"),
    Row("sanitised", "client_sanitised_samples", "Samples of 32 bit clients that were no audio"),
    Row("windows", "client_level_windows", "Tenths of a second whose level was measured"),
    Row("silent_windows", "client_silent_windows", "Such tenths of digital silence"),
    Row("faint_windows", "client_faint_windows", "Such tenths below -60 dBFS"),
    Row("full_windows", "client_full_scale_windows", "Such tenths with a sample at full scale"),
    Row("garbage_packets", "client_garbage_packets", "Packets muted: a broken 32 bit sender's"),
    Row("garbage", "client_sends_garbage", "1: a broken 32 bit sender, muted", "gauge"),
    Row("offsets", "client_offset_channels", "Channels a constant offset is taken out of", "gauge"),
    Row("guard", "client_guard_state", "0 nothing noticed, 1 noise, 2 a stuck tone", "gauge"),
    Row("guarded", "client_guard_alarms", "Times that noise or a stuck tone was noticed"),
    Row("cut", "client_guard_cut_ratio", "What the guard takes off the client's gain", "gauge"),
    Row("wakeups", "client_receiver_wakeups", "Times that the client's receiver woke up"),
    Row("state", "client_state", "1 waiting, 2 knocking, 3 active, 4 ended", "gauge"),
    Row(
        "resampling",
        "client_resampling",
        "0: its sound is kept bit by bit; resampled 1: to change its delay, 2: to follow its clock",
        "gauge",
    ),
    Row("peak", "client_input_peak_ratio", "Peak of what the client sends", "gauge"),
    Row("rms", "client_input_rms_ratio", "RMS of what the client sends", "gauge"),
    Row(
        "jitter",
        "client_arrival_jitter_seconds",
        "Deviation of a packet's arrival from its predecessor's plus one packet",
        "histogram",
        NANO,
        total="jitter_ns",
    ),
)

TX = (
    Row("packets", "client_sent_packets", "Audio packets sent to the client"),
    Row("bytes", "client_sent_bytes", "UDP payload sent to the client"),
    Row("errors", "client_send_errors", "Packets that the kernel refused to send"),
    Row("clipped", "client_clipped_samples", "Clips: samples to the client beyond full scale"),
    Row("limited_frames", "client_limited_frames", "Frames to the client the limiter reduced"),
    Row("limiter_cut", "client_limiter_cut_ratio", "What the limiter takes off now", "gauge"),
    Row("peak", "client_output_peak_ratio", "Peak of what the client is sent", "gauge"),
    Row("rms", "client_output_rms_ratio", "RMS of what the client is sent", "gauge"),
)

SLOT = (
    Row("gain", "client_gain_ratio", "Gain of the client in the mix, 0 when muted", "gauge"),
    Row("overrides", "client_level_overrides", "Sources with a level of their own for it", "gauge"),
    Row("held", "client_held", "1: waits to be admitted, unheard and hearing nothing", "gauge"),
)

CLOCK = (
    Row("ticks", "ticks", "Ticks mixed"),
    Row("missed", "ticks_missed", "Ticks skipped because the mixer came too late"),
    Row("overruns", "tick_overruns", "Ticks whose work took longer than a period"),
    Row("sources", "sources", "Active sources in the last tick", "gauge"),
    Row("starved", "starved_source_ticks", "Sources without samples in time, a tick each"),
    Row("waited", "ticks_waited", "Ticks that waited for receivers that were late"),
    Row("waited_ns", "tick_waiting_seconds", "Time that ticks waited for receivers", scale=NANO),
    Row("lateness_max_ns", "tick_lateness_max_seconds", "The latest tick", "gauge", NANO),
    Row(
        "lateness",
        "tick_lateness_seconds",
        "How late the mixer began a tick",
        "histogram",
        NANO,
        total="lateness_ns",
    ),
    Row("work", "tick_work_seconds", "The mixer's work a tick", "histogram", NANO, total="work_ns"),
)

LANE = (
    Row("ticks", "lane_ticks", "Ticks sent by the lane"),
    Row("missed", "lane_ticks_missed", "Ticks no longer readable when the lane came"),
    Row("paced", "lane_paced_packets", "Packets sent between ticks, so that they come evenly"),
    Row("listeners", "lane_listeners", "Clients served in the last tick", "gauge"),
    Row(
        "sent_ns",
        "lane_send_delay_seconds",
        "From a tick's time to the send of the last packet that left with it, summed over ticks",
        scale=NANO,
    ),
    Row(
        "work",
        "lane_work_seconds",
        "The lane's work a tick",
        "histogram",
        NANO,
        total="work_ns",
    ),
)


JACK = (
    Row(
        "state",
        "jack_state",
        "JACK bridge: 0 off, 1 no server, 2 does not fit, 3 runs, 4 freewheels, 5 hangs",
        "gauge",
    ),
    Row("coupled", "jack_clock", "1: JACK is the hub's clock", "gauge"),
    Row(
        "behind", "jack_behind", "Ticks that JACK's sound is used later: its graph is slow", "gauge"
    ),
    Row("graph_ns", "jack_graph_seconds", "Of a period, that the graph needs", "gauge", NANO),
    Row("slow_cycles", "jack_slow_cycles", "Cycles that took more than 3/4 of a period"),
    Row("cycles", "jack_cycles", "Cycles of JACK"),
    Row("resyncs", "jack_resyncs", "Times that JACK's cycles were numbered anew"),
    Row("taken", "jack_clock_taken", "Times that JACK became the hub's clock"),
    Row("lost", "jack_clock_lost", "Times that the hub went on by its own clock"),
    Row("ticks", "jack_ticks", "Ticks by JACK's clock"),
    Row("xruns", "jack_xruns", "Late cycles that JACK told of"),
    Row("period_changes", "jack_period_changes", "Times that JACK's period changed"),
    Row("deaths", "jack_deaths", "Times that the JACK server went away"),
    Row("clients", "jack_clients", "JACK clients that the hub has", "gauge"),
    Row("ports", "jack_ports", "Their ports", "gauge"),
    Row("garbled", "jack_garbled", "Samples from JACK that are no numbers: silence"),
    Row("gaps", "jack_gaps", "Times that a client's sound was not there in time for JACK"),
    Row("left_out", "jack_left_out", "Clients that JACK had no room for", "gauge"),
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NO_METRICS: dict[str, frozenset[str]] = {
    # identity and format: in tuttihub_client_info; depth, margin, steps and the clock's ratio:
    # made gauges by hub.metrics; the rest is the receiver's bookkeeping
    "rx": _words("""
        concealed_frames concealed_by odd_first odd_echo odd_since_ns odd_last_ns
        stamp_us stamp_ns stamp_steady own_ns
        move_port move_run move_next move_last_ns copies copies_run
        looked_ns shed heir
        session end_reason pid peer_port frames rate_code rate_hz bits channels wants redundancy
        ring_frames started_ns joined_ns sockaddr_bytes sockaddr watermark resting base_sequence
        base_position highest accounted gap_start blend_start bridge_start bridge_end
        arrival_ns valid_ns
        late_run late_since_ns odd_run odd_next slack_min slack_since_ns window_peak
        window_squares window_frames filled read_frame read_phase step conceal_end glide owed
        queue_packets underrun margin_frames depth_frames clock_ratio clock_sigma clock_offset
        clock_number clock_blocks clock_certain clock_residue clock_moved block_count
        block_began block_numbers block clock_var_offset clock_covariance clock_var_ratio
        clock_alike clock_error clock_steps run_blocks run_began run_gate run_mean run_variance
        clock_began clock_torn trial_began trial_origin trial_slot_s trial_slots trial_blocks
        trial_time trial_way trial_all trial_straight trial_contrary trial_times trial_ways
        clock_rough calm_blocks calm_square
        late_weight late_total late_beyond late_wanted late_bucket late_stalled late_steps late_kept
        late_histogram late_before foreign_high foreign_low foreign_port odd_bytes odd_header
        window_sounding sounding garbage_run sound_run muted_end sound_end
        channel_peaks channel_squares channel_sums guard_run guard_calm guard_rms offset_frames
        offset_pole offset_step offset_wanted offset_weights offset_means offset_sums
        offset_before offset_calm
        span nominal_step filter lookahead pace_packets pace_began_ns pace_last
        pace_number pace_sums"""),
    "tx": _words("""
        session sequence fill_frames redundancy hold limiter_hold bus_gain self_gain last_tick
        window_peak window_squares window_frames"""),
    "slots": _words("""
        session peer_high peer_low ipv6 queue_packets headroom_ns admit stop guard_released
        connected panned pan_left pan_right balance_left balance_right limited underrun
        strip_changes strip_fade row_changes row_fade monitor jack_group jack_name"""),
    "clock": _words("tick futex mixed pid started_ns levels patch master levels_read mix_ns"),
    "lanes": _words("pid started_ns levels_read mail_ns paced_ns"),
    "jack": _words("""
        cycle futex cycle_ns base_at base_ticks base_frames strays pid rate_hz period_frames
        taken_ticks patience calm behinds turns"""),
}
"""Fields that are no metric, by section."""

SECTIONS: dict[str, tuple[Row, ...]] = {
    "rx": RX,
    "tx": TX,
    "slots": SLOT,
    "clock": CLOCK,
    "lanes": LANE,
    "jack": JACK,
}
"""Rows by the arena's section."""


def counter_fields(section: str) -> list[str]:
    """Fields of a section that only ever grow, histograms left out."""
    return [row.whole or row.field for row in SECTIONS[section] if row.kind == "counter"]
