"""A sound card without JACK: how one is found, and what PortAudio's callback does with its sound.

The callback is called by its address, as PortAudio would.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hub.endpoint.cards import NoSound, cards_table
from hub.endpoint.clock import clock_of
from hub.endpoint.config import Role
from hub.endpoint.link import PEER, make_arena
from hub.endpoint.resolving import make_endpoint
from hub.setting import ConfigError
from shared.arena import Arena
from shared.layout import RING_FRAMES, STRIP_DEPTH, RxState
from workers import card, cardprobe
from workers.card import PERIODS, XRUNS, CardBridge, CardPorts, play_card
from workers.cardprobe import CardUnavailable, find_card
from workers.jackbridge import BridgeSettings
from workers.jackclock import JackFacts
from workers.jacktime import rebase

PERIOD, RATE_HZ = 128, 48000
Sound = npt.NDArray[np.float32]
_called = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p,
    ctypes.c_ulong, ctypes.c_void_p,
)  # fmt: skip


class HandCard(CardPorts):
    """A card with one input and two outputs, whose periods a test turns by hand."""

    def __init__(
        self, name: str, rate_hz: int, period: int, ports: tuple[int, int], real: bool
    ) -> None:
        super().__init__(rate_hz, period, ports, (1, 2))
        self.name, self.facts = name, JackFacts(period, rate_hz)
        self.bridge: CardBridge | None = None  # whose arrays are the callback's

    def activate(self) -> None: ...
    def look(self) -> None: ...
    def close(self) -> None: ...
    def connect(self, source: str, destination: str) -> bool:
        return True

    def ports(self, **wanted: bool) -> list[str]:
        return []

    def turn(self, heard: Sound, flags: int = 0) -> Sound:
        """What is played while this is heard: (frames, channels) both."""
        played = np.full((len(heard), 2), np.nan, np.float32)
        call = _called(play_card.address)
        at = heard.ctypes.data, played.ctypes.data
        assert call(*at, len(heard), None, flags, self.call.ctypes.data) == 0
        return played


@pytest.fixture
def arena() -> Iterator[Arena]:
    config = make_endpoint(
        Role.CLIENT, "127.0.0.1", audio="card", send_channels=2, receive_channels=3
    )
    fd, arena = make_arena(config, RATE_HZ, PERIOD)
    yield arena
    os.close(fd)


@pytest.fixture
def hand(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> HandCard:
    """A card that the bridge has opened, and whose peer is heard."""
    monkeypatch.setattr(card, "Card", HandCard)
    peer = arena.rx[PEER]
    peer["session"] = arena.slots[PEER]["session"] = 1
    peer["state"], peer["channels"] = RxState.ACTIVE, 3
    peer["ring_frames"] = peer["watermark"] = RING_FRAMES
    rng = np.random.default_rng(3)
    arena.rings[PEER, :3] = rng.uniform(-0.5, 0.5, (3, RING_FRAMES))
    bridge = CardBridge(arena, -1, BridgeSettings())
    assert bridge._open()
    bridge._look(0.0)
    found = bridge.card
    assert isinstance(found, HandCard)
    found.bridge = bridge
    return found


def number(arena: Arena, hand: HandCard, tick: int) -> None:
    """The card's next period is this tick, whatever the time is."""
    rebase(arena.jack[0], tick, int(hand.call[0]))
    arena.jack[0]["strays"] = 0


def test_sound_goes_both_ways_as_far_as_the_card_has_channels(arena: Arena, hand: HandCard) -> None:
    rng = np.random.default_rng(4)
    for tick in range(5, 9):
        heard = rng.uniform(-1, 1, (PERIOD, 1)).astype(np.float32)
        number(arena, hand, tick)
        played = hand.turn(heard)
        due = arena.rings[PEER, :2, tick * PERIOD : (tick + 1) * PERIOD].T
        ramp = np.arange(1, PERIOD + 1)[:, np.newaxis] / PERIOD if tick == 5 else 1.0
        assert np.allclose(played, due * ramp, atol=1e-7 if tick == 5 else 0)
        now = tick % STRIP_DEPTH
        assert arena.jack_groups[0]["ticks"][now] == tick
        assert (arena.jack_in[now, 0, 0] == heard[:, 0]).all()
        assert not arena.jack_in[now, 0, 1].any()
    assert (hand.call[PERIODS], hand.call[XRUNS]) == (4, 0)


def test_a_period_of_another_length_is_silent_and_no_cycle(arena: Arena, hand: HandCard) -> None:
    number(arena, hand, 5)
    cycles = int(arena.jack[0]["cycles"])
    for frames in (1, PERIOD - 1, PERIOD + 1, 4 * PERIOD):
        assert not hand.turn(np.ones((frames, 1), np.float32)).any()
    assert arena.jack[0]["cycles"] == cycles
    assert hand.call[0] == 6 * PERIOD + 1


def test_what_is_no_number_is_silence_and_underruns_are_counted(
    arena: Arena, hand: HandCard
) -> None:
    number(arena, hand, 5)
    hand.turn(np.full((PERIOD, 1), np.nan, np.float32), flags=4)
    assert not arena.jack_in[5 % STRIP_DEPTH, 0].any()
    hand.turn(np.zeros((PERIOD, 1), np.float32), flags=16)  # output is being primed
    assert hand.call[XRUNS] == 1


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("raise ImportError('none')", r"needs python-sounddevice: pip install 'tuttihub\[soundca"),
        ("raise OSError('PortAudio library not found')", "needs PortAudio: apt install libportaud"),
    ],
)
def test_what_a_card_needs_and_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, said: str
) -> None:
    (tmp_path / "sounddevice.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ConfigError, match=f"--audio: 'card' {said}"):
        clock_of(make_endpoint(Role.CLIENT, "h", audio="card"), None)


def test_a_card_that_is_not_there_is_no_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PortAudio's own words, where it is installed."""
    try:
        import sounddevice  # noqa: F401
    except OSError as error:
        pytest.skip(str(error))
    with pytest.raises(NoSound, match=r"no sound card 'no such card' that does 48000 Hz: .*"):
        clock_of(make_endpoint(Role.CLIENT, "h", card="no such card"), None)
    (tmp_path / "sounddevice.py").write_text("import os; os._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(NoSound, match="PortAudio fails"):
        clock_of(make_endpoint(Role.CLIENT, "h", audio="card"), None)


def test_without_the_module_the_probe_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert cardprobe.probe((48000, 1, 2))["lacks"] == "python-sounddevice"


def test_all_cards_are_listed_by_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [
        {"index": k, "name": name, "max_input_channels": inputs, "max_output_channels": outputs,
         "default_samplerate": 44100.0}
        for k, (name, inputs, outputs) in enumerate(Cards.CARDS)
    ]  # fmt: skip
    (tmp_path / "sounddevice.py").write_text(f"def query_devices(): return {cards!r}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert cards_table().splitlines() == [
        "--card  inputs  outputs     Hz  name",
        "     0       1        0  44100  Mic: USB",
        "     1       8        4  44100  Desk: USB (hw:1,0)",
        "     2       0        2  44100  HDMI",
    ]
    (tmp_path / "sounddevice.py").write_text("def query_devices(): return []")
    assert cards_table() == "no sound card\n"
    (tmp_path / "sounddevice.py").write_text("raise ImportError('none')")
    with pytest.raises(ConfigError, match="--listdevices needs python-sounddevice: pip install"):
        cards_table()


class Cards:
    """PortAudio's answers on a machine with these cards; the first of a kind is the system's."""

    class PortAudioError(Exception): ...

    CARDS = (("Mic: USB", 1, 0), ("Desk: USB (hw:1,0)", 8, 4), ("HDMI", 0, 2))

    def query_devices(self, device: int | str | None = None, kind: str = "") -> Any:
        if not kind:
            return [self._card(k) for k in range(3)]
        fitting = [self._card(k) for k in range(3) if self._card(k)[f"max_{kind}_channels"]]
        if isinstance(device, int):
            if device >= 3:
                raise self.PortAudioError(f"Error querying device {device}\nmore")
            return self._card(device)
        found = [card for card in fitting if device is None or device in card["name"]]
        if not found or (device and len(found) > 1):
            raise ValueError(f"{len(found)} {kind} devices match {device!r}")
        return found[0]

    def _card(self, k: int) -> dict[str, Any]:
        name, inputs, outputs = self.CARDS[k]
        return {
            "name": name, "index": k, "max_input_channels": inputs, "max_output_channels": outputs
        }  # fmt: skip

    def check_input_settings(self, *_: object, samplerate: int) -> None:
        if samplerate != 48000:
            raise self.PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    check_output_settings = check_input_settings


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", ("Mic: USB and Desk: USB (hw:1,0)", (0, 1), (1, 2))),
        ("Desk", ("Desk: USB (hw:1,0)", (1, 1), (2, 2))),
        ("1", ("Desk: USB (hw:1,0)", (1, 1), (2, 2))),
        ("HDMI", ("HDMI", (None, 2), (0, 2))),
        ("0", ("Mic: USB", (0, None), (1, 0))),
    ],
)
def test_a_card_is_found_by_name_or_number(name: str, found: tuple[Any, ...]) -> None:
    card = find_card(Cards(), name, 48000, (2, 2))
    assert (card.name, card.devices, card.channels) == found


@pytest.mark.parametrize(
    ("name", "rate_hz", "why"),
    [
        ("Piano", 48000, "0 output devices match 'Piano'"),
        ("7", 48000, "Error querying device 7"),
        ("USB", 48000, "2 input devices match 'USB'"),
        ("HDMI", 44100, r"HDMI: Invalid sample rate \[PaErrorCode -9997\]"),
    ],
)
def test_why_a_card_cannot_be_had(name: str, rate_hz: int, why: str) -> None:
    with pytest.raises(CardUnavailable, match=f"^{why}$"):
        find_card(Cards(), name, rate_hz, (2, 2))
