"""Speed perturbation (Ko et al., Interspeech 2015): tempo and pitch change together."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import TYPE_CHECKING

from ssft_bench.errors import UsageError
from ssft_bench.perturbation.resampling import Wave

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

TERMS = 100
"""Largest term of a speed factor's ratio; the kernel grows with it."""


@functools.cache
def _resampler(ratio: Fraction) -> Resample:
    from torchaudio.transforms import Resample

    return Resample(orig_freq=ratio.numerator, new_freq=ratio.denominator)


def change_speed(wave: Wave, factor: float) -> Wave:
    """Play `wave` [n] `factor` times as fast -> [ceil(n / factor)], float32.

    The windowed sinc of torchaudio (`torchaudio.transforms.Speed`), its kernel kept per factor. A
    factor of 1 gives the wave itself. Raises UsageError when the factor is not a ratio of whole
    numbers up to 100 between 0.25 and 4.
    """
    import torch

    ratio = Fraction(factor if 0.25 <= factor <= 4 else 0).limit_denominator(TERMS)
    if ratio == 0 or ratio.numerator > TERMS or abs(ratio / factor - 1) > 1e-9:
        raise UsageError(
            f"speed factor {factor}: give a ratio of whole numbers up to {TERMS} between 0.25 "
            "and 4, such as 0.9"
        )
    if ratio == 1:
        return wave
    with torch.inference_mode():
        done: Wave = _resampler(ratio)(torch.from_numpy(wave)).numpy()
    return done
