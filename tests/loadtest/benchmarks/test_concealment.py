"""The comparison of concealments: its losses, its materials, its figures, and its page."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.benchmarks import concealment, flaws, materials, record, regulator
from loadtest.benchmarks.concealment import WAYS, BenchmarkError, Concealed, Row
from tests.workers import conceal_twin

FRAMES = 128
SPOKEN = ("speech", "vowels")


def noise(packets: int, seed: int = 1) -> materials.Sound:
    return np.random.default_rng(seed).normal(0, 0.1, packets * FRAMES)


def row(
    way: str, material: str, percent: int = 1, pattern: str = "single", snr: float = 1.0
) -> Row:
    return Row(way, material, percent, pattern, 10, snr, 2.0, -3.0)


def test_page_shows_the_newest_results_and_nothing_else() -> None:
    """When this fails: python -m loadtest.benchmarks.concealment"""
    newest = max(record.RESULTS.glob(f"{concealment.KIND}-*.json"))
    page = concealment.PAGE.read_text()
    assert page == concealment.insert(page, concealment.markdown(concealment.read(newest)))


def test_a_file_is_read_as_it_was_written() -> None:
    newest = max(record.RESULTS.glob(f"{concealment.KIND}-*.json"))
    assert concealment.to_text(concealment.read(newest)) == newest.read_text()


def test_a_page_without_a_place_for_tables_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="once each"):
        concealment.insert("nothing here", "tables")


@given(st.sampled_from([1, 5, 20]), st.sampled_from(concealment.PATTERNS), st.integers(0, 99))
def test_losses_are_as_many_and_as_long_as_asked_for(percent: int, pattern: str, seed: int) -> None:
    lost = concealment.losses(percent, pattern, 20000, seed)
    sizes = [b - a for a, b in flaws.gaps_of(lost)]
    assert max(sizes) <= (1 if pattern == "single" else concealment.BURST)
    assert not lost[: concealment.SPARED].any()
    assert np.mean(lost) * 100 == pytest.approx(percent, rel=0.35)


def test_where_burg_is_behind_is_said() -> None:
    rows = [row("burg", "noise", snr=3.0), row("regulator-2.7.2", "noise", snr=5.0),
            row("burg", "bowed", snr=9.0), row("regulator-2.7.2", "bowed", snr=6.0)]  # fmt: skip
    assert concealment.behind(rows) == ["burg 3.0, regulator-2.7.2 5.0: noise, 1 % single, snr_db"]


def test_tables_have_every_way_and_material() -> None:
    rows = [row(way, kind, p, q) for way in WAYS for kind in ("noise", "bowed")
            for p in concealment.DRAWS for q in concealment.PATTERNS]  # fmt: skip
    text = concealment.markdown(Concealed({}, {"seconds": 1.0}, rows))
    assert text.count("| loss | noise | bowed | mean |") == 6
    for way in WAYS.values():
        assert text.count(way.title) == 1 + 6 * len(concealment.DRAWS)


@pytest.mark.parametrize("kind", [k for k in materials.MAKERS if k not in SPOKEN])
def test_materials_are_loud_whole_and_the_same_each_time(kind: str) -> None:
    sound = materials.make(kind)
    assert len(sound) == materials.count()
    assert np.abs(sound).max() == pytest.approx(materials.PEAK, abs=0.01)
    np.testing.assert_array_equal(sound * 32768, np.rint(sound * 32768))
    np.testing.assert_array_equal(sound, materials.make(kind))


def test_without_espeak_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(materials.MaterialError, match="apt-get install espeak-ng"):
        materials.make("speech")


def test_what_is_perfect_has_no_flaw() -> None:
    sound, lost = noise(40), np.zeros(40, bool)
    lost[[10, 11, 20]] = True
    found = flaws.judge(sound, sound, lost, FRAMES)
    assert found == flaws.Flaws(2, 60.0, 0.0, flaws.NO_CLICK)


def test_silence_instead_of_sound_is_a_distance_and_no_gain() -> None:
    sound, lost = noise(40), np.zeros(40, bool)
    lost[10:14] = True
    found = flaws.judge(sound, regulator.zeroed(sound, lost, FRAMES), lost, FRAMES)
    assert found is not None
    assert found.snr_db == pytest.approx(10 * np.log10(5 / 4), abs=0.5)  # of five, four are gone
    assert found.lsd_db > 15


def test_a_step_is_a_click_and_a_smooth_error_is_none() -> None:
    n = np.arange(40 * FRAMES)
    sound, lost = 0.3 * np.sin(0.1 * n), np.zeros(40, bool)
    lost[10] = True
    step, smooth = sound.copy(), sound.copy()
    step[10 * FRAMES : 11 * FRAMES] = 0.2
    smooth[10 * FRAMES : 11 * FRAMES] += 0.1 * np.sin(np.pi * np.arange(FRAMES) / FRAMES) ** 2
    found = [flaws.judge(sound, each, lost, FRAMES) for each in (step, smooth)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].click_db > 10
    assert found[1].click_db < -10


def test_gaps_in_silence_say_nothing() -> None:
    lost = np.zeros(40, bool)
    lost[10] = True
    assert flaws.judge(np.zeros(5120), np.ones(5120), lost, FRAMES) is None


def test_regulators_recursion_is_burgs() -> None:
    """Without its constants: order and damping apart it is the textbook's."""
    history = tone_in_noise()
    plain = regulator.Version(1, len(history) - 20, 2.000004, np.float64, 0)
    found = regulator.coefficients(history, plain)
    np.testing.assert_allclose(found, conceal_twin.burg([history], 20), atol=1e-4)


def tone_in_noise() -> materials.Sound:
    return np.asarray(noise(2) + 0.3 * np.sin(0.1 * np.arange(256)))


@pytest.mark.parametrize("version", regulator.VERSIONS.values(), ids=regulator.VERSIONS)
def test_regulator_predicts_then_fades(version: regulator.Version) -> None:
    n = np.arange(30 * FRAMES)
    sound = 0.3 * np.sin(0.1 * n) + np.random.default_rng(1).normal(0, 1e-4, len(n))
    lost = np.zeros(30, bool)
    lost[20] = True
    heard = regulator.regulated(sound, lost, FRAMES, version)
    np.testing.assert_array_equal(heard[: 20 * FRAMES], sound[: 20 * FRAMES])
    np.testing.assert_array_equal(heard[22 * FRAMES :], sound[22 * FRAMES :])
    found = flaws.judge(sound, heard, lost, FRAMES)
    assert found is not None
    assert found.snr_db > 15


def test_the_hubs_own_code_is_what_is_heard() -> None:
    """A tone through the process of its own: better the more is known, untouched where it came."""
    n = np.arange(100 * FRAMES)
    sound = 0.3 * np.sin(0.05 * n) + 0.1 * np.sin(0.31 * n) + 0.01 * noise(100)
    sound = sound.astype(np.float32).astype(np.float64)
    lost = concealment.losses(5, "single", 100, 1)
    found = []
    with concealment.player() as process:
        for name in ("zero", "burg", "burg-bridging"):
            heard = concealment.heard(WAYS[name], sound, lost, process)
            touched = np.repeat(lost | np.roll(lost, 1), FRAMES)
            np.testing.assert_array_equal(heard[~touched], sound[~touched])
            each = flaws.judge(sound, heard, lost, FRAMES)
            assert each is not None
            found.append(each.snr_db)
    assert found[0] < 10 < found[1] < found[2]
