"""Subsequence DTW of spoken queries against many documents, as SUPERB's query-by-example asks for it.

With n query frames, m document frames and the local cost c, for any start and end in the document:

    A[0, j] = c[0, j]
    A[i, j] = c[i, j] + min(A[i-1, j], A[i-1, j-1], A[i-1, j-2])        score = -min_j A[n-1, j] / n

the asymmetric step pattern of Sakoe and Chiba (1978): each query frame is matched once, the document moves
on by 0, 1 or 2 frames. So a document may be shorter than the query; one of a single frame matches at once.
The cost is s3prl's (`quesst14_dtw`, 0.4.18): exp(cosine distance) - 1, each query frame scaled to [0, 1]
over the document.

Threads are plain Python threads, each with a block of documents, in code that releases the GIL: matrix
products (BLAS with one thread) and a compiled kernel. They wait for each other at the end only, so a busy
machine slows them down no more than it must; none outlives its call, so processes may be forked later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Frames = NDArray[np.float32]
Scores = NDArray[np.float64]

BLOCK_BYTES = 1 << 22
"""Document frames that are compared at once: about what a core's cache holds, which doubles the speed."""
GROUP_FRAMES = 512
"""Query frames that are compared at once."""
SAME = 1e-6
"""A query frame whose costs over a document differ by less in float32 is equally far from all of it: its
scaled costs are 0. (s3prl divides by at least 1e-9, in float64, where equal distances differ by 0.)"""
BLOCKED = 1e300
"""Accumulated cost before the document's first frame; finite, so that sums need no care."""

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    # No NaN gets here: minima then run in SIMD registers.
    "fastmath": {"contract", "arcp", "nsz", "nnan"},
}


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile, and keep the machine code on disk if any folder for it can be written."""
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # the package is read-only and so is the user's cache folder
        compiled = numba.njit(**_OPTIONS)(function)
    return compiled


@_kernel
def _cheapest(cost: Frames, scaled: bool) -> float:
    """Mean over the query's frames of `cost` [n, m] along the cheapest path.

    With `scaled`, each row is first brought to [0, 1]. Sums are float64. Rows of accumulated costs have
    two cells in front that no path comes from.
    """
    n, m = cost.shape
    before, now = np.zeros(m + 2), np.full(m + 2, BLOCKED)
    for i in range(n):
        low, scale = np.float32(0.0), 1.0
        if scaled:
            low, high = cost[i, 0], cost[i, 0]
            for j in range(m):
                low, high = min(low, cost[i, j]), max(high, cost[i, j])
            scale = 1.0 / (high - low) if high - low > SAME else 0.0
        for j in range(m):
            best = min(before[j + 2], min(before[j + 1], before[j]))
            now[j + 2] = (cost[i, j] - low) * scale + best
        before, now = now, before
        now[:2] = BLOCKED
    return before[2:].min() / n  # type: ignore[no-any-return]


@_kernel
def _all_pairs(
    cost: Frames, queries: NDArray[np.int64], documents: NDArray[np.int64], scores: Scores
) -> None:
    """scores[q, k] for query rows queries[q] to queries[q + 1] and columns documents[k] to [k + 1]."""
    for q in range(len(queries) - 1):
        for k in range(len(documents) - 1):
            part = cost[queries[q] : queries[q + 1], documents[k] : documents[k + 1]]
            scores[q, k] = -_cheapest(part, True)


def subsequence_cost(cost: NDArray[np.floating[Any]]) -> float:
    """Mean of `cost` [query frames, document frames] along the cheapest path, as it is: nothing is scaled."""
    return float(_cheapest(np.ascontiguousarray(cost, np.float32), False))


def subsequence_scores(
    queries: Sequence[Frames],
    documents: Iterable[Frames],
    *,
    report: Callable[[int], None] | None = None,
) -> Scores:
    """Score of every query in every document, float64 [queries, documents]; higher is better, at most 0.

    Both are frames [T, D] of length 1 (zeros stay zeros: cosine distance 1 to everything), T > 0.
    Documents are taken one after the other, so they can be read from disk; memory is that of the queries
    and, for each thread (NUMBA_NUM_THREADS), of three blocks of documents (`BLOCK_BYTES`, or one document
    where that is more) and of the costs of one. `report` is told how many documents more are done.
    """
    groups = [_Group(group) for group in _grouped(queries)]
    threads = numba.get_num_threads()
    parts: list[Scores] = []
    waiting: deque[Future[Scores]] = deque()

    def take() -> None:
        parts.append(waiting.popleft().result())
        if report is not None:
            report(parts[-1].shape[1])

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for block in _blocks(documents):
            waiting.append(pool.submit(_block_scores, groups, block))
            if len(waiting) >= 2 * threads:
                take()
        while waiting:
            take()
    return np.concatenate(parts, axis=1) if parts else np.empty((len(queries), 0))


def _block_scores(groups: Sequence[_Group], block: Sequence[Frames]) -> Scores:
    """[queries, documents of the block]."""
    starts = _starts(block)
    frames = np.concatenate(block) if len(block) > 1 else block[0]
    found = [group.scores(frames, starts) for group in groups]
    return np.concatenate(found) if found else np.empty((0, len(block)))


class _Group:
    """Some queries, compared in one matrix product."""

    def __init__(self, queries: Sequence[Frames]) -> None:
        self.starts = _starts(queries)
        self.minus = -np.concatenate(queries)

    def scores(self, frames: Frames, starts: NDArray[np.int64]) -> Scores:
        """[queries, documents] for the documents in `frames`.

        Scaling to [0, 1] takes factor and offset of exp(1 - s) - 1 away, so exp(-s) is enough.
        """
        cost = self.minus @ frames.T
        np.exp(cost, out=cost)
        scores = np.empty((len(self.starts) - 1, len(starts) - 1))
        _all_pairs(cost, self.starts, starts, scores)
        return scores


def _starts(sequences: Sequence[Frames]) -> NDArray[np.int64]:
    """Where each begins when they are put together, and the end."""
    return np.concatenate([[0], np.cumsum([len(frames) for frames in sequences])]).astype(np.int64)


def _grouped(queries: Sequence[Frames]) -> Iterator[list[Frames]]:
    return _filled(queries, lambda frames: len(frames), GROUP_FRAMES)


def _blocks(documents: Iterable[Frames]) -> Iterator[list[Frames]]:
    return _filled(documents, lambda frames: frames.nbytes, BLOCK_BYTES)


def _filled(
    items: Iterable[Frames], size: Callable[[Frames], int], room: int
) -> Iterator[list[Frames]]:
    """Neighbours together up to `room`, at least one at a time."""
    taken: list[Frames] = []
    used = 0
    for item in items:
        own = size(item)
        if taken and used + own > room:
            yield taken
            taken, used = [], 0
        taken.append(item)
        used += own
    if taken:
        yield taken
