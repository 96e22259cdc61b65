"""What `tuttihub serve` can be told of a local JACK graph: a part of ``hub.config``."""

from __future__ import annotations

from dataclasses import dataclass, field

from hub.setting import described
from hub.values import Named, NameOrDefault, Switch, Whole
from shared.limits import JackPorts

MAX_SERVER_BYTES = 64
MAX_BROADCAST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class JackSettings:
    """Settings of the JACK bridge.

    Attributes:
        jack_server: name of the JACK server, or None for the default one.
    """

    jack: bool = field(
        metadata=described(
            "jack",
            Switch(),
            False,
            "Every client appears in the JACK graph of this machine, and JACK is the hub's clock "
            "while it runs (docs/jack.md).",
        )
    )
    jack_server: str | None = field(
        metadata=described(
            "jack-server",
            NameOrDefault("a JACK server's name", MAX_SERVER_BYTES),
            "default",
            "Name of the JACK server (jackd -n).",
        )
    )
    no_jack_connect: bool = field(
        metadata=described(
            "D nojackportsconnect",
            Switch(),
            False,
            "With --jack and modes 0 and 3: do not connect clients to the sound card.",
            jacktrip=True,
        )
    )
    jack_ports: JackPorts = field(
        metadata=described(
            "jack-ports",
            Named("who has JACK ports", JackPorts, "WHO"),
            "clients",
            "JACK ports for each client, as JackTrip has them; for each of --sections, and one for "
            "who is in none; or for the mix of all. Fewer ports are less work for JACK.",
        )
    )
    broadcast: int = field(
        metadata=described(
            "broadcast",
            Whole("a number of packets", 0, MAX_BROADCAST),
            "0",
            "With --jack: a port broadcast_N beside every receive_N, so many packets behind it; "
            "0: none.",
            unit="packets of the client",
            jacktrip=True,
        )
    )
