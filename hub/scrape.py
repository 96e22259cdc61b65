"""Serves the metrics over HTTP, in a thread of its own.

::

    GET /metrics      every metric; in OpenMetrics, if that is what is asked for
    GET /-/healthy    200 as long as the supervisor's process answers at all
    GET /-/ready      200 while ticks advance and clients are let in, else 503 and why

Small on purpose: there is nothing else. A connection has a few seconds and
there are few at a time, so that whoever reaches the port can take neither threads nor
descriptors from the hub. One too many takes the place of the oldest of the source that has the
most: who holds connections open keeps nobody else out.
"""

from __future__ import annotations

import errno
import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import structlog

from hub.exposition import negotiate
from hub.log import log_limited
from hub.machine_values import HostPort
from hub.metrics import Exporter
from hub.owner import tcp_owner

log = structlog.get_logger()

MAX_CONNECTIONS = 16
MAX_THREADS = 2 * MAX_CONNECTIONS
"""Those included that have been hung up on, and have not noticed yet."""
CONNECTION_TIMEOUT_S = 5.0
"""For each read and write."""
CONNECTION_S = 10.0
"""For all of it."""
POLL_S = 0.2


class MetricsError(RuntimeError):
    """The metrics cannot be served where they were asked for.

    Attributes:
        in_use: whether another program has the port.
    """

    def __init__(self, text: str, *, in_use: bool) -> None:
        super().__init__(text)
        self.in_use = in_use


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = CONNECTION_TIMEOUT_S
    server_version = "tuttihub"
    sys_version = ""

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._metrics()
            case "/-/healthy":
                self._answer(200, "healthy")
            case "/-/ready":
                why_not = self.server.why_not_ready()
                self._answer(503 if why_not else 200, why_not or "ready")
            case _:
                self.send_error(404, "only /metrics, /-/healthy and /-/ready are here")

    def _metrics(self) -> None:
        form = negotiate(", ".join(self.headers.get_all("Accept", ())))
        try:
            body = self.server.exporter.render(form)
        except Exception:
            log_limited(log.exception, "metrics failed")
            self.send_error(500, "see the hub's log")
            return
        self._send(200, form.value, body)

    def _answer(self, status: int, text: str) -> None:
        self._send(status, "text/plain; charset=utf-8", f"{text}\n".encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Who scrapes is no event of the hub's."""


class MetricsServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens from its making on; ``start`` begins to answer, ``close`` ends it.

    Args:
        why_not_ready: the reason why clients should not be sent here, or None.

    Raises:
        MetricsError: the port is in use, or the address is not this machine's.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self,
        where: HostPort,
        exporter: Exporter,
        why_not_ready: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.exporter = exporter
        self.why_not_ready = why_not_ready
        self._places = threading.BoundedSemaphore(MAX_THREADS)
        self._open: dict[socket.socket, tuple[str, float]] = {}
        """Source, and since when; the oldest first."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        try:
            self.address_family = socket.getaddrinfo(
                where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0][0]
            super().__init__((where.host, where.port), _Handler)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            why = f"cannot be used: {error.strerror}"
            if in_use:
                why = f"is in use by {tcp_owner(where.port) or 'another program'}"
            raise MetricsError(f"--metrics: TCP port {where} {why}", in_use=in_use) from None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self) -> None:
        """Answer from a thread of its own."""
        self._thread = threading.Thread(
            target=self.serve_forever, args=(POLL_S,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering and free the port."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self._thread = None
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection, if need be in the place of another."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                self._hang_up(self._most_dispensable())
            self._open[request] = (str(client_address[0]), time.monotonic())
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def service_actions(self) -> None:
        """Hang up on who takes too long; called several times a second."""
        latest = time.monotonic() - CONNECTION_S
        with self._lock:
            for request in [r for r, (_, since) in self._open.items() if since < latest]:
                self._hang_up(request)

    def _most_dispensable(self) -> socket.socket:
        counts = Counter(source for source, _ in self._open.values())
        ((greedy, _),) = counts.most_common(1)
        return next(request for request, (source, _) in self._open.items() if source == greedy)

    def _hang_up(self, request: socket.socket) -> None:
        """Its thread, which waits for it, ends with an error."""
        del self._open[request]
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def _forget(self, request: socket.socket) -> None:
        with self._lock:
            self._open.pop(request, None)
        self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A scraper that hung up half-way is no event either; all else is one."""
        if not isinstance(sys.exception(), OSError):
            log.exception("answer to a scraper failed")
