"""What an endpoint tells of its connection: at its beginning, while it lasts, at its end."""

from __future__ import annotations

import time

import structlog

from hub.endpoint.config import LIVE, Audio, EndpointConfig
from hub.endpoint.link import Link
from hub.endpoint.quality import Gauge, Ticker, missed_periods, way_to_show
from hub.events import nobody
from hub.iostat import Marks, statistics_line
from hub.jack.watch import JackWatch
from hub.outlet import Outlet
from hub.snapshot import buffered_frames, play_position
from shared.arena import Arena
from shared.layout import RxState

log = structlog.get_logger()

SHOWN_S, LOGGED_S = 1.0, 10.0


class Report:
    """Tells of a connection's quality, and of JACK.

    Args:
        ticker: where its quality is shown.
        iostat: where JackTrip's statistics go, or None.
    """

    def __init__(
        self, config: EndpointConfig, arena: Arena, ticker: Ticker, iostat: Outlet | None
    ) -> None:
        self._config, self._arena, self._ticker, self._iostat = config, arena, ticker, iostat
        self._how = way_to_show(config.quality, ticker.isatty())
        self._gauge = Gauge(arena)
        self._jack: JackWatch | None = None
        if config.audio in LIVE:
            what = "jack server" if config.audio is Audio.JACK else "sound card"
            self._jack = JackWatch(arena, nobody, "connection", what)
        self._marks: Marks | None = None
        self._session = 0
        self._began_s = self._shown_s = self._told_s = 0.0

    def sum_up(self, link: Link) -> None:
        """Tell how good the connection was, once it is over."""
        if link.rx["packets"]:
            quality = self._gauge.read(time.monotonic()).fields()
            gone = ("received_per_s", "waits_ms")
            left = {name: value for name, value in quality.items() if name not in gone}
            log.info("connection ended", received=int(link.rx["packets"]), **left)

    def greet(self, link: Link) -> None:
        """Tell that the peer is heard, and what may be wrong with what it sends."""
        rx, config, header = link.rx, self._config, self._arena.header[0]
        log.info(
            "connected",
            peer=str(link.address),
            port=int(rx["peer_port"]),
            rate_hz=int(rx["rate_hz"]),
            frames=int(rx["frames"]),
            bits=int(rx["bits"]),
            receives=int(rx["channels"]),
            sends=config.send_channels,
            wanted=int(rx["wants"]),
        )
        if rx["bits"] != config.bits:
            log.warning(
                "the other side has another bit resolution: JackTrip will not have it",
                theirs=int(rx["bits"]), ours=config.bits, advice=f"--bitres {int(rx['bits'])}",
            )  # fmt: skip
        if rx["rate_hz"] != header["rate_hz"]:
            log.warning(
                "the other side has another sample rate: JackTrip will not have it",
                theirs=int(rx["rate_hz"]), ours=int(header["rate_hz"]),
            )  # fmt: skip

    def look(self, link: Link | None, now: float) -> None:
        """Show what is due; to be called several times a second. now: CLOCK_MONOTONIC in s."""
        if self._jack is not None:
            self._jack.look()
        if link is None or link.state is not RxState.ACTIVE:
            return
        if self._session != link.number:
            self._session, self._marks = link.number, None
            self._began_s = self._shown_s = self._told_s = now
            self._gauge.read(now)
        every_s = SHOWN_S if self._how == "line" else LOGGED_S
        if self._how != "off" and now - self._shown_s >= every_s:
            self._shown_s = now
            quality = self._gauge.read(now)
            if self._how == "line":
                minutes, seconds = divmod(int(now - self._began_s), 60)
                self._ticker.show(f"{minutes}:{seconds:02}", quality)
            else:
                log.info("quality", **quality.fields())
        due = self._config.iostat_s and now - self._told_s >= self._config.iostat_s
        if due and self._iostat is not None:
            self._told_s = now
            self._iostat.write(f"{self._statistics(link)}\n")

    def _statistics(self, link: Link) -> str:
        """A line as ``jacktrip -I`` prints it."""
        rx, clock = link.rx, self._arena.clock[0]
        words = {
            "missed": missed_periods(self._arena), "tick": int(clock["tick"]),
            "period_frames": int(self._arena.header[0]["period_frames"]),
        }  # fmt: skip
        self._marks = self._marks or Marks.now(rx, words)
        queued = float(buffered_frames(rx, play_position(self._arena)))
        return statistics_line(
            time.time(), str(link.address), rx, link.tx, words, self._marks, queued
        )
