"""``python -m workers.jackprobe [SERVER]``: rate and period of a JACK server, as JSON.

``{"rate_hz": 48000, "period_frames": 128}``, ``{}`` when there is no such server, or
``{"error": ...}`` when libjack is missing. It loads no compiler.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

PAUSES_S = (0.3, 1.0, 2.0)
"""A server on a busy machine turns newcomers away for a while: then it is asked again."""


def probe(server: str | None) -> dict[str, Any]:
    """What is to be said."""
    try:
        import jack
    except (ImportError, OSError) as error:
        return {"error": str(error)}
    jack.set_error_function(lambda line: None)
    jack.set_info_function(lambda line: None)
    for pause_s in (*PAUSES_S, None):
        try:
            client = jack.Client("tuttihub-probe", no_start_server=True, servername=server)
            break
        except jack.JackOpenError as error:
            if error.status.server_failed or pause_s is None:
                return {}
            time.sleep(pause_s)
    try:
        return {"rate_hz": int(client.samplerate), "period_frames": int(client.blocksize)}
    finally:
        client.close()


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1] if len(sys.argv) > 1 else None)))
