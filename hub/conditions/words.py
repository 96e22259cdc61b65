"""What the conditions of a state mean, and what helps: once each, however many have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hub.conditions.endings import ENDED
from hub.conditions.refusals import REFUSALS
from hub.conditions.suffering import SUFFERING
from hub.conditions.unheard import UNHEARD
from hub.conditions.whole import WHOLE

_ALL = (*UNHEARD, *SUFFERING, *WHOLE, *ENDED, *REFUSALS.values())
_WORDS = {
    condition.slug: {
        "says": condition.says,
        "musician": condition.musician,
        "ops": condition.ops,
    }
    for condition in _ALL
}


def with_words(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state with ``conditions``: the texts of each that somebody in it has.

    Args:
        state: what ``hub.snapshot.hub_status`` made.
    """
    slugs = {entry["condition"] for entry in _raised_in(state)}
    return {**state, "conditions": {slug: _WORDS[slug] for slug in sorted(slugs)}}


def _raised_in(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    hub = state["hub"]
    yield from hub["conditions"]
    for entry in (*state["clients"], *hub["departures"], *hub["turned_away"]):
        yield from entry["conditions"]
