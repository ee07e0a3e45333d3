"""Speed and pitch against torchaudio, closed forms and measured frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio

from ssft_bench.errors import UsageError
from ssft_bench.perturbation import Wave, change_speed, shift_pitch
from ssft_bench.perturbation.resampling import resample_to
from tests.perturbation.voices import RATE, draw_vowel, formant_ratio, pitch_of, sing

FACTORS = (0.8, 0.85, 0.9, 1.0, 1.1, 1.15, 1.2)


def tone(hertz: float, count: int, phase: float = 0.0, rate: float = RATE) -> Wave:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(count) / rate + phase)).astype(np.float32)


@pytest.mark.parametrize("factor", FACTORS)
def test_speed_equals_torchaudio_and_divides_the_length(factor: float) -> None:
    rng = np.random.default_rng()
    wave = rng.uniform(-0.5, 0.5, int(rng.integers(8000, 30000))).astype(np.float32)
    before = wave.copy()
    fast = change_speed(wave, factor)
    theirs, _ = torchaudio.transforms.Speed(RATE, factor)(torch.from_numpy(wave))
    assert fast.dtype == np.float32
    assert abs(len(fast) / (len(wave) / factor) - 1) < 0.01
    np.testing.assert_allclose(fast, theirs.numpy(), atol=1e-6)
    np.testing.assert_array_equal(wave, before)


def test_speed_moves_the_pitch() -> None:
    rng = np.random.default_rng()
    vowel = draw_vowel(rng)
    wave = sing(vowel)
    for factor in (0.85, 1.15):
        ratio = np.median(pitch_of(change_speed(wave, factor))) / np.median(pitch_of(wave))
        assert ratio == pytest.approx(factor, rel=0.01), vowel
    assert ratio != pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("factor", [0.0, -1.0, 5.0, np.pi, float("nan")])
def test_senseless_speed_is_refused(factor: float) -> None:
    with pytest.raises(UsageError, match="speed factor"):
        change_speed(tone(100, 1000), factor)


@pytest.mark.parametrize("rate", [13600.5, 14400.5, 17600.5, 18400.5])
def test_pitch_equals_torchaudio(rate: float) -> None:
    """Theirs takes half a minute at two semitones, so at shifts with small ratios of the rates."""
    semitones = 12 * float(np.log2(rate / RATE))
    rng = np.random.default_rng()
    count = int(rng.integers(6000, 8000))
    wave = sum(
        (tone(h, count, p) for h, p in rng.uniform((200, 0), (3000, 6), (5, 2))),
        start=0 * tone(0, count),
    )
    shifted = shift_pitch(wave, semitones)
    theirs = torchaudio.functional.pitch_shift(torch.from_numpy(wave), RATE, semitones).numpy()
    assert shifted.dtype == np.float32
    assert shifted.shape == wave.shape
    inner = slice(800, -800)
    assert np.corrcoef(shifted[inner], theirs[inner])[0, 1] > 0.96, (count, rate)
    other = shift_pitch(wave, -semitones)  # negative control
    assert abs(np.corrcoef(other[inner], theirs[inner])[0, 1]) < 0.5


@pytest.mark.parametrize("semitones", [-2, 2])
def test_pitch_moves_and_tempo_stays(semitones: int) -> None:
    rng = np.random.default_rng()
    vowel = draw_vowel(rng)
    wave = sing(vowel)
    shifted = shift_pitch(wave, semitones)
    ratio = np.median(pitch_of(shifted)) / np.median(pitch_of(wave))
    assert ratio == pytest.approx(2 ** (semitones / 12), rel=0.01), vowel
    assert formant_ratio(wave, shifted) == pytest.approx(2 ** (semitones / 12), rel=0.04), vowel
    burst = np.zeros(16000, np.float32)
    place = int(rng.integers(4000, 12000))
    burst[place - 100 : place + 100] = rng.uniform(-0.5, 0.5, 200)
    power = shift_pitch(burst, semitones).astype(float) ** 2
    assert abs((power * np.arange(16000)).sum() / power.sum() - place) < 160, place


def test_pitch_of_very_short_waves_and_zero() -> None:
    wave = tone(300, 2000)
    assert shift_pitch(wave, 0) is wave
    for count in (0, 1, 7, 256, 511):
        assert shift_pitch(wave[:count], 2).shape == (count,)
    with pytest.raises(UsageError, match="semitones"):
        shift_pitch(wave, 30)


def test_resampling_against_a_tone_and_keeps_out_aliases() -> None:
    rng = np.random.default_rng()
    ratio, hertz, phase = rng.uniform(0.7, 1.4), rng.uniform(200, 2000), rng.uniform(0, 6)
    count = 16000
    fade = np.hanning(count)
    size = round(count / ratio)
    done = resample_to(tone(hertz, count, phase) * fade, ratio, size)
    # the same tone and fade, read at `ratio` times the spacing
    place = np.arange(size) * ratio
    wanted = (
        0.5
        * np.sin(2 * np.pi * hertz * place / RATE + phase)
        * np.interp(place, np.arange(count), fade)
    )
    np.testing.assert_allclose(done[:-4], wanted[:-4], atol=5e-2, err_msg=str((ratio, hertz)))
    assert np.corrcoef(done, wanted)[0, 1] > 0.995, (ratio, hertz)
    wrong = 0.5 * np.sin(2 * np.pi * hertz * place * 1.01 / RATE + phase)
    assert np.corrcoef(done, wrong)[0, 1] < 0.9
    # a high tone passes whole, one that would fold back does not
    passed = resample_to(tone(5000, count) * fade, ratio, size)
    assert np.std(passed) == pytest.approx(np.std(tone(5000, count) * fade), rel=0.01), ratio
    high = resample_to(tone(7000, count) * fade, 1.5, round(count / 1.5))
    assert np.abs(high).max() < 1e-3


def test_same_input_same_output() -> None:
    rng = np.random.default_rng()
    wave = rng.uniform(-0.5, 0.5, 9000).astype(np.float32)
    for view in (lambda w: change_speed(w, 1.15), lambda w: shift_pitch(w, 2)):
        np.testing.assert_array_equal(view(wave), view(wave.copy()))
