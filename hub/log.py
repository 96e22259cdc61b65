"""The hub's log: one event a line on stderr, for people or (JSON) for machines.

    2026-03-01 19:30:00 [info     ] client joined                  name='Anna' slot=3
    {"name": "Anna", "slot": 3, "event": "client joined", "level": "info", "timestamp": ...}

Events are constant lower-case texts, everything that varies is a field; a text from
outside is quoted and escaped, so that no peer can write a line of its own. Nobody may
fill the disk either: every line passes ``hub.flood``, and what a peer can cause at will goes
through ``log_limited``, which is stricter. ``tell_left_out`` sums up what no line told of.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, Protocol

import structlog

from hub.flood import Flood, Limiter

PEER_PER_S, PEER_BURST = 0.2, 3.0
"""Lines that one peer may cause of an event that it can cause at will."""


class Stream(Protocol):
    """What a log needs of where it goes."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


class _Unbreakable:
    """A stream whose end may go away: a hub plays on when nobody reads its log."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure_log(log_format: str, level: str, stream: Stream | None = None) -> None:
    """Set up structlog, and the standard library's logging to end in it too.

    Args:
        log_format: 'text', 'json', or 'auto': text on a terminal, else JSON.
        level: 'debug', 'info', 'warning' or 'error'.
        stream: stderr unless given.
    """
    global _limiter, _flood
    _limiter, _flood = Limiter(), Flood()
    stream = stream or sys.stderr
    if log_format == "auto":
        log_format = "text" if stream.isatty() else "json"
    threshold = logging.getLevelNamesMapping()[level.upper()]
    processors: list[structlog.typing.Processor] = [
        _flood,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        _rename_exception,
    ]
    if log_format == "json":
        processors += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ]
    else:
        colours = stream.isatty() and "NO_COLOR" not in os.environ
        processors += [
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=colours, repr_native_str=True),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=_Unbreakable(stream)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        handlers=[_ToStructlog()], level=max(threshold, logging.WARNING), force=True
    )


def _rename_exception(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """As 'exception' the text renderer would print it over many lines."""
    if "exception" in event:
        event["traceback"] = event.pop("exception")
    return event


class _ToStructlog(logging.Handler):
    """Carries what libraries log (asyncio's lost exceptions, say) over to our log."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        logger.log(
            record.levelno, record.name, message=record.getMessage(), exc_info=exc_info or False
        )


_limiter = Limiter()
_flood = Flood()


def log_limited(
    method: Callable[..., object],
    event: str,
    *,
    per_s: float = 1.0,
    kind: str = "",
    peer_key: object = "",
    **fields: object,
) -> None:
    """Log an event that a peer can cause at will; what was left out is told as ``suppressed``.

    Args:
        per_s: so many of this event, and this kind of it, a second.
        peer_key: the peer that causes it: each gets a smaller share, so that one cannot use up all.

    >>> log_limited(log.warning, "hello refused", per_s=5, peer=peer)    # doctest: +SKIP
    """
    own = _limiter.limited(event, PEER_PER_S, f"peer {peer_key}", PEER_BURST) if peer_key else 0
    if own is None:
        return
    suppressed = _limiter.limited(event, per_s, kind)
    if suppressed is None:
        _limiter.left_out(event, own)
        return
    if own + suppressed:
        fields["suppressed"] = own + suppressed
    method(event, **fields)


def tell_lost(lines: int) -> None:
    """Log how many lines were lost since nobody took them."""
    structlog.get_logger().warning("log lines lost: nobody read them", lines=lines)


def tell_left_out() -> None:
    """Log how many events were left out of which no line has told, one line an event."""
    for what, times in sorted((_limiter.sums() + _flood.sums()).items()):
        structlog.get_logger().info("log lines left out", what=what, times=times)
