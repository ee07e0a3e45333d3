"""Bootstrap intervals: against other bootstraps, and how often they hold the true value."""

from __future__ import annotations

import math
import random
import secrets

import numpy as np
import pytest
from scipy import stats

from ssft_bench import statistics
from ssft_bench.errors import MissingError
from ssft_bench.metric import Counts, Metric, Prediction
from ssft_bench.statistics import score

SEEDS = [1, secrets.randbelow(2**31)]


def read_counts(p: Prediction) -> Counts:
    return np.array([float(p.hypothesis), float(p.reference)])


# Hypothesis holds the errors, reference the length: a ratio of sums without any text.
RATIO = Metric("r", "%", False, True, read_counts, lambda s: 100 * s[..., 0] / s[..., 1])


def made(errors: Counts, lengths: Counts, speakers: list[str | None]) -> list[Prediction]:
    rows = zip(errors, lengths, speakers, strict=True)
    return [Prediction(f"u{i:05}", str(n), str(e), s) for i, (e, n, s) in enumerate(rows)]


def sample(rng: np.random.Generator, speakers: int, each: int, effect: float) -> list[Prediction]:
    """Utterances whose error rate varies by speaker, 0.3 on average."""
    rates = np.clip(0.3 + effect * rng.uniform(-1, 1, speakers), 0, 1).repeat(each)
    lengths = rng.integers(5, 20, speakers * each)
    errors = rng.binomial(lengths, rates).astype(float)
    names: list[str | None] = [f"s{i // each}" for i in range(speakers * each)]
    return made(errors, lengths.astype(float), names)


def without_speakers(predictions: list[Prediction]) -> list[Prediction]:
    return [Prediction(p.id, p.reference, p.hypothesis) for p in predictions]


def width(s: statistics.Score) -> float:
    return s.ci95[1] - s.ci95[0]


def plain_bootstrap(groups: list[list[Prediction]], rounds: int, seed: int) -> tuple[float, float]:
    """Percentile bootstrap over groups in plain Python."""
    rng = random.Random(seed)
    values = []
    for _ in range(rounds):
        drawn = [p for group in rng.choices(groups, k=len(groups)) for p in group]
        errors = math.fsum(float(p.hypothesis) for p in drawn)
        values.append(100 * errors / math.fsum(float(p.reference) for p in drawn))
    values.sort()
    return values[int(0.025 * rounds)], values[int(0.975 * rounds) - 1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clustered", [True, False])
def test_agrees_with_plain_python(seed: int, clustered: bool) -> None:
    rows = sample(np.random.default_rng(seed), speakers=15, each=6, effect=0.2)
    rows = rows if clustered else without_speakers(rows)
    groups = [[p for p in rows if p.speaker == f"s{i}"] for i in range(15)]
    groups = groups if clustered else [[p] for p in rows]
    s = score(RATIO, rows, seed=seed, resamples=4000)
    expected = plain_bootstrap(groups, 4000, seed)
    assert s.ci95 == pytest.approx(expected, abs=0.08 * width(s))
    assert s.clusters == len(groups)
    assert s.n == 90
    assert ("speakers" in s.method) == clustered


@pytest.mark.parametrize("seed", SEEDS)
def test_agrees_with_scipy(seed: int) -> None:
    rows = without_speakers(sample(np.random.default_rng(seed), 40, 3, 0.2))
    counts = np.stack([read_counts(p) for p in rows])
    theirs = stats.bootstrap(
        (counts[:, 0], counts[:, 1]),
        lambda e, n, axis: 100 * e.sum(axis) / n.sum(axis),
        paired=True, vectorized=True, method="percentile", n_resamples=4000,
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    s = score(RATIO, rows, seed=seed, resamples=4000)
    assert s.ci95 == pytest.approx((theirs.low, theirs.high), abs=0.08 * width(s))


def coverage(seed: int, *, effect: float, clustered: bool) -> float:
    """Share of 300 samples of 30 speakers whose interval holds the true 30 %."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(300):
        rows = sample(rng, speakers=30, each=5, effect=effect)
        rows = rows if clustered else without_speakers(rows)
        low, high = score(RATIO, rows, seed=seed, resamples=400).ci95
        held += low <= 30.0 <= high
    return held / 300


@pytest.mark.parametrize(("effect", "clustered"), [(0.25, True), (0.0, False)])
def test_coverage(effect: float, clustered: bool) -> None:
    assert 0.88 <= coverage(7, effect=effect, clustered=clustered) <= 0.99


def test_ignoring_speakers_loses_coverage() -> None:
    """Negative control: utterances drawn one by one where speakers differ."""
    assert coverage(7, effect=0.25, clustered=False) < 0.88


@pytest.mark.parametrize("seed", SEEDS)
def test_speakers_make_the_interval_wider(seed: int) -> None:
    rows = sample(np.random.default_rng(seed), speakers=20, each=20, effect=0.25)
    assert width(score(RATIO, rows, seed=seed)) > 1.5 * width(
        score(RATIO, without_speakers(rows), seed=seed)
    )


def test_deterministic_and_independent_of_order() -> None:
    rows = sample(np.random.default_rng(3), speakers=8, each=5, effect=0.2)
    first = score(RATIO, rows, seed=1)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert score(RATIO, shuffled, seed=1) == first
    assert score(RATIO, rows, seed=2).ci95 != first.ci95
    assert score(RATIO, rows, seed=2).value == first.value
    state = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    score(RATIO, rows, seed=1)
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index,union-attr]


def test_value_and_level() -> None:
    rows = made(np.array([1.0, 0.0]), np.array([1.0, 9.0]), [None, None])
    s = score(RATIO, rows, seed=1)
    assert s.value == 10.0
    assert s.ci95[0] <= s.value <= s.ci95[1]
    many = sample(np.random.default_rng(3), speakers=30, each=5, effect=0.2)
    assert width(score(RATIO, many, seed=1, level=0.5)) < width(score(RATIO, many, seed=1))


@pytest.mark.parametrize("speakers", [["a", "a", "a"], ["a", "b", None], [None, None, None]])
def test_utterances_are_drawn_without_two_known_speakers(speakers: list[str | None]) -> None:
    rows = made(np.array([1.0, 2.0, 0.0]), np.array([4.0, 4.0, 4.0]), speakers)
    s = score(RATIO, rows, seed=1)
    assert "utterances" in s.method
    assert s.clusters == 3


def test_one_utterance_and_none() -> None:
    rows = made(np.array([1.0]), np.array([4.0]), [None])
    assert score(RATIO, rows, seed=1).ci95 == (25.0, 25.0)
    with pytest.raises(MissingError, match="no predictions"):
        score(RATIO, [], seed=1)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sample(np.random.default_rng(3), speakers=12, each=2, effect=0.2)
    whole = score(RATIO, rows, seed=1, resamples=301)
    monkeypatch.setattr(statistics, "_CHUNK", 50)
    assert score(RATIO, rows, seed=1, resamples=301) == whole
