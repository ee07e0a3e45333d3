"""The predictions of two systems side by side: the same utterances, the same references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.metric import Counts, Metric, Prediction
from ssft_bench.statistics import clustered

Runs = Sequence[Sequence[Prediction]]
"""The predictions of one system, by seed of its training."""


@dataclass(frozen=True)
class Pairs:
    """Counts of two systems, A and B, on the same clusters of utterances."""

    metric: Metric
    a: Counts
    """Summed counts [seeds of A, clusters, K]."""
    b: Counts
    """The same of B, with its own seeds."""
    n: int
    """Utterances."""
    over: str
    """What a cluster is: speakers, or what a prediction is of."""

    @property
    def clusters(self) -> int:
        """Units that are drawn together."""
        return int(self.a.shape[1])

    @property
    def seeds(self) -> tuple[int, int]:
        """Runs of A and of B."""
        return len(self.a), len(self.b)

    def values(self) -> tuple[Counts, Counts]:
        """The metric of each run of A [SA] and of B [SB]."""
        return self.metric.combine(self.a.sum(axis=1)), self.metric.combine(self.b.sum(axis=1))


def pair(metric: Metric, a: Runs, b: Runs) -> Pairs:
    """Line up the runs of two systems by utterance.

    Whole speakers are one cluster under the same condition as in `statistics.score`. A metric whose
    rows depend on each other (thresholds) is tabulated over all runs at once, so that rows of A and B
    can change places.

    Raises MissingError without predictions, UsageError naming the first utterance that is not in all
    runs, is there twice or has another reference or speaker.
    """
    runs = [sorted(run, key=lambda p: p.id) for run in chain(a, b)]
    if not a or not b or not runs[0]:
        raise MissingError(f"There are no predictions to compare {metric.name} of.")
    for run in runs:
        check_same(runs[0], run)
    counts = metric.rows([*chain.from_iterable(runs)])
    n, width = len(runs[0]), counts.shape[1]
    side_by_side = counts.reshape(len(runs), n, width).transpose(1, 0, 2).reshape(n, -1)
    units, over = clustered(metric, runs[0], side_by_side)
    by_run = units.reshape(len(units), len(runs), width).transpose(1, 0, 2)
    return Pairs(metric, by_run[: len(a)], by_run[len(a) :], n, over)


def check_same(first: Sequence[Prediction], other: Sequence[Prediction]) -> None:
    """Raise UsageError where two runs, sorted by id, were not scored on the same utterances."""
    for run in (first, other):
        ids = [p.id for p in run]
        if len(set(ids)) < len(ids):
            twice = next(one for one, following in pairwise(ids) if one == following)
            raise UsageError(f"not comparable: utterance '{twice}' was predicted twice in one run")
    mine, theirs = ({p.id: p for p in run} for run in (first, other))
    lonely = sorted(mine.keys() ^ theirs.keys())
    if lonely:
        raise UsageError(
            f"not comparable: {len(lonely)} utterances are in one run only, '{lonely[0]}' first"
        )
    for p, q in zip(first, other, strict=True):
        if (p.reference, p.speaker) != (q.reference, q.speaker):
            what = "reference" if p.reference != q.reference else "speaker"
            raise UsageError(
                f"not comparable: utterance '{p.id}' has another {what} in the other run"
            )
