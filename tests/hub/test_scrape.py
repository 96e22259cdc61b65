"""The metrics over HTTP."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from hub.exposition import Format
from hub.machine_values import HostPort
from hub.metrics import Exporter
from hub.scrape import MAX_CONNECTIONS, MetricsError, MetricsServer
from tests.end_to_end.processes import wait_until
from tests.hub.listening import directory, make_arena

# no proxy of the environment's stands between a test and its own machine
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def exporter() -> Exporter:
    return Exporter(make_arena(), directory())


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[MetricsServer]:
    server = MetricsServer(HostPort(request.param, 0), exporter())
    server.start()
    yield server
    server.close()


def url(server: MetricsServer, path: str) -> str:
    return f"http://{HostPort(str(server.server_address[0]), server.port)}{path}"


def test_metrics_are_served_in_prometheus_format(server: MetricsServer) -> None:
    with OPENER.open(url(server, "/metrics"), timeout=10) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        names = {f.name for f in text_string_to_metric_families(response.read().decode())}
    assert "tuttihub_ticks" in names


def test_openmetrics_is_served_to_who_asks_for_it(server: MetricsServer) -> None:
    """With the header that Prometheus sends."""
    accept = (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    )
    request = urllib.request.Request(url(server, "/metrics"), headers={"Accept": accept})
    with OPENER.open(request, timeout=10) as response:
        kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert response.headers["Content-Type"] == kind
        assert response.read().endswith(b"# EOF\n")


def test_a_hub_that_answers_is_healthy(server: MetricsServer) -> None:
    with OPENER.open(url(server, "/-/healthy"), timeout=10) as response:
        assert response.read() == b"healthy\n"


def test_a_hub_that_does_not_tick_is_not_ready_and_says_why(server: MetricsServer) -> None:
    with OPENER.open(url(server, "/-/ready"), timeout=10) as response:
        assert response.read() == b"ready\n"
    server.why_not_ready = lambda: "it is asleep"
    with pytest.raises(urllib.error.HTTPError, match="503") as caught:
        OPENER.open(url(server, "/-/ready"), timeout=10)
    assert caught.value.read() == b"it is asleep\n"


def test_nothing_else_is_there(server: MetricsServer) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        OPENER.open(url(server, "/other"), timeout=10)


def test_failure_is_an_answer_too(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(form: Format) -> bytes:
        raise RuntimeError("arena is gone")

    monkeypatch.setattr(server.exporter, "render", fail)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        OPENER.open(url(server, "/metrics"), timeout=10)


def test_what_goes_wrong_within_is_told(server: MetricsServer) -> None:
    def fail() -> str:
        raise RuntimeError("no idea")

    server.why_not_ready = fail
    with capture_logs() as logged:
        with pytest.raises(OSError, match="closed connection"):
            OPENER.open(url(server, "/-/ready"), timeout=10)
        wait_until(lambda: logged, 5.0, "it is logged")
    assert logged[0]["event"] == "answer to a scraper failed"


def test_port_in_use_is_named_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(MetricsError) as caught:
            MetricsServer(HostPort("127.0.0.1", port), exporter())
    assert caught.value.in_use
    assert f"--metrics: TCP port 127.0.0.1:{port} is in use by " in str(caught.value)
    assert "(pid " in str(caught.value)


def test_foreign_address_is_no_port_in_use() -> None:
    with pytest.raises(MetricsError, match=r"192\.0\.2\.1:9464 cannot be used") as caught:
        MetricsServer(HostPort("192.0.2.1", 9464), exporter())
    assert not caught.value.in_use


def test_unknown_host_is_named() -> None:
    with pytest.raises(MetricsError, match=r"nowhere\.invalid:9464 cannot be used"):
        MetricsServer(HostPort("nowhere.invalid", 9464), exporter())


def test_who_holds_connections_open_shuts_nobody_else_out() -> None:
    """The oldest of the source with the most gives way."""
    server = MetricsServer(HostPort("127.0.0.1", 0), exporter())
    server.start()
    try:
        with ExitStack() as stack:
            other = stack.enter_context(connected(server, "127.0.0.2"))
            idle = [stack.enter_context(connected(server)) for _ in range(MAX_CONNECTIONS - 1)]
            with OPENER.open(url(server, "/-/healthy"), timeout=10) as response:
                assert response.read() == b"healthy\n"
            assert idle[0].recv(1) == b""
            for kept in (other, *idle[1:]):
                kept.settimeout(0.01)
                with pytest.raises(TimeoutError):
                    kept.recv(1)
    finally:
        server.close()


def test_who_sends_bit_by_bit_has_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.scrape.CONNECTION_S", 0.5)
    server = MetricsServer(HostPort("127.0.0.1", 0), exporter())
    server.start()
    try:
        with connected(server) as slow:
            slow.settimeout(0.05)
            began, ended = time.monotonic(), False
            while not ended and time.monotonic() - began < 10.0:
                with suppress(TimeoutError):
                    slow.sendall(b"X")
                    ended = slow.recv(1) == b""
            assert ended
    except OSError:  # hung up on while it sent
        pass
    finally:
        server.close()


def connected(server: MetricsServer, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(
        ("127.0.0.1", server.port), timeout=10, source_address=(source, 0)
    )


def test_closed_server_frees_its_port() -> None:
    server = MetricsServer(HostPort("127.0.0.1", 0), exporter())
    server.start()
    where = HostPort("127.0.0.1", server.port)
    server.close()
    MetricsServer(where, exporter()).close()
