"""Who hears whom other than the patch says: sections, and rules between them. Pure logic.

A *section* is a named group of slots. A *rule* says what a listener or a section hears of a
source or a section: a gain, a place, muted, soloed. Where several rules meet, each of these four
comes from the nearest that tells of it::

    listener of source  >  listener of its section  >  section of source  >  section of section

Whoever is in several sections goes by their order. Who has anybody on solo hears nobody else,
itself included; muted beats soloed.
"""

from __future__ import annotations

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

    def copied(self) -> Hearing:
        """Another of the same."""
        copy = Hearing()
        copy.sections = {name: set(members) for name, members in self.sections.items()}
        copy._rules = {who: dict(row) for who, row in self._rules.items()}
        return copy

    def rule(self, who: Party, what: Party) -> Heard:
        """What is told of these two themselves."""
        return self._rules.get(who, {}).get(what, NOTHING)

    def rules(self) -> Iterator[tuple[Party, Party, Heard]]:
        """All rules: who hears, what, how."""
        for who, row in self._rules.items():
            for what, heard in row.items():
                yield who, what, heard

    def set_rule(self, who: Party, what: Party, heard: Heard) -> set[int]:
        """Set a rule, or end it; returns the listeners whom it concerns."""
        if heard == NOTHING:
            row = self._rules.get(who)
            if row is None or row.pop(what, None) is None:
                return set()
            if not row:
                del self._rules[who]
        else:
            self._rules.setdefault(who, {})[what] = heard
        return {who} if isinstance(who, int) else set(self.sections.get(who, ()))

    def set_members(self, name: str, members: Iterable[int]) -> set[int]:
        """Make a section, or change who is in it; returns the listeners whom it may concern."""
        wanted, before = set(members), self.sections.get(name, set())
        self.sections[name] = wanted
        return self.listeners() | (wanted ^ before) if wanted != before else set()

    def remove_section(self, name: str) -> set[int]:
        """End a section and its rules; returns the listeners whom it may concern."""
        concerned = self.listeners()
        self.sections.pop(name, None)
        self._rules.pop(name, None)
        for who in list(self._rules):
            self.set_rule(who, name, NOTHING)
        return concerned

    def forget(self, slot: int) -> set[int]:
        """A slot has another owner now: it is in no section, and no rule tells of it."""
        concerned = {slot}
        if any(slot in members for members in self.sections.values()):
            concerned |= self.listeners()
            for members in self.sections.values():
                members.discard(slot)
        self._rules.pop(slot, None)
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
        for who, row in self._rules.items():
            if any(heard.soloed for heard in row.values()):
                found |= {who} if isinstance(who, int) else self.sections.get(who, set())
        return found

    def row(self, listener: int, slots: int) -> dict[int, Entry]:
        """What a listener hears other than the patch says, by source.

        Args:
            slots: how many there are, of whom a solo silences all others.
        """
        whos: list[Party] = [listener, *self.sections_of(listener)]
        tables = [self._rules[who] for who in whos if who in self._rules]
        if not tables:
            return {}
        sources: set[int] = set()
        for table in tables:
            for what in table:
                sources |= {what} if isinstance(what, int) else self.sections.get(what, set())
        found = {source: self._resolve(tables, source) for source in sources}
        row = {source: entry for source, heard in found.items() if (entry := _entry(heard))}
        if any(heard.soloed for heard in found.values()):
            alone = {source for source, heard in found.items() if heard.soloed}
            row |= {source: (0.0, None) for source in range(slots) if source not in alone}
        return row

    def _resolve(self, tables: list[dict[Party, Heard]], source: int) -> Heard:
        """Each property from the nearest rule that tells of it."""
        whats: list[Party] = [source, *self.sections_of(source)]
        near = [table[what] for table in tables for what in whats if what in table]
        if len(near) == 1:
            return near[0]

        def first(name: str) -> Any:
            return next((v for rule in near if (v := getattr(rule, name)) is not None), None)

        return Heard(first("gain"), first("pan"), first("muted"), first("soloed"))


def _entry(heard: Heard) -> Entry | None:
    """A listener's entry; None: as the patch says."""
    if heard.muted:
        return 0.0, None
    gain = 1.0 if heard.gain is None and heard.soloed else heard.gain
    return None if gain is None and heard.pan is None else (gain, heard.pan)
