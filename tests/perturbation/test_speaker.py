"""The voice changer: measured pitch and formants, Praat beside it, and its flag."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable

import numpy as np
import pytest

from ssft_bench.audio import read_audio
from ssft_bench.errors import UsageError
from ssft_bench.perturbation import (
    SpeakerChange,
    Wave,
    change_gender,
    change_gender_praat,
    draw_bands,
    draw_speaker,
    equalise,
    speaker_view,
)
from ssft_bench.perturbation.pitch_track import track_pitch
from ssft_bench.perturbation.speaker import change_voice
from tests.perturbation.voices import draw_vowel, formant_ratio, pitch_of, sing
from tests.speech import noise, real_data

Changer = Callable[[Wave, float, float, float], Wave]


def measure(old: Wave, new: Wave, pitch: float) -> tuple[float, float]:
    """(formant ratio, ratio of median pitches), the new pitch sought within an octave of `pitch`."""
    middle = float(np.median(pitch_of(old)))
    found = pitch_of(new, middle * pitch / 1.6, middle * pitch * 1.6)
    return formant_ratio(old, new), float(np.median(found)) / middle


def test_draws_stay_inside_and_are_inverted_half_of_the_time() -> None:
    rng = np.random.default_rng()
    drawn = np.array(
        [[c.formant, c.pitch, c.range] for c in (draw_speaker(rng) for _ in range(4000))]
    )
    limits = np.array([1.4, 2.0, 1.5])
    assert (drawn <= limits).all()
    assert (drawn >= 1 / limits).all()
    below = drawn < 1
    np.testing.assert_allclose(below.mean(axis=0), 0.5, atol=0.03)
    size = np.where(below, 1 / drawn, drawn)
    np.testing.assert_allclose(size.mean(axis=0), (1 + limits) / 2, atol=0.02)
    pairs = np.corrcoef(below.T)[np.triu_indices(3, 1)]
    assert np.abs(pairs).max() < 0.08, "inverted independently"


def test_own_moves_pitch_and_formants_of_vowels() -> None:
    rng = np.random.default_rng()
    for _ in range(3):
        vowel, change = draw_vowel(rng), draw_speaker(rng)
        wave = sing(vowel)
        new = change_gender(wave, change.formant, change.pitch, change.range)
        assert new.shape == wave.shape
        assert new.dtype == np.float32
        formant, pitch = measure(wave, new, change.pitch)
        assert pitch == pytest.approx(change.pitch, rel=0.03), (vowel, change)
        assert formant == pytest.approx(change.formant, rel=0.05), (vowel, change)


def test_own_agrees_with_praat_on_vowels() -> None:
    pytest.importorskip("parselmouth")
    rng = np.random.default_rng()
    for _ in range(3):
        vowel, change = draw_vowel(rng), draw_speaker(rng)
        wave = sing(vowel)
        ratios = change.formant, change.pitch, change.range
        ours, theirs = (
            measure(wave, changer(wave, *ratios), change.pitch)
            for changer in (change_gender, change_gender_praat)
        )
        assert ours[0] == pytest.approx(theirs[0], rel=0.08), (vowel, change)
        assert ours[1] == pytest.approx(theirs[1], rel=0.05), (vowel, change)


def test_own_agrees_with_praat_on_recordings() -> None:
    parselmouth = pytest.importorskip("parselmouth")
    files = [f for f in sorted(real_data("an4").glob("wav/**/*.flac")) if f.stat().st_size > 50_000]
    rng = np.random.default_rng()

    def median(wave: Wave, pitch: float) -> float:
        sound = parselmouth.Sound(wave.astype(float), 16000)
        track = sound.to_pitch_ac(
            pitch_floor=max(40, 70 * pitch), pitch_ceiling=600 * max(1, pitch)
        )
        hertz = track.selected_array["frequency"]
        return float(np.median(hertz[hertz > 0]))

    formants, pitches = [], []
    for index in rng.choice(len(files), 6, replace=False):
        wave, change = read_audio(files[index]), draw_speaker(rng)
        ratios = change.formant, change.pitch, change.range
        ours, theirs = change_gender(wave, *ratios), change_gender_praat(wave, *ratios)
        formants.append(formant_ratio(wave, ours) / formant_ratio(wave, theirs))
        pitches.append(median(ours, change.pitch) / median(theirs, change.pitch))
    # the middle of six: single recordings with few voiced frames have octave errors
    assert np.median(formants) == pytest.approx(1, abs=0.08), formants
    assert np.median(pitches) == pytest.approx(1, abs=0.05), pitches


def test_nothing_asked_nothing_moved() -> None:
    """Negative control: ratios of 1 keep what the other tests see moving."""
    vowel = draw_vowel(np.random.default_rng())
    wave = sing(vowel)
    formant, pitch = measure(wave, change_gender(wave, 1, 1, 1), 1)
    assert pitch == pytest.approx(1, rel=0.01), vowel
    assert formant == pytest.approx(1, rel=0.02), vowel


@pytest.mark.parametrize("change", [(1.3, 1, 1), (1, 1.5, 1)])
def test_one_ratio_moves_one_thing(change: tuple[float, float, float]) -> None:
    vowel = draw_vowel(np.random.default_rng())
    wave = sing(vowel)
    formant, pitch = measure(wave, change_gender(wave, *change), change[1])
    assert formant == pytest.approx(change[0], rel=0.04), vowel
    assert pitch == pytest.approx(change[1], rel=0.02), vowel


@pytest.mark.parametrize("range_ratio", [1 / 1.5, 1.5])
def test_range_scales_excursions_from_the_new_median(range_ratio: float) -> None:
    vowel = draw_vowel(np.random.default_rng())
    wave = sing(vowel, 3.0)
    new = change_gender(wave, 1.0, 1.2, range_ratio)
    # a pitch of m (1 + swing * sin) has 10th and 90th percentiles at +-0.951 swing
    spread = [np.subtract(*np.percentile(pitch_of(w, 80, 350), [90, 10])) for w in (wave, new)]
    assert spread[1] / spread[0] == pytest.approx(1.2 * range_ratio, rel=0.08), vowel


def test_pitch_track_follows_the_vowel() -> None:
    rng = np.random.default_rng()
    vowel = draw_vowel(rng, 80, 450)
    wave = sing(vowel)
    track = track_pitch(wave, 70, 600)
    wanted = vowel.pitch * (1 + vowel.swing * np.sin(2 * np.pi * track.times / 16000))
    assert track.voiced.mean() > 0.95
    off = np.abs(track.hertz / wanted - 1)[track.voiced]
    assert np.median(off) < 0.005, vowel
    assert (off < 0.03).mean() > 0.95, vowel
    octave = np.abs(track.hertz / (2 * wanted) - 1)[track.voiced]
    assert np.median(octave) > 0.4  # negative control


def test_noise_has_no_pitch_but_its_spectrum_moves() -> None:
    rng = np.random.default_rng()
    wave = noise(rng, 1.0)
    wave = np.convolve(
        wave, np.sin(2 * np.pi * 2000 * np.arange(20) / 16000) * np.hanning(20), "same"
    )
    wave = wave.astype(np.float32) / 10
    new, pitched = change_voice(wave, SpeakerChange(1.3, 1.5, 1.0), 75, 600)
    assert not pitched
    assert formant_ratio(wave, new) == pytest.approx(1.3, rel=0.05)
    assert np.std(new) == pytest.approx(np.std(wave), rel=0.35)
    same, _ = change_voice(wave, SpeakerChange(1.0, 1.5, 1.0), 75, 600)
    np.testing.assert_allclose(same, wave - wave.mean(), atol=1e-5)  # no formant change asked


@pytest.mark.parametrize("count", [0, 1, 5, 300, 1500])
@pytest.mark.parametrize("kind", ["zeros", "constant", "noise", "vowel"])
def test_any_input_keeps_its_length_and_is_finite(count: int, kind: str) -> None:
    rng = np.random.default_rng()
    wave = {
        "zeros": np.zeros(count, np.float32),
        "constant": np.full(count, 0.3, np.float32),
        "noise": rng.uniform(-1, 1, count).astype(np.float32),
        "vowel": sing(draw_vowel(rng), 0.2)[:count],
    }[kind]
    done, _ = speaker_view(wave, rng)
    assert done.shape == wave.shape
    assert np.isfinite(done).all()
    assert done.dtype == np.float32


def test_view_is_the_changed_voice_equalised_and_drawn_from_the_generator_alone() -> None:
    rng = np.random.default_rng()
    seed = int(rng.integers(1 << 30))
    wave = sing(draw_vowel(rng), 1.0)
    before = wave.copy()
    view, changed = speaker_view(wave, np.random.default_rng(seed))
    again = np.random.default_rng(seed)
    change, bands = draw_speaker(again), draw_bands(again)
    voice, _ = change_voice(wave, change, 75, 600)
    assert changed
    assert np.abs(view).max() <= 1
    np.testing.assert_array_equal(view, equalise(voice, bands))
    np.testing.assert_array_equal(wave, before)
    other, _ = speaker_view(wave, np.random.default_rng(seed + 1))
    assert not np.allclose(view, other, atol=1e-2)


def test_flag_tells_when_no_pitch_was_found() -> None:
    rng = np.random.default_rng()
    silence = noise(rng, 0.5)
    for engine in ("own", "praat"):
        if engine == "praat":
            pytest.importorskip("parselmouth")
        view, changed = speaker_view(silence, rng, engine=engine)
        assert not changed
        assert not np.allclose(view, silence, atol=1e-2)  # the equaliser is applied all the same


def test_praat_view_differs_from_ours_by_little() -> None:
    pytest.importorskip("parselmouth")
    rng = np.random.default_rng()
    seed = int(rng.integers(1 << 30))
    wave = sing(draw_vowel(rng))
    ours, _ = speaker_view(wave, np.random.default_rng(seed))
    theirs, changed = speaker_view(wave, np.random.default_rng(seed), engine="praat")
    assert changed
    assert formant_ratio(theirs, ours) == pytest.approx(1, rel=0.05), seed


def test_praat_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parselmouth", None)
    wave = sing(draw_vowel(np.random.default_rng()), 0.5)
    with pytest.raises(UsageError, match=r"pip install 'ssft-bench\[praat\]'"):
        speaker_view(wave, np.random.default_rng(), engine="praat")
    speaker_view(wave, np.random.default_rng())  # ours does not need it


@pytest.mark.parametrize(
    ("change", "limits", "message"),
    [
        ((0.0, 1, 1), (75, 600), "formant ratio"),
        ((1, 9, 1), (75, 600), "pitch ratio"),
        ((1, 1, float("nan")), (75, 600), "range ratio"),
        ((1, 1, 1), (600, 75), "pitch limits"),
        ((1, 1, 1), (0, 600), "pitch limits"),
    ],
)
def test_senseless_settings_are_refused(
    change: tuple[float, float, float], limits: tuple[float, float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        change_gender(np.zeros(100, np.float32), *change, *limits)


def test_unknown_engine_is_refused() -> None:
    with pytest.raises(UsageError, match="'own' or 'praat'"):
        speaker_view(np.zeros(100, np.float32), np.random.default_rng(), engine="sox")  # type: ignore[arg-type]


def _in_worker(job: tuple[Wave, int]) -> Wave:
    return speaker_view(job[0], np.random.default_rng(job[1]))[0]


def test_forked_workers_give_the_same() -> None:
    rng = np.random.default_rng()
    wave = sing(draw_vowel(rng), 0.6)
    here = [_in_worker((wave, seed)) for seed in (1, 2)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        there = pool.map(_in_worker, [(wave, 1), (wave, 2)])
    np.testing.assert_array_equal(here, there)
