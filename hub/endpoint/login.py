"""Who joins a hub that wants passwords: what the options leave out is asked for."""

from __future__ import annotations

import sys

from hub.endpoint.config import EndpointConfig
from hub.setting import ConfigError


def ask(config: EndpointConfig) -> tuple[str, str] | None:
    """User name and password, or None without ``auth``; before anything else is shown.

    Raises:
        ConfigError: nobody answers.
    """
    if not config.auth:
        return None
    name = config.username or _answer("User name: ", secret=False)
    password = config.password or _answer("Password: ", secret=True)
    if not (name and password):
        raise ConfigError(
            "--auth", True, "needs a user name and a password: as options, or on stdin", switch=True
        )
    return name, password


def _answer(question: str, *, secret: bool) -> str:
    """What a person types, or the next line where nobody sits; empty at the end."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    import getpass  # only who has somebody to ask

    try:
        return getpass.getpass(question) if secret else input(question)
    except EOFError:
        return ""
