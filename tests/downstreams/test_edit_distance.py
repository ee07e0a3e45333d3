"""Error rates against a plain dynamic programme and jiwer's corpus rates."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence

import jiwer
import numpy as np
import pytest

from ssft_bench.downstreams.asr.task import ASR
from ssft_bench.downstreams.pr.task import PHONE_SETS, PR
from ssft_bench.metric import Metric, Prediction

WER, CER = ASR.metrics
(PER,) = PR.metrics
SEEDS = [1, secrets.randbelow(2**31)]
WORDS = ["A", "AN", "THE", "CAT", "CAT'S", "SAT", "ON", "MAT", "IT'S"]


def distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein distance, the textbook way."""
    row = list(range(len(hypothesis) + 1))
    for i, r in enumerate(reference, 1):
        corner, row[0] = row[0], i
        for j, h in enumerate(hypothesis, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (r != h))
    return row[-1]


def corpus(metric: Metric, pairs: Sequence[tuple[str, str]]) -> float:
    rows = [metric.counts(Prediction(str(i), *pair)) for i, pair in enumerate(pairs)]
    return float(metric.combine(np.sum(rows, axis=0)))


def random_pairs(seed: int, tokens: Sequence[str], least: int) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    side = lambda low: " ".join(rng.choices(tokens, k=rng.randint(low, 12)))  # noqa: E731
    return [(side(least), side(0)) for _ in range(1000)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("metric", "tokens"), [(WER, WORDS), (PER, PHONE_SETS["superb71"][:9])], ids=["wer", "per"]
)
def test_words_and_phones(seed: int, metric: Metric, tokens: Sequence[str]) -> None:
    pairs = random_pairs(seed, tokens, least=0)
    errors = sum(distance(r.split(), h.split()) for r, h in pairs)
    expected = 100 * errors / sum(len(r.split()) for r, _ in pairs)
    assert corpus(metric, pairs) == pytest.approx(expected, abs=1e-9)
    assert corpus(metric, pairs) == pytest.approx(
        100 * jiwer.wer([r for r, _ in pairs], [h for _, h in pairs]), abs=1e-9
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_characters(seed: int) -> None:
    pairs = random_pairs(seed, WORDS, least=1)[:200]
    errors = sum(distance(r, h) for r, h in pairs)
    assert corpus(CER, pairs) == pytest.approx(100 * errors / sum(len(r) for r, _ in pairs))
    assert corpus(CER, pairs) == pytest.approx(
        100 * jiwer.cer([r for r, _ in pairs], [h for _, h in pairs])
    )


def test_sum_over_the_corpus_is_not_a_mean_of_rates() -> None:
    pairs = [("A", "B"), ("A B C D E F G H I", "A B C D E F G H I")]
    assert corpus(WER, pairs) == pytest.approx(10.0)
    assert np.mean([corpus(WER, [p]) for p in pairs]) == pytest.approx(50.0)


@pytest.mark.parametrize("metric", [WER, CER, PER])
def test_empty_sides(metric: Metric) -> None:
    assert metric.counts(Prediction("u", "", "")).tolist() == [0, 0]
    assert metric.counts(Prediction("u", "", "A")).tolist() == [1, 0]
    assert metric.counts(Prediction("u", "A", "")).tolist() == [1, 1]
    assert corpus(metric, [("", "")]) == 0
    assert corpus(metric, [("", "A")]) == 100
    assert corpus(metric, [("", "A"), ("B", "B")]) == 100


def test_shuffled_hypothesis_scores_worse() -> None:
    """Negative control: the order of words counts."""
    assert corpus(WER, [("A B C D", "D C B A")]) > 0


def test_values_of_many_sums_at_once() -> None:
    sums = np.array([[1.0, 4.0], [0.0, 3.0], [2.0, 0.0]])
    assert WER.combine(sums).tolist() == [25.0, 0.0, 200.0]


def test_exactly_one_primary_metric() -> None:
    assert [m.name for m in ASR.metrics if m.primary] == ["wer"] == [ASR.primary().name]
    assert PR.primary().name == "per"
    assert all(m.unit == "%" and not m.higher_is_better for m in (WER, CER, PER))
