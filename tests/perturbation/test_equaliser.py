"""The equaliser against its analogue prototypes and what the filters must do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import freqz_sos, sosfilt

from ssft_bench.perturbation import draw_bands, equalise
from ssft_bench.perturbation.equaliser import CENTRES, Bands, sections

RATE = 16000


def prototype(
    kind: str, gain: float, quality: float, s: NDArray[np.complex128]
) -> NDArray[np.complex128]:
    """The analogue filters of the cookbook, `s` normalised to the centre."""
    a = 10 ** (gain / 40)
    if kind == "peak":
        return (s**2 + s * (a / quality) + 1) / (s**2 + s / (a * quality) + 1)
    slope = np.sqrt(a) / quality
    low = a * (s**2 + slope * s + a) / (a * s**2 + slope * s + 1)
    high = a * (a * s**2 + slope * s + 1) / (s**2 + slope * s + a)
    return low if kind == "low" else high


def test_every_band_is_the_bilinear_transform_of_its_prototype() -> None:
    rng = np.random.default_rng()
    bands = draw_bands(rng)
    omega = np.linspace(0.01, np.pi - 0.01, 400)
    kinds = ["low", *["peak"] * 8, "high"]
    for band, row in enumerate(sections(bands)):
        centre = np.tan(np.pi * CENTRES[band] / RATE)
        s = 1j * np.tan(omega / 2) / centre
        wanted = prototype(kinds[band], bands.gains[band], bands.qualities[band], s)
        _, got = freqz_sos(row[None], omega)
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-9, err_msg=str(band))
        wrong = prototype(
            "peak" if kinds[band] != "peak" else "low", bands.gains[band], bands.qualities[band], s
        )
        assert not np.allclose(got, wrong, rtol=1e-2)


def test_gain_at_the_ends() -> None:
    flat = np.zeros(10)
    for band, hertz in ((0, 1.0), (9, 7999.9)):
        gains = flat.copy()
        gains[band] = 9.0
        _, got = freqz_sos(sections(Bands(gains, np.full(10, 2.0))), [hertz], fs=RATE)
        assert 20 * np.log10(abs(got[0])) == pytest.approx(9.0, abs=0.05)


def test_no_gain_is_the_identity() -> None:
    rng = np.random.default_rng()
    wave = rng.uniform(-1, 1, 5000).astype(np.float32)
    np.testing.assert_array_equal(equalise(wave, Bands(np.zeros(10), np.full(10, 3.0))), wave)
    assert not np.allclose(
        equalise(wave, Bands(np.full(10, 1.0), np.full(10, 3.0))), wave, atol=1e-3
    )


def test_clips_and_keeps_type_and_length() -> None:
    rng = np.random.default_rng()
    wave = rng.uniform(-1, 1, 3001).astype(np.float32)
    loud = Bands(np.full(10, 12.0), np.full(10, 2.0))
    done = equalise(wave, loud)
    assert done.dtype == np.float32
    assert done.shape == wave.shape
    assert np.abs(done).max() == 1
    free = sosfilt(sections(loud), wave.astype(float))
    assert np.abs(free).max() > 1  # without the clip it would not hold
    np.testing.assert_allclose(done, np.clip(free, -1, 1), atol=1e-6)


def test_draws() -> None:
    rng = np.random.default_rng()
    drawn = [draw_bands(rng) for _ in range(500)]
    gains, qualities = (np.array([getattr(b, n) for b in drawn]) for n in ("gains", "qualities"))
    assert gains.shape == (500, 10)
    assert gains.min() < -11.8
    assert gains.max() > 11.8
    assert np.abs(gains).max() <= 12
    z = np.log(qualities / 2) / np.log(2.5)
    assert z.min() >= 0
    assert z.max() <= 1
    assert z.mean() == pytest.approx(0.5, abs=0.02)
    assert qualities.mean() == pytest.approx(3 / np.log(2.5), abs=0.06)  # not U(2, 5), mean 3.5
    np.testing.assert_allclose(CENTRES, np.exp(np.linspace(np.log(60), np.log(7600), 10)))
