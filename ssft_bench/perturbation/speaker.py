"""SPIN's speaker perturbation: change the voice, then a random equaliser.

Chang, Liu and Glass, "Self-supervised Fine-tuning for Improved Content Representations by
Speaker-invariant Clustering", Interspeech 2023; the perturbation is that of NANSY (Choi et al.,
NeurIPS 2021). The ranges are those of the released code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssft_bench.errors import UsageError
from ssft_bench.perturbation.equaliser import draw_bands, equalise
from ssft_bench.perturbation.resampling import Wave

Engine = Literal["own", "praat"]

FORMANT, PITCH, RANGE = 1.4, 2.0, 1.5
"""Largest ratios of formants, median pitch and pitch range."""


@dataclass(frozen=True)
class SpeakerChange:
    """Ratios new : old of one perturbation; 1 changes nothing."""

    formant: float
    """Of the formant frequencies."""
    pitch: float
    """Of the median pitch."""
    range: float
    """Of the excursions of the pitch from its median."""


def draw_speaker(rng: np.random.Generator) -> SpeakerChange:
    """Each ratio is U(1, largest), inverted with probability 0.5, independently."""
    ratios = rng.uniform(1.0, (FORMANT, PITCH, RANGE))
    inverted = rng.random(3) < 0.5
    return SpeakerChange(*np.where(inverted, 1 / ratios, ratios).tolist())


def change_gender(
    wave: Wave,
    formant: float,
    pitch: float,
    range: float,
    f0_min: float = 75.0,
    f0_max: float = 600.0,
) -> Wave:
    """`wave` [n] spoken by another voice -> [n], float32; see `change_voice`."""
    return change_voice(wave, SpeakerChange(formant, pitch, range), f0_min, f0_max)[0]


def change_voice(
    wave: Wave, change: SpeakerChange, f0_min: float, f0_max: float
) -> tuple[Wave, bool]:
    """`wave` [n] with other formants and pitch, same length and timing, and whether it had a pitch.

    What Praat's "Change gender" does (Boersma and Weenink): formants move by resampling, and pitch
    and duration are then set by overlap-add of pitch-synchronous grains (TD-PSOLA, Moulines and
    Charpentier 1990). New pitch: `m + range * (pitch * f0 - m)` with `m = pitch * median(f0)`. Where
    no pitch is found the formants move all the same. Raises UsageError on ratios or limits that make
    no sense.
    """
    from ssft_bench.perturbation.voice import respeak

    check_change(change, f0_min, f0_max)
    return respeak(wave, change.formant, change.pitch, change.range, f0_min, f0_max)


def speaker_view(
    wave: Wave,
    rng: np.random.Generator,
    *,
    engine: Engine = "own",
    f0_range: tuple[float, float] = (75.0, 600.0),
) -> tuple[Wave, bool]:
    """SPIN's second view of `wave` [n]: another voice, equaliser, clip to [-1, 1] -> [n], float32.

    The flag is False when the pitch was not changed: none was found, or Praat refused the wave. The
    equaliser is applied all the same (with our engine the formants have moved too), as the authors
    do; callers count these and report them. The draws do not depend on the engine. Raises UsageError
    on an unknown engine, and when `engine="praat"` is not installed.
    """
    change, bands = draw_speaker(rng), draw_bands(rng)
    if engine == "praat":
        from ssft_bench.perturbation.praat import change_voice_praat

        spoken, changed = change_voice_praat(wave, change, *f0_range)
    elif engine == "own":
        spoken, changed = change_voice(wave, change, *f0_range)
    else:
        raise UsageError(f"speaker perturbation engine {engine!r}: give 'own' or 'praat'")
    return equalise(spoken, bands), changed


def check_change(change: SpeakerChange, f0_min: float, f0_max: float) -> None:
    """Raises UsageError on ratios that are not within [1/4, 4] and on pitch limits out of order."""
    for name in ("formant", "pitch", "range"):
        if not 0.25 <= getattr(change, name) <= 4:
            raise UsageError(
                f"speaker change: {name} ratio {getattr(change, name)} is not between 1/4 and 4"
            )
    if not 20 <= f0_min < f0_max <= 1000:
        raise UsageError(
            f"speaker change: pitch limits {f0_min}-{f0_max} Hz; give 20 <= lower < upper <= 1000"
        )
