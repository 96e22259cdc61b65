"""``tuttihub status`` for people: the snapshot as tables."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hub.messages.state import (
    Auth,
    ClientState,
    ClockState,
    FormatState,
    Gone,
    HubState,
    Jack,
    Level,
    Overload,
    QueueState,
    Status,
    TurnedAway,
    Words,
)
from hub.overload.info import OverloadInfo, overload_text
from hub.pans import pan_text

PLAIN_WIDTH = 160
"""Columns of a table that goes into a file or pipe."""
CONDITION_STYLES = {"info": "cyan", "warning": "yellow", "error": "bold red"}
DEPARTURES = 3
"""That are shown."""
_STATE_STYLES = {
    "active": "green",
    "waiting": "yellow",
    "knocking": "yellow",
    "held": "yellow",
    "ended": "dim",
}


def print_status(state: Status, console: Console | None = None) -> None:
    """Print the hub, then its clients.

    Args:
        state: the answer to the request ``status``.
    """
    console = console or make_console()
    console.print(hub_table(state.hub, state.conditions))
    print_clients(state.clients, console)


def print_clients(clients: Sequence[ClientState], console: Console | None = None) -> None:
    """Print one line a client."""
    console = console or make_console()
    if clients:
        console.print(client_table(clients, console.width))
    else:
        console.print("nobody is connected")


def make_console() -> Console:
    """stdout; wide where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def hub_table(hub: HubState, words: Mapping[str, Words]) -> Table:
    """The hub's own facts, one a line.

    Args:
        words: texts of conditions.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    mixer = hub.mixer
    lateness, work = mixer.lateness_us, mixer.work_us
    first, last = hub.udp_ports
    lines = [
        ("hub", f"tuttihub {hub.version}, pid {hub.pid}, up {span(hub.uptime_s)}"),
        ("ports", f"TCP {hub.tcp_port}, UDP {first}..{last}"
                  + (f", one for all: {hub.single_port}" if hub.single_port else "")),
        ("audio", f"{hub.rate_hz} Hz, ticks of {hub.period_frames} frames"),
        ("patch", hub.patch + (", upmix" if hub.upmix else "")
                  + (", mono to the centre" if hub.mono_centre else "")
                  + (f", downmix {hub.downmix_db:.0f} dB" if hub.downmix_db else "")),
        ("levels", f"guard {hub.guard}, limiter {'on' if hub.limiter else 'off'}"),
        ("queue", f"{hub.queue}, gaps {hub.underrun}, drift {hub.drift}"
                  + (", clients matched" if hub.match_clients else "")),
        ("clients", f"{hub.clients_active} active of {hub.clients}, "
                    f"at most {hub.max_clients}"),
        ("mixer", f"pid {_or_dash(mixer.pid)}, load {_percent(mixer.load_ratio)}, "
                  f"work {_us(work.p50)} / {_us(work.p99)}, "
                  f"late {_us(lateness.p50)} / {_us(lateness.p99)} (p50 / p99)"),
        ("ticks", f"{mixer.ticks} mixed, {mixer.missed} missed, "
                  f"{mixer.overruns} too long, {mixer.starved} sources starved, "
                  f"{mixer.waited} waited for receivers"),
    ]  # fmt: skip
    lines += [
        (
            f"lane {lane.lane}",
            f"pid {_or_dash(lane.pid)}, load {_percent(lane.load_ratio)}, "
            f"{lane.listeners} listeners, {lane.missed} ticks missed",
        )
        for lane in hub.lanes
        if lane.lane > 0
    ]
    if hub.jack is not None:
        lines.append(("jack", _jack(hub.jack)))
    if hub.auth.required:
        lines.append(("logins", _auth(hub.auth)))
    replaced = {
        "mixer": mixer.restarts,
        "lanes": hub.lane_restarts,
        "zygote": hub.zygote.restarts,
    }
    if any(replaced.values()):
        text = ", ".join(f"{name} {count} ×" for name, count in replaced.items() if count)
        lines.append(("replaced", text))
    lines += [(entry.condition, words[entry.condition].says) for entry in hub.conditions]
    lines += [("refused", _refusal(entry)) for entry in hub.turned_away[-DEPARTURES:]]
    lines += [("left", _departure(gone)) for gone in hub.departures[-DEPARTURES:]]
    lines += [
        ("real time", f"{entry.get('what', '?')}: {entry.get('advice') or entry.get('error', '')}")
        for entry in hub.realtime_refused
    ]
    if hub.overload.limit is not None or hub.overload.shed_limit is not None:
        lines.append(("room", _room(hub.overload)))
    if door := _door(hub):
        lines.append(("door", door))
    for name, value in lines:
        table.add_row(name, Text(value))
    return table


def _room(overload: Overload) -> str:
    """How much of what the hub has is in use, and whether there is room for more."""
    info = OverloadInfo(overload.limit, used=overload.used, refuses=tuple(overload.refuses))
    told = overload_text(info) + (" (no newcomers)" if overload.refuses else "")
    return told + (f"; left out: {', '.join(overload.sheds)}" if overload.sheds else "")


def _auth(auth: Auth) -> str:
    """Who may join, until when the certificate is valid, and what came of attempts."""
    expiry_s = auth.certificate_expiry_s
    until = "–" if expiry_s is None else time.strftime("%Y-%m-%d", time.localtime(expiry_s))
    results = "".join(f", {count} {result}" for result, count in sorted(auth.logins.items()))
    return f"{auth.accounts} users, certificate until {until}{results}"


def _jack(jack: Jack) -> str:
    """Whether there is a JACK graph, whose clock holds, and what befell it."""
    words = {
        "off": "starting",
        "waiting": "no server",
        "misfit": f"does not fit: {jack.rate_hz} Hz, {jack.period_frames} frames",
        "running": f"{jack.clients} clients, {jack.ports} ports",
        "freewheel": "freewheels",
        "hung": "hangs",
    }
    told = [words[jack.state], "JACK's clock" if jack.clock == "jack" else "own clock"]
    if jack.clock == "jack":
        told.append(f"graph {_percent(jack.graph_ratio)} of a period")
    told += [f"no room for {jack.left_out} clients"] if jack.left_out else []
    befell = {
        "xruns": jack.xruns, "clock lost": jack.lost, "server gone": jack.deaths,
        "sound missing": jack.gaps, "samples that are no numbers": jack.garbled,
    }  # fmt: skip
    told += [f"{name} {count} ×" for name, count in befell.items() if count]
    return ", ".join(told)


def _refusal(entry: TurnedAway) -> str:
    """Who was turned away, and why."""
    times = f", {entry.times} ×" if entry.times > 1 else ""
    why = entry.conditions[0].condition
    return f"{entry.address} {span(entry.ago_s)} ago: {why}{times}"


def _departure(gone: Gone) -> str:
    """Who was let go, why, and how to learn more."""
    why = gone.conditions[0].condition
    who = f"{gone.name} ({gone.address})"
    return f"{who} {span(gone.ago_s)} ago: {why}"


def _door(hub: HubState) -> str:
    """What is unusual about the door, if anything is."""
    door, refused = hub.door, hub.hellos_refused
    parts = ["locked"] if door.locked else []
    if door.waiting_room:
        parts.append(f"waiting room, {door.held} in it")
    parts += [f"only {', '.join(door.allow)}"] if door.allow else []
    parts += [f"not {', '.join(door.deny)}"] if door.deny else []
    parts += [f"{door.bans} bans"] if door.bans else []
    if refused:
        counts = ", ".join(f"{reason} {count} ×" for reason, count in refused.items())
        parts.append(f"turned away: {counts}")
    return "; ".join(parts)


def client_table(clients: Sequence[ClientState], width: int) -> Table:
    """One line a client; what a narrow terminal has no room for is left out, least first."""
    columns = list(_COLUMNS)
    if not any(client.account for client in clients):
        columns.remove("account")
    table = _client_table(clients, columns)
    for heading in _DISPENSABLE:
        if table.__rich_measure__(_WIDE, _WIDE.options).maximum <= width:
            break
        if heading in columns:
            columns.remove(heading)
        table = _client_table(clients, columns)
    return table


def _client_table(clients: Sequence[ClientState], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns:
        table.add_column(heading, justify=_COLUMNS[heading][0], no_wrap=True)
    for client in clients:
        # Text, so that a client's name is never read as markup
        cells = {heading: Text(_COLUMNS[heading][1](client)) for heading in columns}
        cells["state"].stylize(_STATE_STYLES.get(_state(client), ""))
        if client.conditions:
            cells["condition"].stylize(CONDITION_STYLES[client.conditions[0].severity])
        table.add_row(*cells.values())
    return table


def _address(client: ClientState) -> str:
    return f"{client.address}:{_or_dash(client.peer_port)} → {client.port}"


def _condition(client: ClientState) -> str:
    """The worst, and how many others."""
    slugs = [entry.condition for entry in client.conditions]
    return " +".join([*slugs[:1], *([str(len(slugs) - 1)] if len(slugs) > 1 else [])])


def _state(client: ClientState) -> str:
    """Its state; of one in the waiting room, that."""
    return "held" if client.held else str(client.state)


def _receiver(client: ClientState) -> str:
    restarts = client.receiver_restarts
    return _or_dash(client.receiver_pid) + (f" ({restarts} ×)" if restarts else "")


def _format(form: FormatState | None) -> str:
    if form is None:
        return "–"
    redundancy = f" r{form.redundancy}" if form.redundancy > 1 else ""
    channels = f"{form.channels}→{form.wants} ch"
    return f"{channels} {form.bits} bit {form.frames} {_rate(form)}{redundancy}"


def _rate(form: FormatState) -> str:
    """In kHz; a question mark: it is being measured."""
    return "?" if form.rate_hz is None else f"{form.rate_hz / 1000:g}k"


def _queue(queue: QueueState | None) -> str:
    """Actual and wanted depth; a star when the hub chooses it."""
    if queue is None:
        return "–"
    star = "*" if queue.order.startswith("auto") else ""
    return f"{1000 * queue.actual_s:.1f}/{1000 * queue.target_s:.1f}{star}"


def _drift(clock: ClockState | None) -> str:
    """How fast its clock is; a star when it is resampled."""
    if clock is None or (clock.drift_ppm is None and not clock.resampling):
        return "–"
    star = "*" if clock.resampling else ""
    return ("–" if clock.drift_ppm is None else f"{clock.drift_ppm:+.1f}") + star


def _level(level: Level) -> str:
    return "–" if level.peak_db is None else f"{level.peak_db:.1f}"


def _gain(client: ClientState) -> str:
    gain_db = client.gain_db
    text = "off" if gain_db is None else f"{gain_db:+.1f}" if gain_db else "0"
    if client.muted:
        text = f"muted ({text})" if gain_db else "muted"
    if client.safety.cut_db != 0.0:
        text += " guarded"
    if client.pan is not None:
        text += f" {pan_text(client.pan)}"
    return text + ("*" if client.overrides else "")


def _age(age_s: float | None) -> str:
    if age_s is None:
        return "–"
    return f"{age_s * 1000:.0f} ms" if age_s < 1 else f"{age_s:.1f} s"


def span(seconds: float) -> str:
    """A time for people: hours, minutes, seconds."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def _us(microseconds: float | None) -> str:
    return "–" if microseconds is None else f"{microseconds:.0f} µs"


def _or_dash(value: object) -> str:
    return "–" if value is None else str(value)


Cell = Callable[[ClientState], str]

_COLUMNS: dict[str, tuple[Literal["left", "right"], Cell]] = {
    "slot": ("right", lambda client: str(client.slot)),
    "name": ("left", lambda client: str(client.name)),
    "account": ("left", lambda client: client.account or "–"),
    "address": ("left", _address),
    "state": ("left", lambda client: _state(client)),
    "condition": ("left", _condition),
    "format": ("left", lambda client: _format(client.format)),
    "queue ms": ("right", lambda client: _queue(client.queue)),
    "ppm": ("right", lambda client: _drift(client.clock)),
    "in dB": ("right", lambda client: _level(client.input)),
    "out dB": ("right", lambda client: _level(client.output)),
    "gain": ("right", _gain),
    "lost": ("right", lambda client: str(client.received["lost"])),
    "late": ("right", lambda client: str(client.received["late"])),
    "gaps": ("right", lambda client: str(client.received["underruns"])),
    "age": ("right", lambda client: _age(client.last_packet_age_s)),
    "pid": ("right", _receiver),
}
_DISPENSABLE = (
    "pid",
    "address",
    "account",
    "age",
    "format",
    "ppm",
    "queue ms",
    "out dB",
    "gain",
    "late",
)
_WIDE = Console(file=io.StringIO(), width=1000)
"""Only to measure with."""
