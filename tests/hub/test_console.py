"""Sections, hearing, master and scenes over the control language, on a real membership."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hub.commands import answer
from hub.console import Console
from hub.events import SceneChanged
from hub.scenes import SceneFileError, read_scenes
from tests.hub.studio import Studio


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


def test_a_refused_batch_writes_nothing_so_that_what_fades_goes_on(studio: Studio) -> None:
    studio.ask("gain", source=0, gain=0.5)
    studio.ask("gain", source=0, listener=1, gain=0.25)
    bad = {"op": "pan", "client": "Nobody", "pan": 0}
    batch = [
        {"op": "gain", "source": 0, "gain": 0.1},
        {"op": "gain", "source": 0, "listener": 1, "gain": 0.1},
        {"op": "section", "name": "all", "members": [0, 1]},
        {"op": "patch", "mode": 1},
        bad,
    ]
    arena = studio.house.arena
    before = arena.slots.tobytes(), arena.control.tobytes()
    studio.refused("batch", requests=batch)
    assert (arena.slots.tobytes(), arena.control.tobytes()) == before


def test_status_tells_master_and_what_is_a_clients_own(studio: Studio) -> None:
    anna = studio.ask("clients")["clients"][0]
    assert (anna["limiter"], anna["underrun"]) == (None, None)
    studio.ask("master", gain=0.5)
    studio.ask("limiter", client="Anna", on=False)
    studio.ask("conceal", client="Anna", underrun="burg")
    told = studio.ask("status")
    anna = told["clients"][0]
    assert (told["hub"]["master"], anna["limiter"], anna["underrun"]) == (0.5, False, "burg")


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
    assert int(studio.house.arena.control[0]["levels"]) - before == 3 * 2  # hello, knock, let in
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
    assert studio.told[-1] == SceneChanged(scene="overture", what="recalled", seconds=2.0)
    assert studio.ask("scene-delete", name="overture")["saved"]
    assert studio.refused("scene-recall", name="overture")[0] == "no-scene"


@pytest.mark.parametrize("mode", [0, 3])
def test_a_scene_of_a_hub_with_jack_needs_jack(studio: Studio, mode: int) -> None:
    """Its file may come from one; without, nobody would hear anybody, and no one know why."""
    header = studio.house.arena.header[0]
    studio.ask("patch", mode=4)
    header["jack"] = 1
    studio.ask("scene-save", name="other")
    studio.ask("patch", mode=mode)
    studio.ask("scene-save", name="stage")
    studio.ask("patch", mode=4)
    header["jack"] = 0
    code, message = studio.refused("scene-recall", name="stage")
    assert code == "bad-field"
    assert message.startswith(f'name: "stage": its patch mode {mode} (')
    assert "--jack" in message
    studio.ask("scene-recall", name="other")
    header["jack"] = 1
    studio.ask("scene-recall", name="stage")
    assert studio.console.levels.patch == mode


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


def test_what_a_musician_hears_of_a_section_waits_for_it(studio: Studio) -> None:
    """And what a section hears of a musician; it comes back to another slot."""
    studio.ask("section", name="low", members=["Berta"])
    studio.ask("hear", listener="Carl", source_section="low", gain=0.5)
    studio.ask("hear", listener_section="low", source="Carl", gain=0.25)
    carl = studio.house.table.by_slot(2)
    assert carl is not None
    studio.house.end(carl)
    others = [studio.house.join(f"Dora {k}", 4470 + k) for k in range(4)]
    assert studio.hears(2, 1) == studio.hears(1, 2) == (None, None)
    studio.house.end(others[0])
    back = studio.house.join("Carl", 4466)
    assert back.slot != 2
    assert (studio.hears(back.slot, 1)[0], studio.hears(1, back.slot)[0]) == (0.5, 0.25)


def test_the_examples_of_the_docs_work(studio: Studio) -> None:
    text = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
    text = text[text.index("## Who hears whom") : text.index("## Events")]
    examples = [json.loads(line) for line in text.splitlines() if line.startswith("    {")]
    assert len(examples) == 8
    for example in examples:
        reply = json.loads(asyncio.run(answer(json.dumps(example).encode(), studio.desk)))
        assert reply["ok"], (example, reply)
