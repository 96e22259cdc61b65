"""The hub's log: one event a line on stderr, for people or (JSON) for machines.

    2026-03-01 19:30:00 [info     ] client joined                  name='Anna' slot=3
    {"name": "Anna", "slot": 3, "event": "client joined", "level": "info", "timestamp": ...}

Events are constant lower-case texts, everything that varies is a field; a text from
outside is quoted and escaped, so that no peer can write a line of its own. Nobody may
fill the disk either: what a peer can cause at will goes through ``log_limited``.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TextIO

import structlog

MAX_KEYS = 256
"""Kinds of events a limiter keeps apart; they are few, unless somebody uses an address as key."""


class _Unbreakable:
    """A stream whose end may go away: a hub plays on when nobody reads its log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure_log(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Set up structlog, and the standard library's logging to end in it too.

    Args:
        log_format: 'text' or 'json'.
        level: 'debug', 'info', 'warning' or 'error'.
        stream: stderr unless given.
    """
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    processors: list[structlog.typing.Processor] = [
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


class Limiter:
    """Lets so many events of a kind through a second, and counts the others.

    A token bucket a key, one second deep (and at least one event).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float, int]] = {}  # tokens, when, suppressed

    def limited(self, key: str, per_s: float = 1.0) -> int | None:
        """None: keep quiet. Otherwise: go on, so many were suppressed since the last time."""
        now, depth = self._clock(), max(1.0, per_s)
        tokens, then, suppressed = self._buckets.pop(key, (depth, now, 0))
        tokens = min(depth, tokens + (now - then) * per_s)
        if len(self._buckets) >= MAX_KEYS:
            del self._buckets[next(iter(self._buckets))]  # the one not asked for the longest
        if tokens < 1.0:
            self._buckets[key] = (tokens, now, suppressed + 1)
            return None
        self._buckets[key] = (tokens - 1.0, now, 0)
        return suppressed


_limiter = Limiter()


def log_limited(
    method: Callable[..., object],
    event: str,
    *,
    per_s: float = 1.0,
    kind: str = "",
    **fields: object,
) -> None:
    """Log an event that a peer can cause at will; what was left out is told as ``suppressed``.

    Args:
        per_s: so many of this event, and this kind of it, a second.

    >>> log_limited(log.warning, "hello refused", per_s=5, peer=peer)    # doctest: +SKIP
    """
    suppressed = _limiter.limited(f"{event} {kind}", per_s)
    if suppressed is None:
        return
    if suppressed:
        fields["suppressed"] = suppressed
    method(event, **fields)
