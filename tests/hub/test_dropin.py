"""JackTrip's command line: its grammar, and what becomes of every option."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.dropin.document import markdown, usage
from hub.dropin.option import Adds, Idle, Mode, Option, Refused, Sets
from hub.dropin.reading import Line, read, settings_of
from hub.dropin.table import MODES, TABLE
from hub.setting import ConfigError

DOCUMENT = Path(__file__).parents[2] / "docs" / "drop-in.md"
LINES = {Mode.HUB: ["-S"], Mode.CLIENT: ["-C", "h"], Mode.SERVER_PEER: ["-s"],
         Mode.CLIENT_PEER: ["-c", "h"]}  # fmt: skip

ASKING = ("help", "version", "listdevices")
TELLING = [o for o in TABLE if o not in MODES and o.long not in ASKING]


def line(text: str) -> Line:
    return read(shlex.split(text))


def written(text: str) -> dict[str, object]:
    """Settings that a line of options gives."""
    return {name: entry.value for name, entry in line(text).given.items()}


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        line(text)
    return str(caught.value)


def test_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == markdown(), "run: tuttihub options jacktrip > docs/drop-in.md"


@pytest.mark.parametrize("mode", Mode)
def test_every_option_has_a_use_in_every_mode_and_every_use_a_setting(mode: Mode) -> None:
    for option in TABLE:
        match option.uses[mode]:
            case Sets(names) | Adds(names):
                assert set(names) <= settings_of(mode).keys(), option.long
            case Idle(note) | Refused(note):
                assert note, option.long


def test_no_name_stands_for_two_options() -> None:
    flags = [flag for option in TABLE for flag in option.flags]
    assert len(set(flags)) == len(flags)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("option", TELLING, ids=lambda option: option.long)
def test_what_an_option_is_said_to_do_it_does(mode: Mode, option: Option) -> None:
    """Given alone, in all its spellings: it is taken, or refused by the name it was given."""
    use = option.uses[mode]
    value = "o" if option.short == "O" else "1" if option.argument else ""
    for flag in option.flags:
        args = [*LINES[mode], flag, *([value] if value else [])]
        if isinstance(use, Refused):
            with pytest.raises(ConfigError) as caught:
                read(args)
            assert str(caught.value) == f"{flag} {use.note}"
            continue
        found = read(args)
        if isinstance(use, Idle):
            assert not found.given
            assert found.notes == (f"{flag}: {use.note}",)
        else:
            assert isinstance(use, Sets | Adds)
            expected = set() if value in use_nothing(use) else set(use.names)
            assert found.given.keys() - {"jack"} == expected


def use_nothing(use: Sets | Adds) -> set[str]:
    """Arguments that leave all as it is."""
    meant = use.meant if isinstance(use, Sets) else {}
    return {argument for argument, value in meant.items() if value is None}


@pytest.mark.parametrize(
    "text",
    ["-S -p2 -q 3 -u", "-Sup2 -q3", "-up2 -S -q3",
     "--jacktripserver --hubpatch=2 --queue=3 --upmix",
     "-S --hub 2 --que=3 --upm", "-p 5 -S -q 3 -u -p 2"],
)  # fmt: skip
def test_ways_to_write_the_same(text: str) -> None:
    assert line(text).mode is Mode.HUB
    assert written(text) == {"patch": "2", "queue": "3", "upmix": True}


@pytest.mark.parametrize(
    ("text", "given_"),
    [
        ("-C h -n 1", {"send_channels": "1", "receive_channels": "1"}),
        ("-C h -n 1 --rec 2", {"send_channels": "1", "receive_channels": "2"}),
        ("-C h --sendchannels 4 -n 1", {"send_channels": "1", "receive_channels": "1"}),
        ("-S -o 10", {"bind_port": 4474}),
        ("-S -B 5000 -o 10", {"bind_port": 5010}),
        ("-S -o 10 -B 5000", {"bind_port": "5000"}),
        ("-C h -o 1 -P 5000 -o -2", {"bind_port": 4463, "peer_port": 4998}),
        ("-s -V", {"log_level": "debug"}),
        ("-S --bufstrategy -1", {"underrun": "wavetable"}),
        ("-S --bufstrategy -1 -z", {"zero_underrun": True}),
        ("-S --bufstrategy 2 -q 5", {"queue": "5"}),
        ("-S --bufstrategy 3 -q auto3", {"queue": "auto3"}),
        ("-S --bufstrategy 3 -q 20", {"queue": "20ms"}),
        ("-C h -q 120 --bufstrategy 4", {"queue": "120ms"}),
        ("-c h --bufstrategy 3 -q 7ms", {"queue": "7ms"}),
        ("-S --underrun zero --bufstrategy 1", {"underrun": "zero"}),
        ("-S --no-realtime --allow ::1 --allow 1.2.3.4",
         {"realtime": False, "allow": "::1,1.2.3.4"}),
        ("-C h -O ow", {"limiter": "on"}),
        ("-C h --drift off --record x.wav", {"drift": "off", "record": "x.wav"}),
        ("-C h -R --audiodevice USB", {"audio": "card", "card": "USB"}),
        ("-s --audiodevice USB", {"card": "USB"}),
    ],
)  # fmt: skip
def test_order_and_company_count_as_with_jacktrip(text: str, given_: dict[str, object]) -> None:
    assert written(text) == given_


@pytest.mark.parametrize(
    ("text", "given_"),
    [
        ("-S -p0", {"patch": "0", "jack": True}),
        ("-S -p3 -D", {"patch": "3", "jack": True, "no_jack_connect": True}),
        ("-S -p4 -i", {"patch": "4", "include_server": True, "jack": True}),
        ("-S -i", {"include_server": True, "jack": True}),
        ("-S -i -p1", {"patch": "1"}),
        ("-S -D", {"no_jack_connect": True, "jack": True}),
        ("-S -D -p2", {"patch": "2"}),
        ("-S --broadcast 8", {"broadcast": "8", "jack": True}),
        ("-S --broadcast 0", {"broadcast": "0"}),
        ("-S -p4", {"patch": "4"}),
    ],
)
def test_what_is_nothing_without_jack_brings_it_along(text: str, given_: dict[str, object]) -> None:
    assert written(text) == given_


def test_the_hubs_own_sound_in_another_mode_is_said_to_change_nothing() -> None:
    assert line("-S -i -p1").notes == (
        "-i: has no effect but with -p2 and -p4, with JackTrip as well",
    )


def test_that_nothing_is_connected_in_another_mode_is_said_to_change_nothing() -> None:
    assert line("-S -D -p4 -i").notes == (
        "-D: has no effect but with -p0 and -p3, with JackTrip as well",
    )


def test_host_and_file() -> None:
    assert line("-C hub.example.org").host == "hub.example.org"
    assert line("--client=::1").host == "::1"
    assert line("-S").host is None
    assert line("-S --config hub.toml").file == Path("hub.toml")


@pytest.mark.parametrize("text", ["-h", "-S -p2 -h", "-S --help", "-C h -q3 --hel", "-C h -O help"])
def test_help_stands_for_itself(text: str) -> None:
    assert line(text).asked == "--help"


@pytest.mark.parametrize("text", ["--listdevices", "-C h --listdevices", "--listd -R"])
def test_sound_cards_are_listed_whatever_else_is_missing(text: str) -> None:
    assert line(text).asked == "--listdevices"


def test_version_stands_for_itself_whatever_else_is_missing() -> None:
    assert line("-v").asked == line("-S -p 9 --version").asked == "--version"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-p4", "a command is missing, or one of -S, -C HOST, -s, -c HOST"),
        ("-S -C h", "-C and -S contradict each other"),
        ("-s -c h", "-c and -s contradict each other"),
        ("-C", "-C needs an argument: HOST"),
        ("-S -q", "-q needs an argument: N|auto|autoN"),
        ("-S --queue", "--queue needs an argument: N|auto|autoN"),
        ("-S --udprt=1", "--udprt takes no argument"),
        ("-S --quue 3", "--quue is no option; did you mean '--queue'?"),
        ("-S --undrerun zero", "--undrerun is no option; did you mean '--underrun'?"),
        ("-S -Z", "-Z is no option"),
        ("-S --foo", "--foo is no option"),
        ("-C h -d 1", "-d counts sound cards as RtAudio does"),
        ("-S --re 2", "--re may be --receivechannels or --redundancy or --remotename: say which"),
        ("-S now", "now is no option"),
        ("-S --record x.wav", "--record is none of the options of -S"),
        ("-C h --max-clients 3", "--max-clients is none of the options of -C"),
        ("-S -o x", "-o: 'x' is not a number of ports"),
        ("-S -o 70000", "-o: '70000' moves 4464 to 74464: not in 1..65535"),
        ("-S -B x -o 1", "-B: 'x' is not a port"),
        ("-S --bufstrategy 5", "--bufstrategy: '5' is not one of -1, 0, 1, 2, 3, 4"),
        ("-S --bufstrategy 4 -q 251", "-q: '251' is not a number of milliseconds (1..250)"),
        ("-S --bufstrategy 4 -q 0", "-q: '0' is not a number of milliseconds (1..250)"),
    ],
)
def test_wrong_lines_name_what_is_wrong(text: str, said: str) -> None:
    assert said in refusal(text)


@given(st.lists(st.text(max_size=8) | st.sampled_from([f for o in TABLE for f in o.flags])))
def test_any_line_is_read_or_refused(args: list[str]) -> None:
    with suppress(ConfigError):
        read(args)


@pytest.mark.parametrize("mode", Mode)
def test_usage_lists_what_changes_something(mode: Mode) -> None:
    text = usage(mode)
    assert f"Usage: tuttihub {mode.value}" in text
    assert "-q, --queue N|auto|autoN" in text
    assert "--simloss" not in text
