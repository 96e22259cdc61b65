"""``run``: a hub from settings to exit code (``hub.exits``)."""

from __future__ import annotations

import asyncio
import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from hub.banfile import BanFileError
from hub.config import ServeConfig
from hub.control import ControlInUse, ControlTcpError
from hub.duties import WorkersFailed
from hub.exits import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NO_WORKERS,
    EXIT_PORT_IN_USE,
    EXIT_WRONG_OPTION,
)
from hub.iostat import IostatError
from hub.keys import WrongKey
from hub.lobby import SinglePortError
from hub.log import configure_log, tell_lost
from hub.osc import OscError
from hub.outlet import Outlet
from hub.owner import tcp_owner, udp_owner
from hub.scenes import SceneFileError
from hub.scrape import MetricsError
from hub.staff import Command
from hub.supervisor import Supervisor
from hub.zygote import zygote_command

if TYPE_CHECKING:
    from hub.auth.authority import Authority

log = structlog.get_logger()


def run(config: ServeConfig, command: Command = zygote_command) -> int:
    """Run a hub until it is told to stop; its exit code.

    Args:
        config: all its settings.
        command: how its zygote is started.

    Raises:
        ConfigError: a file that a setting names is no good.
    """
    outlet = Outlet(sys.stderr, tell_lost)
    configure_log(config.log_format, config.log_level, outlet)
    try:
        return _run(config, command)
    finally:
        outlet.close()


def _run(config: ServeConfig, command: Command) -> int:
    supervisor: Supervisor | None = None
    authority = _authority(config)
    if config.control is not None:
        folder = Path(config.control.removeprefix("ipc://")).parent
        if not folder.is_dir():
            log.error("--control: no such directory", control=config.control, path=str(folder))
            return EXIT_WRONG_OPTION

    async def supervise() -> None:
        nonlocal supervisor
        supervisor = Supervisor(config, command, authority)
        await supervisor.run()

    try:
        asyncio.run(supervise())
    except KeyboardInterrupt:  # before the supervisor listened to signals
        return EXIT_DONE
    except BanFileError as error:
        log.error("--banfile: cannot be used", path=str(config.banfile), why=str(error))
        return EXIT_WRONG_OPTION
    except WrongKey as error:
        log.error("--control-keys: cannot be used", why=str(error))
        return EXIT_WRONG_OPTION
    except SceneFileError as error:
        log.error("--scenefile: cannot be used", path=str(config.scenefile), why=str(error))
        return EXIT_WRONG_OPTION
    except IostatError as error:
        log.error("statistics cannot be written", why=str(error))
        return EXIT_WRONG_OPTION
    except WorkersFailed as error:
        starting = supervisor is None or supervisor.staff.at_start
        log.error("workers failed", why=str(error))
        return EXIT_NO_WORKERS if starting else EXIT_FAILED
    except OscError as error:
        log.error("osc cannot be served", why=str(error))
        return EXIT_PORT_IN_USE if error.in_use else EXIT_WRONG_OPTION
    except MetricsError as error:
        log.error("metrics cannot be served", why=str(error))
        return EXIT_PORT_IN_USE if error.in_use else EXIT_WRONG_OPTION
    except ControlTcpError as error:
        log.error("control socket cannot be served", why=str(error))
        return EXIT_PORT_IN_USE if error.in_use else EXIT_WRONG_OPTION
    except ControlInUse as error:
        log.error("control socket is in use", path=error.filename, why=error.strerror)
        return EXIT_PORT_IN_USE
    except OSError as error:
        return _os_error(config, error)
    except Exception:
        log.exception("hub failed")
        return EXIT_FAILED
    return EXIT_DONE


def _authority(config: ServeConfig) -> Authority | None:
    """Who judges credentials; None where everybody may join."""
    files = (config.cert_file, config.key_file, config.creds_file)
    if not config.auth:
        if any(files):
            log.warning("everybody may join: files for --auth are named, but --auth is not")
        return None
    from hub.auth.authority import AuthFiles, Authority

    # resolve has seen to it that there are all three
    return Authority(AuthFiles(*(file for file in files if file is not None)))


def _os_error(config: ServeConfig, error: OSError) -> int:
    if isinstance(error, SinglePortError):
        log.error(
            "udp port cannot be had",
            port=config.single_port,
            why=error.strerror,
            by=udp_owner(config.single_port or 0) or "a program that cannot be told",
            advice="stop it, or take another port with --single-port",
        )
        return EXIT_PORT_IN_USE if error.errno == errno.EADDRINUSE else EXIT_FAILED
    if error.errno == errno.EADDRINUSE:
        owner = tcp_owner(config.bind_port)
        log.error(
            "tcp port is in use",
            port=config.bind_port,
            by=owner or "a program that cannot be told",
            advice="stop it, or take another port with --bindport or --portoffset",
        )
        return EXIT_PORT_IN_USE
    if error.errno == errno.EACCES and config.bind_port < 1024:
        log.error(
            "tcp port is not permitted",
            port=config.bind_port,
            advice="ports below 1024 need CAP_NET_BIND_SERVICE; take a higher --bindport",
        )
        return EXIT_FAILED
    log.error("hub failed", why=error.strerror or str(error), path=error.filename)
    return EXIT_FAILED
