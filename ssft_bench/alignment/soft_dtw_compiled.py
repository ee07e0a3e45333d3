"""Soft-DTW on the CPU: numba kernels that walk along anti-diagonals, one alignment per thread at a time.

The cells of an anti-diagonal do not depend on each other, so the inner loops run in SIMD registers once
the costs of a few diagonals are copied side by side, exp2 and log2 are polynomials and nothing branches.
Everything is computed in float64, in units of gamma / log2(e) (bits), whatever the type of the costs: the
accumulated cost is in the hundreds, the softmin looks at differences of hundredths.

Threads are plain Python threads around kernels that release the GIL. None outlives its call, so forked
processes (data workers) can call this too, which OpenMP and numba's own pools do not allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssft_bench.alignment.costs import Alignments

LN2 = math.log(2.0)
ROUND = 1.5 * 2.0**52
"""Added to a float64, it leaves the nearest integer in the low bits."""
BLOCKED = 1e300
"""Accumulated cost of a cell that no path reaches; finite, because inf - inf is NaN."""
TILE = 16
"""Anti-diagonals copied at once: a row of a tile is one cache line of float32."""

# 2^f = sum of (f ln 2)^k / k!: |f| <= 0.5, relative error 1e-14.
E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11 = (LN2**k / math.factorial(k) for k in range(1, 12))
# log2(t) = log2(c) + 2/ln 2 * atanh((t - c) / (t + c)): t in [1, 3], c = sqrt(3), error 2e-14.
CENTRE = math.sqrt(3.0)
L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10 = (2 / LN2 / (2 * k + 1) for k in range(11))
LOG2_CENTRE = math.log2(CENTRE)

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    # Fast-math only as far as NaN, infinity and the order of sums stay what they are.
    "fastmath": {"contract", "arcp", "nsz"},
}
inlined = numba.njit(inline="always", **OPTIONS)
part = numba.njit(**OPTIONS)


def entry(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile, and keep the machine code on disk if any folder for it can be written."""
    try:
        kernel: Callable[..., Any] = numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # the package is read-only and so is the user's cache folder
        kernel = part(function)
    return kernel


@inlined
def _exp2(x):  # type: ignore[no-untyped-def]
    """2^x for x <= 0, at least 2^-1000; NaN stays NaN."""
    x = -1000.0 if x < -1000.0 else x
    rounded = x + ROUND
    f = x - (rounded - ROUND)
    high = E6 + f * (E7 + f * (E8 + f * (E9 + f * (E10 + f * E11))))
    power = 1.0 + f * (E1 + f * (E2 + f * (E3 + f * (E4 + f * (E5 + f * high)))))
    bits = np.int64(np.float64(power).view(np.int64) + (np.float64(rounded).view(np.int64) << 52))
    return np.int64(bits).view(np.float64)


@inlined
def _log2(t, inverse):  # type: ignore[no-untyped-def]
    """log2(t) for t in [1, 3], given 1 / (t + CENTRE)."""
    u = (t - CENTRE) * inverse
    v = u * u
    high = L5 + v * (L6 + v * (L7 + v * (L8 + v * (L9 + v * L10))))
    return LOG2_CENTRE + u * (L0 + v * (L1 + v * (L2 + v * (L3 + v * (L4 + v * high)))))


@part
def _soft_minima(total, last, before, cost, scale, up_weight, diagonal_weight):  # type: ignore[no-untyped-def]
    """One anti-diagonal of accumulated costs from the last one and the one before it.

    `last[i]` is the cell above, `last[i + 1]` the one on the left, `before[i]` the one on the diagonal.
    The weights are the softmin's gradient; the left cell's is what they lack of 1.
    """
    for i in range(len(cost)):
        up, left, diagonal = last[i], last[i + 1], before[i]
        low = left if left < up else up
        low = diagonal if diagonal < low else low
        of_up, of_left, of_diagonal = _exp2(low - up), _exp2(low - left), _exp2(low - diagonal)
        mass = (of_up + of_left) + of_diagonal  # the same when up and left change places
        # One division gives 1 / mass for the weights and 1 / (mass + CENTRE) for the logarithm.
        both = 1.0 / (mass * (mass + CENTRE))
        inverse = both * (mass + CENTRE)
        up_weight[i] = of_up * inverse
        diagonal_weight[i] = of_diagonal * inverse
        value = cost[i] * scale + (low - _log2(mass, both * mass))
        total[i] = BLOCKED if value > BLOCKED else value


@part
def _shares(up, left, diagonal, up1, left1, diagonal2, up_weight, diagonal_weight, grad):  # type: ignore[no-untyped-def]
    """One anti-diagonal, backwards: a cell's gradient is what its successors pass to it; it passes
    that on to the cells above, on the left and on the diagonal."""
    for i in range(len(grad)):
        mass = (up1[i + 1] + left1[i]) + diagonal2[i + 1]
        grad[i] = mass
        to_up, to_diagonal = mass * up_weight[i], mass * diagonal_weight[i]
        rest = (mass - to_up) - to_diagonal
        up[i] = to_up
        diagonal[i] = to_diagonal
        left[i] = 0.0 if rest < 0.0 else rest


@inlined
def _span(d, n, m, symmetric):  # type: ignore[no-untyped-def]
    """First row of anti-diagonal d = i + j, and the row after its last; i <= j if symmetric."""
    return max(0, d - m + 1), (d // 2 if symmetric else min(d, n - 1)) + 1


@inlined
def _row_in_tile(i, first, end, m, symmetric):  # type: ignore[no-untyped-def]
    """First column of row i on anti-diagonals first to end - 1, and the column after its last."""
    return max(i if symmetric else 0, first - i), min(m, end - i)


@part
def _forward(cost, n, m, scale, symmetric, keep, up_weights, diagonal_weights):  # type: ignore[no-untyped-def]
    """Accumulated cost of the last cell, in bits; the weights go to their arrays, side by side.

    Rows of `total` are anti-diagonals modulo 3, element i + 1 is row i; what lies just beyond either
    end is blocked. Of a symmetric matrix the cell below the main diagonal mirrors the one above it.
    """
    total = np.full((3, n + 2), BLOCKED)
    total[1, 0] = 0.0  # the start: cell (-1, -1)
    tile = np.empty((TILE, n), cost.dtype)
    at = 0
    for first in range(0, n + m - 1, TILE):
        end = min(first + TILE, n + m - 1)
        for i in range(max(0, first - m + 1), min(n, end)):
            begin, stop = _row_in_tile(i, first, end, m, symmetric)
            for j in range(begin, stop):
                tile[i + j - first, i] = cost[i, j]
        for d in range(first, end):
            low, high = _span(d, n, m, symmetric)
            now, last, before = total[d % 3], total[(d + 2) % 3], total[(d + 1) % 3]
            costs = tile[d - first, low:high]
            _soft_minima(now[low + 1 :], last[low:], before[low:], costs, scale,
                         up_weights[at:], diagonal_weights[at:])  # fmt: skip
            now[low] = BLOCKED
            now[high + 1] = now[high] if symmetric and d % 2 else BLOCKED
            at += high - low if keep else 0
    return total[(n + m - 2) % 3, n]


@part
def _backward(grad, n, m, symmetric, up_weights, diagonal_weights):  # type: ignore[no-untyped-def]
    """Gradient of the last cell's accumulated cost in every cell; zero beyond n and m."""
    up, left, diagonal = np.zeros((2, n + 2)), np.zeros((2, n + 2)), np.zeros((3, n + 2))
    diagonal[(n + m) % 3, n + 1] = 1.0  # the end: passed on by cell (n, m)
    tile = np.empty((TILE, n), grad.dtype)
    at = n * (n + 1) // 2 if symmetric else n * m
    for first in range((n + m - 2) // TILE * TILE, -1, -TILE):
        end = min(first + TILE, n + m - 1)
        for d in range(end - 1, first - 1, -1):
            low, high = _span(d, n, m, symmetric)
            at -= high - low
            own, other = d % 2, (d + 1) % 2
            inside, beyond = low + 1, high + 1
            _shares(up[own, inside:], left[own, inside:], diagonal[d % 3, inside:],
                    up[other, inside:], left[other, inside:], diagonal[(d + 2) % 3, inside:],
                    up_weights[at:], diagonal_weights[at:], tile[d - first, low:high])  # fmt: skip
            for passed in (up[own], left[own], diagonal[d % 3]):
                passed[low] = passed[beyond] = 0.0
            if symmetric and d % 2:
                up[own, beyond] = left[own, high]
        for i in range(max(0, first - m + 1), min(n, end)):
            begin, stop = _row_in_tile(i, first, end, m, symmetric)
            for j in range(begin, stop):
                grad[i, j] = tile[i + j - first, i]
                if symmetric:
                    grad[j, i] = tile[i + j - first, i]
    grad[:n, m:] = 0.0
    grad[n:] = 0.0


@entry
def _align(cost, n, m, gamma, symmetric, keep, up_weights, diagonal_weights):  # type: ignore[no-untyped-def]
    """Soft-DTW of cost[:n, :m]; if keep, the gradient is left in cost."""
    scale = 1.0 / (gamma * LN2)
    bits = _forward(cost, n, m, scale, symmetric, keep, up_weights, diagonal_weights)
    if keep:
        _backward(cost, n, m, symmetric, up_weights, diagonal_weights)
    return bits / scale if bits < BLOCKED else (np.inf if bits == BLOCKED else bits)


def align(batches: Sequence[Alignments], gamma: float, keep: bool) -> Tensor:
    """Soft-DTW of every matrix of all batches, one after the other, float64 on the CPU.

    If keep, each cost is overwritten by its gradient. Memory: 2 numbers a cell of one matrix per thread.
    """
    jobs = [
        (cost, n, m, batch.symmetric)
        for batch in batches
        for cost, n, m in zip(batch.cost.numpy(), batch.rows, batch.columns, strict=True)
    ]
    # The large ones first, or a thread is left alone with one at the end.
    todo = sorted(range(len(jobs)), key=lambda job: _cells(*jobs[job]))
    values = np.empty(len(jobs))
    most = max(_cells(*job) if keep else min(job[1], job[2]) for job in jobs)

    def work(_: int) -> None:
        weights = np.empty((2, most), jobs[0][0].dtype)
        while True:
            try:
                job = todo.pop()  # atomic
            except IndexError:
                return
            cost, n, m, symmetric = jobs[job]
            values[job] = _align(cost, n, m, gamma, symmetric, keep, *weights)

    threads = min(torch.get_num_threads(), len(jobs))
    if threads == 1:
        work(0)
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="soft_dtw") as pool:
            list(pool.map(work, range(threads)))
    return torch.from_numpy(values)


def _cells(cost: NDArray[Any], n: int, m: int, symmetric: bool) -> int:
    return n * (n + 1) // 2 if symmetric else n * m
