"""Who hears whom other than the patch says: sections, and rules between them. Pure logic.

A *section* is a named group of slots. A *rule* says what a listener or a section hears of a
source or a section: a gain, a place, muted, soloed. Where several rules meet, each of these four
comes from the nearest that tells of it::

    listener of source  >  listener of its section  >  section of source  >  section of section

Whoever is in several sections goes by their order. Who has anybody on solo hears nobody else,
itself included; muted beats soloed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

Party = int | str
"""A slot, or the name of a section."""

Entry = tuple[float | None, float | None]
"""What a listener hears of a source: linear gain, pan; None is what it would be without."""

MAX_SECTIONS = 256
MAX_NAME_CHARS = 64


@dataclass(frozen=True, slots=True)
class Heard:
    """What one party hears of another.

    Attributes:
        gain: linear, in the place of what the patch gives; None: not told.
        pan: −100..100 for this listener alone; None: not told.
        muted, soloed: None: not told.
    """

    gain: float | None = None
    pan: float | None = None
    muted: bool | None = None
    soloed: bool | None = None

    def changed(self, **fields: Any) -> Heard:
        """With some fields anew."""
        return replace(self, **fields)


NOTHING = Heard()


class Hearing:
    """Sections and rules."""

    def __init__(self) -> None:
        self.sections: dict[str, set[int]] = {}
        self._rules: dict[Party, dict[Party, Heard]] = {}  # by who hears, then what
        self._solos: Counter[Party] = Counter()  # rules with solo, by who hears

    def copied(self) -> Hearing:
        """Another of the same."""
        copy = Hearing()
        copy.sections = {name: set(members) for name, members in self.sections.items()}
        copy._rules = {who: dict(row) for who, row in self._rules.items()}
        copy._solos = self._solos.copy()
        return copy

    def rule(self, who: Party, what: Party) -> Heard:
        """What is told of these two themselves."""
        return self._rules.get(who, {}).get(what, NOTHING)

    def rules(self) -> Iterator[tuple[Party, Party, Heard]]:
        """All rules: who hears, what, how."""
        for who, row in self._rules.items():
            for what, heard in row.items():
                yield who, what, heard

    def rules_of(self, slot: int) -> Iterator[tuple[Party, Party, Heard]]:
        """Those that tell of a slot itself, as listener or as source."""
        for what, heard in self._rules.get(slot, {}).items():
            yield slot, what, heard
        for who, row in self._rules.items():
            if who != slot and slot in row:
                yield who, slot, row[slot]

    def set_rule(self, who: Party, what: Party, heard: Heard) -> set[int]:
        """Set a rule, or end it; returns the listeners whom it concerns."""
        if heard.soloed or self._solos[who]:
            self._solos[who] += bool(heard.soloed) - bool(self.rule(who, what).soloed)
        if heard == NOTHING:
            row = self._rules.get(who)
            if row is None or row.pop(what, None) is None:
                return set()
            if not row:
                del self._rules[who]
        else:
            self._rules.setdefault(who, {})[what] = heard
        return {who} if isinstance(who, int) else set(self.sections.get(who, ()))

    def set_gains(
        self, listener: int, sources: Iterable[int], gains: Iterable[float | None]
    ) -> None:
        """Set how much of each source a listener gets; None: not told. Concerns it alone."""
        row = self._rules.setdefault(listener, {})
        for source, gain in zip(sources, gains, strict=True):
            was = row.get(source, NOTHING)
            if gain is None and was is NOTHING:
                continue
            heard = Heard(gain, was.pan, was.muted, was.soloed)
            if heard == NOTHING:
                del row[source]
            else:
                row[source] = heard
        if not row:
            del self._rules[listener]

    def set_members(self, name: str, members: Iterable[int]) -> set[int]:
        """Make a section, or change who is in it; returns the listeners whom it concerns."""
        wanted, before = set(members), self.sections.get(name, set())
        self.sections[name] = wanted
        changed = wanted ^ before
        if not changed:
            return set()
        return self._listeners_of(name) | (changed if name in self._rules else set())

    def _listeners_of(self, name: str) -> set[int]:
        """Whom rules tell of a section as what they hear."""
        found: set[int] = set()
        for who, row in self._rules.items():
            if name in row:
                found |= {who} if isinstance(who, int) else self.sections.get(who, set())
        return found

    def remove_section(self, name: str) -> set[int]:
        """End a section and its rules; returns the listeners whom it may concern."""
        concerned = self.listeners()
        self.sections.pop(name, None)
        self._rules.pop(name, None)
        self._solos.pop(name, None)
        for who in list(self._rules):
            self.set_rule(who, name, NOTHING)
        return concerned

    def forget(self, slot: int) -> set[int]:
        """A slot has another owner now: it is in no section, and no rule tells of it."""
        concerned = {slot}
        for name, members in self.sections.items():
            if slot in members:
                concerned |= self._listeners_of(name)
                members.discard(slot)
        self._rules.pop(slot, None)
        self._solos.pop(slot, None)
        for who in list(self._rules):
            concerned |= self.set_rule(who, slot, NOTHING)
        return concerned | self.soloists()

    def sections_of(self, slot: int) -> list[str]:
        """Sections that a slot is in, in their order."""
        return [name for name, members in self.sections.items() if slot in members]

    def listeners(self) -> set[int]:
        """Slots of whom rules tell as listeners."""
        found: set[int] = set()
        for who in self._rules:
            found |= {who} if isinstance(who, int) else self.sections.get(who, set())
        return found

    def soloists(self) -> set[int]:
        """Listeners that may have somebody on solo."""
        found: set[int] = set()
        for who, solos in self._solos.items():
            if solos:
                found |= {who} if isinstance(who, int) else self.sections.get(who, set())
        return found

    def tables_of(self, listener: int) -> tuple[Party, ...]:
        """Itself and its sections, as far as rules tell of them as listeners, nearest first.

        Who has the same hears the same.
        """
        return tuple(who for who in (listener, *self.sections_of(listener)) if who in self._rules)

    def row(self, listener: int, slots: int) -> dict[int, Entry]:
        """What a listener hears other than the patch says, by source.

        Args:
            slots: how many there are, of whom a solo silences all others.
        """
        return self.row_of(self.tables_of(listener), slots)

    def row_of(
        self, whos: Iterable[Party], slots: int, only: set[int] | None = None
    ) -> dict[int, Entry]:
        """The same of ``tables_of``.

        Args:
            only: sources that are asked for, if not all, which they are where anybody is soloed.
        """
        found = self._resolved([self._rules[who] for who in whos], only)
        row = {source: entry for source, heard in found.items() if (entry := _entry(heard))}
        if any(heard.soloed for heard in found.values()):
            alone = {source for source, heard in found.items() if heard.soloed}
            row |= {source: (0.0, None) for source in range(slots) if source not in alone}
        return row

    def beyond(
        self, listener: int, common: dict[int, Entry], slots: int
    ) -> dict[int, Entry | None]:
        """What a listener hears otherwise than others of its sections; None: as the patch says.

        Its own voice is always told of if rules tell of it: what the patch gives of it
        is not what it gives of others.

        Args:
            common: what the rules of its sections give, or empty: then nothing is left out.
        """
        whos, only = self.tables_of(listener), None
        if not common:
            return dict(self.row_of(whos, slots))
        table = self._rules.get(listener)
        if table is None:
            return {listener: common[listener]} if listener in common else {}
        tables = [self._rules[who] for who in whos]
        if not any(heard.soloed is not None for row in tables for heard in row.values()):
            only = {listener}
            for what in table:
                only |= {what} if isinstance(what, int) else self.sections.get(what, set())
        row = self.row_of(whos, slots, only)
        return {
            source: row.get(source)
            for source in (row.keys() | common.keys() if only is None else only)
            if row.get(source) != common.get(source) or (source == listener and source in row)
        }

    def _resolved(
        self, tables: list[dict[Party, Heard]], only: set[int] | None
    ) -> dict[int, Heard]:
        """Each property of each source from the nearest rule that tells of it."""
        near: dict[int, list[Heard]] = {}
        for table in tables:
            for what, heard in table.items():
                if isinstance(what, int) and (only is None or what in only):
                    near.setdefault(what, []).append(heard)
            for name, members in self.sections.items():
                if name in table:
                    for source in members if only is None else members & only:
                        near.setdefault(source, []).append(table[name])
        return {source: rules[0] if len(rules) == 1 else _first(rules)
                for source, rules in near.items()}  # fmt: skip


def _first(rules: list[Heard]) -> Heard:
    """Each property from the first rule that tells of it."""

    def first(name: str) -> Any:
        return next((v for rule in rules if (v := getattr(rule, name)) is not None), None)

    return Heard(first("gain"), first("pan"), first("muted"), first("soloed"))


def _entry(heard: Heard) -> Entry | None:
    """A listener's entry; None: as the patch says."""
    if heard.muted:
        return 0.0, None
    gain = 1.0 if heard.gain is None and heard.soloed else heard.gain
    return None if gain is None and heard.pan is None else (gain, heard.pan)
