"""Dynamic time warping of one sequence against many, by cosine distance, compiled and threaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from ssft_bench.analysis.sources import Frames

_CELLS = 1 << 25
"""Distances held at once (128 MiB), however many sequences there are."""

_STEP = 1e-9
"""Far below what float32 distances can tell."""

Costs = NDArray[np.float64]


@numba.njit(cache=True, nogil=True)
def _path_mean(distance: NDArray[np.float32]) -> float:
    """Cost of the cheapest path through [N, M] divided by its cells; of equal costs the shorter.

    A cell costs _STEP more than its distance, so that the shorter path wins without a second
    comparison, and minima and selections stand for branches that no processor could predict.
    """
    n, m = distance.shape
    cost = np.empty(m, np.float64)
    cells = np.empty(m, np.int64)
    for j in range(m):
        cost[j] = distance[0, j] + _STEP + (cost[j - 1] if j else 0.0)
        cells[j] = j + 1
    for i in range(1, n):
        corner, corner_cells = cost[0], cells[0]
        left, left_cells = corner + distance[i, 0] + _STEP, corner_cells + 1
        cost[0], cells[0] = left, left_cells
        for j in range(1, m):
            up, up_cells = cost[j], cells[j]
            steps = up_cells if up < corner else corner_cells
            best = min(up, corner)
            left_cells = (left_cells if left < best else steps) + 1
            left = min(left, best) + (distance[i, j] + _STEP)
            cost[j], cells[j] = left, left_cells
            corner, corner_cells = up, up_cells
    return cost[m - 1] / cells[m - 1] - _STEP  # type: ignore[no-any-return]


@numba.njit(cache=True, parallel=True)
def _against_all(distance: NDArray[np.float32], starts: NDArray[np.int64], found: Costs) -> None:
    """found[k] = the path mean within rows starts[k] to starts[k + 1], one piece of memory each."""
    for k in numba.prange(len(starts) - 1):
        found[k] = _path_mean(distance[starts[k] : starts[k + 1]])


def path_mean(distance: NDArray[np.float32]) -> float:
    """Mean distance along the cheapest warping path through `distance` [N, M].

    Steps go down, right and diagonally and all weigh 1 (Sakoe and Chiba 1978 without slope limits);
    the path runs from corner to corner. Of paths that cost the same (to 1e-9 a cell) the shorter counts.
    """
    return float(_path_mean(np.ascontiguousarray(distance, np.float32)))


def unit_frames(frames: Frames, *, subtract_mean: bool) -> Frames:
    """Frames [T, D] of length 1, on request after subtracting the utterance's mean; zeros stay."""
    x = frames - frames.mean(axis=0) if subtract_mean else frames
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(norms > 0, norms, 1), np.float32)


def pairwise(sequences: Sequence[Frames]) -> Iterator[tuple[int, Costs]]:
    """For each sequence i, its distances [n - i - 1] to the sequences after it.

    Sequences are frames [T, D] of length 1; the distance of two frames is 1 - cosine, that of two
    sequences `path_mean`, which is the same both ways. Memory: frames of the longest sequence times
    all frames, at most 128 MiB at a time, or one pair where that is more.
    """
    everything = np.concatenate(sequences)
    starts = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    for i, query in enumerate(sequences):
        found = np.empty(len(sequences) - i - 1, np.float64)
        first = i + 1
        while first < len(sequences):
            room = max(1, _CELLS // len(query))
            last = int(np.searchsorted(starts, starts[first] + room, side="right")) - 1
            last = min(max(last, first + 1), len(sequences))
            part = everything[starts[first] : starts[last]]
            distance = np.float32(1) - part @ query.T
            own = starts[first : last + 1] - starts[first]
            _against_all(distance, own, found[first - i - 1 : last - i - 1])
            first = last
        yield i, found
