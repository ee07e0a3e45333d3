"""Glottal pulses: one mark per period of the voiced parts, kept in phase by cross-correlation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssft_bench.audio import RATE
from ssft_bench.perturbation.compiled import compiled
from ssft_bench.perturbation.pitch_track import Numbers, PitchTrack

_ALIKE, _ALIKE_AT_EDGE = 0.3, 0.7  # least correlation of a period with its neighbour
_LOUD, _LOUD_AT_EDGE = 0.01, 0.023  # least peak of a period, as a share of the wave's
_NEAREST, _FARTHEST = 0.8, 1.25  # distance of two marks in periods


def voiced_segments(wave: NDArray[np.floating], track: PitchTrack) -> list[Numbers]:
    """Marks in samples, a run [marks] of two or more for each stretch without a missing period."""
    voiced = track.voiced
    if not voiced.any():
        return []
    edges = np.flatnonzero(np.diff(voiced.astype(np.int8), prepend=0, append=0))
    marks: list[float] = []
    level = float(np.abs(wave).max())
    for first, last in edges.reshape(-1, 2):
        hertz, start = track.hertz[first:last], track.times[first]
        latest = marks[-1] if marks else -np.inf
        marks += _marks(wave, hertz, start, track.step, latest, level).tolist()
    places = np.asarray(marks)
    gap = _FARTHEST * RATE / track.hertz[voiced].min()
    runs = np.split(places, np.flatnonzero(np.diff(places) > gap) + 1)
    return [run for run in runs if len(run) > 1]


@compiled
def _marks(
    wave: NDArray[np.floating],
    hertz: Numbers,
    start: float,
    step: float,
    latest: float,
    level: float,
) -> Numbers:
    """Marks of one voiced stretch whose frames lie at `start`, `start + step`, ...

    The first is the highest peak within a period of the middle; from there the walk goes to both
    ends, each time to the place whose surroundings are most like those of the mark before.
    """
    times = start + step * np.arange(len(hertz))
    begin, end = start - step / 2, times[-1] + step / 2
    middle = (begin + end) / 2
    half = 0.5 * RATE / np.interp(middle, times, hertz)
    seed = float(_peak(wave, middle - half, middle + half))
    found = [seed]
    for direction in (-1, 1):
        place = seed
        while True:
            period = RATE / np.interp(place, times, hertz)
            place, alike, peak = _alike(wave, place, period, direction)
            outside = place < begin or place > end
            least, loud = (_ALIKE_AT_EDGE, _LOUD_AT_EDGE) if outside else (_ALIKE, _LOUD)
            free = place - latest > _NEAREST * period
            if alike > least and peak > loud * level and free:
                found.append(place)
            if outside:
                break
    return np.sort(np.array(found))


@compiled
def _peak(wave: NDArray[np.floating], begin: float, end: float) -> int:
    """Sample of the greatest absolute value between two places."""
    first = min(max(int(np.ceil(begin)), 0), len(wave) - 1)
    best = first
    for i in range(first, min(int(np.floor(end)) + 1, len(wave))):
        if abs(wave[i]) > abs(wave[best]):
            best = i
    return best


@compiled
def _alike(
    wave: NDArray[np.floating], place: float, period: float, direction: int
) -> tuple[float, float, float]:
    """The neighbouring mark: (place, correlation with this one's period, peak of its period).

    Where the wave ends or is silent: a period further, with correlation -1.
    """
    here = int(np.round(place))
    half = int(np.ceil(period / 2))
    near, far = int(np.floor(_NEAREST * period)), int(np.ceil(_FARTHEST * period))
    count = far - near + 1
    score = np.full(count, -1.0)
    if here - half >= 0 and here + half < len(wave):
        for k in range(count):
            there = here + direction * (near + k)
            if there - half < 0 or there + half >= len(wave):
                continue
            product, energy, own = 0.0, 0.0, 0.0
            for i in range(-half, half + 1):
                a, b = wave[here + i], wave[there + i]
                product += a * b
                energy += b * b
                own += a * a
            if energy > 0 and own > 0:
                score[k] = product / np.sqrt(energy * own)
    best = int(np.argmax(score))
    if score[best] <= -1.0:
        return place + direction * period, -1.0, 0.0
    shift = 0.0
    if 0 < best < count - 1 and score[best - 1] > -1 and score[best + 1] > -1:
        bend = score[best - 1] - 2 * score[best] + score[best + 1]
        if bend < 0:
            shift = 0.5 * (score[best - 1] - score[best + 1]) / bend
    there = here + direction * (near + best)
    peak = 0.0
    for i in range(-half, half + 1):
        peak = max(peak, abs(wave[there + i]))
    return place + direction * (near + best + shift), score[best], peak
