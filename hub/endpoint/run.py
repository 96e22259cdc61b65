"""``run``: one end of a connection, from settings to exit code (``hub.endpoint.exits``)."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace

import structlog

from hub.duties import WorkersFailed
from hub.endpoint.cards import NoSound
from hub.endpoint.clock import ClockChanged
from hub.endpoint.config import EndpointConfig
from hub.endpoint.endpoint import Endpoint, PortInUse
from hub.endpoint.exits import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NO_WORKERS,
    EXIT_PORT_IN_USE,
    EXIT_WRONG_OPTION,
)
from hub.endpoint.login import ask
from hub.endpoint.quality import Ticker
from hub.log import configure_log, tell_lost
from hub.outlet import Outlet
from hub.owner import udp_owner
from hub.setting import ConfigError
from hub.staff import Command
from hub.zygote import zygote_command
from shared.protocol import DEFAULT_TCP_PORT

log = structlog.get_logger()


def run(config: EndpointConfig, command: Command = zygote_command) -> int:
    """Be one end of a connection until it is over; an exit code.

    Args:
        config: all its settings.
        command: how its zygote is started.

    Raises:
        ConfigError: a file that a setting names is no good.
    """
    login = ask(config)
    outlet = Outlet(sys.stderr, tell_lost)
    ticker = Ticker(outlet)
    configure_log(config.log_format, config.log_level, ticker)
    try:
        return _run(config, login, ticker, command)
    finally:
        ticker.end()
        outlet.close()


def _run(
    config: EndpointConfig, login: tuple[str, str] | None, ticker: Ticker, command: Command
) -> int:
    file = None
    if config.iostat_log is not None:
        try:
            file = config.iostat_log.open("a")
        except OSError as error:
            raise ConfigError(
                "--iostatlog", str(config.iostat_log), f"cannot be written: {error.strerror}"
            ) from None
    iostat = Outlet(file or sys.stdout, lambda lines: None) if config.iostat_s else None

    async def live() -> int:
        now, clock = config, None
        while True:
            endpoint = Endpoint(now, login, ticker, iostat, command, clock)
            try:
                code = await endpoint.run()
            except ClockChanged as changed:
                now, clock = _after(now, endpoint), changed.clock
                continue
            return EXIT_FAILED if code == EXIT_DONE and endpoint.tape.failed else code

    try:
        return asyncio.run(live())
    except KeyboardInterrupt:  # before anybody listened to signals
        return EXIT_DONE
    except PortInUse:
        port = DEFAULT_TCP_PORT if config.bind_port is None else config.bind_port
        by = udp_owner(port) or "a program that cannot be told"
        log.error("udp port is in use", port=port, by=by, advice="take another with --bindport")
        return EXIT_PORT_IN_USE
    except NoSound as error:
        log.error("no sound", why=str(error))
        return EXIT_NO_WORKERS
    except WorkersFailed as error:
        log.error("workers failed", why=str(error))
        return EXIT_NO_WORKERS
    except PermissionError as error:
        log.error("udp port is not permitted", port=config.bind_port, why=error.strerror)
        return EXIT_WRONG_OPTION
    except ConfigError:
        raise
    except OSError as error:
        log.error("failed", why=error.strerror or str(error))
        return EXIT_FAILED
    except Exception:
        log.exception("failed")
        return EXIT_FAILED
    finally:
        if iostat is not None:
            iostat.close()
        if file is not None:
            file.close()


def _after(config: EndpointConfig, endpoint: Endpoint) -> EndpointConfig:
    """Settings of who goes on when JACK's clock has become another one.

    Raises:
        NoSound: nobody can.
    """
    if config.play is not None or config.record is not None:
        raise NoSound("JACK has another rate or period now, with which the files cannot go on")
    log.warning("jack has another rate or period now: the connection begins anew")
    if config.duration_s is None or not endpoint.tape.running:
        return config
    return replace(config, duration_s=max(config.duration_s - endpoint.tape.played_s, 0.1))
