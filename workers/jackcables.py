"""Cables that the hub makes in a JACK graph, as JackTrip's does: once for each pair of ports.

Where one of the two is not there (yet), it is tried again; one that somebody has taken out stays
out.
"""

from __future__ import annotations

from collections.abc import Iterator

from shared.layout import PatchMode
from workers.jackclock import Client
from workers.jackgroup import Group

AGAIN_S = 2.0
"""Cables that could not be made are tried again so often."""
MATRIX = {
    f"{prefix}192.168.0.{11 + i}": (f"SuperCollider:in_{i + 1}", f"SuperCollider:out_{i + 5}")
    for i in range(10)
    for prefix in ("", "__ffff_")
}
"""Mode 3: who is connected to which ports, by the JACK client's name."""
Cable = tuple[str, str]
"""Source and destination, full names of ports."""


class Cabling:
    """Makes and undoes the cables of groups.

    Args:
        client: in whose name.
        beat: port to which every group's first is connected.
        connect: make the connections of modes 0 and 3.
        include: the server's sound joins in in modes 2 and 4.
        upmix: mono clients are heard on both sides.
    """

    def __init__(
        self, client: Client, beat: str, *, connect: bool, include: bool, upmix: bool
    ) -> None:
        self._client = client
        self._beat = beat
        self._connect = connect
        self._include = include
        self._upmix = upmix
        self._captures: list[str] = []
        self._playbacks: list[str] = []

    def find_card(self) -> None:
        """Look which ports the sound card has.

        Raises:
            JackUnavailable: the server is gone.
        """
        self._captures = self._client.ports(is_physical=True, is_output=True)
        self._playbacks = self._client.ports(is_physical=True, is_input=True)

    def cable(self, group: Group, patch: PatchMode) -> None:
        """Make the cables that a group has in this mode, and undo those of the last."""
        wanted = frozenset(self._wanted(group, patch))
        for source, destination in group.cables - wanted:
            self._client.disconnect(source, destination)
        made = {cable for cable in wanted - group.cables if self._client.connect(*cable)}
        group.cables = (group.cables & wanted) | made

    def _wanted(self, group: Group, patch: PatchMode) -> Iterator[Cable]:
        """By equal numbers to the sound card; and mode 3's."""
        name, shape = group.client.name, group.shape
        if shape.receives:
            yield f"{name}:receive_1", self._beat
        server_only = patch in (PatchMode.SERVER_TO_CLIENTS, PatchMode.RESERVED)
        mixed = patch in (PatchMode.FAN_OUT_NO_SELF, PatchMode.FULL_MIX)
        if (server_only and self._connect) or (mixed and self._include):
            for k, port in enumerate(self._captures[: shape.sends]):
                yield port, f"{name}:send_{k + 1}"
            for k, port in enumerate(self._playbacks[: shape.receives]):
                yield f"{name}:receive_{k + 1}", port
            if self._upmix and shape.receives == 1 and len(self._playbacks) > 1:
                yield f"{name}:receive_1", self._playbacks[1]
        if patch is PatchMode.RESERVED and name in MATRIX:
            into, out_of = MATRIX[name]
            yield f"{name}:receive_1", into
            yield out_of, f"{name}:send_1"
