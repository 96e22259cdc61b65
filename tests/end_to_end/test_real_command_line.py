"""What JackTrip takes and refuses, `tuttihub` does, too, or it is said why not."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile

import pytest

from hub.dropin.document import markdown
from hub.dropin.option import Mode, Option
from hub.dropin.reading import read
from hub.dropin.table import TABLE
from hub.endpoint import resolving as endpoint_resolving
from hub.endpoint.config import Role
from hub.resolving import resolve
from hub.setting import ConfigError

ROLES = {Mode.CLIENT: Role.CLIENT, Mode.SERVER_PEER: Role.SERVER_PEER,
         Mode.CLIENT_PEER: Role.CLIENT_PEER}  # fmt: skip


def jacktrip(text: str) -> subprocess.CompletedProcess[str]:
    """Ends by itself, at the end of the line or where it is wrong; what it opens before is gone."""
    with tempfile.TemporaryDirectory() as here:
        return subprocess.run(
            ["jacktrip", *shlex.split(text)], capture_output=True, text=True, timeout=20,
            check=False, stdin=subprocess.DEVNULL, cwd=here,
        )  # fmt: skip


def taken_by_jacktrip(text: str) -> bool:
    return jacktrip(f"{text} -v").returncode == 0


def problem_here(text: str) -> str:
    """Why the line is refused; empty if it is understood, up to the values of its settings."""
    try:
        line = read(shlex.split(text))
        assert line.mode is not None
        if line.mode is Mode.HUB:
            resolve(line.given, jack_clock=lambda _: None)
        else:
            endpoint_resolving.resolve(ROLES[line.mode], line.host, line.given)
    except ConfigError as error:
        return str(error)
    return ""


def test_every_option_of_the_help_is_in_the_table() -> None:
    text = jacktrip("--help").stdout
    listed = re.findall(r"^ (?:-(\w), | *)--([\w-]+)", text, re.MULTILINE)
    assert len(listed) > 45
    known = {(option.short, option.long) for option in TABLE}
    assert set(listed) <= known


@pytest.mark.parametrize("option", [o for o in TABLE if not o.newer], ids=lambda o: o.long)
def test_every_name_of_the_table_is_one_of_jacktrips(option: Option) -> None:
    """And takes an argument or not, as the table says."""
    argument = "=1" if option.argument else ""
    told = jacktrip(f"--{option.long}{argument} -v")
    assert "Unknown" not in told.stdout, told.stdout[-300:]
    without = jacktrip(f"--{option.long}" if argument else f"--{option.long}=1")
    assert "Unknown" in without.stdout


TAKEN = [
    "-S", "-S -q4", "-S --que=4", "-S --red 2", "-S --rec 1", "-S -q auto", "-S -q auto0",
    "-S -q auto7", "-Sup2 -q3", "-S -p5", "-S -b 24", "-S -n 4", "-S --localaddress 127.0.0.1",
    "-S -e", "-S -j", "-S -l", "-S -t", "-S -D", "-S --udprt", "-S --bufstrategy -1",
    "-S --bufstrategy 3", "-S -I 5", "-S -a 3", "-S --appendthreadid", "-S -J a -K b",
    "-S -B 4500 -U 50000 -o 3", "-S -o -5", "-S -P 4000", "-S -V -z", "-S -O o", "-S -p0 -D",
    "-S -i", "-S -p1 -i", "-S --broadcast 8",
    "-C h", "--pingtoserver h", "--ping=h", "-C h -n 1 -r 2 -q auto3 -b 24 -z -t",
    "-C h --sendchannels 1 --receivechannels 2 --udprt -B 4500 -P 4600 -o 2",
    "-C h -K Anna -J local -D --bufstrategy 3 -q auto", "-C h -A --username a --password b",
    "-C h -p 2 -i -u -U 50000", "-s", "-c h", "--client h -n 8", "--ser -q 2", "--serve -r 2",
    "-s -o 10", "-c h -o 10 -B 5000", "-s -A", "-C h -O o -a 4", "-C h -O n", "-s -l",
    "-s --certfile x", "-S --bufstrategy 3 -q 20", "-C h -q 200 --bufstrategy 3",
]  # fmt: skip
REFUSED = [
    "-S --re 2", "-S -q0", "-S -q x", "-S -p6", "-S -b 12 -C h", "-S -R",
    "-S -d 1", "-S -w", "-S -H 1", "-S --bufstrategy 5", "-S --bufstrategy -2", "-S -I -1",
    "-S -G /nonexistent/x", "-C h -n 0", "-C h --sendchannels 0", "-C h -r 0", "-C h -b 12",
    "--s", "--c h", "--clien h", "-S --quue 3", "-S -Z", "-S --udprt=1",
    "-C h -O x", "-C h -a 0 -O x",
]  # fmt: skip
INCOMPLETE = ["-C", "-C h -P", "-S -q", "-S --queue", "-S now"]
LATER = ["-S -L 127.0.0.1", "-S -T 44100", "-S -F 64", "-S --bufstrategy 4"]
DIFFERENT = {
    "-S -q 4x": "A number is a number",
    "-S -px": "A number is a number",
    "-S -B x": "A number is a number",
    "-S -B 99999": "is not a port (1..65535)",
    "-n2": "One of `-S`, `-C`, `-s` and `-c` has to be said",
    "-S -C h": "and one only",
    "-C h --broadcast 8": "is at a hub alone",
    "-S --simloss 0.1": "from outside",
    "-C h --simjitter 0.1,2": "from outside",
    "-C h -j": "no longer made",
    "-C h -e": "no longer made",
    "-C h -f 0.5": "into the JACK graph",
    "-C h -O io": "is limited where it is mixed",
    "-C h -x 1": "tuttihub doctor HOST",
    "-C h --username a": "needs --auth",
    "-S --bufstrategy 3 -q 251": "milliseconds, at most 250",
    "-C h -n 17": "at most 16",
    "-C h -r 9": "at most 8",
    "-S -q 65": "at most 64",
    f"-C h -K {'x' * 64}": "has at most 63",
}
"""Lines that JackTrip takes, and what is said of why they are refused here."""


@pytest.mark.parametrize("text", TAKEN)
def test_lines_that_both_take(text: str) -> None:
    assert taken_by_jacktrip(text)
    assert not problem_here(text)


@pytest.mark.parametrize("text", REFUSED)
def test_lines_that_neither_takes(text: str) -> None:
    assert not taken_by_jacktrip(text)
    assert problem_here(text)


@pytest.mark.parametrize("text", INCOMPLETE)
def test_lines_that_lack_something(text: str) -> None:
    assert jacktrip(text).returncode == 1
    assert problem_here(text)


@pytest.mark.parametrize("text", DIFFERENT)
def test_lines_that_jacktrip_alone_takes(text: str) -> None:
    assert taken_by_jacktrip(text)
    reason = DIFFERENT[text]
    assert reason in problem_here(text) or (problem_here(text) and reason in markdown())


@pytest.mark.parametrize("text", LATER)
def test_lines_of_later_versions(text: str) -> None:
    assert not taken_by_jacktrip(text)
    assert not problem_here(text)
