"""What a hub begins with: its memory, its entry in the directory, and warnings.

What this machine refuses, or gives less of than was asked for, is said once, at start,
together with what to do about it.
"""

from __future__ import annotations

import os
import time
from enum import IntEnum
from pathlib import Path
from typing import Any

import structlog

from hub.config import SETTINGS, ServeConfig
from hub.directory import HubInfo
from hub.listener import SPARE_DESCRIPTORS
from hub.machine_values import FileOrOff, FilePath, Networks
from hub.overload.realtime import RealtimeLimit
from hub.pans import Sections
from hub.ports import buffer_sizes
from hub.values import JACK_MODES, patch_name
from hub.version import version
from shared.arena import Arena, create_arena
from shared.limits import JackPorts, PatchMode

log = structlog.get_logger()


def hub_info(config: ServeConfig) -> HubInfo:
    """What the directory says of the hub itself."""
    return HubInfo(
        version=version(),
        pid=os.getpid(),
        tcp_port=config.bind_port,
        udp_base=config.udp_base,
        max_clients=config.max_clients,
        single_port=config.single_port,
        started_s=time.time(),
        metrics=str(config.metrics) if config.metrics else None,
        control=config.control,
        queue=str(config.queue),
        settings=settings_of(config),
    )


def settings_of(config: ServeConfig) -> dict[str, str]:
    """What the hub was told, as text by option; networks, sections and files are nobody's
    business who reads metrics."""
    return {
        name.replace("_", "-"): _written(getattr(config, name))
        for name, setting in SETTINGS.items()
        if not isinstance(setting.kind, FileOrOff | FilePath | Networks | Sections)
    }


def _written(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case IntEnum():
            return value.name.lower().replace("_", "-")
    return str(value)


def directories_of(config: ServeConfig) -> list[Path]:
    """Where the hub writes or reads files; the current directory where it has none."""
    files = (
        config.banfile, config.scenefile, config.iostat_log, config.creds_file, config.cert_file,
    )  # fmt: skip
    found = [_existing(path.absolute().parent) for path in files if path is not None]
    return found or [Path.cwd()]


def _existing(directory: Path) -> Path:
    """The directory, or what of the way to it is there: it may be made later."""
    while not directory.is_dir() and directory != directory.parent:
        directory = directory.parent
    return directory


def make_arena(config: ServeConfig) -> tuple[int, Arena]:
    """The hub's memory: descriptor and views.

    Raises:
        OSError: there is not enough of it.
    """
    fd, arena = create_arena(
        slots=config.max_clients,
        rate_hz=config.rate_hz,
        period_frames=config.period_frames,
        lanes=config.transmit_lanes,
        cores=len(config.cpus) if config.cpus else None,
        upmix=config.upmix,
        underrun=config.underrun,
        drift=config.drift,
        match_clients=config.match_clients,
        pacing=config.pacing,
        level_guard=config.guard,
        limiter=config.limiter,
        mono_centre=config.mono_centre,
        downmix=config.downmix,
        jack=config.jack,
    )
    arena.control[0]["patch"] = config.patch
    return fd, arena


def bridge_order(config: ServeConfig) -> dict[str, Any]:
    """What the JACK bridge is told: ``workers.jackbridge.BridgeSettings``."""
    return {
        "server": config.jack_server,
        "alone": config.jack_ports is JackPorts.CLIENTS,
        "include": config.include_server,
        "connect": not config.no_jack_connect,
        "broadcast": config.broadcast,
    }


def log_jack(config: ServeConfig) -> None:
    """Say what of JACK was asked for and has no effect, as JackTrip's hub does."""
    mixed = (PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX)
    if config.include_server and config.patch not in mixed:
        log.warning("--includeserver has no effect in this mode", patch=config.patch.value)
    if config.no_jack_connect and config.patch not in JACK_MODES:
        log.warning(
            "--nojackportsconnect has no effect in this mode",
            patch=config.patch.value,
            advice="it is for modes 0 and 3; without --includeserver nothing is connected anyway",
        )


def log_ready(config: ServeConfig, port: int, seconds: float) -> None:
    """Say that clients are served, and how.

    Args:
        port: TCP port.
        seconds: that the start took.
    """
    log.info(
        "hub ready",
        port=port,
        single_port=config.single_port,
        udp_ports=f"{config.udp_base}..{config.udp_base + config.max_clients - 1}",
        patch=patch_name(config.patch),
        queue=str(config.queue),
        underrun=config.underrun.name.lower(),
        drift=config.drift.name.lower(),
        rate_hz=config.rate_hz,
        period_frames=config.period_frames,
        lanes=config.transmit_lanes,
        control=config.control,
        metrics=str(config.metrics) if config.metrics else None,
        osc=str(config.osc) if config.osc else None,
        seconds=round(seconds, 2),
    )


def log_realtime(limit: RealtimeLimit | None, period_s: float) -> None:
    """Say what the kernel keeps from real-time processes, where it does."""
    if limit is not None:
        log.info(
            "kernel pauses real-time processes that take more of a core than they may",
            share=round(limit.share, 4),
            pause_ms=round(1e3 * limit.pause_s, 1),
            missed_ticks=limit.missed(period_s),
            advice="nothing, as long as the load stays below: --admit-load sees to it; on cores "
            "that are the hub's alone, sysctl -w kernel.sched_rt_runtime_us=-1 lifts it (from "
            "Linux 6.12 on, but for ordinary processes that wait there)",
        )


def log_buffers() -> None:
    """Say once what socket buffers clients really get."""
    sizes = buffer_sizes()
    if sizes.short:
        log.warning(
            "socket buffers are smaller than asked for",
            receive_bytes=sizes.receive,
            send_bytes=sizes.send,
            advice="sysctl -w net.core.rmem_max=524288 net.core.wmem_max=524288",
        )
    else:
        log.info("socket buffers", receive_bytes=sizes.receive, send_bytes=sizes.send)


def log_descriptors(limit: int, clients: int) -> None:
    """Say at start when so many clients as are allowed could not have a socket each."""
    wanted = clients + SPARE_DESCRIPTORS
    if limit < wanted:
        log.warning(
            "too few open files are permitted",
            limit=limit,
            wanted=wanted,
            advice=f"raise the hard limit (ulimit -Hn {wanted}, or LimitNOFILE= of the systemd "
            "unit), or allow fewer --max-clients",
        )
