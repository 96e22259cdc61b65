"""Which JACK client plays a hub's client, and what it is called.

As JackTrip names them: by the name that the client gave, or else by its address, every ``:`` an
underscore. Of a section: by the section, without what a pattern has of signs.

JACK names semaphores and sockets after clients, and there takes ``/`` and ``\\`` for an underscore:
two names of which that makes one would be two clients with one semaphore, and the graph stands
still. So names have an underscore there before JACK sees them, and it tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

import numpy as np

from hub.addresses import IPAddress
from hub.identity import is_nameless
from hub.pans import Section, section_of
from hub.sessions import Session
from shared.arena import Arena
from shared.jacklayout import JACK_NAME_BYTES
from shared.limits import JackPorts

MIX, OTHERS = "mix", "others"
"""Of all, and of those who are in no section."""
_SIGNS = ":/\\"
"""Of JACK's own names: a port's and a file's."""


def address_name(address: IPAddress) -> str:
    """What JackTrip's hub calls who gave no name: ``__ffff_192.0.2.1``, ``__1``."""
    mapped = f"::ffff:{address}" if isinstance(address, IPv4Address) else str(address)
    return mapped.replace(":", "_")


def cut(name: str) -> bytes:
    """As much UTF-8 as JACK takes, whole characters, none for JACK to stumble over."""
    plain = "".join(sign if sign.isprintable() and sign not in _SIGNS else "_" for sign in name)
    return plain.encode()[: JACK_NAME_BYTES - 1].decode(errors="ignore").encode()


class JackSeats:
    """Writes to a slot who plays it.

    Args:
        who: has ports of its own.
        sections: in their order; who fits none is one of the others.
    """

    def __init__(self, arena: Arena, who: JackPorts, sections: Sequence[Section]) -> None:
        self._arena = arena
        self._who = who
        self._sections = tuple(sections)

    def seat(self, session: Session) -> None:
        """A session has its slot."""
        number, name = self.place(session)
        record = self._arena.slots[session.slot]
        told = np.frombuffer(cut(name).ljust(JACK_NAME_BYTES, b"\0"), np.uint8)
        record["jack_name"] = told
        record["jack_group"] = 1 + number

    def place(self, session: Session) -> tuple[int, str]:
        """Number and name of the JACK client."""
        match self._who:
            case JackPorts.MIX:
                return 0, MIX
            case JackPorts.SECTIONS:
                section = section_of(self._sections, session.name)
                if section is None:
                    return 0, OTHERS
                plain = "".join(sign for sign in section.name if sign not in "*?[]").strip()
                return 1 + self._sections.index(section), plain or section.name
        name = address_name(session.address) if is_nameless(session) else session.name
        return session.slot, name
