"""Where packets went, by cause.

::

    client --(emulated network)--> hub: kernel, receiver, mixer, sender --(network)--> client
      late, skipped, send error     dropped, lost, late, overflow, missed tick      own socket

The hub's own counters count what reached it, so that those of the network are in them too:
what is beyond is its own.
"""

from __future__ import annotations

from loadtest.reporting.result import Cause, Result

TO, IN, FROM = "to the hub", "in the hub", "from the hub"
NETWORK, GENERATOR, HUB = "network", "generator", "hub"


def causes(result: Result) -> list[Cause]:
    """All causes that can be told apart; those that did not occur have the count 0."""
    rows = [
        Cause(TO, "emulated network", result.emulated_up, "packets", True, NETWORK,
              "taken on purpose on their way to the hub"),
        Cause(TO, "never sent", result.skipped, "packets", False, GENERATOR,
              "the generator was hopelessly late and left them out"),
        Cause(TO, "send errors", result.send_errors, "packets", False, GENERATOR,
              "the generator's system would not send them"),
        *_in_hub(result),
        Cause(FROM, "emulated network", result.emulated_down, "packets", True, NETWORK,
              "taken on purpose on their way back"),
        Cause(FROM, "generator's own socket", result.own_drops, "packets", False, GENERATOR,
              "they came back, but the generator did not read them in time"),
        Cause(FROM, "numbers missing", max(0, result.lost - result.own_drops), "packets", False,
              HUB, "the hub numbered them, but they never arrived"),
        Cause(FROM, "never numbered", result.shortfall, "packets", False, HUB,
              "by the clock the hub should have sent them, but it did not"),
    ]  # fmt: skip
    if result.repaired:
        rows.append(
            Cause(FROM, "repaired", result.repaired, "packets", False, NETWORK,
                  "lost on their way back, and restored from the copy in a later datagram")
        )  # fmt: skip
    return rows


def _in_hub(result: Result) -> list[Cause]:
    """What the hub itself counted, where it can be asked."""
    if result.counters is None:
        return []
    counts = result.counters.counts
    taken = sum(section.emulated_up for section in result.sections)
    missed_on_the_way = taken + result.skipped + result.send_errors
    rows = [
        ("kernel_drops", "dropped by the kernel", "packets",
         "the hub's receivers did not read their sockets in time"),
        ("late", "too late for their turn", "packets",
         "they reached the hub after the mixer had passed them"),
        ("overflows", "too early or too many", "packets",
         "a client's queue in the hub was full"),
        ("underruns", "queue ran empty", "packets",
         "nothing of a client was there when it was to be mixed, for whatever reason"),
        ("malformed", "not understood", "packets", "length or header not as agreed"),
        ("missed", "missed ticks", "ticks",
         "the hub could not mix in time and left them out; each is missing in every return stream"),
        ("overruns", "overrun ticks", "ticks", "mixing took longer than a period"),
        ("starved", "starved ticks", "ticks", "a sender found nothing mixed when it was due"),
    ]  # fmt: skip
    # jitter makes packets late, and any loss a queue run empty
    blame = {"underruns": "nobody"} | ({"late": NETWORK} if result.delayed_up else {})
    lost = max(0, counts.get("lost", 0) - missed_on_the_way)
    return [
        Cause(IN, "lost before the hub", lost, "packets", False, "nobody",
              "gaps the hub saw in what clients sent, beyond what the network and the generator "
              "took"),
        *(
            Cause(IN, title, max(0, counts[name]), unit, False, blame.get(name, HUB), text)
            for name, title, unit, text in rows
            if name in counts
        ),
    ]  # fmt: skip
