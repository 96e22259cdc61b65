"""Random commands to a hub whose musicians come and go: it is what a plain model says.

The model knows musicians by the names they ask for, and what was told of whom; the text of
docs/control.md and docs/door.md says what follows. TUTTIHUB_DESK_COMMANDS=10000 makes it as many
commands (a minute and a half).
"""

from __future__ import annotations

import copy
import os
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.pans import mono_gains
from hub.sessions import Session, unique_name
from hub.values import Queue
from shared.layout import EndReason, Underrun
from tests.hub.studio import Studio

COMMANDS = int(os.environ.get("TUTTIHUB_DESK_COMMANDS", "1000"))
STEPS = 25
MUSICIANS = ("c0", "c1", "c2", "c3")
SECTIONS = ("low", "high")
ROWS: dict[str, list[Any]] = {
    "gain": [None, 0.5, 2.0], "pan": [None, -40, 0], "muted": [None, False, True],
    "soloed": [None, False, True],
}  # fmt: skip

musicians = st.sampled_from(MUSICIANS)
sections = st.sampled_from(SECTIONS)
some = st.sets(musicians)
gains = st.sampled_from([0.0, 0.25, 1.0, 4.0])
somebody = precondition(lambda self: self.here)
OWN: list[tuple[str, str, Any]] = [
    *(("gain", "gain", gain) for gain in (None, 0.0, 0.25, 4.0)),
    *(("mute", "muted", muted) for muted in (False, True)),
    *(("pan", "pan", pan) for pan in (None, -100, 0, 40)),
    *(("queue", "queue", queue) for queue in ("2", "9", "auto", "auto5")),
    *(("limiter", "on", on) for on in (None, False, True)),
    *(("conceal", "underrun", filling) for filling in (None, "zero", "wavetable", "burg")),
]


@dataclass
class Musician:
    """What is told of one, here or away.

    Attributes:
        session: None while away; shown: its name then and now.
        known: it has been given its place again; kept: it has one, and is away.
        admitted: may come past lock and waiting room.
        was_in: sections, when it left.
    """

    session: Session | None = None
    shown: str = ""
    gain: float = 1.0
    muted: bool = False
    pan: float | None = None
    queue: str = "4"
    limited: bool | None = None
    underrun: str | None = None
    held: bool = False
    known: bool = False
    kept: bool = False
    admitted: bool = False
    was_in: set[str] = field(default_factory=set)

    @property
    def slot(self) -> int:
        assert self.session is not None
        return self.session.slot


@dataclass
class Scene:
    """By shown names."""

    hub: tuple[int, float]
    strips: dict[str, tuple[float, bool, float | None]]
    sections: dict[str, set[str]]
    told_of: dict[tuple[str, str], dict[str, Any]]


class DeskMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.studio = Studio()
        self.house = self.studio.house
        self.house.now = time.monotonic()  # the desk goes by the clock itself
        self.all = {name: Musician() for name in MUSICIANS}
        self.sections: dict[str, set[str]] = {}
        self.told_of: dict[tuple[str, str], dict[str, Any]] = {}
        self.patch, self.master, self.limiter = 4, 1.0, False
        self.locked = self.waiting_room = False
        self.saved: Scene | None = None
        for name in MUSICIANS[:3]:
            self.comes(name)
        self.section("low", {"c0"})
        self.section("high", {"c1"})
        self.set_ones_own("c1", [("limiter", "on", True), ("conceal", "underrun", "zero")])
        self.set_ones_own("c2", [("pan", "pan", 40), ("queue", "queue", "auto5")])
        self.hear("c0", "high", {"gain": 1})
        self.hear("low", "c2", {"pan": 1})
        self.save()
        self.hear("c1", "c2", {"muted": 2})

    def teardown(self) -> None:
        self.house.membership.close()

    @property
    def here(self) -> dict[str, Musician]:
        return {name: one for name, one in self.all.items() if one.session is not None}

    def present(self, name: str) -> str:
        """This one, or if it is away another who is here, so that few commands are in vain."""
        if name in self.here:
            return name
        return sorted(self.here)[MUSICIANS.index(name) % len(self.here)]

    # --- who comes and goes ---

    @precondition(lambda self: len(self.here) < len(MUSICIANS))
    @rule(name=musicians)
    def join(self, name: str) -> None:
        away = sorted(self.all.keys() - self.here.keys())
        self.comes(away[MUSICIANS.index(name) % len(away)])

    def comes(self, name: str) -> None:
        one, taken = self.all[name], {other.shown for other in self.here.values()}
        may_pass = one.kept and one.admitted
        session = self.house.hello(name)
        assert (session is None) == (self.locked and not may_pass)
        if session is None:
            return
        self.house.knock(session, 4464 + MUSICIANS.index(name))
        one.session = session
        shown = unique_name(name, taken)
        if one.kept:
            one.shown = one.shown if one.shown not in taken else shown
            for section in one.was_in & self.sections.keys():
                self.sections[section].add(name)
        else:
            self.all[name] = Musician(session, shown)
        one = self.all[name]
        one.held = self.waiting_room and not may_pass
        one.known, one.kept = one.kept, False

    @somebody
    @rule(name=musicians)
    def leave(self, name: str) -> None:
        self.ends(self.present(name), EndReason.CLIENT_EXIT)

    @somebody
    @rule(name=musicians)
    def leave_and_return(self, name: str) -> None:
        name = self.present(name)
        self.ends(name, EndReason.CLIENT_EXIT)
        self.comes(name)

    @somebody
    @rule(name=musicians)
    def kick(self, name: str) -> None:
        name = self.present(name)
        self.studio.ask("kick", client=self.all[name].shown)
        self.ends(name, EndReason.KICKED)

    @rule(name=musicians)
    def call_who_is_away(self, name: str) -> None:
        if name not in {one.shown for one in self.here.values()}:
            refused = self.studio.refused("mute", client=name, muted=True)
            assert refused[0] == "no-client"

    def ends(self, name: str, reason: EndReason) -> None:
        one = self.all[name]
        assert one.session is not None
        self.house.end(one.session, reason)
        if one.held and not one.known:  # nobody has let it in: a stranger
            self.all[name] = Musician()
            self.told_of = {pair: told for pair, told in self.told_of.items() if name not in pair}
        else:
            one.was_in = {section for section, inside in self.sections.items() if name in inside}
            one.session, one.kept = None, True
            one.admitted = reason is EndReason.CLIENT_EXIT and not one.held
        for inside in self.sections.values():
            inside.discard(name)

    @somebody
    @rule(name=musicians)
    def come_back_to_ones_own_port(self, name: str) -> None:
        """A client that was killed and started again, before the hub has missed it."""
        one = self.all[name := self.present(name)]
        again = self.house.hello(name)
        assert again is not None
        self.house.knock(again, 4464 + MUSICIANS.index(name))
        self.house.obey()
        one.session = self.house.table.by_slot(one.slot)
        assert one.session is not None
        assert one.session.active

    # --- the door ---

    @rule(locked=st.booleans(), waiting_room=st.booleans())
    def open_or_close(self, locked: bool, waiting_room: bool) -> None:
        told = self.studio.ask("lock" if locked else "unlock")
        assert told == {"locked": locked, "changed": locked != self.locked}
        held = sum(one.held for one in self.here.values())
        told = self.studio.ask("waiting-room", on=waiting_room)
        assert told == {"on": waiting_room, "held": held}
        self.locked, self.waiting_room = locked, waiting_room

    @somebody
    @rule(name=musicians, op=st.sampled_from(["admit", "admit", "refuse"]))
    def let_in_or_not(self, name: str, op: str) -> None:
        one = self.all[name := self.present(name)]
        if not one.held:
            assert self.studio.refused(op, client=one.slot)[0] == "not-waiting"
        elif op == "admit":
            self.studio.ask(op, client=one.slot)
            one.held = False
        else:
            self.studio.ask(op, client=one.slot)
            self.ends(name, EndReason.KICKED)

    # --- a client's own ---

    @somebody
    @rule(name=musicians, orders=st.lists(st.sampled_from(OWN), min_size=4, max_size=8))
    def set_ones_own(self, name: str, orders: list[tuple[str, str, Any]]) -> None:
        one = self.all[self.present(name)]
        for k, (op, field_, value) in enumerate(orders):
            who = "source" if op == "gain" else "client"
            self.studio.ask(op, **{who: one.shown if k % 2 else one.slot, field_: value})
            match op:
                case "gain":
                    one.gain = 1.0 if value is None else value
                case "mute":
                    one.muted = value
                case "pan":
                    one.pan = value
                case "queue":
                    one.queue = value
                case "limiter":
                    one.limited = value
                case "conceal":
                    one.underrun = value

    @somebody
    @rule(name=musicians, shown=st.sampled_from([*MUSICIANS, "solo", "tutti"]))
    def rename(self, name: str, shown: str) -> None:
        one = self.all[self.present(name)]
        if shown in {other.shown for other in self.here.values() if other is not one}:
            refused = self.studio.refused("rename", client=one.slot, name=shown)
            assert refused[0] == "name-taken"
        else:
            self.studio.ask("rename", client=one.slot, name=shown)
            one.shown = shown

    # --- who hears whom ---

    @rule(mode=st.sampled_from([1, 2, 4, 5]), master=gains, limiter=st.booleans())
    def whole(self, mode: int, master: float, limiter: bool) -> None:
        requests = [{"op": "patch", "mode": mode}, {"op": "master", "gain": master}]
        self.studio.ask("batch", requests=requests)
        self.studio.ask("limiter", on=limiter)
        self.patch, self.master, self.limiter = mode, master, limiter

    @rule(name=sections, members=some)
    def section(self, name: str, members: set[str]) -> None:
        inside = members & self.here.keys()
        self.studio.ask("section", name=name, members=[self.all[one].slot for one in inside])
        self.sections[name] = inside

    @rule(name=sections, more=some, fewer=some)
    def move_between_sections(self, name: str, more: set[str], fewer: set[str]) -> None:
        more, fewer = more & self.here.keys(), fewer & self.here.keys()
        told = self.studio.ask(
            "section", name=name, add=[self.all[one].shown for one in more],
            remove=[self.all[one].slot for one in fewer],
        )  # fmt: skip
        self.sections[name] = (self.sections.get(name, set()) | more) - fewer
        assert told["members"] == sorted(self.all[one].slot for one in self.sections[name])

    @rule(name=sections)
    def end_section(self, name: str) -> None:
        if self.sections.pop(name, None) is None:
            assert self.studio.refused("section-remove", name=name)[0] == "no-section"
            return
        self.studio.ask("section-remove", name=name)
        self.forget_section(name)

    def forget_section(self, name: str) -> None:
        """Who is away keeps what it had of it, should there be another of this name."""
        self.told_of = {
            pair: told
            for pair, told in self.told_of.items()
            if name not in pair or not self.known_to_the_hub(*pair)
        }

    def known_to_the_hub(self, *parties: str) -> bool:
        return all(party in SECTIONS or party in self.here for party in parties)

    @somebody
    @rule(
        who=musicians | sections,
        what=musicians | sections,
        told=st.dictionaries(st.sampled_from(list(ROWS)), st.integers(0, 2), min_size=1),
    )
    def hear(self, who: str, what: str, told: dict[str, int]) -> None:
        who, what = (p if p in SECTIONS else self.present(p) for p in (who, what))
        fields = {name: ROWS[name][k] for name, k in told.items()}
        parties: dict[str, Any] = {}
        for party, role in ((who, "listener"), (what, "source")):
            if party in SECTIONS:
                parties[f"{role}_section"] = party
            else:
                parties[role] = self.all[party].slot
        if any(party in SECTIONS and party not in self.sections for party in (who, what)):
            assert self.studio.refused("hear", **parties, **fields)[0] == "no-section"
            return
        self.studio.ask("hear", **parties, **fields)
        self.told_of.setdefault((who, what), {}).update(fields)

    @rule(listeners=some, sources=some, gain=st.none() | gains, other=st.none() | gains)
    def matrix(
        self, listeners: set[str], sources: set[str], gain: float | None, other: float | None
    ) -> None:
        rows, columns = (sorted(names & self.here.keys()) for names in (listeners, sources))
        values = [[other if (i + j) % 2 else gain for j, _ in enumerate(columns)]
                  for i, _ in enumerate(rows)]  # fmt: skip
        self.studio.ask(
            "matrix", listeners=[self.all[one].slot for one in rows],
            sources=[self.all[one].shown for one in columns], gains=values,
        )  # fmt: skip
        for who, row in zip(rows, values, strict=True):
            for what, value in zip(columns, row, strict=True):
                self.told_of.setdefault((who, what), {})["gain"] = value

    @somebody
    @rule(bad=st.sampled_from([{"op": "pan", "client": 0}, {"op": "kick", "client": 0}]))
    def refuse_a_batch(self, bad: dict[str, Any]) -> None:
        one = next(iter(self.here.values())).slot
        requests = [
            {"op": "gain", "source": one, "gain": 3.0}, {"op": "patch", "mode": 1},
            {"op": "matrix", "listeners": [one], "sources": [one], "gains": [[0.125]]},
            {"op": "section", "name": "low", "members": []},
            {"op": "section-remove", "name": "low"}, {"op": "mute", "client": one, "muted": True},
            bad,
        ]  # fmt: skip
        self.studio.refused("batch", requests=requests)

    # --- scenes ---

    @rule()
    def save(self) -> None:
        self.studio.ask("scene-save", name="x")
        shown = {name: one.shown for name, one in self.here.items()}
        self.saved = Scene(
            (self.patch, self.master),
            {one.shown: (one.gain, one.muted, one.pan) for one in self.here.values()},
            {name: {shown[one] for one in inside} for name, inside in self.sections.items()},
            {
                (shown.get(who, who), shown.get(what, what)): copy.copy(told)
                for (who, what), told in self.told_of.items()
                if self.known_to_the_hub(who, what)
                and any(value is not None for value in told.values())
            },
        )

    @precondition(lambda self: self.saved is not None)
    @rule(seconds=st.sampled_from([0, 2]))
    def recall(self, seconds: int) -> None:
        self.studio.ask("scene-recall", name="x", seconds=seconds)
        scene = self.saved
        assert scene is not None
        names = {one.shown: name for name, one in self.here.items()}
        meant = {names[shown] for shown in scene.strips if shown in names}
        self.patch, self.master = scene.hub
        for shown, strip in scene.strips.items():
            if shown in names:
                one = self.all[names[shown]]
                one.gain, one.muted, one.pan = strip
        for pair in list(self.told_of):
            if all(party in SECTIONS or party in meant for party in pair):
                del self.told_of[pair]
        for name in self.sections.keys() - scene.sections.keys():
            del self.sections[name]
            self.forget_section(name)
        for name, members in scene.sections.items():
            strangers = self.sections.get(name, set()) - meant
            self.sections[name] = {names[one] for one in members if one in names} | strangers
        for pair, told in scene.told_of.items():
            if all(party in SECTIONS or party in names for party in pair):
                who, what = (names.get(party, party) for party in pair)
                self.told_of[who, what] = copy.copy(told)

    # --- the hub is the model ---

    def resolved(self, listener: str, source: str) -> dict[str, Any]:
        """By the text of docs/control.md."""
        order = list(self.studio.console.levels.hearing.sections)
        whos = [listener, *[name for name in order if listener in self.sections[name]]]
        whats = [source, *[name for name in order if source in self.sections[name]]]
        found: dict[str, Any] = {}
        for who in whos:
            for what in whats:
                for name, value in self.told_of.get((who, what), {}).items():
                    if value is not None:
                        found.setdefault(name, value)
        return found

    @invariant()
    def the_hub_is_as_told(self) -> None:
        control, door = self.house.arena.control[0], self.house.directory.hub.door
        assert (int(control["patch"]), float(control["master"])) == (self.patch, self.master)
        assert bool(control["limiter"]) == self.limiter
        assert control["levels"] % 2 == 0
        assert (door.locked, door.waiting_room) == (self.locked, self.waiting_room)
        told = self.studio.ask("sections")["sections"]
        assert {one["name"]: one["members"] for one in told} == {
            name: sorted(self.all[one].slot for one in inside)
            for name, inside in self.sections.items()
        }

    @invariant()
    def everybody_is_as_told(self) -> None:
        assert {session.slot for session in self.house.table.sessions()} == {
            one.slot for one in self.here.values()
        }
        for one in self.here.values():
            record = self.house.arena.slots[one.slot]
            silent = one.muted or one.held
            assert record["gain"] == (0.0 if silent else one.gain)
            assert bool(record["panned"]) == (one.pan is not None)
            if one.pan is not None:
                assert (record["pan_left"], record["pan_right"]) == mono_gains(one.pan)
            assert bool(record["held"]) == one.held
            order = Queue.of(int(record["queue_packets"]), int(record["headroom_ns"]))
            assert str(order) == one.queue
            assert record["limited"] == {None: 0, True: 1, False: 2}[one.limited]
            filled = None if one.underrun is None else Underrun[one.underrun.upper()]
            assert record["underrun"] == (0 if filled is None else 1 + filled)
            shown = self.house.directory.clients[one.slot]
            assert (shown.name, shown.gain, shown.muted, shown.pan) == (
                one.shown, one.gain, one.muted, one.pan,
            )  # fmt: skip

    @invariant()
    def everybody_hears_as_told(self) -> None:
        for listener, hearing in self.here.items():
            found = {source: self.resolved(listener, source) for source in self.here}
            solo = any(told.get("soloed") for told in found.values())
            for source, told in found.items():
                gain, pan = told.get("gain"), told.get("pan")
                if told.get("soloed") and gain is None:
                    gain = 1.0
                if told.get("muted") or (solo and not told.get("soloed")):
                    gain, pan = 0.0, None
                wanted = (None, None) if hearing.held else (gain, pan)
                heard = self.studio.hears(hearing.slot, self.all[source].slot)
                assert heard == wanted, (listener, source)


DeskMachine.TestCase.settings = settings(
    max_examples=-(-COMMANDS // STEPS), stateful_step_count=STEPS, deadline=None
)
TestDesk = pytest.mark.timeout(max(60, COMMANDS // 10))(DeskMachine.TestCase)
