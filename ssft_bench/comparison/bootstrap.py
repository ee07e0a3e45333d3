"""How sure a difference of two systems is: clusters of utterances, and seeds, drawn again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssft_bench.comparison.pairing import Pairs
from ssft_bench.metric import Counts
from ssft_bench.statistics import times_drawn

_CHUNK = 2_000_000
"""Numbers held at once in a matrix: 16 MB."""


@dataclass(frozen=True)
class Draws:
    """Differences under resampling, and what their spread stands on."""

    differences: Counts
    """A - B of each draw [R]."""
    freedom: float
    """Degrees of freedom of their spread."""

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval, expanded to Student's t with these degrees of freedom.

        Hesterberg, "What Teachers Should Know About the Bootstrap" (The American Statistician 69(4),
        2015); the factor sqrt(n / (n - 1)) that he gives is in the draws, of n - 1 units.
        """
        from scipy.special import ndtr, stdtrit

        tail = ndtr(stdtrit(self.freedom, (1 - level) / 2))
        low, high = np.quantile(self.differences, [tail, 1 - tail])
        return float(low), float(high)

    def share_better(self, higher_is_better: bool) -> float:
        """Share of the draws in which A is better; a tie is half."""
        signed = self.differences if higher_is_better else -self.differences
        return float(np.mean(signed > 0) + np.mean(signed == 0) / 2)


def draw(pairs: Pairs, resamples: int, rng: np.random.Generator) -> Draws:
    """Differences A - B with clusters drawn for both systems alike, and seeds for each on its own.

    Of C clusters C - 1 are drawn with replacement, and of S seeds S - 1, so that the spread of a mean is
    not too small where there are few (Rao & Wu, "Resampling inference with complex survey data", JASA
    83, 1988, with m = n - 1). Clusters and seeds are drawn independently of each other (the pigeonhole
    bootstrap: Owen, Annals of Applied Statistics 1(2), 2007): the interval is of systems trained with
    other seeds and tested on other speakers. What neither explains alone is counted three times
    (Owen again), so the interval is cautious where that is much. One seed is held fixed. Needs two clusters.
    """
    clusters, (seeds_a, seeds_b) = pairs.clusters, pairs.seeds
    width = pairs.a.shape[2]
    step = max(1, _CHUNK // max(clusters, width))
    differences, by_cluster = [], []
    for done in range(0, resamples, step):
        size = min(step, resamples - done)
        weights = _drawn(rng, size, clusters)
        a, b = (_values(pairs, side, weights) for side in (pairs.a, pairs.b))
        by_cluster.append(a.mean(axis=1) - b.mean(axis=1))
        mean_a, mean_b = (
            (side * _shares(rng, size, n)).sum(axis=1) for side, n in ((a, seeds_a), (b, seeds_b))
        )
        differences.append(mean_a - mean_b)
    parts = [(float(np.var(np.concatenate(by_cluster))), clusters - 1)]
    for values in pairs.values():
        if len(values) > 1:
            parts.append((float(values.var(ddof=1)) / len(values), len(values) - 1))
    return Draws(np.concatenate(differences), _welch_satterthwaite(parts))


def _drawn(rng: np.random.Generator, rows: int, size: int) -> Counts:
    """How often each of `size` units is among size - 1 drawn ones [rows, size]; a lone one is once."""
    drawn: NDArray[np.int64] = rng.integers(size, size=(rows, max(1, size - 1)))
    return times_drawn(drawn, size)


def _shares(rng: np.random.Generator, rows: int, seeds: int) -> Counts:
    """Weight of each seed in each draw [rows, seeds]; they sum to 1."""
    return _drawn(rng, rows, seeds) / max(1, seeds - 1)


def _values(pairs: Pairs, side: Counts, weights: Counts) -> Counts:
    """The metric of each run [rows, seeds] under weights of the clusters [rows, clusters]."""
    return np.stack([pairs.metric.combine(weights @ units) for units in side], axis=1)


def _welch_satterthwaite(parts: list[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own (Satterthwaite 1946)."""
    total = math.fsum(variance for variance, _ in parts)
    if total == 0:
        return float(parts[0][1])
    return total**2 / math.fsum(variance**2 / freedom for variance, freedom in parts)
