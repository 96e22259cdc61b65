"""At which delay each talker was heard by each listener, at any time of the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from loadtest.clients.state import NOBODY, UNKNOWN
from shared.kernels import kernel

Table = npt.NDArray[np.int64]


@kernel
def replay(log, start, stop, step, table):
    """Apply records start..stop of the log, in steps of 1 or −1. table: (N, N) int64."""
    at = start
    while at != stop:
        record = log[at]
        at += step
        if record.listener == NOBODY:
            for listener in range(table.shape[0]):
                table[listener, record.talker] = UNKNOWN
        elif record.talker == NOBODY:
            for talker in range(table.shape[1]):
                table[record.listener, talker] = UNKNOWN
        else:
            table[record.listener, record.talker] = record.delay


def delays_at(log: npt.NDArray[Any], count: int, turn: int) -> Table:
    """(count, count) delays [listener, talker] in a turn; UNKNOWN: nothing tells.

    What was learnt before the turn counts; else what was learnt first after it; else what
    follows from others: a listener is later than another by as much for every talker.
    """
    later = np.flatnonzero(log["turn"] > turn)
    split = int(later[0]) if later.size else log.size
    table = np.full((count, count), UNKNOWN, np.int64)
    replay(log, 0, split, 1, table)
    if (table == UNKNOWN).any():
        after = np.full((count, count), UNKNOWN, np.int64)
        replay(log, log.size - 1, split - 1, -1, after)
        table = np.where(table == UNKNOWN, after, table)
    return completed(table)


def completed(table: Table) -> Table:
    """Fill in what follows: d[i, j] = d[i, l] + d[k, j] − d[k, l]."""
    known = table != UNKNOWN
    if known.all() or not known.any():
        return table
    k = int(known.sum(axis=1).argmax())  # who knows most is the reference
    base = table[k]
    shared = known & known[k]
    offsets = np.where(shared, table - base, 0)
    rows = shared.any(axis=1)
    offset = offsets[np.arange(len(table)), shared.argmax(axis=1)]  # of each listener from k
    column = np.where(known[k], base, UNKNOWN)
    for j in np.flatnonzero(~known[k]):
        knowing = np.flatnonzero(known[:, j] & rows)
        if knowing.size:
            column[j] = table[knowing[0], j] - offset[knowing[0]]
    guess = column[np.newaxis, :] + offset[:, np.newaxis]
    usable = rows[:, np.newaxis] & (column != UNKNOWN)[np.newaxis, :]
    filled: Table = np.where(known, table, np.where(usable, guess, UNKNOWN))
    return filled
