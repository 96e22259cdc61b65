"""A receiver's steps, compiled once for loops that take them at several places: the receiver's own
are put into each."""

from __future__ import annotations

from shared.kernels import kernel
from workers import receiver


@kernel
def take(arena, session, data, length, name, inbox, arrival_ns, now_ns):  # type: ignore[no-untyped-def]
    """``receiver._take`` for slot 0, with nothing behind it, and no socket."""
    return receiver._take(
        arena, 0, session, -1, data, length, name, False, inbox, 0, arrival_ns, now_ns
    )


@kernel
def conceal(arena, inbox, now_ns):  # type: ignore[no-untyped-def]
    """``receiver.conceal_due`` for slot 0, read in the same moment."""
    return receiver.conceal_due(arena, 0, 0, inbox, now_ns, now_ns)


@kernel
def conceal_later(arena, inbox, read_ns, now_ns):  # type: ignore[no-untyped-def]
    """``receiver.conceal_due`` for slot 0, some time after it was read."""
    return receiver.conceal_due(arena, 0, 0, inbox, read_ns, now_ns)
