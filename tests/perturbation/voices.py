"""Vowels with known pitch and formants, and measurements of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

RATE = 16000
Wave = NDArray[np.float32]
HERTZ = np.linspace(0, RATE / 2, 513)
WARPS = np.geomspace(0.6, 1.65, 300)


@dataclass(frozen=True)
class Vowel:
    """A vowel whose pitch swings once per second about `pitch` by the share `swing`."""

    pitch: float
    swing: float
    formants: tuple[float, ...]


def draw_vowel(rng: np.random.Generator, low: float = 100.0, high: float = 220.0) -> Vowel:
    """Five formants well apart, pitch between `low` and `high` Hz."""
    spread = rng.uniform(0.92, 1.08, 5)
    formants = tuple(np.array([560.0, 1500.0, 2500.0, 3500.0, 4500.0]) * spread)
    return Vowel(rng.uniform(low, high), rng.uniform(0.05, 0.12), formants)


def sing(vowel: Vowel, seconds: float = 1.5) -> Wave:
    """Glottal pulses through the formants' resonators, float32 [samples], peak 0.5."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = vowel.pitch * (1 + vowel.swing * np.sin(2 * np.pi * time))
    phase = np.cumsum(pitch) / RATE
    # band-limited pulses: all harmonics below 7.6 kHz at equal strength
    wave = np.zeros_like(time)
    for k in range(1, int(7600 / (vowel.pitch * (1 - vowel.swing))) + 1):
        wave += np.where(k * pitch < 7600, np.cos(2 * np.pi * k * phase), 0.0)
    for hertz in vowel.formants:
        radius = np.exp(-np.pi * (60 + 0.03 * hertz) / RATE)
        wave = lfilter([1], [1, -2 * radius * np.cos(2 * np.pi * hertz / RATE), radius**2], wave)
    wave = lfilter([1, -0.9], [1], lfilter([1], [1, -0.95], wave))
    return np.asarray(0.5 * wave / np.abs(wave).max(), np.float32)


def pitch_of(wave: Wave, low: float = 60.0, high: float = 600.0) -> NDArray[np.float64]:
    """Pitch of each frame of 60 ms in Hz by the cepstrum: nothing in common with the code tested."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 960)[::160]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(960), 8192, axis=1))
    cepstrum = np.fft.irfft(np.log(spectrum + 1e-3 * spectrum.max(axis=1, keepdims=True)), axis=1)
    first, last = int(RATE / high), int(RATE / low)
    places = first + cepstrum[:, first:last].argmax(axis=1)
    rows = np.arange(len(places))
    below, here, above = (cepstrum[rows, places + d] for d in (-1, 0, 1))
    return RATE / (places + 0.5 * (below - above) / (below - 2 * here + above))


def formant_ratio(old: Wave, new: Wave, grid: NDArray[np.float64] = WARPS) -> float:
    """The stretch of the frequency axis that makes the envelope of `old` most like that of `new`."""
    before, after = _envelope(old), _envelope(new)
    hertz = np.linspace(200, 5000, 481)
    alike = []
    for ratio in grid:
        part = hertz[hertz * ratio < 6500]
        a, b = (np.interp(f, HERTZ, e) for f, e in ((part, before), (part * ratio, after)))
        alike.append(np.corrcoef(_untilted(a), _untilted(b))[0, 1])
    return float(grid[int(np.argmax(alike))])


def _envelope(wave: Wave) -> NDArray[np.float64]:
    """dB at `HERTZ`: mean power of frames of 32 ms, weighed by loudness, smooth over 160 Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 512)[::160]
    power = (np.abs(np.fft.rfft(frames * np.hanning(512), 1024, axis=1)) ** 2).mean(axis=0)
    blur = np.hanning(33)
    smooth = np.convolve(np.pad(power, 16, mode="reflect"), blur / blur.sum(), "valid")
    return np.asarray(10 * np.log10(smooth + 1e-9 * smooth.max()))


def _untilted(level: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without its straight line: a tilt would count as likeness at any stretch."""
    steps = np.arange(len(level))
    return level - np.polyval(np.polyfit(steps, level, 1), steps)
