"""What fields of requests may be; a description says so, in errors, docs and schema."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hub.bans import MAX_REASON_CHARS
from hub.hearing import MAX_NAME_CHARS
from hub.pans import MAX_PAN
from hub.values import MAX_GAIN_DB, MIN_GAIN_DB, patch_name
from shared.limits import MAX_HEADROOM_MS, MAX_QUEUE_MS, MAX_QUEUE_PACKETS, PatchMode, Underrun

VERSION = 1
MAX_REQUEST_BYTES = 4 << 20
"""Room for a matrix of 500 listeners and 500 sources."""
MAX_ID_CHARS = 64
MAX_BATCH = 4096
MAX_BATCH_PAIRS = 1 << 18
"""Gains of all matrices of a batch: those of one that says all of a full hub."""
MAX_BAN_S = 100 * 366 * 86400.0
MAX_FADE_S = 600.0
MAX_GAIN = 10.0 ** (MAX_GAIN_DB / 20.0)
FILLINGS = tuple(kind.name.lower() for kind in Underrun)
SILENCE: Literal["-Infinity"] = "-Infinity"
"""Decibels of silence; JSON itself has no such number, and it is taken with quotes or without."""

_MODES = {mode.value: patch_name(mode) for mode in PatchMode}

Client = Annotated[
    int | str,
    Meta(title="client", description="a client's name or the number of a slot"),
]
Clients = Annotated[list[Client], Meta(title="clients", description="a list of clients")]
Truth = Annotated[bool, Meta(title="bool", description="true or false")]
TruthOrNull = Annotated[bool | None, Meta(title="bool or null", description="true, false or null")]
Decibels = Annotated[
    Annotated[float, Meta(ge=MIN_GAIN_DB, le=MAX_GAIN_DB)] | Literal["-Infinity"] | None,
    Meta(
        title="decibels",
        description=f"a number of decibels ({MIN_GAIN_DB:g}..{MAX_GAIN_DB:g}), -Infinity or null",
    ),
]
Factor = Annotated[
    Annotated[float, Meta(ge=0.0, le=MAX_GAIN)] | None,
    Meta(title="factor", description=f"a factor (0..{MAX_GAIN:.2f}) or null"),
]
Pan = Annotated[
    Annotated[float, Meta(ge=-MAX_PAN, le=MAX_PAN)] | str | None,
    Meta(
        title="pan",
        description=f"a pan (-{MAX_PAN:g}..{MAX_PAN:g}, left, centre, right, or default), or null",
    ),
]
Mode = Annotated[
    int | str,
    Meta(
        title="mode",
        description=f"a patch mode ({', '.join(f'{n} {name}' for n, name in _MODES.items())})",
        extra_json_schema={"enum": [*_MODES, *map(str, _MODES), *_MODES.values()]},
    ),
]
Queue = Annotated[
    Annotated[int, Meta(ge=1, le=MAX_QUEUE_PACKETS)] | str,
    Meta(
        title="queue",
        description=f"a number of packets (1..{MAX_QUEUE_PACKETS}), 'auto', 'autoN' with "
        f"N milliseconds of headroom (0..{MAX_HEADROOM_MS}), or 'Nms' (1..{MAX_QUEUE_MS})",
    ),
]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME_CHARS,
        title="name",
        description=f"a name of 1..{MAX_NAME_CHARS} printable characters",
    ),
]
Filling = Annotated[
    Literal["zero", "wavetable", "burg"] | None,
    Meta(title="filling", description=f"one of {', '.join(FILLINGS)}, or null"),
]
Seconds = Annotated[
    float, Meta(ge=0.0, le=MAX_FADE_S, title="fade", description=f"a number in 0..{MAX_FADE_S:g}")
]
BanSeconds = Annotated[
    Annotated[float, Meta(gt=0.0, le=MAX_BAN_S)] | None,
    Meta(
        title="ban time",
        description="a number of seconds (up to 100 years) or null, which is for good",
    ),
]
Reason = Annotated[
    str,
    Meta(
        max_length=MAX_REASON_CHARS,
        title="reason",
        description=f"a line of text up to {MAX_REASON_CHARS} characters",
    ),
]
Network = Annotated[
    str,
    Meta(
        title="network",
        description="a network (192.0.2.0/24, 2001:db8::/32, or an address)",
    ),
]
Account = Annotated[str, Meta(min_length=1, title="account", description="the name of an account")]
DecibelRows = Annotated[
    list[list[Decibels]],
    Meta(title="rows of decibels", description="a list of decibels of all sources a listener"),
]
FactorRows = Annotated[
    list[list[Factor]],
    Meta(title="rows of factors", description="a list of factors of all sources a listener"),
]
