"""Corrections against the closed testing principle, scipy, and what they promise."""

from __future__ import annotations

import secrets
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from ssft_bench.comparison.corrections import benjamini_hochberg, corrected, holm

SEEDS = [1, secrets.randbelow(2**31)]


def closed(p: list[float]) -> list[float]:
    """Holm is Bonferroni's test closed: the worst over all sets of hypotheses that hold the one."""
    every = range(len(p))
    sets = [s for size in range(1, len(p) + 1) for s in combinations(every, size)]
    return [max(min(1.0, len(s) * min(p[j] for j in s)) for s in sets if i in s) for i in every]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_holm_is_closed_bonferroni(seed: int, n: int) -> None:
    p = (np.random.default_rng(seed).uniform(size=n) ** 3 / 10).tolist()  # small: not all end at 1
    p[-1] = p[0]  # ties
    assert holm(p) == pytest.approx(closed(p)), seed
    if n > 2:
        assert holm(p) != pytest.approx([min(1.0, n * one) for one in p]), "Bonferroni is another"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [1, 2, 50])
def test_benjamini_hochberg_is_scipys(seed: int, n: int) -> None:
    p = (np.random.default_rng(seed).uniform(size=n) ** 3).tolist()
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p).tolist()), seed
    assert all(a <= b + 1e-12 for a, b in zip(benjamini_hochberg(p), holm(p), strict=True))


def test_what_they_promise() -> None:
    """1,000 families of 10 true null hypotheses: one in twenty has a finding; uncorrected, two in five."""
    p = np.random.default_rng(3).uniform(size=(1000, 10)).tolist()
    wrong = {
        how: np.mean([min(corrected(one, how)) < 0.05 for one in p])  # type: ignore[arg-type]
        for how in ("holm", "bh", "none")
    }
    low, high = stats.binom.interval(0.999, 1000, 0.05)
    assert low / 1000 <= wrong["holm"] <= high / 1000
    assert low / 1000 <= wrong["bh"] <= high / 1000
    assert wrong["none"] > 0.3


def test_by_name() -> None:
    p = [0.01, 0.04, 0.03]
    assert corrected(p, "none") == p
    assert corrected(p, "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert corrected(p, "bh") == pytest.approx([0.03, 0.04, 0.04])
    assert corrected([], "holm") == []
