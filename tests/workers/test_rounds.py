"""How long before a tick is due a shared receiver reads what its clients have sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.rounds import LEAD_DECAY, LEAD_SPARE_NS, next_lead

PERIOD_NS = 2_666_666


def twin(lead: int, took: int, period: int) -> int:
    """An eighth more than it took, and some; at once if that is more, else little by little."""
    wanted = took + int(took / 8) + LEAD_SPARE_NS
    faded = lead - lead // LEAD_DECAY
    if wanted > faded:
        faded = wanted
    return period if faded > period else faded


@given(st.integers(0, PERIOD_NS), st.lists(st.integers(0, 10**8), min_size=1, max_size=40))
def test_the_lead_is_as_its_twin(lead: int, times: list[int]) -> None:
    for took in times:
        expected = twin(lead, took, PERIOD_NS)
        lead = next_lead(lead, took, PERIOD_NS)
        assert lead == expected


def test_the_slowest_reading_is_remembered_for_a_while() -> None:
    lead = next_lead(0, 800_000, PERIOD_NS)
    peak = lead
    for _ in range(LEAD_DECAY):
        lead = next_lead(lead, 100_000, PERIOD_NS)
    assert 0.3 * peak < lead < 0.45 * peak
    for _ in range(20 * LEAD_DECAY):
        lead = next_lead(lead, 100_000, PERIOD_NS)
    assert 112_500 + LEAD_SPARE_NS <= lead < 150_000
