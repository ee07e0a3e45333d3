"""Scores of several seeds together, and the differences of two upstreams or modes, for the tables here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssft_bench import registry
from ssft_bench.metric import Counts, Metric, Prediction
from ssft_bench.statistics import Score, score


def ranking_metric(task: str) -> Metric:
    """The metric that ranks runs of a task."""
    found: Metric = registry.load("tasks", task).primary()
    return found


def pooled_score(metric: Metric, seeds: list[list[Prediction]]) -> Score:
    """Score of the predictions of all seeds together; the interval does not cover the choice of seed."""
    return score(metric, [p for own in seeds for p in own], seed=1)


def paired_difference(
    metric: Metric, ours: list[list[Prediction]], base: list[list[Prediction]]
) -> Score:
    """Ours minus base, the seeds together, paired over utterances and drawn by speaker."""
    counts: dict[str, Counts] = {}
    for side, seeds in enumerate((ours, base)):
        for p in (p for own in seeds for p in own):
            one = metric.counts(p)
            both = counts.setdefault(p.id, np.zeros(2 * len(one)))
            both[side * len(one) : (side + 1) * len(one)] += one
    half = len(next(iter(counts.values()))) // 2
    paired = Metric(
        metric.name, metric.unit, metric.higher_is_better, True, lambda p: counts[p.id],
        lambda sums: metric.combine(sums[..., :half]) - metric.combine(sums[..., half:]),
    )  # fmt: skip
    return score(paired, base[0], seed=1)


def interval_text(ends: Sequence[float]) -> str:
    """An interval as tables show it."""
    return " to ".join(f"{end:.1f}" for end in ends)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
