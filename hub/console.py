"""What an engineer sets at a hub as a whole: sections, who hears whom how, master, scenes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from hub.directory import Directory
from hub.events import (
    ConcealmentSet,
    Event,
    HearingSet,
    LimiterSet,
    ManySet,
    MasterSet,
    MatrixSet,
    PatchSet,
    Renamed,
    SceneChanged,
    SectionSet,
    StripSet,
    Tell,
    nobody,
)
from hub.hearing import NOTHING, Heard, Party
from hub.membership import Membership
from hub.scenes import Rule, Scene, ScenesTooLarge, Strip, read_scenes, write_scenes
from hub.values import patch_name
from shared.layout import PatchMode, Underrun

log = structlog.get_logger()

MAX_TOLD = 100
"""Changes of one message that are told one by one; no subscriber's queue is to run over."""


class Console:
    """Levels by slots, scenes by names.

    Args:
        scenefile: where scenes are kept; None: nowhere.
        tell: told of every change.

    Raises:
        SceneFileError: the file is there, and cannot be understood.
    """

    def __init__(
        self,
        membership: Membership,
        directory: Directory,
        scenefile: Path | None = None,
        tell: Tell = nobody,
    ) -> None:
        self._membership = membership
        self._arena = membership.arena
        self._directory = directory
        self._scenefile = scenefile
        self.scenes: dict[str, Scene] = read_scenes(scenefile) if scenefile else {}
        self._saving = asyncio.Lock()
        self._tell = tell
        self._untold: list[Event] | None = None
        self.levels = membership.levels

    @property
    def has_jack(self) -> bool:
        """Whether there is a local JACK graph."""
        return bool(self._arena.header[0]["jack"])

    def tell(self, event: Event) -> None:
        """Tell of a change, or keep it until all of its message is done."""
        if self._untold is None:
            self._tell(event)
        else:
            self._untold.append(event)

    @contextmanager
    def together(self, fade_s: float = 0.0) -> Iterator[None]:
        """What is set within is heard from one frame on, and told when all of it holds.

        Nothing is told of what an exception ends.
        """
        untold = self._untold = []
        try:
            with self.levels.together(fade_s):
                yield
        finally:
            self._untold = None
        if len(untold) > MAX_TOLD:
            untold = [ManySet(changes=len(untold))]
        for event in untold:
            self._tell(event)

    def name(self, slot: int) -> str:
        """Shown name of who is in a slot."""
        return self._directory.clients[slot].name

    def show(self, slot: int) -> None:
        """Let the directory show a strip."""
        client = self._directory.clients.get(slot)
        if client is not None:
            client.gain, client.muted = self.levels.gain(slot), self.levels.muted(slot)
            client.pan = self.levels.pan(slot)
            self.tell(
                StripSet(
                    slot=slot, name=client.name, gain=client.gain, muted=client.muted,
                    pan=client.pan,
                )
            )  # fmt: skip

    def show_all(self) -> None:
        """The same of everybody who is here."""
        for slot in list(self._directory.clients):
            self.show(slot)

    def set_patch(self, mode: PatchMode) -> None:
        """Set who hears whom."""
        self.levels.set_patch(mode)
        log.info("patch mode set", patch=patch_name(mode))
        self.tell(PatchSet(patch=patch_name(mode)))

    def set_members(self, name: str, members: set[int]) -> None:
        """Make a section, or change who is in it."""
        self.levels.set_members(name, members)
        log.info("section set", section=name, members=len(members))
        self.tell(SectionSet(section=name, members=sorted(members)))

    def remove_section(self, name: str) -> bool:
        """End a section; False when there is none."""
        if name not in self.levels.hearing.sections:
            return False
        self.levels.remove_section(name)
        log.info("section removed", section=name)
        self.tell(SectionSet(section=name, members=None))
        return True

    def set_heard(self, who: Party, what: Party, heard: Heard) -> None:
        """Set what a listener or section hears of a source or section."""
        self.levels.set_heard(who, what, heard)
        log.info("hearing set", listener=who, source=what, **heard_json(heard))
        self.tell(HearingSet(listener=who, source=what, **heard_json(heard)))

    def set_matrix(
        self,
        listeners: Sequence[int],
        sources: Sequence[int],
        gains: Sequence[Sequence[float | None]],
    ) -> None:
        """Set what each listener gets of each source, linear; None: as the patch says."""
        with self.levels.together():
            for listener, row in zip(listeners, gains, strict=True):
                self.levels.set_pairs(listener, sources, row)
        log.info("matrix set", listeners=len(listeners), sources=len(sources))
        self.tell(MatrixSet(listeners=len(listeners), sources=len(sources)))

    def set_master(self, gain: float) -> None:
        """Set the linear gain of all that is sent."""
        self.levels.set_master(gain)
        log.info("master set", gain=gain)
        self.tell(MasterSet(master=gain))

    def rename(self, slot: int, name: str) -> bool:
        """Show a client under another name; False when somebody has it."""
        session = self._membership.table.by_slot(slot)
        if session is None:
            return False
        before = session.name
        if name != before:
            self._membership.table.rename(session, name)
            if session.name != name:
                return False
            self._directory.clients[slot].name = name
            log.info("client renamed", slot=slot, before=before, name=name)
            self.tell(Renamed(slot=slot, before=before, name=name))
        return True

    def set_limited(self, slot: int, on: bool | None) -> None:
        """Limit what one client is sent, or do not; None: as everybody."""
        record = self._arena.slots[slot]
        record["limited"] = 0 if on is None else 1 if on else 2
        log.info("limiter set", slot=slot, name=self.name(slot), on=on)
        self.tell(LimiterSet(slot=slot, name=self.name(slot), on=on))

    def set_underrun(self, slot: int, underrun: Underrun | None) -> None:
        """What one client's gaps are filled with; None: as everybody's."""
        self._arena.slots[slot]["underrun"] = 0 if underrun is None else 1 + underrun
        shown = None if underrun is None else underrun.name.lower()
        log.info("concealment set", slot=slot, name=self.name(slot), underrun=shown)
        self.tell(ConcealmentSet(slot=slot, name=self.name(slot), underrun=shown))

    # --- scenes ---

    def scene(self) -> Scene:
        """What holds now, by names of those who are here."""
        levels, names = self.levels, {s: c.name for s, c in self._directory.clients.items()}
        rules = [
            Rule(_named(who, names), isinstance(who, str), _named(what, names),
                 isinstance(what, str), heard)
            for who, what, heard in levels.hearing.rules()
            if all(isinstance(party, str) or party in names for party in (who, what))
        ]  # fmt: skip
        return Scene(
            patch=levels.patch,
            master=levels.master,
            strips={
                name: Strip(levels.gain(slot), levels.muted(slot), levels.pan(slot))
                for slot, name in names.items()
            },
            sections={
                section: sorted(names[slot] for slot in members if slot in names)
                for section, members in levels.hearing.sections.items()
            },
            rules=rules,
        )

    async def save_scene(self, name: str) -> bool:
        """Keep what holds now; whether it outlives the hub.

        Raises:
            ScenesTooLarge: it is not kept, and all is as it was.
        """
        before, scene = self.scenes.get(name), self.scene()
        self.scenes[name] = scene
        try:
            saved = await self._save()
        except ScenesTooLarge:
            if self.scenes.get(name) is scene:
                del self.scenes[name]
                if before is not None:
                    self.scenes[name] = before
            raise
        log.info("scene saved", scene=name)
        self.tell(SceneChanged(scene=name, what="saved"))
        return saved

    async def delete_scene(self, name: str) -> bool:
        """Forget a scene; whether the file has, too."""
        del self.scenes[name]
        log.info("scene deleted", scene=name)
        self.tell(SceneChanged(scene=name, what="deleted"))
        try:
            return await self._save()
        except ScenesTooLarge:  # another is about to be refused
            return False

    def recall_scene(self, name: str, fade_s: float) -> None:
        """Let a scene hold, from one frame on, or faded to within so many seconds.

        Who is here and not known to it stays as it is.
        """
        scene, levels = self.scenes[name], self.levels
        slots = {client.name: slot for slot, client in self._directory.clients.items()}
        known = {slots[who] for who in scene.strips if who in slots}
        with self.together(fade_s):
            if (scene.patch, scene.master) != (levels.patch, levels.master):
                levels.set_patch(scene.patch)
                levels.set_master(scene.master)
            for client, strip in scene.strips.items():
                if client in slots:
                    levels.set_gain(slots[client], strip.gain)
                    levels.set_muted(slots[client], strip.muted)
                    levels.set_pan(slots[client], strip.pan)
            for who, what, _ in list(levels.hearing.rules()):
                if all(isinstance(party, str) or party in known for party in (who, what)):
                    levels.set_heard(who, what, NOTHING)
            for section in list(levels.hearing.sections):
                if section not in scene.sections:
                    levels.remove_section(section)
            for section, members in scene.sections.items():
                strangers = levels.hearing.sections.get(section, set()) - known
                present = {slots[member] for member in members if member in slots}
                levels.set_members(section, present | strangers)
            for rule in scene.rules:
                listener = rule.who if rule.who_is_section else slots.get(rule.who)
                source = rule.what if rule.what_is_section else slots.get(rule.what)
                if listener is not None and source is not None:
                    levels.set_heard(listener, source, rule.heard)
            self.show_all()
        log.info("scene recalled", scene=name, seconds=fade_s, patch=patch_name(scene.patch))
        self.tell(SceneChanged(scene=name, what="recalled", seconds=fade_s))

    async def _save(self) -> bool:
        """Keep the scenes in their file; changes that come meanwhile go with the next write."""
        if self._scenefile is None:
            return False
        async with self._saving:
            try:
                await asyncio.to_thread(write_scenes, self._scenefile, dict(self.scenes))
            except OSError as error:
                log.error("scenes cannot be saved", path=str(self._scenefile), why=str(error))
                return False
        return True


def _named(party: Party, names: dict[int, str]) -> str:
    return party if isinstance(party, str) else names[party]


def heard_json(heard: Heard) -> dict[str, Any]:
    """A rule as it goes over the control socket."""
    return {
        "gain": heard.gain, "pan": heard.pan, "muted": heard.muted, "soloed": heard.soloed,
    }  # fmt: skip
