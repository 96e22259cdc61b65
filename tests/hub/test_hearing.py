"""What hearing knows without going through all its rules, against going through them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.hearing import Heard, Hearing, Party

parties: st.SearchStrategy[Party] = st.sampled_from([0, 1, 2, "low", "high"])
heard = st.builds(
    Heard,
    gain=st.sampled_from([None, 0.5]),
    muted=st.sampled_from([None, True]),
    soloed=st.sampled_from([None, False, True]),
)
orders = st.one_of(
    st.tuples(st.just("rule"), parties, parties, heard),
    st.tuples(st.just("gains"), st.integers(0, 2), st.lists(st.none() | st.just(0.25), max_size=3)),
    st.tuples(st.just("members"), st.sampled_from(["low", "high"]), st.sets(st.integers(0, 2))),
    st.tuples(st.just("remove"), st.sampled_from(["low", "high"])),
    st.tuples(st.just("forget"), st.integers(0, 2)),
    st.tuples(st.just("copy")),
)


@given(st.lists(orders, max_size=30))
def test_what_is_kept_is_what_the_rules_say(given: list[tuple[object, ...]]) -> None:
    hearing = Hearing()
    for order in given:
        match order:
            case "rule", who, what, how:
                hearing.set_rule(who, what, how)  # type: ignore[arg-type]
            case "gains", int() as listener, list() as gains:
                hearing.set_gains(listener, range(len(gains)), gains)
            case "members", str() as name, set() as members:
                hearing.set_members(name, members)
            case "remove", str() as name:
                hearing.remove_section(name)
            case "forget", int() as slot:
                hearing.forget(slot)
            case _:
                hearing = hearing.copied()
        rules = list(hearing.rules())
        soloists: set[int] = set()
        for who, _, how in rules:
            if how.soloed:
                soloists |= {who} if isinstance(who, int) else hearing.sections.get(who, set())
        assert hearing.soloists() == soloists
        for slot in range(3):
            assert sorted(map(repr, hearing.rules_of(slot))) == sorted(
                repr(rule) for rule in rules if slot in rule[:2]
            )
