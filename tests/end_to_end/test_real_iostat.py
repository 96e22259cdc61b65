"""The hub's `--iostat` lines beside those that a real jacktrip prints of itself."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.hubs import own_hub_only
from tests.end_to_end.processes import wait_until
from tests.end_to_end.stage import Stage
from tests.hub.test_iostat import LINE


@own_hub_only
def test_the_hub_speaks_as_jacktrip_does(stage: Stage, tmp_path: Path) -> None:
    path = tmp_path / "stat.log"
    hub = stage.hub(4, options=("-I", "1", "-G", str(path)))
    client = stage.client(hub, "cl")
    hub.wait_for_clients(1)

    ours = wait_until(
        lambda: lines if len(lines := path.read_text().splitlines()) >= 2 else None,
        10.0,
        "two lines of the hub",
    )
    theirs = wait_until(
        lambda: [found.groupdict() for found in LINE.finditer(client.process.log())],
        10.0,
        "a line of the client",
    )

    assert ours is not None
    assert theirs is not None
    first, second = (found.groupdict() for line in ours[:2] if (found := LINE.fullmatch(line)))
    assert first.keys() == theirs[0].keys()
    assert first["address"] == theirs[0]["address"] == "127.0.0.1"
    # a second of 48 kHz in packets of 128 frames: 375, more or less by when the hub looked
    assert 250 < int(second["tot"]) - int(first["tot"]) < 500
    assert int(first["sync"].partition("/")[0]) <= 8
