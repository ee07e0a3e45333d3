"""Another voice by resampling and overlap-add of pitch-synchronous grains (TD-PSOLA)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ssft_bench.audio import RATE
from ssft_bench.perturbation.compiled import compiled
from ssft_bench.perturbation.pitch_marks import voiced_segments
from ssft_bench.perturbation.pitch_track import Numbers, PitchTrack, track_pitch
from ssft_bench.perturbation.resampling import Wave, resample_to

LOWEST = 30.0
"""Hz; a wide pitch range would otherwise take low excursions below zero."""
_NOISE = 0.010 * RATE  # samples between grains where there is no pitch
_JITTER = 0.2  # of it: equal distances would buzz at 100 Hz
_TAPS = 16  # samples that a value between samples is made of


def respeak(
    wave: Wave, formant: float, pitch: float, range: float, f0_min: float, f0_max: float
) -> tuple[Wave, bool]:
    """The work of `ssft_bench.perturbation.speaker.change_voice`, its arguments checked."""
    if len(wave) == 0:
        return wave, False
    centred = (wave - wave.mean(dtype=np.float64)).astype(np.float32)
    track = track_pitch(centred, f0_min, f0_max)
    segments = voiced_segments(centred, track)
    # Formants first: the whole wave played faster. The grains then give it back its duration.
    source = centred
    if formant != 1:
        source = resample_to(centred, formant, math.ceil(len(wave) / formant))
    grains = _grains(segments, _new_pitch(track, pitch, range), track, len(wave))
    out = np.zeros(len(wave))
    _overlap_add(np.asarray(source, np.float32), out, grains, 1 / formant)
    return out.astype(np.float32), bool(segments)


def _new_pitch(track: PitchTrack, pitch: float, range: float) -> Numbers:
    """Hz at the voiced frames: the median moves by `pitch`, excursions from it grow by `range`."""
    middle = pitch * track.median
    return np.maximum(LOWEST, middle + range * (pitch * track.hertz[track.voiced] - middle))


def _grains(segments: list[Numbers], hertz: Numbers, track: PitchTrack, count: int) -> Numbers:
    """[4, grains] in samples: place in the result, place in the wave, half widths left and right.

    A grain reaches as far as its neighbours in the result, so that equal distances add up to one, but
    no further than the pulses beside its own in the wave: otherwise it would hold two of them.
    """
    parts = []
    begin = -2 * _NOISE
    for marks in segments:
        voice = _voiced_places(track.times[track.voiced], hertz, marks[0], marks[-1])
        nearest = np.searchsorted((marks[1:] + marks[:-1]) / 2, voice)
        gaps = np.diff(marks)
        before, after = np.append(gaps[0], gaps)[nearest], np.append(gaps, gaps[-1])[nearest]
        parts += [_noise(begin, voice[0]), np.stack([voice, marks[nearest], before, after])]
        begin = float(voice[-1])
    parts.append(_noise(begin, count + 2 * _NOISE))
    grains = np.concatenate(parts, axis=1)
    distance = np.diff(grains[0], prepend=grains[0, 0] - _NOISE, append=grains[0, -1] + _NOISE)
    grains[2] = np.minimum(grains[2], distance[:-1])
    grains[3] = np.minimum(grains[3], distance[1:])
    return grains


def _noise(begin: float, end: float) -> Numbers:
    """Grains between two places, at the same place in the wave, about 10 ms apart [4, grains]."""
    count = round((end - begin) / _NOISE) - 1
    if count < 1:
        return np.zeros((4, 0))
    steps = np.arange(1, count + 1)
    golden = (steps * 0.6180339887498949) % 1.0 - 0.5  # evenly spread, never repeating
    places = begin + (end - begin) * (steps + _JITTER * golden) / (count + 1)
    free = np.full(count, np.inf)
    return np.stack([places, places, free, free])


@compiled
def _voiced_places(times: Numbers, hertz: Numbers, begin: float, end: float) -> Numbers:
    """Places from `begin` to `end`, each a period of the pitch there after the one before."""
    places = [begin]
    near = 0
    while True:
        place = places[-1]
        while near < len(times) - 2 and times[near + 1] < place:
            near += 1
        value = hertz[near]
        if len(times) > 1:
            share = (place - times[near]) / (times[near + 1] - times[near])
            share = min(1.0, max(0.0, share))
            value = (1 - share) * hertz[near] + share * hertz[near + 1]
        place += RATE / value
        if place > end:
            break
        places.append(place)
    return np.array(places)


@compiled
def _overlap_add(source: NDArray[np.float32], out: Numbers, grains: Numbers, scale: float) -> None:
    """Add to `out` [n] each grain of `source`, whose time runs `scale` times as fast as the wave's.

    The two halves of a grain are those of Hann windows of their own widths. A grain may lie between
    samples: it is read by one windowed sinc, since all its samples have the same fraction.
    """
    taps = np.zeros(_TAPS)
    for g in range(grains.shape[1]):
        target, left, right = grains[0, g], grains[2, g], grains[3, g]
        offset = grains[1, g] * scale - target
        whole = int(np.floor(offset))
        _fractional_taps(offset - whole, taps)
        first = max(0, int(np.ceil(target - left)))
        for j in range(first, min(len(out), int(np.floor(target + right)) + 1)):
            width = left if j < target else right
            weight = 0.5 + 0.5 * np.cos(np.pi * (j - target) / width) if width > 0 else 1.0
            begin = j + whole - _TAPS // 2 + 1
            total = 0.0
            for k in range(max(0, -begin), min(_TAPS, len(source) - begin)):
                total += taps[k] * source[begin + k]
            out[j] += weight * total


@compiled
def _fractional_taps(shift: float, taps: Numbers) -> None:
    """Weights of the samples around a place `shift` in [0, 1) after the middle one."""
    total = 0.0
    for k in range(_TAPS):
        away = shift - (k - _TAPS // 2 + 1)
        value = 1.0 if abs(away) < 1e-9 else np.sin(np.pi * away) / (np.pi * away)
        taps[k] = value * np.cos(0.5 * np.pi * away / (_TAPS // 2 + 1)) ** 2
        total += taps[k]
    taps /= total
