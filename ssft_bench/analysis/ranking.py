"""Mean average precision of a ranking, what chance would give, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssft_bench.metric import Counts, Metric, Prediction
from ssft_bench.statistics import Score, score

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def average_precision(similarity: Floats, relevant: Bools) -> float:
    """Mean over relevant items of the precision among all items that are at least as similar; [n].

    Ties count as one rank, as in sklearn's `average_precision_score`.
    Raises ValueError when nothing is relevant.
    """
    if not relevant.any():
        raise ValueError("average precision is not defined without a relevant item")
    order = np.argsort(-similarity, kind="stable")
    falling = -similarity[order]
    last = np.searchsorted(falling, falling, side="right")  # items at least as similar as each
    hits = np.cumsum(relevant[order])
    precision = hits[last - 1] / last
    return float(precision[relevant[order]].mean())


def chance_average_precision(items: int, relevant: int) -> float:
    """Expected average precision of a random order of `items` with `relevant` relevant ones.

    By linearity (1/n) sum over ranks k of E[precision at k | a relevant item is there]:
    H_n / n (1 - p) + p with p = (relevant - 1) / (n - 1).
    """
    if items == 1:
        return 1.0
    share = (relevant - 1) / (items - 1)
    harmonic = float((1.0 / np.arange(1, items + 1)).sum())
    return harmonic / items * (1 - share) + share


def _value(p: Prediction) -> Counts:
    return np.array([float(p.hypothesis), 1.0])


MAP = Metric("map", "%", True, True, _value, lambda sums: 100 * sums[..., 0] / sums[..., 1])
"""Mean of per-query average precision, which stands in `hypothesis`."""


@dataclass(frozen=True)
class Retrieval:
    """MAP over the queries that have something to find."""

    score: Score
    """In %."""
    chance: float
    """Expected MAP in % of a random order, for the same queries."""
    queries: int
    """Queries that count."""
    by_query: dict[str, float]
    """Average precision of each."""


def mean_average_precision(
    similarity: Floats, words: list[str], ids: list[str], allowed: Bools, seed: int
) -> Retrieval | None:
    """MAP where every item is a query against all others that `allowed` [n, n] lets it see.

    Relevant are items of the same word; the item itself is never in its own list. Queries with
    nothing relevant do not count. The interval resamples queries. None when no query counts.
    """
    labels = np.unique(np.array(words), return_inverse=True)[1]
    others = allowed & ~np.eye(len(words), dtype=bool)
    found: dict[str, float] = {}
    chances = []
    for i, name in enumerate(ids):
        relevant = (labels == labels[i])[others[i]]
        if relevant.any():
            found[name] = average_precision(similarity[i][others[i]], relevant)
            chances.append(chance_average_precision(len(relevant), int(relevant.sum())))
    if not found:
        return None
    predictions = [Prediction(name, "", repr(value)) for name, value in found.items()]
    scored = score(MAP, predictions, seed=seed)
    return Retrieval(scored, 100 * float(np.mean(chances)), len(found), found)


def by_word(result: Retrieval, words: list[str], ids: list[str]) -> dict[str, Any]:
    """MAP in % of the queries of each word."""
    values: dict[str, list[float]] = {}
    for word, name in zip(words, ids, strict=True):
        if name in result.by_query:
            values.setdefault(word, []).append(result.by_query[name])
    return {word: 100 * float(np.mean(own)) for word, own in sorted(values.items())}
