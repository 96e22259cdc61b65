"""The three dashboards: all hubs, one hub, one musician."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from deploy.grafana.panels import FULL, HALF, THIRD, choice, dashboard, graph, heat, number

_RATE = "[$__rate_interval]"
_HUB = 'instance="$hub"'
_HUBS = choice("hub", "Hub", "label_values(tuttihub_start_time_seconds, instance)")
_NAMED = f"* on (job, instance, slot) group_left (name) tuttihub_client_info{{{_HUB}}}"
_THEIRS = (
    f'* on (job, instance, slot) group_left (name) tuttihub_client_info{{{_HUB}, name="$musician"}}'
)


def _buckets(metric: str, where: str = "") -> str:
    return f"sum by (le) (rate({metric}_bucket{{{where}}}{_RATE}))"


def _worst(expression: str) -> str:
    """The ten musicians with the most of it, by name."""
    return f"topk(10, {expression} {_NAMED})"


def _level(metric: str) -> str:
    """In dB full scale; silence is drawn at −100."""
    return f"20 * log10(clamp_min({metric}{{{_HUB}}} {_THEIRS}, 1e-5))"


def _theirs(metric: str) -> str:
    return f"{metric}{{{_HUB}}} {_THEIRS}"


def _per_s(metric: str) -> str:
    return f"rate({metric}{{{_HUB}}}{_RATE}) {_THEIRS}"


def fleet() -> Dashboard:
    """All hubs beside each other."""
    lost = "slot:tuttihub_client_missing_packets:ratio_rate1m"
    return (
        dashboard("tuttihub-fleet", "tuttihub: fleet", "All hubs beside each other", "")
        .with_panel(
            number("Hubs up", "That answer Prometheus", 'sum(up{job="tuttihub"})')
        )
        .with_panel(number("Musicians", "On all hubs", "sum(job:tuttihub_clients:sum)"))
        .with_panel(
            number(
                "In trouble", "Conditions of musicians that are raised (docs/troubles.md)",
                "count(tuttihub_client_condition) or vector(0)", warning=1, critical=10,
            )
        )
        .with_panel(
            number(
                "Highest load", "99th percentile of the work on a tick, in periods",
                "max(tuttihub_load_ratio)", "percentunit", warning=0.6, critical=0.8,
            )
        )
        .with_panel(
            number(
                "Ticks missed", "Of the worst hub",
                "max(instance:tuttihub_ticks_missed:ratio_rate1m)",
                "percentunit", warning=0.0001, critical=0.0005,
            )
        )
        .with_panel(
            number("Fullest hub", "Slots in use",
                   "max(tuttihub_clients / tuttihub_clients_max)", "percentunit", warning=0.9)
        )
        .with_panel(graph("Musicians", "Who holds a slot", {"{{instance}}": "tuttihub_clients"}))
        .with_panel(
            graph("Load", "99th percentile of the work on a tick, in periods: 80 % wakes somebody",
                  {"{{instance}}": "tuttihub_load_ratio"}, "percentunit", limit=0.8)
        )
        .with_panel(
            graph("Ticks missed", "By the mixer and its lanes; everybody hears them",
                  {"{{instance}}": "instance:tuttihub_ticks_missed:ratio_rate1m"}, "percentunit")
        )
        .with_panel(
            graph("Tick lateness, p99", "How late mixers begin",
                  {"{{instance}}": "instance:tuttihub_tick_lateness_seconds:p99_rate1m"}, "s")
        )
        .with_panel(
            heat("Tick lateness", "Of all hubs", _buckets("tuttihub_tick_lateness_seconds"))
        )
        .with_panel(
            heat("Arrival jitter", "Of all musicians",
                 _buckets("tuttihub_client_arrival_jitter_seconds"))
        )
        .with_panel(
            graph("Packets missing", "Lost or late: the worst musician of each hub, and the mean",
                  {"{{instance}} worst": f"max by (instance) ({lost})",
                   "{{instance}} mean": f"avg by (instance) ({lost})"}, "percentunit", limit=0.01)
        )
        .with_panel(
            graph("Coming and going", "A minute",
                  {"{{instance}} come": "60 * rate(tuttihub_sessions_total[1m])",
                   "{{instance}} go":
                       "60 * sum by (instance) (rate(tuttihub_sessions_ended_total[1m]))"})
        )
        .with_panel(
            graph("Handshakes", "A second, by what they ended with",
                  {"{{result}}": f"sum by (result) (rate(tuttihub_handshakes_total{_RATE}))"})
        )
        .with_panel(
            graph("Workers replaced", "In five minutes",
                  {"{{instance}} {{worker}}":
                       "sum by (instance, worker) (increase(tuttihub_worker_restarts_total[5m]))"})
        )
    )  # fmt: skip


def hub() -> Dashboard:
    """One hub: its clock, its work, its machine, and who suffers on it."""
    where = _HUB
    board = (
        dashboard("tuttihub-hub", "tuttihub: one hub", "Clock, work, machine, musicians", where)
        .with_variable(_HUBS)
        .with_panel(
            number("Ready", "1: clients are let in, and ticks advance",
                   f"tuttihub_ready{{{where}}}")
        )
        .with_panel(
            number("Musicians", "Who holds a slot", f"tuttihub_clients{{{where}}}")
        )
        .with_panel(
            number("In trouble", "Conditions of musicians that are raised",
                   f"count(tuttihub_client_condition{{{where}}}) or vector(0)",
                   warning=1, critical=10)
        )
        .with_panel(
            number("Load", "99th percentile of the work on a tick, in periods",
                   f"tuttihub_load_ratio{{{where}}}", "percentunit", warning=0.6, critical=0.8)
        )
        .with_panel(
            number("Runs for", "Since its start",
                   f"time() - tuttihub_start_time_seconds{{{where}}}", "s")
        )
        .with_panel(
            number("Certificate", "Left of its time; nothing without --auth",
                   f"tuttihub_certificate_expiry_timestamp_seconds{{{where}}} - time()", "s")
        )
        .with_row(Row("Clock and work"))
        .with_panel(
            heat("Tick lateness", "How late the mixer begins a tick",
                 _buckets("tuttihub_tick_lateness_seconds", where))
        )
        .with_panel(
            heat("Work on a tick", "Beyond a period, ticks are missed",
                 _buckets("tuttihub_tick_work_seconds", where))
        )
        .with_panel(
            graph("Work and lateness, p99", "Beside the period that they must fit in",
                  {"work": f"instance:tuttihub_tick_work_seconds:p99_rate1m{{{where}}}",
                   "lateness": f"instance:tuttihub_tick_lateness_seconds:p99_rate1m{{{where}}}",
                   "period": f"tuttihub_period_seconds{{{where}}}"}, "s")
        )
        .with_panel(
            graph("Work by phase", "Share of a core",
                  {"{{lane}} {{phase}}":
                       f"rate(tuttihub_work_phase_seconds_total{{{where}}}{_RATE})"},
                  "percentunit", stacked=True)
        )
        .with_panel(
            graph("Ticks missed", "A second",
                  {"mixer": f"rate(tuttihub_ticks_missed_total{{{where}}}{_RATE})",
                   "overrun": f"rate(tuttihub_tick_overruns_total{{{where}}}{_RATE})",
                   "lane {{lane}}": f"rate(tuttihub_lane_ticks_missed_total{{{where}}}{_RATE})",
                   "waited for receivers": f"rate(tuttihub_ticks_waited_total{{{where}}}{_RATE})"})
        )
        .with_panel(
            graph("Sources and listeners", "In the last tick; starved: without samples in time",
                  {"sources": f"tuttihub_sources{{{where}}}",
                   "listeners of lane {{lane}}": f"tuttihub_lane_listeners{{{where}}}",
                   "starved a second":
                       f"rate(tuttihub_starved_source_ticks_total{{{where}}}{_RATE})"})
        )
        .with_row(Row("Musicians"))
        .with_panel(
            heat("Arrival jitter", "Of all musicians",
                 _buckets("tuttihub_client_arrival_jitter_seconds", where))
        )
        .with_panel(
            graph("Packets missing", "Lost or late: the ten worst",
                  {"{{name}}":
                       _worst(f"slot:tuttihub_client_missing_packets:ratio_rate1m{{{where}}}")},
                  "percentunit", limit=0.01)
        )
    )  # fmt: skip
    return _hub_machine(
        board.with_panel(
            graph("Jitter, p99", "The ten worst",
                  {"{{name}}": _worst(
                      f"slot:tuttihub_client_arrival_jitter_seconds:p99_rate1m{{{where}}}")}, "s")
        )
        .with_panel(
            graph("Queues", "The ten longest",
                  {"{{name}}": _worst(f"tuttihub_client_queue_seconds{{{where}}}")}, "s")
        )
        .with_panel(
            graph("Filled in", "Frames a second, by method",
                  {"{{method}}":
                       "sum by (method) "
                       f"(rate(tuttihub_client_concealed_frames_total{{{where}}}{_RATE}))"},
                  stacked=True)
        )
        .with_panel(
            graph("Silent or clipping", "Share of the time: the ten worst",
                  {"{{name}} silent":
                       _worst(f"slot:tuttihub_client_silent:ratio_rate1m{{{where}}}"),
                   "{{name}} clips":
                       _worst(f"slot:tuttihub_client_clipping:ratio_rate1m{{{where}}}")},
                  "percentunit")
        ),
        where,
    )  # fmt: skip


def _hub_machine(board: Dashboard, where: str) -> Dashboard:
    return (
        board.with_row(Row("Door and machine"))
        .with_panel(
            graph("In use", "Of what there is; newcomers are refused, and later things left out, "
                  "where a limit is reached (docs/overload.md)",
                  {"{{resource}}": f"tuttihub_admission_used_ratio{{{where}}}",
                   "real-time, of a core": f"tuttihub_realtime_used_ratio{{{where}}}",
                   "refused from": f"tuttihub_admission_limit_ratio{{{where}}}",
                   "left out from": f"tuttihub_shedding_limit_ratio{{{where}}}"}, "percentunit")
        )
        .with_panel(
            graph("Refused and left out", "1: newcomers for that reason, or that part of the work; "
                  "and in five minutes clients let go, and seconds in which the kernel has stopped "
                  "real-time processes",
                  {"refused: {{reason}}": f"tuttihub_admission_shut{{{where}}}",
                   "left out: {{step}}": f"tuttihub_shed{{{where}}}",
                   "let go": 'increase(tuttihub_sessions_ended_total'
                             f'{{{where}, reason="overload"}}[5m])',
                   "stopped by the kernel":
                       f"increase(tuttihub_realtime_paused_seconds_total{{{where}}}[5m])"})
        )
        .with_panel(
            graph("Handshakes", "A second, by what they ended with",
                  {"{{result}}": f"rate(tuttihub_handshakes_total{{{where}}}{_RATE})"},
                  width=THIRD)
        )
        .with_panel(
            graph("Logins", "A second, by result",
                  {"{{result}}": f"rate(tuttihub_logins_total{{{where}}}{_RATE})"}, width=THIRD)
        )
        .with_panel(
            graph("Workers replaced", "In five minutes",
                  {"{{worker}}: {{reason}}":
                       f"increase(tuttihub_worker_restarts_total{{{where}}}[5m])"}, width=THIRD)
        )
        .with_panel(
            graph("Kernel drops and send errors", "A second, of all musicians",
                  {"no room for what came":
                       f"sum(rate(tuttihub_client_dropped_datagrams_total{{{where}}}{_RATE}))",
                   "not sent": f"sum(rate(tuttihub_client_send_errors_total{{{where}}}{_RATE}))"},
                  width=THIRD)
        )
        .with_panel(
            graph("Memory", "Of processes alone, and of the arena",
                  {"{{process}}":
                       f'tuttihub_process_memory_bytes{{{where}, kind="private"}}',
                   "arena": f'tuttihub_arena_bytes{{{where}, kind="used"}}'},
                  "bytes", width=THIRD, stacked=True)
        )
        .with_panel(
            graph("Disk", "Free where the hub keeps files",
                  {"{{directory}}": f"tuttihub_disk_free_bytes{{{where}}}"}, "bytes", width=THIRD)
        )
    )  # fmt: skip


def musician() -> Dashboard:
    """One musician of a hub."""
    who = choice("musician", "Musician", f"label_values(tuttihub_client_info{{{_HUB}}}, name)")
    received, missing = "tuttihub_client_received_packets_total", "tuttihub_client_{}_total"
    return (
        dashboard("tuttihub-musician", "tuttihub: one musician", "What goes wrong, and where", _HUB)
        .with_variable(_HUBS)
        .with_variable(who)
        .with_panel(
            number("Conditions", "Raised now: tuttihub why says what to do",
                   f'count(tuttihub_client_condition{{{_HUB}, client="$musician"}}) or vector(0)',
                   warning=1)
        )
        .with_panel(
            number("Here for", "Since the handshake", _theirs("tuttihub_client_connected_seconds"),
                   "s")
        )
        .with_panel(
            number("Queue", "Sound that waits to be mixed",
                   _theirs("tuttihub_client_queue_seconds"), "s")
        )
        .with_panel(
            number("Round trip", "Over TCP, when it came",
                   _theirs("tuttihub_client_handshake_round_trip_seconds"), "s",
                   warning=0.04, critical=0.08)
        )
        .with_panel(
            number("Last packet", "Since it came",
                   _theirs("tuttihub_client_last_packet_age_seconds"), "s",
                   warning=0.1, critical=1)
        )
        .with_panel(
            number("Came back", "Times that it was recognised",
                   _theirs("tuttihub_client_reconnects_total"))
        )
        .with_panel(
            heat("Arrival jitter", "Deviation of a packet from its predecessor's plus one packet",
                 "sum by (le) (rate(tuttihub_client_arrival_jitter_seconds_bucket"
                 f"{{{_HUB}}}{_RATE}) {_THEIRS})")
        )
        .with_panel(
            graph("Queue", "What waits, what is wanted, how late a packet may be and is",
                  {"waits": _theirs("tuttihub_client_queue_seconds"),
                   "wanted": _theirs("tuttihub_client_queue_target_seconds"),
                   "margin": _theirs("tuttihub_client_queue_margin_seconds"),
                   "lateness": _theirs("tuttihub_client_lateness_seconds")}, "s")
        )
        .with_panel(
            graph("Packets", "A second", {
                "received": _per_s(received),
                **{kind: _per_s(missing.format(f"{kind}_packets")) for kind in
                   ("lost", "late", "reordered", "duplicate", "repaired")},
            })
        )
        .with_panel(
            graph("Filled in", "Frames a second, by method; away: the receiver did not run",
                  {"{{method}}": _per_s("tuttihub_client_concealed_frames_total")}, stacked=True)
        )
        .with_panel(
            graph("Level in", "What it sends, dB full scale",
                  {"peak": _level("tuttihub_client_input_peak_ratio"),
                   "RMS": _level("tuttihub_client_input_rms_ratio")}, "dB")
        )
        .with_panel(
            graph("Level out", "What it is sent, dB full scale",
                  {"peak": _level("tuttihub_client_output_peak_ratio"),
                   "RMS": _level("tuttihub_client_output_rms_ratio")}, "dB")
        )
        .with_panel(
            graph("Clips and silence", "In: tenths of a second a second; out: samples a second",
                  {"full scale in": _per_s("tuttihub_client_full_scale_windows_total"),
                   "silent in": _per_s("tuttihub_client_silent_windows_total"),
                   "clipped out": _per_s("tuttihub_client_clipped_samples_total")})
        )
        .with_panel(
            graph("Gaps and skips", "A second",
                  {"gaps": _per_s("tuttihub_client_underruns_total"),
                   "skips": _per_s("tuttihub_client_overflows_total"),
                   "timing anew": _per_s("tuttihub_client_timeline_restarts_total"),
                   "receiver replaced": _per_s("tuttihub_client_receiver_restarts_total")})
        )
        .with_panel(
            graph("Clock", "Its clock beside the hub's, known within 20 ppm; how its sound is read",
                  {"drift": f"1e6 * {_theirs('tuttihub_client_clock_drift_ratio')}",
                   "resampler": f"1e6 * {_theirs('tuttihub_client_resampler_ratio')}",
                   "resampling (0, 1, 2)": _theirs("tuttihub_client_resampling")},
                  "ppm", width=HALF)
        )
        .with_panel(
            graph("Datagrams that do not help", "A second",
                  {"no room": _per_s("tuttihub_client_dropped_datagrams_total"),
                   "malformed": _per_s("tuttihub_client_malformed_datagrams_total"),
                   "foreign": _per_s("tuttihub_client_foreign_datagrams_total"),
                   "not sent": _per_s("tuttihub_client_send_errors_total")})
        )
        .with_panel(
            graph("Conditions", "1 while raised", {
                "{{condition}}": f'tuttihub_client_condition{{{_HUB}, client="$musician"}} '
                                 'or label_replace(vector(0), "condition", "none", "", "")',
            }, width=FULL)
        )
    )  # fmt: skip


BOARDS = {"fleet": fleet, "hub": hub, "musician": musician}
"""By the names of their files."""
