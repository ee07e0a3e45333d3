"""Two systems on the same utterances: the difference, its interval, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssft_bench.comparison.bootstrap import Draws, draw
from ssft_bench.comparison.pairing import Pairs, Runs, pair
from ssft_bench.comparison.permutation import swap_test
from ssft_bench.metric import Counts, Metric, Prediction

RESAMPLES = 10_000
FEW_CLUSTERS = 10
"""With fewer the interval and the test are said to be coarse."""


@dataclass(frozen=True)
class PairedResult:
    """A against B in one metric."""

    difference: float
    """A - B in the metric's unit; over several seeds the difference of the means."""
    ci95: tuple[float, float] | None
    """95 % interval of the difference; None where there is only one cluster."""
    p: float
    """Two-sided p-value of no difference, not corrected for other comparisons."""
    probability_of_improvement: float
    """That A is better: share of the bootstrap's draws; with several seeds the share of pairs of seeds
    (P(X > Y) of Agarwal et al., NeurIPS 2021). A tie is half."""
    n: int
    """Utterances."""
    clusters: int
    """What was drawn, counted: speakers, or utterances."""
    method: str
    """How interval and p-value were made."""
    values: tuple[float, float] = (float("nan"), float("nan"))
    """The metric of A and of B; over several seeds the means."""
    over: str = "utterances"
    """What a cluster is."""
    seeds: tuple[int, int] = (1, 1)
    """Runs of A and of B."""
    warnings: tuple[str, ...] = ()
    """What makes interval or p-value weaker than they look."""


def paired(
    metric: Metric,
    a: Sequence[Prediction],
    b: Sequence[Prediction],
    *,
    seed: int,
    resamples: int = RESAMPLES,
) -> PairedResult:
    """Compare one run of A with one of B, utterance by utterance, clustered by speaker.

    The interval is a paired bootstrap's (see `bootstrap.draw`), the p-value that of a permutation test
    (see `permutation.swap_test`). Both are about these two trained systems on other speakers; they know
    nothing of other seeds. Depends on `seed`, not on the order of the predictions.

    Raises MissingError without predictions, UsageError when the two were not scored on the same
    utterances with the same references.
    """
    return paired_seeds(metric, [a], [b], seed=seed, resamples=resamples)


def paired_seeds(
    metric: Metric, a: Runs, b: Runs, *, seed: int, resamples: int = RESAMPLES
) -> PairedResult:
    """Compare the runs of A with those of B, several seeds of each; see `paired` for one.

    With several seeds of a side, the interval covers the choice of seed too (hierarchical bootstrap),
    and the p-value is Student's t of the difference over the spread of those draws, with Welch and
    Satterthwaite's degrees of freedom: too few seeds cannot be permuted.
    """
    pairs = pair(metric, a, b)
    values_a, values_b = pairs.values()
    means = float(values_a.mean()), float(values_b.mean())
    difference = means[0] - means[1]
    rng = np.random.default_rng(seed)
    draws = draw(pairs, resamples, rng) if pairs.clusters > 1 else None
    interval = f"paired bootstrap over {pairs.over}"
    better = 0.5 if draws is None else draws.share_better(metric.higher_is_better)
    if pairs.seeds == (1, 1):
        permuted = swap_test(metric, pairs.a[0], pairs.b[0], resamples=resamples, rng=rng)
        p, smallest = permuted.p, permuted.smallest
        kind = "all" if permuted.exact else f"{resamples} drawn"
        test = f"permutation test over {pairs.over}, {kind} assignments"
    else:
        p, smallest = _student(difference, draws), 0.0
        interval = f"hierarchical bootstrap over seeds and {pairs.over}"
        test = "Student's t over its spread"
        better = superiority(values_a, values_b, metric.higher_is_better)
    return PairedResult(
        difference=difference,
        ci95=None if draws is None else draws.interval(),
        p=p,
        probability_of_improvement=better,
        n=pairs.n,
        clusters=pairs.clusters,
        method=f"{interval}, {resamples} resamples, seed {seed}; p by {test}",
        values=means,
        over=pairs.over,
        seeds=pairs.seeds,
        warnings=tuple(_warnings(pairs, smallest)),
    )


def superiority(a: Counts, b: Counts, higher_is_better: bool) -> float:
    """P(X > Y): share of the pairs of a run of A and a run of B in which A is better; a tie is half.

    Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS
    2021): Mann and Whitney's U over the number of pairs.
    """
    gain = a[:, None] - b[None, :] if higher_is_better else b[None, :] - a[:, None]
    return float(np.mean(gain > 0) + np.mean(gain == 0) / 2)


def _student(difference: float, draws: Draws | None) -> float:
    """Two-sided p of a difference over the spread of its draws; no smaller than one draw can tell."""
    if draws is None or difference == 0:
        return 1.0
    from scipy.special import stdtr

    spread = float(draws.differences.std())
    least = 1 / (1 + len(draws.differences))
    if spread == 0:
        return least
    return max(least, float(2 * stdtr(draws.freedom, -abs(difference) / spread)))


def _warnings(pairs: Pairs, smallest: float) -> list[str]:
    """What a reader has to know who wants to rely on the numbers."""
    found = []
    over = pairs.over
    if pairs.clusters < FEW_CLUSTERS:
        found.append(
            f"only {pairs.clusters} {over}: the interval rests on them alone; it is widened (Student's t) "
            f"but stays rough, and nothing is known about {over} unlike these"
        )
    if smallest > 0.05:
        found.append(f"with so few {over} that differ, p cannot fall below {smallest:.2g}")
    if pairs.seeds == (1, 1):
        return found
    few = min(n for n in pairs.seeds)
    if few == 1:
        found.append(
            "one side has a single seed: how much that side moves with its seed is not covered"
        )
    elif few < 3:
        found.append("two seeds of a side: their spread is hardly known")
    return found
