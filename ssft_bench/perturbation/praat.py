"""The same perturbation by Praat itself, through praat-parselmouth (GPL, an optional package)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ssft_bench.audio import RATE
from ssft_bench.errors import UsageError
from ssft_bench.perturbation.resampling import Wave
from ssft_bench.perturbation.speaker import SpeakerChange, check_change


def change_gender_praat(
    wave: Wave,
    formant: float,
    pitch: float,
    range: float,
    f0_min: float = 75.0,
    f0_max: float = 600.0,
) -> Wave:
    """`wave` [n] through Praat's "Change gender" -> [n], float32; see `change_voice_praat`."""
    return change_voice_praat(wave, SpeakerChange(formant, pitch, range), f0_min, f0_max)[0]


def change_voice_praat(
    wave: Wave, change: SpeakerChange, f0_min: float, f0_max: float
) -> tuple[Wave, bool]:
    """As `change_voice`, by Praat; a wave that Praat refuses, or without pitch, comes back as it is.

    Pitch by autocorrelation, time step 0.8 / `f0_min`, as SPIN calls it. Raises UsageError when
    praat-parselmouth is not installed.
    """
    check_change(change, f0_min, f0_max)
    parselmouth = _parselmouth()
    sound = parselmouth.Sound(wave.astype(np.float64), sampling_frequency=RATE)
    try:
        track = sound.to_pitch_ac(pitch_floor=f0_min, pitch_ceiling=f0_max, time_step=0.8 / f0_min)
        hertz = track.selected_array["frequency"]
        if not (hertz > 0).any():
            return wave, False
        median = float(np.median(hertz[hertz > 0])) * change.pitch
        settings = (change.formant, median, change.range, 1.0)
        done = parselmouth.praat.call([sound, track], "Change gender", *settings).values[0]
    except (parselmouth.PraatError, UserWarning):
        return wave, False
    fitted = np.zeros(len(wave), np.float32)
    count = min(len(wave), len(done))
    fitted[:count] = done[:count]
    return fitted, True


def _parselmouth() -> Any:
    try:
        import parselmouth
    except ImportError as error:
        raise UsageError(
            "speaker perturbation engine 'praat' needs praat-parselmouth: "
            "pip install 'ssft-bench[praat]', or choose the engine 'own'"
        ) from error
    return parselmouth
