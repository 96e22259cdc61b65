"""The text of docs/client-options.md."""

from __future__ import annotations

from hub.endpoint.config import OF_CLIENTS, SETTINGS
from hub.options import options_table


def markdown() -> str:
    """All options of ``tuttihub client`` and ``tuttihub peer``."""
    peers_lack = ", ".join(f"`{SETTINGS[name].flag}`" for name in OF_CLIENTS)
    return _DOCUMENT.format(table=options_table(SETTINGS.values()), peers_lack=peers_lack)


_DOCUMENT = """\
# Options of `tuttihub client` and `tuttihub peer`

<!-- Written by `tuttihub options client > docs/client-options.md`; change hub/endpoint/. -->

[client.md](client.md) tells how they are used. Peers have all but {peers_lack}. A wrong option
names itself, its value and what is allowed, and ends with exit code 2.

{table}

`--config FILE` reads the same settings from a TOML file, whose keys are the long options without
their dashes; what stands on the command line wins.

```toml
remotename = "Anna"
numchannels = 1
queue = "auto"
reconnect = "always"
```
"""
