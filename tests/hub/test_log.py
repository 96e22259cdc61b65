"""Log lines: one an event, whatever is in it, and few however many are caused."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from hub import log as hub_log
from hub.flood import CLIENT_BURST, EVENT_BURST, Flood, Limiter
from hub.log import PEER_BURST, configure_log, log_limited, tell_left_out

NASTY = "An\nna\r\x1b[31m 2026-01-01 [error] fake\x00"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(log_format: str, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_log(log_format, level, stream)
    return stream


def test_text_has_time_level_event_and_fields() -> None:
    stream = configured("text")
    structlog.get_logger().info("hub ready", port=4464)
    (line,) = stream.getvalue().splitlines()
    assert "[info     ] hub ready" in line
    assert line.endswith("port=4464")
    assert line[:4].isdecimal()


def test_json_is_one_object_a_line() -> None:
    stream = configured("json")
    structlog.get_logger().warning("client left", name="Åsa", slot=3)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["name"], event["slot"]) == (
        "client left",
        "warning",
        "Åsa",
        3,
    )
    assert event["timestamp"].endswith("Z")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_peer_can_write_a_line_of_its_own(log_format: str) -> None:
    stream = configured(log_format)
    structlog.get_logger().info("client joined", name=NASTY)
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_traceback_stays_in_its_line(log_format: str) -> None:
    stream = configured(log_format)
    try:
        raise KeyError("slot")
    except KeyError:
        structlog.get_logger().exception("request failed")
    (line,) = stream.getvalue().splitlines()
    assert "KeyError" in line
    assert "test_log.py" in line


def test_level_is_the_least_that_is_written() -> None:
    stream = configured("json", "warning")
    logger = structlog.get_logger()
    logger.info("not this")
    logger.warning("this")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["this"]


def test_libraries_log_into_the_same_stream() -> None:
    stream = configured("json")
    logging.getLogger("asyncio").error("task %s was lost", 7)
    event = json.loads(stream.getvalue())
    assert (event["event"], event["message"], event["level"]) == (
        "asyncio",
        "task 7 was lost",
        "error",
    )


def test_hub_plays_on_when_nobody_reads_its_log() -> None:
    stream = configured("text")
    stream.close()
    structlog.get_logger().info("hub ready")


def test_limiter_lets_a_burst_through_and_counts_the_rest() -> None:
    now = 0.0
    limiter = Limiter(lambda: now)
    assert [limiter.limited("flood", 3.0) for _ in range(6)] == [0, 0, 0, None, None, None]
    assert limiter.limited("other", 3.0) == 0
    now = 0.34
    assert [limiter.limited("flood", 3.0) for _ in range(2)] == [3, None]


@given(gaps=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=200), per_s=st.floats(0.1, 20.0))
def test_limiter_never_exceeds_its_rate_and_forgets_nobody(gaps: list[float], per_s: float) -> None:
    now = 0.0
    limiter = Limiter(lambda: now)
    passed = suppressed = 0
    for gap in gaps:
        now += gap
        result = limiter.limited("x", per_s)
        if result is not None:
            passed += 1
            suppressed += result
    assert passed <= max(1.0, per_s) + per_s * now + 1e-6
    now += 1.0 / per_s + 1.0
    last = limiter.limited("x", per_s)
    assert last is not None
    assert passed + suppressed + last == len(gaps)


def test_limiter_does_not_grow_with_its_keys_and_forgets_no_count() -> None:
    limiter = Limiter(lambda: 0.0, max_keys=16)
    for k in range(160):
        for _ in range(3):
            limiter.limited("flood", who=f"from {k}")
    assert len(limiter._buckets) == 16
    assert limiter.sums() == {"flood": 320}
    assert limiter.sums() == {}


def test_limited_event_says_how_many_were_suppressed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    stream = configured("json")
    monkeypatch.setattr(hub_log, "_limiter", Limiter(lambda: now))
    logger = structlog.get_logger()
    for _ in range(4):
        log_limited(logger.warning, "hello refused", per_s=1.0, peer="::1")
    now = 1.0
    log_limited(logger.warning, "hello refused", per_s=1.0, peer="::1")
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event.get("suppressed") for event in events] == [None, 3]


def test_a_flood_of_one_client_is_one_sum_and_hides_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(hub_log, "Flood", lambda: Flood(lambda: now))
    stream = configured("json")
    logger = structlog.get_logger()
    for _ in range(1000):
        logger.info("gain set", slot=3, gain=0.5)
    logger.info("gain set", slot=4, gain=0.5)
    tell_left_out()
    tell_left_out()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event.get("slot") for event in events] == [3] * int(CLIENT_BURST) + [4, None]
    assert events[-1]["event"] == "log lines left out"
    assert (events[-1]["what"], events[-1]["times"]) == ("gain set", 1000 - CLIENT_BURST)
    now = 1.0
    logger.info("gain set", slot=3, gain=0.5)
    assert "suppressed" not in json.loads(stream.getvalue().splitlines()[-1])


def test_a_flood_of_many_clients_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_log, "Flood", lambda: Flood(lambda: 0.0))
    stream = configured("json")
    logger = structlog.get_logger()
    for k in range(int(EVENT_BURST) + 500):
        logger.info("client moved", slot=k)
    logger.info("hub stopped")
    tell_left_out()
    lines = stream.getvalue().splitlines()
    assert len(lines) == EVENT_BURST + 2
    assert json.loads(lines[-1])["times"] == 500


def test_one_peer_does_not_use_up_the_lines_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured("json")
    monkeypatch.setattr(hub_log, "_limiter", Limiter(lambda: 0.0))
    logger = structlog.get_logger()
    for _ in range(50):
        log_limited(logger.warning, "turned away", per_s=5, peer_key="192.0.2.1", peer="one")
    log_limited(logger.warning, "turned away", per_s=5, peer_key="192.0.2.2", peer="two")
    tell_left_out()
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [e["peer"] for e in events[:-1]] == ["one"] * int(PEER_BURST) + ["two"]
    assert events[-1]["times"] == 50 - PEER_BURST


def test_a_line_tells_on_whose_behalf_it_is() -> None:
    stream = configured("json")
    with structlog.contextvars.bound_contextvars(by="anna"):
        structlog.get_logger().info("door locked")
    structlog.get_logger().info("door unlocked")
    told = [json.loads(line).get("by") for line in stream.getvalue().splitlines()]
    assert told == ["anna", None]


def test_a_log_that_is_no_terminal_is_json() -> None:
    stream = configured("auto")
    structlog.get_logger().info("hub ready")
    assert json.loads(stream.getvalue())["event"] == "hub ready"


def test_a_log_on_a_terminal_is_text() -> None:
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        configure_log("auto", "info", stream)
        structlog.get_logger().info("hub ready", port=4464)
        shown = os.read(controller, 1000).decode()
    os.close(controller)
    assert "hub ready" in shown
    assert "{" not in shown
