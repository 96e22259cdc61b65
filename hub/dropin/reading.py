"""Reads a command line as JackTrip's own program would: getopt's grammar, and this table's meaning.

Beside JackTrip's options those of `tuttihub` are understood, by their full names; an
abbreviation always means an option of JackTrip's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from getopt import GetoptError, gnu_getopt
from pathlib import Path

from hub import config as hub_config
from hub.dropin.option import Adds, Idle, Mode, Option, Refused, Says, Sets
from hub.dropin.table import MODES, TABLE
from hub.endpoint import config as endpoint_config
from hub.endpoint.config import Role
from hub.given import Given
from hub.machine_values import Networks
from hub.setting import ConfigError, Setting
from hub.values import MAX_PORT, Switch, integer, nearest
from shared.limits import MAX_QUEUE_MS
from shared.protocol import DEFAULT_TCP_PORT

_OPTIONS = {flag: option for option in TABLE for flag in option.flags}
_MODES = {flag: Mode(f"-{option.short}") for option in MODES for flag in option.flags}
_MILLISECONDS = ("3", "4")
"""Strategies whose queue is counted in milliseconds."""
_ASKING = ("help", "version", "listdevices")
_EXPLAINING = ("effects", "overflowlimiting", "assumednumclients", "examine-audio-delay")
"""Options whose argument may be 'help'."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a command line asks for.

    Attributes:
        mode: None: with ``asked`` nobody said.
        host: of the other side, if the mode has one.
        given: what was written, by field of the mode's configuration.
        notes: what was written and changes nothing.
        asked: '--help', '--version' or '--listdevices', which stand for themselves.
        file: of settings that the line leaves out.
    """

    mode: Mode | None
    host: str | None = None
    given: dict[str, Given] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    asked: str = ""
    file: Path | None = None


ROLES = {
    Mode.CLIENT: Role.CLIENT,
    Mode.SERVER_PEER: Role.SERVER_PEER,
    Mode.CLIENT_PEER: Role.CLIENT_PEER,
}


def settings_of(mode: Mode) -> dict[str, Setting]:
    """What a mode can be told, by field."""
    return hub_config.SETTINGS if mode is Mode.HUB else endpoint_config.settings_of(ROLES[mode])


def read(args: Sequence[str]) -> Line:
    """What a command line without the program's name asks for.

    Raises:
        ConfigError: an option or value that cannot be.
    """
    found = _split(args)
    for flag, value in found:
        long = _OPTIONS[flag].long if flag in _OPTIONS else ""
        if long in _ASKING or (long in _EXPLAINING and value == "help"):
            modes = [_MODES[each] for each, _ in found if each in _MODES]
            asked = f"--{long}" if long in _ASKING else "--help"
            return Line(modes[0] if modes else None, asked=asked)
    mode, host = _mode(found)
    given: dict[str, Given] = {}
    notes: dict[str, str] = {}
    file = None
    for flag, value in found:
        if flag == "--config":
            file = Path(value)
        elif flag not in _OPTIONS:
            _take_own(mode, flag, value, given)
        else:
            _take(_OPTIONS[flag], mode, flag, value, given, notes)
    _settle(found, given)
    if mode is Mode.HUB:
        _bring_jack(given, notes)
    return Line(mode, host, given, tuple(f"{k}: {text}" for k, text in notes.items()), file=file)


def _split(args: Sequence[str]) -> list[tuple[str, str]]:
    """Options by their full names, with their arguments."""
    shorts = "".join(o.short + ":" * bool(o.argument) for o in TABLE if o.short)
    longs = [o.long + "=" * bool(o.argument) for o in TABLE]
    # only those that stand there, or they would take part in what an abbreviation may mean
    written = {arg.removeprefix("--").partition("=")[0] for arg in args if arg.startswith("--")}
    longs += [name for name in _own_names() if name.rstrip("=") in written]
    try:
        found, rest = gnu_getopt(list(_with_values(args)), shorts, longs)
    except GetoptError as error:
        raise _unread(error) from None
    if rest:
        raise ConfigError(rest[0], True, "is no option", switch=True)
    return found


def _with_values(args: Sequence[str]) -> Iterator[str]:
    """The line, with values of tuttihub's own options that may stand without one."""
    bare = {s.flag: s.bare for s in hub_config.SETTINGS.values() if s.bare}
    for arg, after in zip(args, [*args[1:], "-"], strict=False):
        yield f"{arg}={bare[arg]}" if arg in bare and after.startswith("-") else arg


def _own_names() -> Iterator[str]:
    """Long names of tuttihub's own, as getopt wants them."""
    yield "config="
    theirs = {option.long for option in TABLE}
    for setting in (hub_config.SETTINGS | endpoint_config.SETTINGS).values():
        if isinstance(setting.kind, Switch):
            yield from () if setting.long in theirs else (setting.long,)
            yield from (f"no-{setting.long}",) if setting.default else ()
        elif setting.long not in theirs:
            yield setting.long + "="


def _unread(error: GetoptError) -> ConfigError:
    """What getopt has stumbled over, with what may have been meant."""
    name, longs = error.opt, [option.long for option in TABLE]
    flag = f"-{name}" if len(name) == 1 else f"--{name}"
    if "unique" in error.msg:
        fitting = " or ".join(f"--{long}" for long in longs if long.startswith(name))
        problem = f"may be {fitting}: say which"
    elif "requires" in error.msg:
        problem = "needs an argument"
        if flag in _OPTIONS:
            problem += f": {_OPTIONS[flag].argument}"
    elif "must not" in error.msg:
        problem = "takes no argument"
    else:
        own = [each.rstrip("=") for each in _own_names()]
        problem = "is no option" + (nearest(name, longs + own, "--") if len(name) > 1 else "")
    return ConfigError(flag, True, problem, switch=True)


def _mode(found: Sequence[tuple[str, str]]) -> tuple[Mode, str | None]:
    said = [(flag, _MODES[flag], value) for flag, value in found if flag in _MODES]
    if not said:
        raise ConfigError(
            "a command", True, "is missing, or one of -S, -C HOST, -s, -c HOST", switch=True
        )
    flag, mode, host = said[-1]
    for other, contradicting, _ in said:
        if contradicting is not mode:
            raise ConfigError(flag, True, f"and {other} contradict each other", switch=True)
    return mode, host or None


def _take(
    option: Option,
    mode: Mode,
    flag: str,
    value: str,
    given: dict[str, Given],
    notes: dict[str, str],
) -> None:
    match option.uses[mode]:
        case Says():
            pass
        case Refused(note):
            raise ConfigError(flag, True, note, switch=True)
        case Idle(note):
            notes[flag] = note
        case Adds(names):
            for name in names:
                given[name] = Given(_moved(given.get(name), flag, value), flag)
        case Sets(names, note, meant):
            meaning: object = value if option.argument else True
            if meant:
                if value not in meant:
                    listed = ", ".join(meant)
                    raise ConfigError(flag, value, f"is not one of {listed}: {note}")
                meaning = meant[value]
            if meaning is not None:
                given.update({name: Given(meaning, flag) for name in names})


def _moved(port: Given | None, flag: str, written: str) -> int:
    """A port so far, with an offset added."""
    offset = integer(written)
    if offset is None:
        raise ConfigError(flag, written, "is not a number of ports")
    start = DEFAULT_TCP_PORT if port is None else integer(port.value)
    if start is None:
        assert port is not None
        raise ConfigError(port.origin, port.value, "is not a port")
    if not 1 <= start + offset <= MAX_PORT:
        raise ConfigError(flag, written, f"moves {start} to {start + offset}: not in 1..{MAX_PORT}")
    return start + offset


def _take_own(mode: Mode, flag: str, value: str, given: dict[str, Given]) -> None:
    long = flag.removeprefix("--")
    for name, setting in settings_of(mode).items():
        switch = isinstance(setting.kind, Switch)
        if setting.long == long:
            earlier = given.get(name)
            if earlier is not None and isinstance(setting.kind, Networks):
                value = f"{earlier.value},{value}"
            given[name] = Given(True if switch else value, flag)
            return
        if switch and long == f"no-{setting.long}":
            given[name] = Given(False, flag)
            return
    raise ConfigError(flag, True, f"is none of the options of {mode.value}", switch=True)


def _settle(found: Sequence[tuple[str, str]], given: dict[str, Given]) -> None:
    """What two options mean together."""
    written = dict(found)
    strategy = written.get("--bufstrategy")
    if "zero_underrun" in given and given.get("underrun", Given("", "")).origin == "--bufstrategy":
        del given["underrun"]
    if strategy in _MILLISECONDS and "queue" in given:
        entry, milliseconds = given["queue"], integer(given["queue"].value)
        if milliseconds is not None:
            if not 1 <= milliseconds <= MAX_QUEUE_MS:
                problem = f"is not a number of milliseconds (1..{MAX_QUEUE_MS})"
                raise ConfigError(entry.origin, entry.value, f"{problem}: --bufstrategy {strategy}")
            given["queue"] = Given(f"{milliseconds}ms", entry.origin)


def flags_of(mode: Mode) -> dict[str, str]:
    """All options that may stand on a mode's line, as a shell offers them, and what they do."""
    flags = {
        f"--{option.long}": option.meaning
        for option in TABLE
        if not isinstance(option.uses[mode], Refused)
    }
    for setting in settings_of(mode).values():
        flags.setdefault(setting.flag, setting.help)
    return flags


def told_of(flag: str, mode: str) -> str:
    """Why a command has not an option of JackTrip's; empty if that has it not, either."""
    option = _OPTIONS.get(flag)
    if option is None:
        return ""
    if option in MODES:
        return f"is JackTrip's way: write tuttihub {flag} without a command"
    return option.uses[Mode(mode)].note


def _bring_jack(given: dict[str, Given], notes: dict[str, str]) -> None:
    """JackTrip's hub always runs on JACK: here what is nothing without it brings it along."""
    patch = given.get("patch")
    mode = None if patch is None else integer(patch.value)
    server = given.get("include_server")
    if server is not None and patch is not None and mode not in (2, 4):
        notes[server.origin] = "has no effect but with -p2 and -p4, with JackTrip as well"
        del given["include_server"]
    unconnected = given.get("no_jack_connect")
    if unconnected is not None and patch is not None and mode not in (0, 3):
        notes[unconnected.origin] = "has no effect but with -p0 and -p3, with JackTrip as well"
        del given["no_jack_connect"]
    broadcast = given.get("broadcast")
    needed = [patch] if patch is not None and mode in (0, 3) else []
    needed += [given[n] for n in ("include_server", "no_jack_connect") if n in given]
    needed += [broadcast] if broadcast is not None and integer(broadcast.value) else []
    if needed:
        given.setdefault("jack", Given(True, needed[0].origin))
