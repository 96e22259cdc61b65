"""The table as people read it: what `tuttihub -C -h` prints, and docs/drop-in.md."""

from __future__ import annotations

from collections.abc import Iterator

import click

from hub.dropin.option import Adds, Idle, Mode, Option, Refused, Sets
from hub.dropin.reading import settings_of
from hub.dropin.table import TABLE

WORDS = {
    Mode.HUB: "a hub",
    Mode.CLIENT: "a client of a hub",
    Mode.SERVER_PEER: "a peer that waits for another",
    Mode.CLIENT_PEER: "a peer that calls another",
}


COMMANDS = {
    Mode.HUB: "serve",
    Mode.CLIENT: "client",
    Mode.SERVER_PEER: "peer",
    Mode.CLIENT_PEER: "peer",
}


def usage(mode: Mode) -> str:
    """What a mode can be told, for the terminal."""
    page = click.HelpFormatter(width=100)
    page.write_usage(f"tuttihub {_called(mode)}", "[OPTIONS]")
    page.write_paragraph()
    page.write_text(f"Run {WORDS[mode]}, told as JackTrip is.")
    with page.section("JackTrip's options that mean something here"):
        page.write_dl(list(_usage_rows(mode)))
    page.write_paragraph()
    page.write_text(
        "JackTrip's other options are taken and have no effect, or refused with the reason: see "
        f"docs/drop-in.md. All options of `tuttihub {COMMANDS[mode]} --help` are understood, too."
    )
    return page.getvalue()


def _called(mode: Mode) -> str:
    return f"{mode.value} HOST" if mode in (Mode.CLIENT, Mode.CLIENT_PEER) else mode.value


def _usage_rows(mode: Mode) -> Iterator[tuple[str, str]]:
    for option in TABLE:
        use = option.uses[mode]
        if isinstance(use, Sets | Adds):
            flags = ", ".join(option.flags)
            note = f" ({use.note})" if use.note else ""
            yield f"{flags} {option.argument}".strip(), f"{option.meaning.rstrip('.')}{note}."


def markdown() -> str:
    """The text of docs/drop-in.md."""
    heads = "".join(f" `{mode.value}` |" for mode in Mode)
    lines = [f"| option | in JackTrip |{heads} remarks |", "|---|---|" + "---|" * (len(Mode) + 1)]
    listed: list[str] = []
    newer: list[str] = []
    for option in TABLE:
        (newer if option.newer else listed).append(_row(option))
    return _DOCUMENT.format(
        table="\n".join(lines + listed), newer="\n".join(lines + newer), modes=_modes()
    )


def _modes() -> str:
    lines = (f"`tuttihub {_called(mode)}`: {WORDS[mode]} (`tuttihub {COMMANDS[mode]}`)"
             for mode in Mode)  # fmt: skip
    return "\n".join(f"- {line}." for line in lines)


def _row(option: Option) -> str:
    flags = ", ".join(f"`{flag}`" for flag in option.flags)
    if option.argument:
        flags += f" `{option.argument}`"
    cells = [flags, option.meaning, *(_mark(option, mode) for mode in Mode)]
    cells.append(_remarks(option))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _mark(option: Option, mode: Mode) -> str:
    """What becomes of an option in a mode, in a word."""
    match option.uses[mode]:
        case Sets(names) | Adds(names):
            settings = settings_of(mode)
            if {settings[name].long for name in names} == {option.long}:
                return "yes"
            return ", ".join(f"`{settings[name].flag}`" for name in names)
        case Idle():
            return "no effect"
        case Refused():
            return "refused"
    return "yes"


def _remarks(option: Option) -> str:
    """Each note once, with the modes that it is about unless these are all."""
    about: dict[str, list[str]] = {}
    for mode in Mode:
        if note := option.uses[mode].note:
            about.setdefault(note, []).append(f"`{mode.value}`")
    return "; ".join(
        note if len(modes) == len(Mode) else f"{' '.join(modes)}: {note}"
        for note, modes in about.items()
    )


_DOCUMENT = """\
# In JackTrip's place

<!-- Written by `tuttihub options jacktrip > docs/drop-in.md`; change hub/dropin/ instead. -->

Scripts and habits that start `jacktrip` may start `tuttihub` with the same options:

{modes}

Options are read as JackTrip reads them: letters alone or together (`-Sup2`), arguments attached or
apart (`-q4`, `-q 4`, `--queue=4`), long names shortened as long as only one fits (`--que 4`), the
last one counts, and an offset (`-o`) moves the ports that were said before it. Beside them stand
the options of `tuttihub` itself, by their full names: `tuttihub -S -p2 --metrics off`
([options.md](options.md)), `tuttihub -C hub.example.org --record x.wav`
([client-options.md](client-options.md)).

What becomes of every option of `jacktrip --help` (1.7.0):

- *yes*: it is honoured, as the option of that name here; or a name: as the option of that name.
- *no effect*: it is taken, one line on stderr says why it changes nothing, and all goes on.
- *refused*: it cannot be honoured; the program says why, and ends with exit code 2.

{table}

## Of other versions and builds

JackTrip 1.7.0 without RtAudio takes none of these.

{newer}

## What else is different

- A number is a number: JackTrip reads `-q 4x` as 4 and `-p x` as 0, and takes ports that do not
  exist. Here each of them is an error, which names the option, the value and what is allowed.
- One of `-S`, `-C`, `-s` and `-c` has to be said, and one only. JackTrip 1.7.0 takes none for `-s`,
  lets `-S` win over all others, and of the others the last.
- A wrong option ends with exit code 2, not 1. Other failures have exit codes of their own
  ([of a hub](options.md#exit-codes), [of a client or peer](client.md#exit-codes)), where JackTrip
  mostly ends with 0.
- A client or peer that loses the other side tries again until it is told to stop, unless `-t` says
  otherwise; JackTrip waits, but does not call again.
"""
