"""The page: whole, alone, and readable in a real browser where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.reporting import html
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.html import MissingExtra, need_charts, render
from loadtest.reporting.result import Distribution, Result
from tests.loadtest.reporting.runs import SCENARIO, perfect, troubled

CHARTS = ("timeline", "heatmap", "latency", "spacing", "lateness", "joins", "cost")
BROWSERS = ("chromium", "chromium-headless-shell", "google-chrome", "chrome")
VOID = {"meta", "link", "br", "img", "hr", "input", "col"}


class Page(HTMLParser):
    """What is in a page: ids, text, addresses it refers to, and elements left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._attributes(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.refers.append(value or "")
            self.refers += re.findall(r"url\(([^)]*)\)", value or "")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def bad() -> Result:
    return evaluate(troubled())


@pytest.fixture(scope="module")
def source(bad: Result) -> str:
    return render([bad])


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_page_needs_nothing_else(page: Page, source: str) -> None:
    assert page.refers
    ids = set(page.ids)
    for address in page.refers:
        assert address.startswith("data:") or address.removeprefix("#") in ids, address[:80]
    assert not page.tags & {"script", "link", "iframe", "object", "base"}
    assert "@import" not in source


def test_page_is_closed_and_its_ids_are_unique(page: Page) -> None:
    assert not page.open
    assert len(set(page.ids)) == len(page.ids)


def test_every_chart_is_there(page: Page) -> None:
    assert {f"r0-{name}" for name in CHARTS} <= set(page.ids)


def test_page_takes_its_colours_from_the_theme(source: str) -> None:
    assert "prefers-color-scheme: dark" in source
    assert "var(--ink)" in source
    assert not re.search(r"#0[1-9]0[1-9]0[1-9]\b", source)


def test_page_stays_small(source: str) -> None:
    assert len(source) < 1_000_000


@pytest.mark.parametrize(
    "words",
    [
        "Failed: this hub did not carry 18 clients for 10 seconds",
        "20 clients in 3 sections, 2 of whom the hub need not serve, played for 10 seconds.",
        "each hears everybody, themselves too",
        "network to the hub: 1 % lost",
        "at 4 s: a receiver process is killed (section strings)",
        "return loss 0.789 % 10 in a million",
        "wrong gain : Client 5 hears client 2 too soft.",
        "receiver of client 3 has a successor",
        "taken on purpose on their way to the hub",
        "The generator kept time",
        "With seed 7",
        "tuttihub 0.1.0",
        "957 KiB of private memory for each client (a receiver process has 910 KiB), and 810 KiB "
        "of shared memory",
        "Since the hub started, not in this window alone, its ticks were late by p50 12.5 µs, "
        "p99 61 µs, max 240 µs, and its mixer took 8.0 % of its time.",
    ],
)
def test_page_says(page: Page, words: str) -> None:
    assert words in page.text


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts of their runs, which take most of the time."""
    monkeypatch.setattr(html, "_charts", lambda result, prefix: iter(()))


def test_what_others_wrote_is_only_text(bad: Result, words_only: None) -> None:
    evil = '<script>alert(1)</script> & "quotes"'
    scenario = bad.scenario | {"title": evil, "about": evil}
    result = replace(bad, scenario=scenario, problems=[evil])

    page = Page(render([result]))

    assert "script" not in page.tags
    assert evil in page.text


def test_bare_run_has_a_page() -> None:
    outcome = perfect(replace(SCENARIO, sections=SCENARIO.sections[:1]))
    outcome.cost = outcome.counters = None
    outcome.joins, outcome.events, outcome.playing = [], [], []
    outcome.state.histograms[:] = 0

    page = Page(render([evaluate(outcome)]))

    assert "r0-cost" not in page.ids
    assert "This hub does not say what it counts itself." in page.text


def test_dollar_signs_are_no_formulas() -> None:
    sections = (replace(SCENARIO.sections[0], name=r"$\foo$"), *SCENARIO.sections[1:])
    whole = evaluate(perfect(replace(SCENARIO, sections=sections)))
    times = _no_times(whole) | {"spacing": whole.distributions["spacing"]}

    page = Page(render([replace(whole, distributions=times, hub=None, joins_log={})]))

    assert r"$\foo$" in page.text


def test_hub_without_costs_says_its_lateness_all_the_same(words_only: None) -> None:
    outcome = perfect()
    outcome.cost = None

    assert "What the hub says of itself Since the hub started" in Page(
        render([evaluate(outcome)])
    ).text  # fmt: skip


def test_hub_that_shrank_has_no_memory_for_each_client(words_only: None) -> None:
    outcome = perfect()
    assert outcome.cost
    outcome.cost = replace(outcome.cost, before_kib=10**6)
    result = evaluate(outcome)

    page = Page(render([result, replace(result, joined=40)]))

    assert "Private memory that did not grow with clients" in page.text


def test_several_runs_begin_with_all_side_by_side(
    bad: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "MAX_FULL", 0)
    assert bad.hub
    larger = replace(bad, joined=40, hub=replace(bad.hub, cpu_us=60.0))

    page = Page(render([bad, larger]))

    assert "all-cost" in page.ids
    assert "2 load tests side by side" in page.text
    assert "▲ worse" in page.text
    assert "2 more runs are in the tables and charts above only." in page.text


def test_no_run_has_no_page() -> None:
    with pytest.raises(ValueError, match="one result at least"):
        render([])


def test_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "NEEDED", ("matplotlib", "no_such_library"))

    with pytest.raises(MissingExtra, match=r"no_such_library: pip install 'tuttihub\[loadtest\]'"):
        need_charts()


def test_real_browser_draws_the_page(source: str, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser to look at the page with: none of {', '.join(BROWSERS)}")
    path = tmp_path / "page.html"
    path.write_text(source)

    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path}", path.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    drawn = Page(done.stdout)
    assert {f"r0-{name}" for name in CHARTS} <= set(drawn.ids)
    assert "Failed: this hub did not carry" in drawn.text


def _no_times(result: Result) -> dict[str, Distribution]:
    return dict.fromkeys(result.distributions, Distribution())
