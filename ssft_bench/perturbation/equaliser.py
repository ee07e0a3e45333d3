"""The random parametric equaliser of NANSY (Choi et al., NeurIPS 2021) as SPIN uses it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssft_bench.audio import RATE
from ssft_bench.perturbation.resampling import Wave

Curve = NDArray[np.float64]

CENTRES: Curve = np.geomspace(60.0, 7600.0, 10)
"""Hz of the ten bands: a low shelf, eight peaks, a high shelf."""


@dataclass(frozen=True)
class Bands:
    """One setting of the equaliser."""

    gains: Curve
    """dB of each band, [10]."""
    qualities: Curve
    """Q of each band, [10]."""


def draw_bands(rng: np.random.Generator) -> Bands:
    """Gains U(-12, 12) dB; Q = 2 * 2.5^z with z in U(0, 1)."""
    qualities = 2.0 * 2.5 ** rng.uniform(0.0, 1.0, len(CENTRES))
    return Bands(rng.uniform(-12.0, 12.0, len(CENTRES)), qualities)


def equalise(wave: Wave, bands: Bands) -> Wave:
    """`wave` [n] through the ten filters in a row, clipped to [-1, 1] -> [n], float32."""
    from scipy.signal import sosfilt

    if len(wave) == 0:
        return wave
    filtered = sosfilt(sections(bands), wave.astype(np.float64))
    return np.asarray(np.clip(filtered, -1.0, 1.0), np.float32)


def sections(bands: Bands) -> Curve:
    """Second-order sections [10, 6] for `scipy.signal.sosfilt`, by the formulas of R. Bristow-Johnson's
    "Cookbook formulae for audio equalizer biquad filter coefficients"; 0 dB is exactly the identity.
    """
    omega = 2 * np.pi * CENTRES / RATE
    root = 10.0 ** (bands.gains / 40)
    alpha = np.sin(omega) / (2 * bands.qualities)
    cosine = np.cos(omega)
    rows = _peaks(root, alpha, cosine)
    for band, sign in ((0, 1.0), (-1, -1.0)):
        rows[band] = _shelf(root[band], alpha[band], cosine[band], sign)
    rows /= rows[:, 3:4].copy()
    return rows


def _peaks(root: Curve, alpha: Curve, cosine: Curve) -> Curve:
    """Peaking filters, not yet divided by a0."""
    numerator = [1 + alpha * root, -2 * cosine, 1 - alpha * root]
    denominator = [1 + alpha / root, -2 * cosine, 1 - alpha / root]
    return np.stack([*numerator, *denominator], axis=1)


def _shelf(root: float, alpha: float, cosine: float, sign: float) -> list[float]:
    """A low (sign 1) or high (sign -1) shelf, not yet divided by a0."""
    more, less = (root + 1), (root - 1)
    slope = 2 * np.sqrt(root) * alpha
    cosine *= sign
    return [
        root * (more - less * cosine + slope),
        sign * 2 * root * (less - more * cosine),
        root * (more - less * cosine - slope),
        more + less * cosine + slope,
        sign * -2 * (less + more * cosine),
        more + less * cosine - slope,
    ]
