"""``python -m workers.jackprobe [SERVER]``: rate and period of a JACK server, as JSON.

``{"rate_hz": 48000, "period_frames": 128}``, ``{}`` when there is no such server, or
``{"error": ...}`` when libjack is missing. It loads no compiler.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def probe(server: str | None) -> dict[str, Any]:
    """What is to be said."""
    try:
        import jack
    except (ImportError, OSError) as error:
        return {"error": str(error)}
    jack.set_error_function(lambda line: None)
    jack.set_info_function(lambda line: None)
    try:
        client = jack.Client("tuttihub-probe", no_start_server=True, servername=server)
    except jack.JackOpenError:
        return {}
    try:
        return {"rate_hz": int(client.samplerate), "period_frames": int(client.blocksize)}
    finally:
        client.close()


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1] if len(sys.argv) > 1 else None)))
