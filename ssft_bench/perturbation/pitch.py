"""Pitch shift that keeps the length: a phase vocoder, then resampling."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from ssft_bench.errors import UsageError
from ssft_bench.perturbation.resampling import Wave, resample_to

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 512
"""Samples of the Hann window, and four times the hop: the defaults of torchaudio."""


@functools.cache
def _window_and_advance() -> tuple[Tensor, Tensor]:
    """Hann window [512] and the phase that each bin gains in a hop [257, 1]."""
    import torch

    bins = WINDOW // 2 + 1
    return torch.hann_window(WINDOW), torch.linspace(0, torch.pi * WINDOW // 4, bins)[:, None]


def shift_pitch(wave: Wave, semitones: float) -> Wave:
    """Shift all frequencies of `wave` [n] by 2^(semitones / 12), its tempo kept -> [n], float32.

    As `torchaudio.transforms.PitchShift` (window 512, hop 128): stretch by a phase vocoder
    (Flanagan and Golden 1966), then resample back. Resampling is by spectrum, since the ratios are
    irrational: torchaudio's kernel has thousands of phases. Zero semitones give the wave itself.
    Raises UsageError beyond two octaves.
    """
    import torch

    if not abs(semitones) <= 24:
        raise UsageError(f"pitch shift of {semitones} semitones: give at most 24 up or down")
    if semitones == 0 or len(wave) == 0:
        return wave
    count, factor = len(wave), 2.0 ** (semitones / 12)
    padded = np.pad(wave, (0, max(0, WINDOW - count)))
    window, advance = _window_and_advance()
    hop = WINDOW // 4
    with torch.inference_mode():
        spectrum = torch.stft(
            torch.from_numpy(padded), WINDOW, hop, window=window, return_complex=True
        )
        stretched = torch.istft(
            _stretch(spectrum, 1 / factor, advance),
            WINDOW,
            hop,
            window=window,
            length=round(len(padded) * factor),
        )
    done = resample_to(stretched.numpy(), factor, count)
    return np.asarray(done, np.float32)


def _stretch(spectrum: Tensor, rate: float, advance: Tensor) -> Tensor:
    """Phase vocoder on [bins, frames] -> [bins, ceil(frames / rate)]."""
    import torchaudio.functional

    stretched: Tensor = torchaudio.functional.phase_vocoder(spectrum, rate, advance)
    return stretched
