"""Settings as a user meets them: options of the command line, and docs/options.md."""

from __future__ import annotations

import click

from hub.config import SETTINGS
from hub.resolving import Given
from hub.setting import Setting
from hub.values import Networks, Switch

ELSEWHERE = {
    ("-D", "--nojackportsconnect"): "is about JACK's ports, and this hub needs no JACK",
    ("-b", "--bitres"): "is not needed: every client is answered in its own bit resolution",
    ("-n", "--numchannels"): "is not needed: every client gets the channels it asks for",
    ("-r", "--redundancy"): "has no effect at a hub, JackTrip's own included",
    ("", "--broadcast"): "is not available yet",
    ("", "--bufstrategy"): "is not available: there is one jitter buffer; --queue sets its "
    "depth, --underrun what gaps are filled with",
    ("", "--receivechannels"): "is not needed: every client gets the channels it asks for",
    ("", "--sendchannels"): "is not needed: every client gets the channels it asks for",
    ("", "--udprt"): "is called --realtime here, and is on by default",
    ("-C", "--pingtoserver"): "is for clients: run `jacktrip -C`; tuttihub is a hub",
    ("-c", "--client"): "is for two peers without a hub; tuttihub is a hub",
    ("-s", "--server"): "is for two peers without a hub; write -S",
}
"""What people who know JackTrip's hub may write, and what to tell them."""


def told_elsewhere(option: str) -> str | None:
    """What to say of an option of JackTrip's that is none of ours."""
    return next((text for flags, text in ELSEWHERE.items() if option and option in flags), None)


def click_options() -> list[click.Option]:
    """An option for every setting; it yields what was written, or None."""
    return [_click_option(name, setting) for name, setting in SETTINGS.items()]


def _click_option(name: str, setting: Setting) -> click.Option:
    short = [f"-{setting.short}"] if setting.short else []
    text = f"{setting.help} [{_facts(setting)}]"
    if isinstance(setting.kind, Switch):
        both = "/--no-" + setting.long if setting.default else ""
        return click.Option(
            [name, *short, f"{setting.flag}{both}"], is_flag=True, default=None, help=text
        )
    return click.Option(
        [name, *short, setting.flag],
        type=str,
        metavar=setting.kind.metavar,
        multiple=isinstance(setting.kind, Networks),
        help=text,
    )


def _facts(setting: Setting) -> str:
    """Range and default in a few words, for the usage text."""
    if isinstance(setting.kind, Switch):
        return f"default: {'on' if setting.default else 'off'}"
    return f"{setting.kind.allowed.replace('`', '')}; default: {setting.default}"


def given_options(values: dict[str, object]) -> dict[str, Given]:
    """What was written of click's values."""
    return {
        name: Given(",".join(value) if isinstance(value, tuple) else value, setting.flag)
        for name, setting in SETTINGS.items()
        if (value := values.get(name)) not in (None, ())
    }


def options_markdown() -> str:
    """The text of docs/options.md."""
    rows = [_markdown_row(setting) for setting in SETTINGS.values()]
    keys = [_toml_line(setting) for setting in SETTINGS.values() if setting.long in _EXAMPLE]
    table = "\n".join(
        ["| option | value | default | JackTrip | meaning |", "|---|---|---|---|---|", *rows]
    )
    return _DOCUMENT.format(table=table, example="\n".join(keys))


_EXAMPLE = {
    "bindport": 4464,
    "hubpatch": 4,
    "queue": "auto",
    "underrun": "burg",
    "upmix": True,
    "metrics": "off",
    "cpus": "2-5",
}

_DOCUMENT = """\
# Options of `tuttihub serve`

<!-- Written by `tuttihub options > docs/options.md`; change hub/config.py instead. -->

`tuttihub serve -p4 -q 2` and, as JackTrip has it, `tuttihub -S -p4 -q 2` are the same.
A wrong option names itself, its value and what is allowed, and ends with exit code 2.

{table}

## From a file

`tuttihub serve --config hub.toml` reads the same settings from a TOML file. The keys are
the long options without their dashes, all at the top level; what stands on the command
line wins. Sections may be a table, too.

```toml
{example}

[sections]
"violin*" = {{ pan = -40, gain_db = -2 }}
"cello*" = {{ pan = 50 }}
```

## Exit codes

| code | meaning |
|---|---|
| 0 | stopped as told |
| 1 | failed; the log says why |
| 2 | an option or setting is wrong |
| 3 | a port is in use |
| 4 | the audio processes did not start |
"""


def _markdown_row(setting: Setting) -> str:
    flags = f"`-{setting.short}`, " if setting.short else ""
    flags += f"`{setting.flag}`"
    if isinstance(setting.kind, Switch):
        if setting.default:
            flags += f", `--no-{setting.long}`"
        value, default = "", "on" if setting.default else "off"
    else:
        value, default = setting.kind.allowed, f"`{setting.default}`"
    unit = f" ({setting.unit})" if setting.unit else ""
    original = f"`{setting.jacktrip}`" if setting.jacktrip else ""
    cells = (flags, f"{value}{unit}", default, original, setting.help)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _toml_line(setting: Setting) -> str:
    value = _EXAMPLE[setting.long]
    match value:
        case bool():
            return f"{setting.long} = {str(value).lower()}"
        case str():
            return f'{setting.long} = "{value}"'
        case _:
            return f"{setting.long} = {value}"
