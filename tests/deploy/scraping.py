"""A real Prometheus with the rules of deploy/, that scrapes hubs."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from loadtest.conduct.ports import PORTS
from tests.deploy.rules import PROMETHEUS
from tests.end_to_end.processes import ManagedProcess

START_S = 30.0
# no proxy of the environment's stands between a test and its own machine
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def at_once(rules: str) -> str:
    """Who has come is judged now, not after a minute: of that promtool's tests are."""
    return rules.replace("_joined_timestamp_seconds > 60", "_joined_timestamp_seconds > 1")


class Prometheus:
    """The Debian package's program with deploy/prometheus/prometheus.yml: other targets, quicker.

    Args:
        directory: for its files.
        targets: host:port of hubs.
    """

    def __init__(self, directory: Path, targets: Sequence[str]) -> None:
        rules = (PROMETHEUS / "tuttihub.rules.yml").read_text()
        (directory / "tuttihub.rules.yml").write_text(at_once(rules))
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"]["evaluation_interval"] = "1s"
        config["scrape_configs"][0]["static_configs"] = [{"targets": list(targets)}]
        path = directory / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        self._port = PORTS.take()
        self.process = ManagedProcess(
            "prometheus",
            [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            directory / "prometheus.log",
        )
        self.process.wait_for_log("Server is ready to receive web requests", START_S)

    def ask(self, path: str, **arguments: str) -> Any:
        """What its HTTP API has under /api/v1/."""
        query = urllib.parse.urlencode(arguments)
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}"
        try:
            with _OPENER.open(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{arguments}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Samples of an instant."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def end(self) -> None:
        self.process.end()
