"""Makes of the doctor's words and report the tables of docs/doctor.md and the schema beside it.

``python -m hub.doctor.rendering`` writes both anew, from wherever it is called.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from hub.doctor.report import VERSION, Report
from hub.doctor.words import EXITS, FAULTS

DOCS = Path(__file__).parents[2] / "docs"
PAGE, SCHEMA = DOCS / "doctor.md", DOCS / "doctor.schema.json"
_BLOCK = "<!-- {0}: rendered by python -m hub.doctor.rendering -->\n{1}<!-- end of {0} -->\n"


def page(text: str) -> str:
    """The page with its tables made anew."""
    for name, table in (("faults", faults()), ("exit codes", exit_codes())):
        begin, end = _BLOCK.format(name, "\0").split("\0")
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE.name} has no block {name!r}")
        text = before + _BLOCK.format(name, table) + after
    return text


def faults() -> str:
    """Faults, what is said of each, and what to do."""
    rows = "".join(
        f"| `{slug}` | {fault.severity.value} | {fault.says} | {fault.do} | {fault.code.value} |\n"
        for slug, fault in FAULTS.items()
    )
    return f"| fault | | says | what to do | exit code |\n|---|---|---|---|---|\n{rows}"


def exit_codes() -> str:
    """Exit codes and their meaning."""
    rows = "".join(f"| {code.value} | {text} |\n" for code, text in EXITS.items())
    return f"| exit code | |\n|---|---|\n{rows}"


def schema() -> dict[str, Any]:
    """What ``--json`` prints, as a JSON Schema (2020-12)."""
    made = msgspec.json.schema(Report)
    made["$defs"]["Report"]["properties"]["v"] = {"const": VERSION}
    made["$defs"]["Finding"]["properties"]["fault"] = {"enum": list(FAULTS)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A report of tuttihub doctor, version {VERSION}",
        "description": "Rendered by python -m hub.doctor.rendering; docs/doctor.md explains it.",
        **made,
    }


def schema_text() -> str:
    """The file: a line a type."""
    whole = schema()
    defs = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in whole.pop("$defs").items())
    return f'{json.dumps(whole)[:-1]}, "$defs": {{\n{defs}\n}}}}\n'


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    SCHEMA.write_text(schema_text())
