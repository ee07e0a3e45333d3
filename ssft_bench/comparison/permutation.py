"""A test of two systems that assumes no distribution: whoever is better may change places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssft_bench.metric import Counts, Metric

_CHUNK = 2_000_000
"""Numbers held at once in a matrix: 16 MB."""
_TIES = 1e-9
"""Differences that rounding alone can make, as a share of the values."""


@dataclass(frozen=True)
class Permuted:
    """A p-value and how it was found."""

    p: float
    """Two-sided."""
    exact: bool
    """Every assignment was looked at; else some were drawn."""
    smallest: float
    """The smallest p that is possible here."""


def swap_test(
    metric: Metric, a: Counts, b: Counts, *, resamples: int, rng: np.random.Generator
) -> Permuted:
    """Paired permutation test of a difference: A and B change places in whole clusters (sign flips).

    a, b [C,K] are counts by cluster. Under the null hypothesis each cluster's two results are
    exchangeable, so each of the 2^C assignments is equally likely (Fisher's; Noreen, "Computer-Intensive
    Methods for Testing Hypotheses", 1989; for corpora Yeh, COLING 2000). All are looked at where they
    are at most 2 * `resamples` (halves mirror each other); else `resamples` are drawn, and the p-value
    counts the observed one among them (Phipson & Smyth 2010). Clusters without a difference are left out.
    """
    moving = np.any(a != b, axis=1)
    clusters = int(moving.sum())
    if clusters == 0:
        return Permuted(1.0, True, 1.0)
    total_a, total_b, change = a.sum(axis=0), b.sum(axis=0), (b - a)[moving]
    values = metric.combine(np.stack([total_a, total_b]))
    observed = abs(float(values[0] - values[1])) - _TIES * float(np.abs(values).max())
    halves = 2 ** (clusters - 1)
    exact = halves <= resamples
    rows = halves if exact else resamples
    step = max(1, _CHUNK // max(clusters, a.shape[1]))
    reached = 0
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        flips = (
            _assignments(start, stop, clusters) if exact else _drawn(rng, stop - start, clusters)
        )
        moved = flips @ change
        differences = metric.combine(total_a + moved) - metric.combine(total_b - moved)
        reached += int(np.sum(np.abs(differences) >= observed))
    if exact:
        return Permuted(reached / rows, True, 1 / rows)
    return Permuted((1 + reached) / (1 + rows), False, 1 / (1 + rows))


def _assignments(start: int, stop: int, clusters: int) -> Counts:
    """Assignments by number [stop - start, clusters]: bit c of the number swaps cluster c; the last
    cluster never is, as swapping all others is the same but for the sign."""
    numbers = np.arange(start, stop, dtype=np.int64)[:, None]
    return (numbers >> np.arange(clusters) & 1).astype(np.float64)


def _drawn(rng: np.random.Generator, rows: int, clusters: int) -> Counts:
    return rng.integers(2, size=(rows, clusters)).astype(np.float64)
