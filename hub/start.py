"""What a hub begins with: its memory, its entry in the directory, and warnings.

What this machine refuses, or gives less of than was asked for, is said once, at start,
together with what to do about it.
"""

from __future__ import annotations

import os
import time

import structlog

from hub.config import ServeConfig
from hub.directory import HubInfo
from hub.listener import SPARE_DESCRIPTORS
from hub.ports import buffer_sizes
from hub.version import version
from shared.arena import Arena, create_arena

log = structlog.get_logger()


def hub_info(config: ServeConfig) -> HubInfo:
    """What the directory says of the hub itself."""
    return HubInfo(
        version=version(),
        pid=os.getpid(),
        tcp_port=config.bind_port,
        udp_base=config.udp_base,
        max_clients=config.max_clients,
        started_s=time.time(),
        metrics=str(config.metrics) if config.metrics else None,
        control=config.control,
        queue=str(config.queue),
    )


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
    )
    arena.control[0]["patch"] = config.patch
    return fd, arena


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
