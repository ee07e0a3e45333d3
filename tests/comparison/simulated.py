"""Two systems on the same utterances, simulated: what is true of them is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ssft_bench.metric import Counts, Metric, Prediction

Runs = list[list[Prediction]]
"""The runs of one system."""


def read_counts(rows: Sequence[Prediction]) -> Counts:
    return np.array([[float(p.hypothesis), float(p.reference)] for p in rows])


RATIO = Metric(
    "wer", "%", False, True, lambda p: read_counts([p])[0], lambda s: 100 * s[..., 0] / s[..., 1],
    table=read_counts,
)  # fmt: skip
"""Hypothesis holds the errors, reference the words: a ratio of sums without any text."""


def systems(
    rng: np.random.Generator,
    *,
    speakers: int = 20,
    each: int = 6,
    gain: float = 0.0,
    own: float = 0.12,
    seeds: int = 1,
    by_seed: float = 0.0,
) -> tuple[Runs, Runs]:
    """Runs of A and of B; B's error rate is on average 100 * `gain` points above A's.

    Speakers and utterances are hard or easy for both systems alike, so errors go together; and each
    speaker suits one system better (`own`): differences are alike within a speaker. `by_seed` is how far
    a system moves as a whole with its seed. All effects are symmetric around 0 and no rate leaves 0..1,
    so the true difference is `gain`.
    """
    hard = 0.4 + rng.uniform(-0.12, 0.12, speakers).repeat(each)
    hard = hard + rng.uniform(-0.05, 0.05, speakers * each)
    words = rng.integers(5, 20, speakers * each)
    ids = [f"u{i:03}" for i in range(speakers * each)]
    names = [f"s{i // each:03}" for i in range(speakers * each)]
    both = []
    for shift in (-gain / 2, gain / 2):
        suits = rng.uniform(-own, own, speakers).repeat(each)
        runs = []
        for moved in rng.uniform(-by_seed, by_seed, seeds):
            errors = rng.binomial(words, hard + suits + shift + moved)
            rows = zip(ids, map(str, words.tolist()), map(str, errors.tolist()), names, strict=True)
            runs.append([Prediction(*row) for row in rows])
        both.append(runs)
    return both[0], both[1]


def without_speakers(runs: Runs) -> Runs:
    return [[Prediction(p.id, p.reference, p.hypothesis) for p in run] for run in runs]
