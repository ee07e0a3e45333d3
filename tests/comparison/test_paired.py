"""The paired statistics against plain Python, scipy and closed forms."""

from __future__ import annotations

import math
import random
import secrets
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from ssft_bench.comparison import bootstrap, paired, paired_seeds, permutation
from ssft_bench.comparison.bootstrap import draw
from ssft_bench.comparison.paired import superiority
from ssft_bench.comparison.pairing import pair
from ssft_bench.comparison.permutation import swap_test
from ssft_bench.downstreams.qbe.mtwv import MTWV
from ssft_bench.downstreams.sa.scoring import CLASSES
from ssft_bench.downstreams.sa.scoring import METRICS as SENTIMENT
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.metric import Metric, Prediction
from tests.comparison.sctk import WER, texts
from tests.comparison.simulated import RATIO, systems, without_speakers

SEEDS = [1, secrets.randbelow(2**31)]
MEAN = Metric(
    "mean", "", True, True, lambda p: np.array([float(p.hypothesis), 1.0]),
    lambda s: s[..., 0] / s[..., 1],
)  # fmt: skip


def numbers(values: list[float], speakers: list[str] | None = None) -> list[Prediction]:
    names = speakers or [None] * len(values)
    return [
        Prediction(f"u{i:03}", "", str(v), s)
        for i, (v, s) in enumerate(zip(values, names, strict=True))
    ]


def width(ends: tuple[float, float] | None) -> float:
    assert ends is not None
    return ends[1] - ends[0]


# Difference


@pytest.mark.parametrize("seed", SEEDS)
def test_difference_is_that_of_the_scores(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = texts(rng, 40, (0.2, 0.3))
    assert paired(WER, a, b, seed=1).difference == pytest.approx(WER.value(a) - WER.value(b))
    kinds = rng.choice(CLASSES, (3, 40)).tolist()
    x, y = (
        [Prediction(f"u{i}", r, h) for i, (r, h) in enumerate(zip(kinds[0], said, strict=True))]
        for said in kinds[1:]
    )
    for metric in SENTIMENT:
        found = paired(metric, x, y, seed=1)
        assert found.values == pytest.approx((metric.value(x), metric.value(y)))
        assert found.difference == pytest.approx(metric.value(x) - metric.value(y))


def answers(rng: np.random.Generator, skill: float) -> list[Prediction]:
    """A system's answers to 25 queries over 30 documents, of which 6 match each."""
    documents = [f"d{i}" for i in range(30)]
    found = []
    for query in range(25):
        true = [documents[(query + k) % 30] for k in range(6)]
        scores = rng.normal(size=30) + skill * np.array([d in true for d in documents])
        lines = [f"{d} {s:.4f}" for d, s in zip(documents, scores, strict=True)]
        found.append(Prediction(f"q{query:02}", "\n".join(true), "\n".join(lines)))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_thresholds_are_each_systems_own(seed: int) -> None:
    """MTWV's rows are tabulated over both systems at once; the values must not change by that."""
    rng = np.random.default_rng(seed)
    a, b = answers(rng, 4.0), answers(rng, 2.0)
    found = paired(MTWV, a, b, seed=1, resamples=1000)
    assert found.values == pytest.approx((MTWV.value(a), MTWV.value(b))), seed
    assert MTWV.value(a) > MTWV.value(b), "the control: something is told apart"
    assert (found.clusters, found.probability_of_improvement) == (25, 1.0)
    assert "over queries" in found.method


# Interval


def plain_interval(a: list[Prediction], b: list[Prediction], seed: int) -> tuple[float, float]:
    """Clusters less one drawn by plain loops; percentiles at Student's instead of the normal level."""
    rng = random.Random(seed)
    speakers = sorted({str(p.speaker) for p in a})
    sums = {
        s: [sum(float(getattr(p, field)) for p in side if p.speaker == s) for side in (a, b)
            for field in ("hypothesis", "reference")]
        for s in speakers
    }  # fmt: skip
    values = []
    for _ in range(6000):
        drawn = [sums[s] for s in rng.choices(speakers, k=len(speakers) - 1)]
        ea, na, eb, nb = (math.fsum(one[k] for one in drawn) for k in range(4))
        values.append(100 * ea / na - 100 * eb / nb)
    tail = float(stats.norm.cdf(stats.t.ppf(0.025, len(speakers) - 1)))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("speakers", [7, 30])
def test_interval_by_plain_python(seed: int, speakers: int) -> None:
    (a,), (b,) = systems(np.random.default_rng(seed), speakers=speakers, gain=0.03)
    found = paired(RATIO, a, b, seed=seed, resamples=6000)
    expected = plain_interval(a, b, seed)
    assert found.ci95 == pytest.approx(expected, abs=0.1 * width(found.ci95)), seed
    assert (found.n, found.clusters) == (6 * speakers, speakers)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [12, 60])
def test_interval_of_a_mean_is_students(seed: int, n: int) -> None:
    """The paired t interval is the closed form, for normal differences."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n)).tolist()
    theirs = stats.ttest_rel(x, y).confidence_interval(0.95)
    found = paired(MEAN, numbers(x), numbers(y), seed=seed)
    assert found.ci95 == pytest.approx((theirs.low, theirs.high), abs=0.12 * width(found.ci95)), (
        seed
    )
    raw = np.quantile(
        draw(pair(MEAN, [numbers(x)], [numbers(y)]), 4000, rng).differences, [0.025, 0.975]
    )
    if n == 12:
        assert raw[1] - raw[0] < 0.95 * width(found.ci95), "control: plain percentiles are narrower"


@pytest.mark.parametrize("seed", SEEDS)
def test_pairing_and_clusters_matter(seed: int) -> None:
    (a,), (b,) = systems(np.random.default_rng(seed), each=20)
    together = width(paired(RATIO, a, b, seed=1).ci95)
    blind = paired(RATIO, *(without_speakers([rows])[0] for rows in (a, b)), seed=1)
    assert together > 1.3 * width(blind.ci95), seed
    assert ("speakers" in blind.method, blind.clusters) == (False, 400)


def test_probability_of_improvement_is_the_share_of_draws_that_are_better() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 25)).tolist()
    found = paired(MEAN, numbers(x), numbers(y), seed=1)
    z = found.difference / (np.std(np.subtract(x, y), ddof=1) / 5)
    assert found.probability_of_improvement == pytest.approx(stats.norm.cdf(z), abs=0.03)
    lower = replace(MEAN, higher_is_better=False)
    turned = paired(lower, numbers(x), numbers(y), seed=1)
    assert turned.probability_of_improvement == pytest.approx(1 - found.probability_of_improvement)


# p-value


def plain_p(a: list[Prediction], b: list[Prediction]) -> float:
    """All assignments of whole speakers, by loops."""
    speakers = sorted({str(p.speaker) for p in a})
    observed = abs(RATIO.value(a) - RATIO.value(b))
    reached = 0
    for swaps in product((False, True), repeat=len(speakers)):
        swapped = {s for s, swap in zip(speakers, swaps, strict=True) if swap}
        x, y = (
            [
                other if one.speaker in swapped else one
                for one, other in zip(first, second, strict=True)
            ]
            for first, second in ((a, b), (b, a))
        )
        reached += abs(RATIO.value(x) - RATIO.value(y)) >= observed - 1e-9
    return reached / 2 ** len(speakers)


@pytest.mark.parametrize("seed", SEEDS)
def test_p_by_enumeration(seed: int) -> None:
    (a,), (b,) = systems(np.random.default_rng(seed), speakers=9, each=3, gain=0.04)
    found = paired(RATIO, a, b, seed=seed)
    assert found.p == pytest.approx(plain_p(a, b)), seed
    assert "all assignments" in found.method


@pytest.mark.parametrize("seed", SEEDS)
def test_p_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(0.4, 1, 11).tolist()
    y = rng.normal(0, 1, 11).tolist()
    theirs = stats.permutation_test(
        (x, y), lambda p, q, axis: np.mean(p, axis) - np.mean(q, axis),
        permutation_type="samples", vectorized=True, n_resamples=np.inf,
    )  # fmt: skip
    assert paired(MEAN, numbers(x), numbers(y), seed=1).p == pytest.approx(theirs.pvalue), seed


def test_drawn_assignments_come_near_all_of_them() -> None:
    (a,), (b,) = systems(np.random.default_rng(3), speakers=13, gain=0.05)
    pairs = pair(RATIO, [a], [b])
    exact, drawn = (
        swap_test(RATIO, pairs.a[0], pairs.b[0], resamples=n, rng=np.random.default_rng(1))
        for n in (4096, 2000)
    )
    assert (exact.exact, drawn.exact) == (True, False)
    assert drawn.p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p * (1 - exact.p) / 2000))


def test_a_drawn_p_is_never_zero() -> None:
    many = [1.0] * 40
    found = paired(MEAN, numbers(many), numbers([0.0] * 40), seed=1, resamples=1000)
    assert found.p == 1 / 1001
    assert found.difference == 1


# Seeds


@pytest.mark.parametrize("seed", SEEDS)
def test_superiority_is_mann_and_whitneys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(6, size=5).astype(float), rng.integers(6, size=7).astype(float)
    theirs = stats.mannwhitneyu(x, y).statistic / 35
    assert superiority(x, y, True) == pytest.approx(theirs), seed
    assert superiority(x, y, False) == pytest.approx(1 - theirs)


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_alone_are_welchs_test(seed: int) -> None:
    """All utterances alike: only the seeds are left, and the closed form is Welch's."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0.7, 1, 6), rng.normal(0, 2, 9)
    runs = [[numbers([float(v)] * 20) for v in side] for side in (x, y)]
    found = paired_seeds(MEAN, runs[0], runs[1], seed=1)
    welch = stats.ttest_ind(x, y, equal_var=False)
    ends = welch.confidence_interval(0.95)
    assert found.p == pytest.approx(welch.pvalue, abs=0.02), seed
    assert found.ci95 == pytest.approx((ends.low, ends.high), abs=0.12 * (ends.high - ends.low)), (
        seed
    )
    draws = draw(pair(MEAN, runs[0], runs[1]), 100, rng)
    assert draws.freedom == pytest.approx(welch.df)
    assert found.seeds == (6, 9)
    assert "seeds and utterances" in found.method


def test_other_seeds_make_it_less_sure() -> None:
    a, b = systems(np.random.default_rng(8), seeds=3, by_seed=0.1)
    alone = [paired(RATIO, x, y, seed=1) for x, y in zip(a, b, strict=True)]
    assert width(paired_seeds(RATIO, a, b, seed=1).ci95) > max(width(one.ci95) for one in alone)


# What it must not depend on, and what it refuses


def test_deterministic_and_independent_of_order() -> None:
    (a,), (b,) = systems(np.random.default_rng(3), gain=0.02)
    first = paired(RATIO, a, b, seed=1)
    assert paired(RATIO, random.Random(1).sample(a, len(a)), b[::-1], seed=1) == first
    assert paired(RATIO, a, b, seed=2).ci95 != first.ci95
    back = paired(RATIO, b, a, seed=1)
    assert back.difference == -first.difference
    assert back.ci95 == pytest.approx((-first.ci95[1], -first.ci95[0]))  # type: ignore[index]


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    (a,), (b,) = systems(np.random.default_rng(3), speakers=15, gain=0.02)
    whole = paired(RATIO, a, b, seed=1, resamples=1501)
    for module in (bootstrap, permutation):
        monkeypatch.setattr(module, "_CHUNK", 90)
    chunked = paired(RATIO, a, b, seed=1, resamples=1501)
    assert (chunked.ci95, chunked.p) == (whole.ci95, whole.p)


def test_a_system_and_itself() -> None:
    (a,), _ = systems(np.random.default_rng(3))
    found = paired(RATIO, a, a, seed=1)
    assert (found.difference, found.ci95, found.p) == (0.0, (0.0, 0.0), 1.0)
    assert found.probability_of_improvement == 0.5


def test_one_utterance_tells_nothing() -> None:
    found = paired(MEAN, numbers([1.0]), numbers([0.0]), seed=1)
    assert (found.ci95, found.p, found.probability_of_improvement) == (None, 1.0, 0.5)
    many = paired_seeds(MEAN, [numbers([1.0])] * 2, [numbers([0.0])] * 2, seed=1)
    assert (many.ci95, many.p) == (None, 1.0)


@pytest.mark.parametrize(("speakers", "words"), [(9, ["only 9 speakers"]), (10, [])])
def test_few_clusters_are_told(speakers: int, words: list[str]) -> None:
    (a,), (b,) = systems(np.random.default_rng(3), speakers=speakers)
    assert [w[: len("only 9 speakers")] for w in paired(RATIO, a, b, seed=1).warnings] == words


def test_five_speakers_cannot_be_significant_and_that_is_told() -> None:
    (a,), (b,) = systems(np.random.default_rng(3), speakers=5, gain=0.3, own=0.01)
    found = paired(RATIO, a, b, seed=1)
    assert found.p == 0.0625
    assert any("p cannot fall below 0.062" in w for w in found.warnings)


def test_few_seeds_are_told() -> None:
    a, b = systems(np.random.default_rng(3), seeds=2)
    assert "hardly known" in paired_seeds(RATIO, a, b, seed=1).warnings[-1]
    assert "single seed" in paired_seeds(RATIO, a, b[:1], seed=1).warnings[-1]


def test_what_is_refused() -> None:
    a = numbers([1.0, 2.0], ["s", "t"])
    cases = {
        "in one run only, 'u001' first": a[:1],
        "twice": [a[0], a[0]],
        "'u001' has another reference": [a[0], replace(a[1], reference="X")],
        "'u001' has another speaker": [a[0], replace(a[1], speaker="x")],
    }
    for message, b in cases.items():
        with pytest.raises(UsageError, match=message):
            paired(MEAN, a, b, seed=1)
    with pytest.raises(MissingError, match="no predictions"):
        paired(MEAN, [], [], seed=1)
