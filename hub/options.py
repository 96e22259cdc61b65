"""Settings as a user meets them: options of a command line, and tables of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from hub.config import SETTINGS
from hub.given import Given
from hub.machine_values import FileOrOff, FilePath, Networks
from hub.setting import Setting
from hub.values import Choice, Kind, Named, OnOff, Switch


def click_options(settings: Mapping[str, Setting]) -> list[click.Option]:
    """An option for every setting; it yields what was written, or None."""
    return [_click_option(name, setting) for name, setting in settings.items()]


def _click_option(name: str, setting: Setting) -> click.Option:
    short = [f"-{setting.short}"] if setting.short else []
    text = f"{setting.help} [{_facts(setting)}]"
    if isinstance(setting.kind, Switch):
        both = "/--no-" + setting.long if setting.default else ""
        return click.Option(
            [name, *short, f"{setting.flag}{both}"], is_flag=True, default=None, help=text
        )
    bare: dict[str, Any] = {"is_flag": False, "flag_value": setting.bare} if setting.bare else {}
    return click.Option(
        [name, *short, setting.flag],
        type=str,
        metavar=setting.kind.metavar,
        multiple=isinstance(setting.kind, Networks),
        **bare,
        help=text,
        shell_complete=lambda _ctx, _param, incomplete: completions(setting.kind, incomplete),
    )


def completions(kind: Kind, incomplete: str) -> list[CompletionItem]:
    """What a shell may offer for the beginning of a value."""
    words: list[str] = []
    match kind:
        case FilePath() | FileOrOff():
            return [CompletionItem(incomplete, type="file")]
        case Named(members=members):
            words = [member.name.lower() for member in members]
        case Choice(values=values):
            words = [str(value) for value in values]
        case OnOff():
            words = ["on", "off"]
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _facts(setting: Setting) -> str:
    """Range and default in a few words, for the usage text."""
    if isinstance(setting.kind, Switch):
        return f"default: {'on' if setting.default else 'off'}"
    return f"{setting.kind.allowed.replace('`', '')}; default: {setting.default or 'none'}"


def given_options(
    settings: Mapping[str, Setting], values: Mapping[str, object]
) -> dict[str, Given]:
    """What was written of click's values."""
    return {
        name: Given(",".join(value) if isinstance(value, tuple) else value, setting.flag)
        for name, setting in settings.items()
        if (value := values.get(name)) not in (None, ())
    }


def options_table(settings: Iterable[Setting]) -> str:
    """Markdown's table of settings."""
    heads = ["| option | value | default | JackTrip | meaning |", "|---|---|---|---|---|"]
    return "\n".join(heads + [_markdown_row(setting) for setting in settings])


def options_markdown() -> str:
    """The text of docs/options.md."""
    keys = [_toml_line(setting) for setting in SETTINGS.values() if setting.long in _EXAMPLE]
    return _DOCUMENT.format(table=options_table(SETTINGS.values()), example="\n".join(keys))


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
        value, default = setting.kind.allowed, f"`{setting.default}`" if setting.default else "none"
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
