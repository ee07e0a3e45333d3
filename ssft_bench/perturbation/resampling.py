"""Band-limited resampling to an exact number of samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]
"""Samples of one recording at 16 kHz, [samples]."""

_MARGIN = 256  # zeros after the end, so that the ringing of one end does not reach the other
_TRIES = 12  # lengths of the transform to choose from


def resample_to(wave: NDArray[np.floating], ratio: float, count: int) -> NDArray[np.floating]:
    """Play `wave` [n] faster by `ratio`, kept below the lower Nyquist frequency -> [count].

    Sample i of the result lies at place `i * ratio` of the input, to within a small part of a
    sample; past its end are zeros. Cuts or pads the spectrum of the whole wave, so any ratio costs
    the same: polyphase kernels of a ratio such as 17959:16000 have thousands of phases.
    """
    from scipy import fft

    longer = _length(max(count, len(wave) / ratio), ratio)
    size = round(longer * ratio)
    spectrum = fft.rfft(wave, size)
    kept = (min(size, longer) + 1) // 2  # without the Nyquist frequency, which has no phase
    out = np.zeros(longer // 2 + 1, spectrum.dtype)
    out[:kept] = spectrum[:kept]
    done = fft.irfft(out, longer)[:count]
    done *= done.dtype.type(longer / size)
    return np.asarray(done)


def _length(least: float, ratio: float) -> int:
    """A length that transforms fast and whose product with `ratio` is nearly whole."""
    from scipy import fft

    lengths = [fft.next_fast_len(math.ceil(least + _MARGIN * max(1.0, 1 / ratio)), real=True)]
    for _ in range(_TRIES - 1):
        lengths.append(fft.next_fast_len(lengths[-1] + 1, real=True))
    return int(min(lengths, key=lambda size: abs(size * ratio - round(size * ratio)) / size))
