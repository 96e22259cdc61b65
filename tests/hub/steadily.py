"""What musicians hear of a sum that does not change, on a machine that stands still now and then.

Who looks at one moment may find the fade of a gap that the machine made: a packet came late, or
was sent late, since its process was not let run. So all that was heard from one moment to
another is judged, by this rule:

- Where the hub counted no trouble, every packet heard is right.
- Where it did, and a witness of the machine's doing says so too (a musician was late, one of the
  hub's processes waited for a CPU, a host took the CPUs), what is missing may be missing: sounds
  that fade to silence and back, but nothing else, and no longer than so many troubles take. Only
  the hub's own word excuses nothing.
- In the end everybody hears what they should.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.end_to_end.hubs import rises
from tests.end_to_end.processes import wait_until
from tests.hub.conftest import DEADLINE_S, LiveHub
from tests.hub.musicians import Musician
from tests.machine import Witness

SETTLED_PACKETS = 30
"""Longer than any gap fades."""
LATE_S = 0.004
"""Less than a queue of four packets forgives, of 128 frames each."""
EACH_PACKETS = 8
"""One trouble leaves so many packets wrong, and as many as were not sent in time."""
BESIDE = 1.1
"""A gap's prediction may be beside what was missed by so much."""


@contextmanager
def steadily(hub: LiveHub, level: int, *musicians: Musician) -> Iterator[None]:
    """All that these hear until the block ends, and a little more, is this sum."""

    def settled() -> bool:
        return all(musician.hears_only(level, SETTLED_PACKETS) for musician in musicians)

    wait_until(settled, DEADLINE_S, f"all hear {level} and nothing else", poll_s=0.01)
    state = hub.state()
    pids = [state["hub"]["mixer"]["pid"], *(lane["pid"] for lane in state["hub"]["lanes"])]
    witness = Witness([*pids, *(client["receiver_pid"] for client in state["clients"])])
    before = hub.counters()
    for musician in musicians:
        musician.late_s = 0.0
    since = {musician: musician.packets for musician in musicians}
    yield
    wait_until(settled, DEADLINE_S, f"all hear {level} again", poll_s=0.01)
    heard = {musician: musician.heard_since(packet) for musician, packet in since.items()}
    counted = rises(before, hub.counters())
    told = witness.tells()
    told += [f"a musician was {1e3 * m.late_s:.1f} ms late" for m in musicians if m.late_s > LATE_S]
    late = sum(musician.late_s / musician.period_s for musician in musicians)
    excused = (EACH_PACKETS * sum(counted.values()) + late) * bool(counted and told)
    for samples in heard.values():
        wrong = [sample for sample in samples if sample != level]
        assert len(wrong) <= excused, f"{wrong} instead of {level}; {counted}, {told}"
        foreign = [sample for sample in wrong if not 0 <= sample / level <= BESIDE]
        assert not foreign, f"{foreign} instead of {level} or a gap in it"
