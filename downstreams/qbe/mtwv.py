"""Term-weighted value, the score of spoken term detection, and mean average precision.

    TWV(t) = 1 - mean over the queries that occur of P_miss(t) + beta * P_fa(t)
    P_miss = matches with a score below t / matches
    P_fa   = other documents with a score of at least t / other documents

Fiscus et al., "Results of the 2006 Spoken Term Detection Evaluation" (SIGIR workshop SSCS 2007), with a
document as a trial and the costs of MediaEval's QUESST (Anguera et al., 2014). MTWV is the largest over t.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssft_bench.analysis.ranking import average_precision
from ssft_bench.downstreams.qbe.trials import DEFAULT_SCORE, Scores, Trials, read
from ssft_bench.metric import Counts, Metric, Prediction

P_TARGET = 0.0008
C_FA = 1
C_MISS = 100
"""Of `score-TWV-Cnxe.sh` as it comes with QUESST 2015; that of 2014 is taken to be the same."""
BETA = C_FA / C_MISS * (1 / P_TARGET - 1)
"""What a false alarm rate costs beside a miss rate: 12.49."""
DECISION = 2.0
"""A query is said to occur in a document whose normalised score is above this (s3prl)."""


def term_weighted_values(trials: Trials, thresholds: Scores) -> Scores:
    """1 - P_miss - beta P_fa of one query at each threshold [K]; scores of at least it are detections.

    Sums to 0 at infinity. Raises ValueError for a query that occurs nowhere.
    """
    if not trials.true.size:
        raise ValueError("a query that occurs nowhere has no term-weighted value")
    hits = _at_least(trials.true, thresholds)
    unscored = trials.documents - trials.true.size - trials.false.size
    alarms = _at_least(trials.false, thresholds) + unscored * (thresholds <= DEFAULT_SCORE)
    others = max(1, trials.documents - trials.true.size)
    return np.asarray(hits / trials.true.size - BETA * alarms / others)


def _at_least(scores: Scores, thresholds: Scores) -> Scores:
    return np.asarray(
        scores.size - np.searchsorted(np.sort(scores), thresholds, side="left"), np.float64
    )


def mtwv_table(predictions: Sequence[Prediction]) -> Counts:
    """Rows [N, K + 2]: a query's value at K + 1 thresholds, and the queries that it stands for.

    Below a match's score only false alarms are added, so no threshold but those scores can be the best;
    the last one is infinity. All are 0 for a query that occurs nowhere.
    """
    everyone = [read(p) for p in predictions]
    scores = [trials.true for trials in everyone]
    thresholds = np.append(np.unique(np.concatenate(scores)), np.inf)
    rows = np.zeros((len(everyone), len(thresholds) + 1))
    for row, trials in zip(rows, everyone, strict=True):
        if trials.true.size:
            row[:-1] = term_weighted_values(trials, thresholds)
            row[-1] = trials.queries
    return rows


def _atwv_counts(p: Prediction) -> Counts:
    trials = read(p)
    if not trials.true.size:
        return np.zeros(2)
    above = np.nextafter(np.array([DECISION]), np.inf)  # strictly above
    return np.array([float(term_weighted_values(trials, above)[0]), trials.queries])


def _map_counts(p: Prediction) -> Counts:
    trials = read(p)
    if not trials.true.size:
        return np.zeros(2)
    scores = np.concatenate([trials.true, trials.false])
    relevant = np.arange(scores.size) < trials.true.size
    return np.array([average_precision(scores, relevant), 1.0])


def _best_mean(sums: Counts) -> Counts:
    return _mean(sums[..., :-1].max(axis=-1), sums[..., -1])


def _mean(total: Counts, queries: Counts) -> Counts:
    """In hundredths; 0 where no query occurs anywhere."""
    return np.asarray(100 * total / np.where(queries > 0, queries, np.inf))


MTWV = Metric(
    "mtwv", "x100", True, True, lambda p: mtwv_table([p])[0], _best_mean, mtwv_table, "queries"
)
"""Maximum term-weighted value, times 100 as SUPERB's board has it."""
ATWV = Metric(
    "atwv", "x100", True, False, _atwv_counts, lambda s: _mean(s[..., 0], s[..., 1]), over="queries"
)
"""Term-weighted value at the decisions that were made, times 100."""
MAP = Metric(
    "map", "%", True, False, _map_counts, lambda s: _mean(s[..., 0], s[..., 1]), over="queries"
)
"""Mean average precision over the queries that occur."""
