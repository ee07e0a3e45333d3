"""Fundamental frequency by autocorrelation and a search for the cheapest path.

P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise
ratio of a sampled sound", Proceedings of the Institute of Phonetic Sciences 17, 1993, 97-110.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssft_bench.audio import RATE
from ssft_bench.perturbation.compiled import compiled

Numbers = NDArray[np.float64]

# The paper's costs (section 4) as its author's program sets them.
_SILENCE, _VOICING = 0.03, 0.45
_OCTAVE, _JUMP, _CHANGE = 0.01, 0.35, 0.14
_CANDIDATES = 15  # per frame, the voiceless one included
_BLOCK = 256  # frames whose spectra are in memory at a time
_DEPTH = 24  # samples each side of the sinc that interpolates an autocorrelation


@dataclass(frozen=True)
class PitchTrack:
    """Fundamental frequency in equal steps."""

    times: Numbers
    """Middle of each frame in samples, [frames]."""
    hertz: Numbers
    """Frequency of each frame, 0 where voiceless, [frames]."""
    step: float
    """Samples from one frame to the next."""

    @property
    def voiced(self) -> NDArray[np.bool_]:
        """Which frames have a frequency, [frames]."""
        return self.hertz > 0

    @property
    def median(self) -> float:
        """Hz, over the voiced frames; NaN where there is none."""
        return float(np.median(self.hertz[self.voiced])) if self.voiced.any() else float("nan")

    def at(self, places: Numbers) -> Numbers:
        """Hz at `places` (samples), linear between voiced frames. Needs a voiced frame."""
        return np.interp(places, self.times[self.voiced], self.hertz[self.voiced])


def track_pitch(wave: NDArray[np.floating], floor: float, ceiling: float) -> PitchTrack:
    """Pitch of `wave` [n] at 16 kHz between `floor` and `ceiling` in Hz.

    Frames of three periods of the floor, every 0.8 periods. A wave shorter than a frame has no
    frames, so nothing in it is voiced.
    """
    size, step = round(3 * RATE / floor), 0.8 * RATE / floor
    count = int((len(wave) - size) / step) + 1 if len(wave) >= size else 0
    first = (len(wave) - 1 - (count - 1) * step) / 2
    times: Numbers = first + step * np.arange(count, dtype=np.float64)
    peak = float(np.abs(wave - wave.mean()).max()) if count else 0.0
    if peak == 0:
        return PitchTrack(times, np.zeros(count), step)
    shape = (count, _CANDIDATES)
    hertz, strength = np.zeros(shape), np.full(shape, -np.inf)
    starts = np.round(times - (size - 1) / 2).astype(np.int64)
    for begin in range(0, count, _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        frames = np.lib.stride_tricks.sliding_window_view(wave, size)[starts[rows]]
        lags, level = _autocorrelations(frames, floor)
        _candidates(lags, level / peak, floor, ceiling, hertz[rows], strength[rows])
    scale = 0.01 * RATE / step  # the costs are meant for steps of 10 ms
    return PitchTrack(times, _cheapest(hertz, strength, _JUMP * scale, _CHANGE * scale), step)


@functools.cache
def _window(size: int, points: int) -> tuple[Numbers, Numbers]:
    """Hann window [size] and its normalised autocorrelation [points]."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)
    power = np.abs(np.fft.rfft(window, points)) ** 2
    lags = np.fft.irfft(power, points)
    return window, lags / lags[0]


def _autocorrelations(
    frames: NDArray[np.floating], floor: float
) -> tuple[NDArray[np.float32], Numbers]:
    """Frames [F, size] -> (autocorrelation divided by the window's [F, lags], peak of its middle [F])."""
    from scipy import fft

    size = frames.shape[1]
    kept = int(RATE / floor) + _DEPTH + 2
    points = fft.next_fast_len(size + kept, real=True)
    window, window_lags = _window(size, points)
    centred = frames - frames.mean(axis=1, keepdims=True)
    middle = slice(size // 3, size - size // 3)  # one period of the floor
    level = np.abs(centred[:, middle]).max(axis=1).astype(np.float64)
    spectrum = fft.rfft(centred * window.astype(centred.dtype), points, axis=1)
    lags = fft.irfft(spectrum.real**2 + spectrum.imag**2, points, axis=1)[:, :kept]
    energy = np.maximum(lags[:, :1], np.finfo(np.float32).tiny)
    return (lags / energy / window_lags[:kept]).astype(np.float32), level


@compiled
def _at(lags: NDArray[np.float32], place: float) -> float:
    """An even function, known at whole lags, at `place`: a Hann-windowed sinc."""
    near = int(np.floor(place))
    shift = place - near
    if shift < 1e-9:
        return float(lags[near])
    total, sine = 0.0, np.sin(np.pi * shift)
    for k in range(-_DEPTH + 1, _DEPTH + 1):
        away = shift - k
        value = lags[abs(near + k)]
        sign = 1.0 if k % 2 == 0 else -1.0
        hann = 0.5 + 0.5 * np.cos(np.pi * away / (_DEPTH + 1))
        total += value * hann * sign * sine / (np.pi * away)
    return total


@compiled
def _top(lags: NDArray[np.float32], lag: int) -> tuple[float, float]:
    """Place and height of the maximum near the whole `lag`, by parabolas of shrinking width."""
    place, width = float(lag), 1.0
    for _ in range(3):
        below, here, above = _at(lags, place - width), _at(lags, place), _at(lags, place + width)
        bend = below - 2 * here + above
        if bend >= 0:
            break
        place += width * min(1.0, max(-1.0, 0.5 * (below - above) / bend))
        width *= 0.3
    return place, _at(lags, place)


@compiled
def _candidates(
    lags: NDArray[np.float32],
    level: Numbers,
    floor: float,
    ceiling: float,
    hertz: Numbers,
    strength: Numbers,
) -> None:
    """Fill `hertz` and `strength` [F, candidates]; candidate 0 is voiceless (equations 23, 24)."""
    lowest, highest = max(2, int(np.ceil(RATE / ceiling))), int(RATE / floor)
    for f in range(len(level)):
        row = lags[f]
        silent = 2.0 - level[f] / (_SILENCE / (1 + _VOICING))
        strength[f, 0] = _VOICING + max(0.0, silent)
        for lag in range(lowest, highest + 1):
            if row[lag] < 0.5 * _VOICING or row[lag] <= row[lag - 1] or row[lag] < row[lag + 1]:
                continue
            place, height = _top(row, lag)
            if height > 1:
                height = 1 / height  # the division by the window's can go past 1
            value = height - _OCTAVE * np.log2(floor * place / RATE)
            weakest = 1 + np.argmin(strength[f, 1:])
            if value > strength[f, weakest]:
                strength[f, weakest] = value
                hertz[f, weakest] = RATE / place


@compiled
def _cheapest(hertz: Numbers, strength: Numbers, jump: float, change: float) -> Numbers:
    """Frequency of each frame on the path of greatest strength minus transition costs (Viterbi)."""
    frames, many = hertz.shape
    best = strength[0].copy()
    back = np.zeros((frames, many), np.int16)
    for f in range(1, frames):
        now = np.full(many, -np.inf)
        for b in range(many):
            if strength[f, b] == -np.inf:
                continue
            for a in range(many):
                cost = 0.0
                if (hertz[f - 1, a] > 0) != (hertz[f, b] > 0):
                    cost = change
                elif hertz[f, b] > 0:
                    cost = jump * abs(np.log2(hertz[f - 1, a] / hertz[f, b]))
                value = best[a] - cost + strength[f, b]
                if value > now[b]:
                    now[b] = value
                    back[f, b] = a
        best = now
    path = np.zeros(frames)
    here = int(np.argmax(best))
    for f in range(frames - 1, -1, -1):
        path[f] = hertz[f, here]
        here = int(back[f, here])
    return path
