"""Sections, hearing, master and scenes over the control language, on a real membership."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.commands import answer, fields_of
from hub.console import Console
from hub.desk import Desk
from hub.scenes import SceneFileError, read_scenes
from tests.hub.houses import House

slots = st.integers(0, 3)
levels = st.sampled_from([0.0, 0.25, 1.0, 4.0])


class Studio:
    """A house, its console, and a line to them."""

    def __init__(self, scenefile: Path | None = None) -> None:
        self.house = House()
        self.events: list[dict[str, Any]] = []
        self.console = Console(
            self.house.membership, self.house.directory, scenefile,
            lambda topic, **fields: self.events.append({"event": topic, **fields}),
        )  # fmt: skip
        self.desk = Desk(
            self.house.arena, self.house.directory, self.house.membership, self.house.porter,
            lambda: None, self.console,
        )  # fmt: skip

    def reply(self, op: str, **fields: object) -> dict[str, Any]:
        request = json.dumps({"v": 1, "op": op, **fields}).encode()
        reply: dict[str, Any] = json.loads(asyncio.run(answer(request, self.desk)))
        return reply

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        reply = self.reply(op, **fields)
        assert reply["ok"], reply
        result: dict[str, Any] = reply["result"]
        return result

    def refused(self, op: str, **fields: object) -> tuple[str, str]:
        before = self.written()
        reply = self.reply(op, **fields)
        assert not reply["ok"], reply
        assert self.written() == before
        return reply["error"]["code"], reply["error"]["message"]

    def hears(self, listener: int, source: int) -> tuple[float | None, float | None]:
        """Gain and pan in the arena; None: as without."""
        arena = self.house.arena
        if arena.slots[listener]["overrides"] == 0:
            return None, None
        gain, pan = float(arena.pair[listener, source]), float(arena.pair_pan[listener, source])
        return None if math.isnan(gain) else gain, round((pan - 2) * 100, 3) if pan else None

    def written(self) -> dict[str, Any]:
        """All levels in the arena."""
        arena, slots = self.house.arena, range(len(self.house.arena.slots))
        return {
            "strips": [[float(arena.slots[s][n]) for n in ("gain", "panned")] for s in slots],
            "rows": [[self.hears(a, b) for b in slots] for a in slots],
            "hub": (int(arena.control[0]["patch"]), float(arena.control[0]["master"])),
        }


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(tmp_path / "state" / "scenes.json")
    for port, name in enumerate(("Anna", "Berta", "Carl")):
        studio.house.join(name, 4464 + port)
    yield studio
    studio.house.membership.close()


def test_a_section_is_made_changed_and_removed(studio: Studio) -> None:
    assert studio.ask("section", name="violins", members=["Anna", 1])["members"] == [0, 1]
    assert studio.ask("section", name="violins", remove=["Anna"], add=["Carl"])["members"] == [1, 2]
    assert studio.ask("sections") == {"sections": [{"name": "violins", "members": [1, 2]}]}
    assert studio.ask("section-remove", name="violins") == {"name": "violins"}
    assert studio.refused("section-remove", name="violins")[0] == "no-section"


def test_the_nearest_rule_counts_for_each_property(studio: Studio) -> None:
    studio.ask("section", name="low", members=["Carl"])
    studio.ask("section", name="high", members=["Anna", "Berta"])
    studio.ask("hear", listener_section="high", source_section="low", gain=0.5, pan=-40)
    assert studio.hears(0, 2) == studio.hears(1, 2) == (0.5, -40)
    studio.ask("hear", listener="Anna", source="Carl", gain=2.0)
    assert studio.hears(0, 2) == (2.0, -40)
    studio.ask("hear", listener_section="high", source="Carl", muted=True)
    assert studio.hears(0, 2) == studio.hears(1, 2) == (0.0, None)
    studio.ask("hear", listener="Anna", source="Carl", muted=False)
    assert studio.hears(0, 2) == (2.0, -40)
    studio.ask("section", name="high", remove=["Berta"])
    assert studio.hears(1, 2) == (None, None)
    assert studio.hears(2, 2) == (None, None)


def test_solo_silences_all_others_newcomers_too(studio: Studio) -> None:
    studio.ask("hear", listener="Anna", source="Berta", soloed=True)
    assert [studio.hears(0, s)[0] for s in range(3)] == [0.0, 1.0, 0.0]
    dora = studio.house.join("Dora", 4470)
    assert studio.hears(0, dora.slot)[0] == 0.0
    studio.ask("hear", listener="Anna", source="Berta", soloed=None)
    assert studio.house.arena.slots[0]["overrides"] == 0


def test_a_matrix_is_one_switch(studio: Studio) -> None:
    before = int(studio.house.arena.control[0]["levels"])
    gains = [[0.1, 0.2, None], [1.0, 0.0, 3.0]]
    studio.ask("matrix", listeners=["Anna", 1], sources=[0, 1, "Carl"], gains=gains)
    assert int(studio.house.arena.control[0]["levels"]) == before + 2
    assert [[studio.hears(a, b)[0] for b in range(3)] for a in range(2)] == [
        [pytest.approx(0.1), pytest.approx(0.2), None], [1.0, 0.0, 3.0],
    ]  # fmt: skip
    code, message = studio.refused("matrix", listeners=[0], sources=[1], gains_db=[[25]])
    assert (code, message.partition(":")[0]) == ("bad-field", "gains_db[0][0]")
    assert studio.refused("matrix", listeners=[0], sources=[1], gains=[[1, 2]])[0] == "bad-field"


def test_a_batch_is_all_or_nothing_and_one_switch(studio: Studio) -> None:
    good = [
        {"op": "gain", "source": "Anna", "gain": 0.5},
        {"op": "patch", "mode": 2},
        {"op": "master", "gain_db": 0},
        {"op": "hear", "listener": "Anna", "source": "Carl", "gain": 0.25},
    ]
    bad = {"op": "mute", "client": "Nobody", "muted": True}
    code, message = studio.refused("batch", requests=[*good, bad])
    assert (code, message.partition(":")[0]) == ("no-client", "requests[4]")
    before = int(studio.house.arena.control[0]["levels"])
    assert len(studio.ask("batch", requests=good)["results"]) == 4
    assert int(studio.house.arena.control[0]["levels"]) == before + 2
    assert studio.refused("batch", requests=[{"op": "kick", "client": 0}])[0] == "unknown-op"


def test_a_batch_that_fails_within_is_taken_back_too(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio.console, "set_master", lambda gain: 1 / 0)
    requests = [{"op": "gain", "source": "Anna", "gain": 0.5}, {"op": "master", "gain": 1}]
    assert studio.refused("batch", requests=requests)[0] == "internal"
    assert studio.console.levels.gain(0) == 1.0


def test_levels_can_be_read_after_a_failure_within(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(studio.console.levels, "_write_strip", lambda slot: 1 / 0)
        studio.refused("gain", source="Anna", gain=0.5)
    assert studio.house.arena.control[0]["levels"] % 2 == 0
    studio.ask("gain", source="Berta", gain=0.5)
    assert studio.house.arena.control[0]["levels"] % 2 == 0
    assert studio.house.arena.slots[0]["gain"] == studio.house.arena.slots[1]["gain"] == 0.5


def test_the_matrices_of_a_batch_are_bounded(studio: Studio) -> None:
    side = [0] * 512
    huge = {"op": "matrix", "listeners": side, "sources": side, "gains": []}
    code, message = studio.refused("batch", requests=[huge, huge])
    assert (code, message) == (
        "bad-field",
        "requests: 524288 are not up to 262144 gains of matrices",
    )


def test_a_reply_that_cannot_be_written_is_told(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio.desk, "ping", lambda: {"pid": np.int64(1)})
    assert studio.refused("ping")[0] == "internal"


def test_a_join_concerns_only_those_who_hear_its_section(studio: Studio) -> None:
    """Others' rows are not even looked at: with rules of all, each join cost all of them."""
    studio.ask("section", name="low", members=["Carl"])
    studio.ask("section", name="high", members=["Anna"])
    studio.ask("hear", listener="Anna", source_section="low", gain=0.5)
    studio.ask("hear", listener_section="high", source="Anna", gain=0.5)
    studio.ask("hear", listener="Berta", source="Anna", gain=0.5)
    hearing = studio.console.levels.hearing.copied()
    assert hearing.set_members("low", {1, 2}) == {0}
    assert hearing.set_members("high", {0, 2}) == {2}
    assert hearing.set_members("new", {0, 1, 2}) == set()
    assert hearing.forget(2) == {0, 2}


def test_a_joining_musician_is_one_switch(studio: Studio) -> None:
    studio.ask("section", name="low", members=["Carl"])
    studio.ask("hear", listener="Anna", source_section="low", gain=0.5)
    carl = studio.house.table.by_slot(2)
    assert carl is not None
    studio.house.end(carl)
    before = int(studio.house.arena.control[0]["levels"])
    studio.house.join("Carl", 4466)
    assert int(studio.house.arena.control[0]["levels"]) - before == 2 * 2  # hello and knock
    assert studio.hears(0, 2)[0] == 0.5


def test_scenes_are_kept_recalled_and_faded_to(studio: Studio, tmp_path: Path) -> None:
    path = tmp_path / "state" / "scenes.json"
    studio.ask("section", name="low", members=["Carl"])
    studio.ask("hear", listener="Anna", source_section="low", gain=0.5, pan=20)
    studio.ask("gain", source="Berta", gain=0.25)
    studio.ask("patch", mode=2)
    wanted = studio.written()
    assert studio.ask("scene-save", name="overture") == {"name": "overture", "saved": True}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    studio.ask("hear", listener="Anna", source_section="low", gain=None, pan=None)
    studio.ask("gain", source="Berta", gain=1)
    studio.ask("patch", mode=4)
    studio.ask("section-remove", name="low")
    assert studio.written() != wanted

    again = Console(studio.house.membership, studio.house.directory, path)
    assert again.scenes == studio.console.scenes
    studio.ask("scene-recall", name="overture", seconds=2.0)
    assert studio.written() == wanted
    ticks = round(2.0 * 48000 / 128)
    slots = studio.house.arena.slots
    assert (slots[0]["row_fade"], slots[1]["strip_fade"]) == (ticks, ticks)
    assert studio.events[-1] == {
        "event": "scene", "scene": "overture", "what": "recalled", "seconds": 2.0,
    }  # fmt: skip
    assert studio.ask("scene-delete", name="overture")["saved"]
    assert studio.refused("scene-recall", name="overture")[0] == "no-scene"


def test_a_scene_too_many_for_the_file_is_refused(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved all the same, the next hub could not have started with it."""
    path = tmp_path / "state" / "scenes.json"
    studio.ask("hear", listener="Anna", source="Carl", gain=0.5)
    studio.ask("scene-save", name="overture")
    scenes = dict(studio.console.scenes)
    monkeypatch.setattr("hub.scenes.MAX_BYTES", path.stat().st_size + 20)
    studio.ask("hear", listener="Anna", source="Berta", gain=0.25)
    for name in ("overture", "finale"):
        assert studio.refused("scene-save", name=name)[0] == "too-many"
        assert studio.console.scenes == read_scenes(path) == scenes


def test_scenes_are_listed_and_each_told(studio: Studio) -> None:
    studio.ask("section", name="low", members=["Carl"])
    studio.ask("scene-save", name="overture")
    assert studio.ask("scenes")["scenes"] == [
        {"name": "overture", "strips": 3, "sections": ["low"], "rules": 0}
    ]
    (told,) = studio.ask("scenes", name="overture")["scenes"]
    assert (told["name"], told["sections"]) == ("overture", {"low": ["Carl"]})
    assert studio.refused("scenes", name="finale")[0] == "no-scene"


@pytest.mark.parametrize("text", ["", "[]", '{"v": 2}', '{"v": 1, "scenes": {"x": {"patch": 9}}}'])
def test_a_scene_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scenes.json"
    path.write_text(text)
    with pytest.raises(SceneFileError):
        read_scenes(path)
    assert path.read_text() == text


def test_rename_limiter_and_concealment_are_a_clients_own(studio: Studio) -> None:
    studio.ask("rename", client="Anna", name="Änne")
    assert studio.console.name(0) == "Änne"
    assert studio.refused("rename", client=0, name="Berta")[0] == "name-taken"
    slots = studio.house.arena.slots
    studio.ask("limiter", client="Berta", on=False)
    studio.ask("conceal", client="Berta", underrun="zero")
    assert (slots[1]["limited"], slots[1]["underrun"]) == (2, 1)
    studio.ask("limiter", client="Berta", on=None)
    studio.ask("conceal", client="Berta", underrun=None)
    assert (slots[1]["limited"], slots[1]["underrun"]) == (0, 0)


def test_an_own_limiter_and_concealment_wait_for_their_owner(studio: Studio) -> None:
    studio.ask("limiter", client="Carl", on=False)
    studio.ask("conceal", client="Carl", underrun="zero")
    carl, slots = studio.house.table.by_slot(2), studio.house.arena.slots
    assert carl is not None
    studio.house.end(carl)
    # a stranger gets other slots first; now there is none but Carl's
    strangers = [studio.house.join(f"Dora {k}", 4470 + k) for k in range(4)]
    assert 2 in [session.slot for session in strangers]
    assert (slots[2]["limited"], slots[2]["underrun"]) == (0, 0)
    studio.house.end(strangers[0])
    back = studio.house.join("Carl", 4466)
    assert back.slot != 2
    assert (slots[back.slot]["limited"], slots[back.slot]["underrun"]) == (2, 1)


def test_a_section_and_its_rules_wait_for_who_comes_back(studio: Studio) -> None:
    studio.ask("section", name="low", members=["Carl"])
    studio.ask("hear", listener="Anna", source_section="low", gain=0.5)
    carl = studio.house.table.by_slot(2)
    assert carl is not None
    studio.house.end(carl)
    assert studio.hears(0, 2) == (None, None)
    studio.house.join("Carl", 4466)
    assert studio.hears(0, 2)[0] == 0.5
    assert not np.isnan(studio.house.arena.pair[0, 2])


def test_the_examples_of_the_docs_work(studio: Studio) -> None:
    text = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
    text = text[text.index("## Who hears whom") : text.index("## Events")]
    examples = [json.loads(line) for line in text.splitlines() if line.startswith("    {")]
    assert len(examples) == 8
    for example in examples:
        reply = json.loads(asyncio.run(answer(json.dumps(example).encode(), studio.desk)))
        assert reply["ok"], (example, reply)


def test_every_operation_is_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
    table = text[text.index("| op |") : text.index("A pair's gain")]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    for op, fields in fields_of().items():
        row = next((row for row in rows if f"`{op}`" in row.split("|")[1]), "")
        assert row, f"{op} is not in docs/control.md"
        for field in fields:
            assert f"`{field}`" in row, f"{op}: {field}"


class DeskMachine(RuleBasedStateMachine):
    """Random requests; what the arena says is what a plain model says."""

    CLIENTS = 4
    SECTIONS = ("low", "high")

    def __init__(self) -> None:
        super().__init__()
        self.studio = Studio()
        for k in range(self.CLIENTS):
            self.studio.house.join(f"c{k}", 4464 + k)
        self.strips = {k: {"gain": 1.0, "muted": False} for k in range(self.CLIENTS)}
        self.sections: dict[str, list[int]] = {}
        self.told_of: dict[tuple[int | str, int | str], dict[str, Any]] = {}
        self.patch, self.master = 4, 1.0
        self.saved: Any = None

    def teardown(self) -> None:
        self.studio.house.membership.close()

    @rule(slot=slots, gain=st.none() | levels)
    def gain(self, slot: int, gain: float | None) -> None:
        self.studio.ask("gain", source=slot, gain=gain)
        self.strips[slot]["gain"] = 1.0 if gain is None else gain

    @rule(slot=slots, muted=st.booleans())
    def mute(self, slot: int, muted: bool) -> None:
        self.studio.ask("mute", client=slot, muted=muted)
        self.strips[slot]["muted"] = muted

    @rule(mode=st.sampled_from([1, 2, 4, 5]), master=levels)
    def whole(self, mode: int, master: float) -> None:
        requests = [{"op": "patch", "mode": mode}, {"op": "master", "gain": master}]
        self.studio.ask("batch", requests=requests)
        self.patch, self.master = mode, master

    @rule(name=st.sampled_from(SECTIONS), members=st.sets(slots))
    def section(self, name: str, members: set[int]) -> None:
        self.studio.ask("section", name=name, members=sorted(members))
        self.sections[name] = sorted(members)

    @rule(name=st.sampled_from(SECTIONS))
    def end_section(self, name: str) -> None:
        if self.sections.pop(name, None) is None:
            assert self.studio.refused("section-remove", name=name)[0] == "no-section"
            return
        self.studio.ask("section-remove", name=name)
        self.told_of = {pair: told for pair, told in self.told_of.items() if name not in pair}

    @rule(
        who=slots | st.sampled_from(SECTIONS),
        what=slots | st.sampled_from(SECTIONS),
        told=st.dictionaries(
            st.sampled_from(["gain", "pan", "muted", "soloed"]), st.integers(0, 2), min_size=1
        ),
    )
    def hear(self, who: int | str, what: int | str, told: dict[str, int]) -> None:
        values: dict[str, list[Any]] = {
            "gain": [None, 0.5, 2.0], "pan": [None, -40, 0], "muted": [None, False, True],
            "soloed": [None, False, True],
        }  # fmt: skip
        fields = {name: values[name][k] for name, k in told.items()}
        parties = {
            "listener" if isinstance(who, int) else "listener_section": who,
            "source" if isinstance(what, int) else "source_section": what,
        }
        if any(isinstance(p, str) and p not in self.sections for p in (who, what)):
            assert self.studio.refused("hear", **parties, **fields)[0] == "no-section"
            return
        self.studio.ask("hear", **parties, **fields)
        self.told_of.setdefault((who, what), {}).update(fields)

    @rule()
    def refuse_a_batch(self) -> None:
        requests = [
            {"op": "gain", "source": 0, "gain": 3.0}, {"op": "patch", "mode": 1},
            {"op": "section", "name": "low", "members": []}, {"op": "pan", "client": 0},
        ]  # fmt: skip
        self.studio.refused("batch", requests=requests)

    @rule()
    def save(self) -> None:
        self.studio.ask("scene-save", name="x")
        self.saved = copy.deepcopy(
            (self.strips, self.sections, self.told_of, self.patch, self.master)
        )

    @precondition(lambda self: self.saved is not None)
    @rule(seconds=st.sampled_from([0, 2]))
    def recall(self, seconds: int) -> None:
        self.studio.ask("scene-recall", name="x", seconds=seconds)
        self.strips, self.sections, self.told_of, self.patch, self.master = copy.deepcopy(
            self.saved
        )

    def resolved(self, listener: int, source: int) -> dict[str, Any]:
        """By the text of docs/control.md."""
        order = list(self.studio.console.levels.hearing.sections)
        whos: list[int | str] = [listener, *[s for s in order if listener in self.sections[s]]]
        whats: list[int | str] = [source, *[s for s in order if source in self.sections[s]]]
        found: dict[str, Any] = {}
        for who in whos:
            for what in whats:
                for name, value in self.told_of.get((who, what), {}).items():
                    if value is not None:
                        found.setdefault(name, value)
        return found

    @invariant()
    def the_arena_is_the_model(self) -> None:
        everybody = range(self.CLIENTS)
        written = self.studio.written()
        assert written["hub"] == (self.patch, self.master)
        assert set(self.studio.console.levels.hearing.sections) == set(self.sections)
        for k, strip in self.strips.items():
            assert written["strips"][k][0] == (0.0 if strip["muted"] else strip["gain"])
        for listener in everybody:
            found = {source: self.resolved(listener, source) for source in everybody}
            solo = any(told.get("soloed") for told in found.values())
            for source, told in found.items():
                gain, pan = told.get("gain"), told.get("pan")
                if told.get("soloed") and gain is None:
                    gain = 1.0
                if told.get("muted") or (solo and not told.get("soloed")):
                    gain, pan = 0.0, None
                assert self.studio.hears(listener, source) == (gain, pan), (listener, source)


DeskMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("TUTTIHUB_DESK_EXAMPLES", "15")), stateful_step_count=20,
    deadline=None,
)  # fmt: skip
TestDesk = DeskMachine.TestCase
