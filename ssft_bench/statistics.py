"""Confidence intervals from stored predictions; no model is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssft_bench.errors import MissingError
from ssft_bench.metric import Counts, Metric, Prediction

_CHUNK = 2_000_000
"""Drawn indices, and sums, held at once: 16 MB of each, however many resamples and counts there are."""


@dataclass(frozen=True)
class Score:
    """A metric over a set of predictions, and how sure it is."""

    value: float
    """In the metric's unit."""
    ci95: tuple[float, float]
    """Low and high end of the interval, in the metric's unit; 95 % unless told otherwise."""
    n: int
    """Utterances."""
    clusters: int
    """What was resampled, counted: speakers, or utterances."""
    method: str
    """How the interval was made."""


def score(
    metric: Metric,
    predictions: Sequence[Prediction],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> Score:
    """Value of `metric` over the corpus, with a percentile bootstrap interval of `level`.

    Utterances of one speaker err together, so whole speakers are drawn (cluster bootstrap: Davison
    & Hinkley, "Bootstrap Methods and their Application", 1997, §3.8) when every prediction tells
    its speaker and there are at least 2; else utterances (Bisani & Ney, "Bootstrap Estimates for
    Confidence Intervals in ASR Performance Evaluation", ICASSP 2004). With fewer than about 20
    speakers such an interval is too narrow; `clusters` says how many there were.

    Depends on `seed`, not on the order of the predictions.
    Raises MissingError when there are no predictions.
    """
    if not predictions:
        raise MissingError(f"There are no predictions to compute {metric.name} from.")
    rows = sorted(predictions, key=lambda p: (p.id, p.reference, p.hypothesis, p.speaker or ""))
    counts = metric.rows(rows)
    units, what = clustered(metric, rows, counts)
    values = _resampled(metric, units, resamples, np.random.default_rng(seed))
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Score(
        value=float(metric.combine(counts.sum(axis=0))),
        ci95=(float(low), float(high)),
        n=len(rows),
        clusters=len(units),
        method=f"percentile bootstrap over {what}, {resamples} resamples, seed {seed}",
    )


def clustered(metric: Metric, rows: Sequence[Prediction], counts: Counts) -> tuple[Counts, str]:
    """What is drawn, and its name: sums [C,K] of `counts` [N,K] by speaker, in the speakers' order, or
    the counts as they are where a row tells no speaker or all tell the same."""
    names = [p.speaker for p in rows]
    if None in names or len(set(names)) < 2:
        return counts, metric.over
    return _sum_by(names, counts), "speakers"


def _sum_by(names: Sequence[str | None], counts: Counts) -> Counts:
    """Sums [C,K] of the rows of `counts` [N,K] per name, names in sorted order."""
    unique, which = np.unique(np.array(names, dtype=str), return_inverse=True)
    sums: Counts = np.zeros((len(unique), counts.shape[1]))
    np.add.at(sums, which, counts)
    return sums


def _resampled(metric: Metric, units: Counts, resamples: int, rng: np.random.Generator) -> Counts:
    """Values [R] of `resamples` draws with replacement of as many rows as `units` [C,K] has."""
    size, width = units.shape
    step = max(1, _CHUNK // max(size, width))
    values = []
    for done in range(0, resamples, step):
        drawn = rng.integers(size, size=(min(step, resamples - done), size))
        values.append(metric.combine(times_drawn(drawn, size) @ units))
    return np.concatenate(values)


def times_drawn(drawn: NDArray[np.int64], size: int) -> Counts:
    """How often each row was drawn [R,C], from the drawn indices [R,C]."""
    offsets = np.arange(len(drawn))[:, None] * size
    flat = np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * size)
    return flat.reshape(len(drawn), size).astype(np.float64)
