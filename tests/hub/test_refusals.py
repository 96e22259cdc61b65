"""Who was turned away, and why: every reason has words, and nobody can fill the memory."""

from __future__ import annotations

from hub.auth.results import Login
from hub.conditions.refusals import KEPT, REFUSALS, REFUSED, TurnedAway
from hub.conditions.watch import SLUGS
from hub.door import Refusal


def test_every_failed_login_has_words() -> None:
    assert {login.value for login in Login if login is not Login.OK} <= set(REFUSALS)


def test_every_refusal_at_the_door_has_words() -> None:
    assert {refusal.value for refusal in Refusal} <= set(REFUSALS)


def test_every_condition_has_a_reason_and_a_name_of_its_own() -> None:
    slugs = [condition.slug for condition in REFUSED]
    assert {condition.slug for condition in REFUSALS.values()} == set(slugs)
    assert not set(slugs) & set(SLUGS)
    for condition in REFUSED:
        for text in (condition.says, condition.musician, condition.ops):
            assert text[-1] in ".?"


def test_the_same_source_and_reason_is_one_entry() -> None:
    away = TurnedAway()
    for now_s in (10.0, 11.0, 12.0):
        away.note("wrong-credentials", "192.0.2.1", now_s)
    away.note("limited", "192.0.2.1", 13.0)
    away.note("full", "192.0.2.2", 14.0)
    found = away.listed(15.0)
    assert [(e["address"], e["times"], e["ago_s"]) for e in found] == [
        ("192.0.2.1", 3, 3.0), ("192.0.2.1", 1, 2.0), ("192.0.2.2", 1, 1.0),
    ]  # fmt: skip
    slugs = [entry["conditions"][0]["condition"] for entry in found]
    assert slugs == ["wrong-password", "logins-limited", "no-place"]


def test_only_the_last_few_are_kept() -> None:
    away = TurnedAway()
    for k in range(1000):
        away.note("full", f"192.0.2.{k}", float(k))
    found = away.listed(1000.0)
    assert len(found) == KEPT
    assert found[-1]["address"] == "192.0.2.999"


def test_what_has_no_words_is_not_kept() -> None:
    away = TurnedAway()
    away.note("malformed", "192.0.2.1", 1.0)
    assert away.listed(2.0) == []
