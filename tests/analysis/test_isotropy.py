"""Isotropy measures against loops, the authors' IsoScore, closed forms, and wrong variants."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ssft_bench.analysis.isotropy import (
    isoscore,
    mean_cosine,
    measures,
    mu_viswanath,
    pair_cosines,
    spectrum,
)
from ssft_bench.analysis.sources import Vectors


def plain_mu_viswanath(v: Vectors, signs: tuple[int, ...] = (1, -1)) -> float:
    """Partition functions by loops, without logarithms; fit for small numbers only."""
    _, axes = np.linalg.eigh(v.T @ v)
    sums = [
        math.fsum(math.exp(sign * float(one @ c)) for one in v) for c in axes.T for sign in signs
    ]
    return min(sums) / max(sums)


def skewed(rng: np.random.Generator, n: int = 40, dims: int = 6) -> Vectors:
    return rng.normal(size=(n, dims)) @ rng.normal(size=(dims, dims)) / 2 + rng.normal(size=dims)


def test_mu_viswanath_equals_the_definition_by_loops() -> None:
    rng = np.random.default_rng()
    for n, dims in ((40, 6), (3, 7), (1, 2)):  # with fewer vectors than dimensions too
        v = skewed(rng, n, dims)
        assert mu_viswanath(v) == pytest.approx(plain_mu_viswanath(v), rel=1e-9), (n, dims)


def test_one_sign_only_is_not_the_same() -> None:
    v = np.abs(skewed(np.random.default_rng())) + 0.5
    for sign in (1, -1):
        assert plain_mu_viswanath(v, (sign,)) > 1.001 * mu_viswanath(v)


def test_mu_viswanath_of_the_specification() -> None:
    rng = np.random.default_rng()
    gaussian = 0.1 * rng.normal(size=(20_000, 10))
    assert mu_viswanath(gaussian) > 0.95
    shifted = mu_viswanath(gaussian + 100)
    assert 0 <= shifted < 0.05  # plain exp would overflow here
    assert mu_viswanath(10 * gaussian) < mu_viswanath(gaussian)  # the scale counts
    cross = np.concatenate([np.eye(5), -np.eye(5)])
    assert mu_viswanath(cross) == pytest.approx(1, abs=1e-12)


def test_mean_cosine_equals_a_loop_over_pairs() -> None:
    v = skewed(np.random.default_rng())
    v[3] = 0
    pairs = [
        float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) if a.any() and b.any() else 0.0
        for a, b in itertools.combinations(v, 2)
    ]
    assert mean_cosine(v) == pytest.approx(np.mean(pairs), abs=1e-12)
    assert sorted(pair_cosines(v)) == pytest.approx(sorted(pairs), abs=1e-12)
    with_itself = (2 * sum(pairs) + len(v)) / len(v) ** 2  # a wrong variant
    assert abs(mean_cosine(v) - with_itself) > 1e-4


def test_mean_cosine_of_closed_forms() -> None:
    assert mean_cosine(np.eye(4)) == pytest.approx(0)
    assert mean_cosine(np.array([[1.0, 0], [-3, 0]])) == pytest.approx(-1)
    assert mean_cosine(np.ones((5, 3)) * np.arange(1, 6)[:, None]) == pytest.approx(1)


def test_isoscore_equals_the_authors() -> None:
    author = pytest.importorskip("IsoScore.IsoScore")
    rng = np.random.default_rng()
    for n, dims in ((200, 5), (30, 12), (10, 20)):
        v = skewed(rng, n, dims)
        assert isoscore(v) == pytest.approx(float(author.IsoScore(v)), abs=1e-6), (n, dims)


def test_isoscore_of_closed_forms() -> None:
    rng = np.random.default_rng()
    dims = int(rng.integers(4, 9))
    for used in range(1, dims + 1):
        points = np.concatenate([np.eye(dims)[:used], -np.eye(dims)[:used]])
        # The paper: k dimensions used uniformly out of n score (k - 1) / (n - 1).
        assert isoscore(points) == pytest.approx((used - 1) / (dims - 1), abs=1e-9)
    v = skewed(rng)
    assert isoscore(7 * v + 100) == pytest.approx(isoscore(v), abs=1e-9)


def test_isoscore_looks_at_variances_not_deviations() -> None:
    """A wrong variant, standard deviations for variances, is told apart."""
    spread = np.diag([4.0, 1.0])
    points = np.concatenate([spread, -spread])
    variances = np.array([16.0, 1.0])
    scaled = variances * math.sqrt(2) / np.linalg.norm(variances)
    defect = np.linalg.norm(scaled - 1) / math.sqrt(2 * (2 - math.sqrt(2)))
    share = (2 - defect**2 * (2 - math.sqrt(2))) ** 2 / 4
    assert isoscore(points) == pytest.approx(2 * share - 1, abs=1e-12)
    assert abs(isoscore(points) - isoscore(np.sign(points) * np.sqrt(np.abs(points)))) > 0.1


@pytest.mark.parametrize(
    ("measure", "vectors"),
    [
        (isoscore, np.ones((5, 3))),
        (isoscore, np.arange(5.0)[:, None]),
        (mean_cosine, np.ones((1, 3))),
        (mu_viswanath, np.zeros((0, 3))),
        (mu_viswanath, np.array([[np.nan, 1.0]])),
    ],
)
def test_what_is_not_defined_is_refused(measure: object, vectors: Vectors) -> None:
    with pytest.raises(ValueError, match=r"vector|defined|NaN"):
        measure(vectors)  # type: ignore[operator]


def test_measures_of_a_collapsed_space_are_still_finite_numbers_or_none() -> None:
    found = measures(np.full((6, 4), 2.0))
    assert found["isoscore"] is None
    assert found["mean_cosine_raw"] == pytest.approx(1)
    assert all(value is None or math.isfinite(value) for value in found.values())


def test_variants_are_of_centred_and_normalised_vectors() -> None:
    v = skewed(np.random.default_rng())
    centred = v - v.mean(axis=0)
    unit = np.stack([one / math.sqrt(one @ one) for one in centred])
    found = measures(v)
    assert found["mu_viswanath_centred"] == pytest.approx(plain_mu_viswanath(centred), rel=1e-9)
    assert found["mu_viswanath_centred_unit"] == pytest.approx(plain_mu_viswanath(unit), rel=1e-9)
    assert found["mu_viswanath_raw"] != pytest.approx(found["mu_viswanath_centred"], rel=1e-3)
    assert spectrum(v)[0] == 1
    assert spectrum(v) ** 2 * np.linalg.eigvalsh(centred.T @ centred)[-1] == pytest.approx(
        np.linalg.eigvalsh(centred.T @ centred)[::-1], abs=1e-9
    )
