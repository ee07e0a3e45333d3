"""Subsequence DTW beside every path, dtw-python (GPL: here only) and scipy's cosine distances."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import product

import numba
import numpy as np
import pytest
from dtw import dtw
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ssft_bench.alignment import subsequence_dtw
from ssft_bench.alignment.subsequence_dtw import Frames, subsequence_cost, subsequence_scores

Matrix = NDArray[np.float64]


def every_path(cost: Matrix, steps: tuple[int, ...] = (0, 1, 2)) -> float:
    """The cheapest of all paths, each walked from its start."""
    n, m = cost.shape
    best = np.inf
    for start, moves in product(range(m), product(steps, repeat=n - 1)):
        places = start + np.concatenate([[0], np.cumsum(moves, dtype=int)])
        if places[-1] < m:
            best = min(best, float(cost[np.arange(n), places].mean()))
    return best


def dtw_python(cost: Matrix, pattern: str = "asymmetric") -> float:
    found = dtw(x=cost, step_pattern=pattern, open_begin=True, open_end=True)
    return float(found.normalizedDistance)


def published(query: Frames, document: Frames) -> Matrix:
    """exp(cosine distance) - 1, rows scaled to [0, 1], in float64."""
    cost = np.exp(cdist(query, document, "cosine")) - 1
    low, high = cost.min(1, keepdims=True), cost.max(1, keepdims=True)
    return np.asarray((cost - low) / np.maximum(high - low, 1e-9))


def unit(rng: np.random.Generator, frames: int, dim: int = 24) -> Frames:
    """Frames of length 1, each a little like the one before."""
    walk = rng.standard_normal((frames, dim))
    for t in range(1, frames):
        walk[t] += 0.8 * walk[t - 1]
    return np.asarray(walk / np.linalg.norm(walk, axis=1, keepdims=True), np.float32)


@pytest.mark.parametrize("n", range(1, 7))
def test_the_cheapest_of_all_paths(rng: np.random.Generator, n: int) -> None:
    """Every shape up to 6 x 9, the query longer than the document among them."""
    for m in range(1, 10):
        cost = rng.random((n, m))
        assert subsequence_cost(cost) == pytest.approx(every_path(cost), abs=1e-6)


def test_other_steps_are_seen(rng: np.random.Generator) -> None:
    """Negative control: with other steps allowed or forbidden, other costs come out."""
    apart = dict.fromkeys(("no 2", "no 0", "3 too"), 0.0)
    for _ in range(20):
        cost = rng.random((5, 12))
        own = subsequence_cost(cost)
        for name, steps in (("no 2", (0, 1)), ("no 0", (1, 2)), ("3 too", (0, 1, 2, 3))):
            apart[name] = max(apart[name], abs(own - every_path(cost, steps)))
    assert min(apart.values()) > 1e-3


@pytest.mark.parametrize(("n", "m"), [(5, 80), (60, 400), (40, 12), (30, 1), (1, 50), (90, 91)])
def test_costs_of_dtw_python(rng: np.random.Generator, n: int, m: int) -> None:
    cost = rng.random((n, m))
    assert subsequence_cost(cost) == pytest.approx(dtw_python(cost), abs=1e-6)


def test_dtw_python_with_other_steps_is_apart(rng: np.random.Generator) -> None:
    cost = rng.random((40, 200))
    assert abs(subsequence_cost(cost) - dtw_python(cost, "asymmetricP1")) > 1e-2


def test_scores_of_scipy_and_dtw_python(rng: np.random.Generator) -> None:
    """All pairs, documents shorter than the query and of one frame among them, to 1e-5."""
    queries = [unit(rng, n) for n in (5, 31, 70)]
    documents = [unit(rng, m) for m in (120, 1, 9, 333, 60)]
    found = subsequence_scores(queries, documents)
    for (q, query), (d, document) in product(enumerate(queries), enumerate(documents)):
        assert found[q, d] == pytest.approx(-dtw_python(published(query, document)), abs=1e-5)
    assert (found[:, 1] == 0).all()  # the only frame is the nearest to all: the best score there is
    raw = np.exp(cdist(queries[0], documents[0], "cosine")) - 1
    assert abs(found[0, 0] + dtw_python(raw)) > 1e-2  # control: without the scaling


@pytest.mark.parametrize("room", [1, 3000, 10**9])
def test_blocks_change_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    queries = [unit(rng, int(n)) for n in rng.integers(5, 40, 7)]
    documents = [unit(rng, int(m)) for m in rng.integers(1, 90, 23)]
    each = [[subsequence_scores([q], [d])[0, 0] for d in documents] for q in queries]
    monkeypatch.setattr(subsequence_dtw, "BLOCK_BYTES", room)
    monkeypatch.setattr(subsequence_dtw, "GROUP_FRAMES", room // 50)
    done: list[int] = []
    found = subsequence_scores(queries, iter(documents), report=done.append)
    np.testing.assert_allclose(found, each, atol=2e-6)
    assert sum(done) == len(documents)
    assert (len(done) == 1) == (room == 10**9)


def test_a_copy_inside_costs_nothing(rng: np.random.Generator) -> None:
    """With frames of others put in between, one at a time: the path steps over them."""
    query, other = unit(rng, 30), unit(rng, 50)
    copy = np.concatenate([other, query[:9], other[:1], query[9:10], other[1:2], query[10:], other])
    found = subsequence_scores([query], [unit(rng, 100), copy, unit(rng, 400)])[0]
    assert found.argmax() == 1
    assert -1e-5 < found[1] <= 0
    assert max(found[0], found[2]) < -1e-2
    two_apart = np.concatenate(
        [query[:9], other[:2], query[9:]]
    )  # control: two at a time is too far
    assert subsequence_scores([query], [two_apart])[0, 0] < -1e-3


def test_frames_that_are_equally_far(rng: np.random.Generator) -> None:
    """Rounding is not scaled up: a document of one frame repeated costs what a single frame costs."""
    query, frame = unit(rng, 20, 200), unit(rng, 1, 200)
    again = np.repeat(frame, 77, axis=0)
    silent = np.zeros((40, 200), np.float32)
    assert (subsequence_scores([query], [again, silent]) == 0).all()
    assert (subsequence_scores([silent], [unit(rng, 30, 200)]) == 0).all()
    other = np.concatenate([again, unit(rng, 77, 200)])
    assert subsequence_scores([query], [other])[0, 0] < -0.01  # the control


def test_no_queries_and_no_documents(rng: np.random.Generator) -> None:
    assert subsequence_scores([], [unit(rng, 5)] * 3).shape == (0, 3)
    assert subsequence_scores([unit(rng, 5)], []).shape == (1, 0)


def test_documents_are_not_gathered(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """80 MB of documents come one after the other; what is held are a few blocks of them."""
    monkeypatch.setattr(subsequence_dtw, "BLOCK_BYTES", 1 << 20)
    query, base = unit(rng, 40, 200), unit(rng, 500, 200)

    def documents() -> Iterator[Frames]:
        for _ in range(200):
            yield base.copy()

    subsequence_scores([query], [base])  # compiled before memory is counted
    tracemalloc.start()
    found = subsequence_scores([query], documents())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (1, 200)
    assert peak < 5e6 * (1 + numba.get_num_threads())


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    monkeypatch.setattr(subsequence_dtw, "BLOCK_BYTES", 5000)
    queries, documents = [unit(rng, 20), unit(rng, 30)], [unit(rng, m) for m in range(20, 80)]
    each = [[subsequence_scores([q], [d])[0, 0] for d in documents] for q in queries]
    np.testing.assert_allclose(subsequence_scores(queries, documents), each, atol=2e-6)


def test_an_error_of_a_thread_comes_out(rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="matmul"):
        subsequence_scores([unit(rng, 9, 24)], [unit(rng, 9, 25)])
