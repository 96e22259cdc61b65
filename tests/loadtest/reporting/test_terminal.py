"""What a result and a running test look like in a terminal, and where there is none."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from loadtest.clients.state import LATENESS, PLAY
from loadtest.conduct import procfs
from loadtest.conduct.outcome import Finding, FindingKind, Halted, Progress
from loadtest.reporting.evaluate import evaluate
from loadtest.reporting.progress import Lines, Screen, live, look
from loadtest.reporting.result import Result
from loadtest.reporting.terminal import show
from tests.loadtest.reporting.runs import SCENARIO, perfect, troubled


def shown(result: Result, width: int = 110) -> str:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        show(result, console)
    return capture.get()


def test_good_run_ends_with_its_verdict() -> None:
    last = shown(evaluate(perfect())).strip().splitlines()[-2:]

    assert "Passed: this hub carried 18 clients for 10 seconds" in " ".join(last)


def test_bad_run_names_what_failed_and_what_was_found() -> None:
    text = " ".join(shown(evaluate(troubled())).split())

    assert "Client 3 heard nothing for 1.2 s." in text
    assert "client 3 (strings): lost 444, wrong 2" in text
    assert "refused: the hub is full" in text
    assert "Failed: this hub did not carry 18 clients" in text
    assert "missed ticks 2, allowed 0" in text


def test_what_is_not_of_the_window_says_so() -> None:
    text = " ".join(shown(evaluate(perfect())).replace("│", " ").split())

    assert "since its start load 8.0 %, late p50 12.5 µs, late p99 61 µs, late max 240 µs" in text
    assert "a client; shared 15.0 MiB, 770 KiB a client" in text
    assert "– a receiver private 910 KiB" in text


def test_how_the_machine_stood_still_is_shown_where_it_did() -> None:
    outcome = perfect()
    assert "machine" not in shown(evaluate(outcome))

    outcome.halted = Halted(3, 24.25, 12.0)

    text = " ".join(shown(evaluate(outcome)).replace("│", " ").split())
    assert "stood still 3 times in the window, 24.2 ms in all, 12.0 ms at most" in text


def test_division_into_user_and_system_says_how_sure_it_is() -> None:
    hub = evaluate(perfect()).hub
    assert hub is not None
    user = hub.user_us / (hub.user_us + hub.system_us)

    # 20 clients took 3.12 s of CPU, looked at every 4 ms or so
    assert hub.split_samples == pytest.approx(3.12e9 / procfs.TICK_NS, abs=1)
    assert hub.split_within == pytest.approx(2 * (user * (1 - user) / hub.split_samples) ** 0.5)
    assert f"± {hub.split_within * hub.cpu_us:.2f} at least" in shown(evaluate(perfect()))
    assert replace(hub, split_samples=0).split_within == 1.0


def test_what_stalls_excuse_is_shown() -> None:
    outcome = perfect()
    outcome.state.run["stalls"] = 20

    assert "stalls 20 (excusing 2.5 % of the run)" in shown(evaluate(outcome))


def test_unusable_run_gives_no_verdict() -> None:
    outcome = perfect()
    outcome.interrupted = True

    assert "No verdict: the load generator cannot be believed (the run was interrupted)." in shown(
        evaluate(outcome)
    )


def test_a_late_generator_is_advised() -> None:
    outcome = perfect()
    outcome.state.drops[0] += 5

    text = " ".join(shown(evaluate(outcome)).split())

    assert "in its own socket). It wants a core of its own (--cpu)" in text


def test_bare_run_can_be_shown() -> None:
    outcome = perfect(replace(SCENARIO, sections=SCENARIO.sections[:1]))
    outcome.cost = outcome.counters = None
    outcome.tuttis_checked = 0

    text = shown(evaluate(outcome), width=60)

    assert "hub CPU" not in text
    assert "in to out" in text


def test_text_of_others_is_no_markup() -> None:
    outcome = perfect()
    outcome.problems = ["client 1: [red]odd[/] text"]
    outcome.findings = [Finding(FindingKind.CLICK, 0, 1, 1.0, 1.0, 1, "[bold]A click[/].")]

    text = shown(evaluate(outcome))

    assert "[red]odd[/] text" in text
    assert "[bold]A click[/]." in text


def test_look_counts_what_is_going_on() -> None:
    state = troubled().state
    state.clients["stage"][:15] = PLAY
    state.clients["first_ns"][:12] = 1
    state.clients["dropped_down"][3] = 44

    now = look(state)

    assert (now.clients, now.playing, now.hearing) == (20, 15, 12)
    assert (now.lost, now.wrong) == (400, 40)
    assert now.late_p99_us == pytest.approx(29, abs=5)


def test_look_at_an_empty_memory() -> None:
    state = perfect().state
    state.histograms[:, LATENESS] = 0

    assert look(state).late_p99_us == 0


def test_plain_lines_where_there_is_no_terminal() -> None:
    console = Console(file=io.StringIO(), width=200)

    with live(SCENARIO, console) as progress:
        assert isinstance(progress, Lines)
        progress.watch(perfect().state)
        progress.phase("20 clients join")
        progress.note("a note in [brackets]")
        progress.phase("measuring", 10.0)

    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "Strings, winds on a poor network, and two guests: 20 clients, 10 s",
        "20 clients join",
        "a note in [brackets]",
        "measuring (10 s)",
    ]


def test_screen_draws_phase_and_figures() -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=True)

    with live(SCENARIO, console) as progress:
        assert isinstance(progress, Screen)
        progress.phase("measuring", 10.0)
        progress.watch(troubled().state)
        progress.note("a receiver was killed")

    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "measuring" in text
    assert "444 lost" in text
    assert "a receiver was killed" in text


def test_quiet_console_gets_nothing() -> None:
    console = Console(file=io.StringIO(), quiet=True)

    with live(SCENARIO, console) as progress:
        told: Progress = progress
        told.phase("measuring")

    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""
