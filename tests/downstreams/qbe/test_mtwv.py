"""Term-weighted value: by hand, by sweeping every threshold, at the ends; MAP beside scikit-learn."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from ssft_bench.downstreams.qbe import mtwv
from ssft_bench.downstreams.qbe.mtwv import ATWV, BETA, MAP, MTWV, mtwv_table
from ssft_bench.downstreams.qbe.trials import hypothesis_text, matched, read, reference_text
from ssft_bench.metric import Prediction
from ssft_bench.statistics import score

Scores = NDArray[np.float64]


def answer(name: str, scores: dict[str, float], matches: str, **absent: object) -> Prediction:
    """A prediction from scores by document and matching documents in one string."""
    text = hypothesis_text(list(scores), np.array(list(scores.values())))
    return Prediction(name, reference_text(matches.split(), **absent), text)  # type: ignore[arg-type]


def made(scores: Scores, truth: NDArray[np.bool_]) -> list[Prediction]:
    names = [f"d{d:04d}" for d in range(scores.shape[1])]
    return [
        answer(f"q{q}", dict(zip(names, row, strict=True)), " ".join(np.array(names)[own]))
        for q, (row, own) in enumerate(zip(scores, truth, strict=True))
    ]


def value_at(threshold: float, scores: Scores, truth: NDArray[np.bool_], documents: int) -> float:
    """TWV in plain loops; `documents` counts those without a score, too."""
    values = []
    for row, own in zip(scores.tolist(), truth.tolist(), strict=True):
        if not any(own):
            continue
        hits = sum(o and s >= threshold for s, o in zip(row, own, strict=True))
        alarms = sum(not o and s >= threshold for s, o in zip(row, own, strict=True))
        alarms += (documents - len(row)) * (threshold <= -10)
        values.append(hits / sum(own) - 12.49 * alarms / (documents - sum(own)))
    return float(np.mean(values))


def test_by_hand() -> None:
    """Two queries, five documents.

    q1 is in a and b, q2 in c. At 3: q1 hits a (1/2), q2 nothing: 0.25. At 2: q1 both, q2 none, one false
    alarm of q2 (d: 2.5) of four others: (1 + 0 - 12.49/4) / 2 < 0. At 2.5 the same alarm and one hit.
    """
    rows = [
        answer("q1", {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0, "e": -1.0}, "a b"),
        answer("q2", {"a": -1.0, "b": 0.0, "c": 1.0, "d": 2.5, "e": 0.5}, "c"),
    ]
    assert pytest.approx(12.49) == BETA
    assert MTWV.value(rows) == pytest.approx(25.0)
    at_two = (0.5 + 0 - 12.49 * (0 + 1 / 4)) / 2  # decisions are above 2, so b at 2.0 is no hit
    assert ATWV.value(rows) == pytest.approx(100 * at_two)
    # q1: a, b first: 1; q2: d before c, so 1/2.
    assert MAP.value(rows) == pytest.approx(75.0)
    kinder = [rows[0], answer("q2", {"a": -1.0, "b": 0.0, "c": 1.0, "d": 0.9, "e": 0.5}, "c")]
    assert MTWV.value(kinder) == pytest.approx(50.0)  # at 2: 1 and 0; at 1: 1 - 12.49/3 and 1


@pytest.mark.parametrize("documents", [40, 55])
def test_every_threshold(rng: np.random.Generator, documents: int) -> None:
    """The best of all thresholds there are, between the scores too; with absent documents as well."""
    for _ in range(10):
        truth = rng.random((7, 40)) < 0.1
        scores = np.round(rng.standard_normal((7, 40)) + 3 * truth * rng.random((7, 40)), 2)
        rows = made(scores, truth)
        asked = int(truth.any(axis=1).sum())
        if documents > 40:
            header = {"documents": documents, "queries": (asked, asked)}
            rows = [
                Prediction(r.id, reference_text(matched(r), **header), r.hypothesis)  # type: ignore[arg-type]
                for r in rows
            ]
        steps = np.unique(np.concatenate([scores.ravel(), scores.ravel() + 0.003, [-10, np.inf]]))
        wanted = max(value_at(t, scores, truth, documents) for t in steps)
        assert MTWV.value(rows) == pytest.approx(100 * wanted, abs=1e-9)
        assert ATWV.value(rows) == pytest.approx(
            100 * value_at(2.0 + 1e-9, scores, truth, documents), abs=1e-9
        )


def test_a_random_ranking_is_worse(rng: np.random.Generator) -> None:
    """Negative control: the same scores in other places."""
    truth = rng.random((30, 80)) < 0.1
    scores = rng.standard_normal((30, 80)) + 2 * truth
    rows = made(scores, truth)
    before = MTWV.value(rows)
    assert before > 0
    sums = [read(r) for r in rows]
    assert {t.documents for t in sums} == {80}
    shuffled = made(rng.permuted(scores, axis=1), truth)
    assert MTWV.value(shuffled) < before


def test_the_ends() -> None:
    perfect = [
        answer("q1", {"a": 2.0, "b": 1.0, "c": -1.0}, "a b"),
        answer("q2", {"a": 0.0, "b": 0.9, "c": 1.5}, "c"),
    ]
    assert MTWV.value(perfect) == pytest.approx(100.0)
    assert MAP.value(perfect) == pytest.approx(100.0)
    assert ATWV.value(perfect) == pytest.approx(0.0)  # nothing is above 2
    worst = [answer("q1", {"a": -1.0, "b": 1.0, "c": 2.0}, "a")]
    assert MTWV.value(worst) == 0.0  # infinity: nothing is detected
    assert ATWV.value(worst) == pytest.approx(100 * (0 - 0.0))
    loud = [answer("q1", {"a": -1.0, "b": 2.5, "c": 2.0}, "a")]
    assert ATWV.value(loud) == pytest.approx(-100 * 12.49 / 2)


def test_queries_that_occur_nowhere_do_not_count(rng: np.random.Generator) -> None:
    truth = rng.random((6, 30)) < 0.15
    truth[0, 0] = True
    scores = rng.standard_normal((6, 30)) + 2 * truth
    rows = made(scores, truth)
    nowhere = answer("none", {f"d{d:04d}": 9.0 for d in range(30)}, "")
    for metric in (MTWV, ATWV, MAP):
        assert metric.value([*rows, nowhere]) == pytest.approx(metric.value(rows), abs=1e-12)
        assert metric.value([nowhere]) == 0.0


def test_missing_trials_get_the_default_score() -> None:
    """A match without a score is missed at any threshold above -10; its document counts."""
    whole = answer("q", {"a": 2.0, "b": 1.0, "c": 0.0, "d": -10.0}, "a d")
    missing = answer("q", {"a": 2.0, "b": 1.0, "c": 0.0}, "a d")
    for metric in (MTWV, ATWV):
        assert metric.value([missing]) == pytest.approx(metric.value([whole]))
    assert MTWV.value([missing]) == pytest.approx(50.0)
    assert read(missing).documents == 4


def test_what_the_ground_truth_has_beside_the_search() -> None:
    """Queries that are not asked count with 0, documents that are not searched are no false alarms."""
    scores = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0}
    own = answer("q", scores, "b")  # one false alarm of three
    assert MTWV.value([own]) == 0.0
    more = answer("q", scores, "b", documents=101, queries=(4, 1))
    assert MTWV.value([more]) == pytest.approx(100 * (1 - 12.49 / 100) / 4)
    assert ATWV.value([more]) == pytest.approx(100 * (0 - 12.49 / 100) / 4)
    assert MAP.value([more]) == MAP.value([own]) == 50.0
    assert read(more).queries == 4
    assert matched(more) == ["b"]


def test_names_with_spaces_and_the_order_of_the_text() -> None:
    scores = np.array([1.00004, 1.0, -0.00001])
    row = Prediction("q", "two words", hypothesis_text(["two words", "a", "b"], scores))
    assert row.hypothesis == "a 1.0000\ntwo words 1.0000\nb -0.0000"
    assert read(row).true.tolist() == [1.0]
    assert read(row).false.tolist() == [1.0, 0.0]


def test_map_of_scikit_learn(rng: np.random.Generator) -> None:
    truth = rng.random((9, 50)) < 0.1
    scores = np.round(rng.standard_normal((9, 50)) + truth, 1)  # many ties
    wanted = [
        average_precision_score(own, row)
        for own, row in zip(truth, scores, strict=True)
        if own.any()
    ]
    assert MAP.value(made(scores, truth)) == pytest.approx(100 * np.mean(wanted), abs=1e-9)


def test_the_interval_is_that_of_plain_resampling(rng: np.random.Generator) -> None:
    """Each resample's own best threshold, by sweeping; quantiles of 400 resamples are near."""
    truth = rng.random((25, 60)) < 0.08
    scores = rng.standard_normal((25, 60)) + 3.5 * truth * rng.random((25, 1))
    rows = made(scores, truth)
    found = score(MTWV, rows, seed=1, resamples=2000)
    values = []
    for _ in range(400):
        drawn = rng.integers(25, size=25)
        values.append(MTWV.value([rows[i] for i in drawn]))
    low, high = np.quantile(values, [0.025, 0.975])
    width = high - low
    assert found.ci95 == pytest.approx((low, high), abs=0.3 * width)
    assert "queries" in found.method
    assert found.value == pytest.approx(MTWV.value(rows))
    assert score(MTWV, rows[::-1], seed=1).ci95 == score(MTWV, rows, seed=1).ci95


def test_thousands_of_thresholds_stay_small(rng: np.random.Generator) -> None:
    """140 queries with 6,000 matches: 2,000 resamples of as many thresholds would be 96 MB each."""
    truth = rng.random((140, 400)) < 0.11
    rows = made(rng.standard_normal((140, 400)) + truth, truth)
    assert mtwv_table(rows).shape[1] > 4000
    tracemalloc.start()
    found = score(MTWV, rows, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 90e6
    assert found.ci95[0] <= found.value <= found.ci95[1]


def test_a_query_alone_has_a_row() -> None:
    row = answer("q", {"a": 2.0, "b": 1.0, "c": 0.0}, "a")
    assert MTWV.combine(MTWV.counts(row)) == pytest.approx(100.0)
    with pytest.raises(ValueError, match="occurs nowhere"):
        mtwv.term_weighted_values(read(answer("q", {"a": 1.0}, "")), np.zeros(1))


def test_the_official_scorer_of_nist() -> None:
    """Values that NIST's STDEval 0.7 printed for these answers, read from our stdlist file.

    P_target 0.0008, C_fa / C_miss 1 / 100, one trial a second in documents of one second: its trials are
    then documents. It prints four digits, of the value at our decisions three.
    """
    cases = Path(__file__).with_name("nist_stdeval.jsonl").read_text().splitlines()
    assert len(cases) == 4
    for case in map(json.loads, cases):
        scores = np.array(case["scores"])
        truth = np.zeros(scores.shape, bool)
        for row, own in zip(truth, case["matches"], strict=True):
            row[own] = True
        rows = made(scores, truth)
        assert MTWV.value(rows) / 100 == pytest.approx(case["max_value"], abs=6e-5)
        assert ATWV.value(rows) / 100 == pytest.approx(case["actual_value"], abs=6e-4)
        without = MTWV.value(rows[1:]) / 100  # control: a query less is another value
        assert abs(without - case["max_value"]) > 1e-3
