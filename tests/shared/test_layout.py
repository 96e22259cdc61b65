"""The arena's map: nothing overlaps, nothing is misaligned, no cache line has two owners."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest

from shared import layout
from shared.layout import CACHE_LINE, PAGE, sections

RECORDS = {
    "header": layout.HEADER,
    "control": layout.CONTROL,
    "clock": layout.CLOCK,
    "lanes": layout.LANE,
    "slots": layout.SLOT,
    "rx": layout.RX,
    "tx": layout.TX,
    "monitors": layout.MONITOR,
    "jack": layout.JACK,
    "jack_groups": layout.JACK_GROUP,
}
AWAITED = [
    ("control", "stop"), ("clock", "tick"), ("clock", "futex"), ("slots", "admit"),
    ("slots", "stop"), ("slots", "session"), ("rx", "state"), ("rx", "session"),
    ("rx", "watermark"), ("rx", "pid"), ("rx", "heir"), ("jack", "cycle"), ("jack", "futex"),
]  # fmt: skip
"""Fields that one process writes and another waits for."""
LAYOUTS = {19: "dd50f3f9c5b89a89"}
"""What each version looks like: changed, it needs another number."""


def fields(record: np.dtype) -> list[tuple[str, int, int, int]]:
    """(name, offset, bytes, alignment) of a record's fields, by offset."""
    assert record.fields is not None
    found = [
        (name, offset, dtype.itemsize, dtype.base.alignment)
        for name, (dtype, offset, *_) in record.fields.items()
    ]
    return sorted(found, key=lambda one: one[1])


def test_a_layout_has_a_number_of_its_own() -> None:
    """A zygote started from newer files must not attach to an arena of another layout."""
    table = sections(8, 128)
    told = [f"{name} {at} {dtype.itemsize} {shape}" for name, (at, dtype, shape) in table.items()]
    for record in RECORDS.values():
        assert record.fields is not None
        told += [
            f"{name} {at} {dtype.base.str} {dtype.shape}"
            for name, (dtype, at, *_) in record.fields.items()
        ]
    assert hashlib.sha256("\n".join(told).encode()).hexdigest()[:16] == LAYOUTS.get(
        layout.LAYOUT_VERSION
    )


@pytest.mark.parametrize(("slots", "period"), [(1, 16), (8, 128), (13, 441), (1024, 1024)])
def test_sections_follow_each_other_on_pages(slots: int, period: int) -> None:
    table = sections(slots, period)
    assert list(table)[-1] == "end"
    for (_, (offset, dtype, shape)), (_, (after, _, _)) in pairwise(table.items()):
        assert offset % PAGE == 0
        size = dtype.itemsize * int(np.prod(shape))
        assert offset + size <= after < offset + size + PAGE
    assert table["header"][0] == 0


@pytest.mark.parametrize("name", RECORDS)
def test_fields_are_aligned_and_apart(name: str) -> None:
    record = RECORDS[name]
    for _, offset, _, alignment in fields(record):
        assert offset % alignment == 0
    for (_, offset, size, _), (_, after, _, _) in pairwise(fields(record)):
        assert offset + size <= after
    assert record.itemsize % CACHE_LINE == 0


@pytest.mark.parametrize(("slots", "period"), [(3, 16), (7, 441)])
def test_neighbours_share_no_cache_line(slots: int, period: int) -> None:
    """What different processes write (a slot, a lane) begins on a line of its own."""
    table = sections(slots, period)
    for name in ("lanes", "slots", "rx", "tx", "rings", "packets", "jack_groups"):
        _, dtype, shape = table[name]
        stride = dtype.itemsize * int(np.prod(shape[1:]))
        assert stride % CACHE_LINE == 0, name


def test_watermark_has_a_line_of_its_own() -> None:
    """The mixer reads it every tick while the receiver writes all around; with it, whether that
    rests, which changes with outages only."""
    lines = {
        name: {offset // CACHE_LINE, (offset + size - 1) // CACHE_LINE}
        for name, offset, size, _ in fields(layout.RX)
    }
    (line,) = lines.pop("watermark")
    assert lines.pop("resting") == {line}
    assert all(line not in others for others in lines.values())


@pytest.mark.parametrize(("name", "field"), AWAITED)
def test_what_others_wait_for_can_be_atomic(name: str, field: str) -> None:
    found = RECORDS[name].fields
    assert found is not None
    dtype, offset, *_ = found[field]
    assert dtype == np.int64
    assert offset % 8 == 0


def test_histogram_edges_double() -> None:
    edges = layout.HISTOGRAM_EDGES_NS
    assert len(edges) == layout.HISTOGRAM_BUCKETS - 1
    assert edges[0] == 25_000
    assert np.all(edges[1:] == 2 * edges[:-1])


def test_ring_sizes_are_powers_of_two() -> None:
    for size in (layout.RING_FRAMES, layout.MIN_RING_FRAMES):
        assert size & (size - 1) == 0


def test_packet_area_holds_a_datagram_and_the_packet_after_it() -> None:
    assert layout.PACKET_AREA >= 2 * 65507
