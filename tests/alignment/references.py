"""Soft-DTW in plain loops and by counting paths; float64, one pair, nothing padded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Cell = tuple[int, int]


def loops(cost: Array, gamma: float) -> tuple[float, Array]:
    """Value and gradient in the cost [N, M]: the recursion, cell by cell (numba can compile this).

    Accumulates in the type of the costs; float64 unless a test wants to see what float32 does.
    """
    n, m = cost.shape
    total = np.full((n + 1, m + 1), np.inf, cost.dtype)
    total[0, 0] = 0.0
    for i in range(n):
        for j in range(m):
            low = min(total[i, j], total[i, j + 1], total[i + 1, j])
            mass = math.exp((low - total[i, j]) / gamma)
            mass += math.exp((low - total[i, j + 1]) / gamma)
            mass += math.exp((low - total[i + 1, j]) / gamma)
            total[i + 1, j + 1] = cost[i, j] + low - gamma * math.log(mass)
    grad = np.zeros((n, m))
    grad[n - 1, m - 1] = 1.0
    for i in range(n - 1, -1, -1):
        for j in range(m - 1, -1, -1):
            for down, right in ((1, 0), (0, 1), (1, 1)):
                a, b = i + down, j + right
                if a < n and b < m:
                    before = total[a + 1, b + 1] - cost[a, b]
                    grad[i, j] += grad[a, b] * math.exp((before - total[i + 1, j + 1]) / gamma)
    return total[n, m], grad


def enumerated(cost: Array, gamma: float) -> tuple[float, Array]:
    """Value and gradient from every monotone path: how likely each is, and which cells it visits."""
    paths = list(_paths(*cost.shape))
    lengths = np.array([sum(cost[cell] for cell in path) for path in paths])
    likely = np.exp((lengths.min() - lengths) / gamma)
    grad = np.zeros_like(cost)
    for path, share in zip(paths, likely / likely.sum(), strict=True):
        for cell in path:
            grad[cell] += share
    return float(lengths.min() - gamma * np.log(likely.sum())), grad


def _paths(n: int, m: int) -> Iterator[list[Cell]]:
    """Every path from (0, 0) to (n - 1, m - 1) in steps down, right and diagonal."""
    if (n, m) == (1, 1):
        yield [(0, 0)]
        return
    for down, right in ((1, 0), (0, 1), (1, 1)):
        if n - down > 0 and m - right > 0:
            for path in _paths(n - down, m - right):
                yield [*path, (n - 1, m - 1)]


def distances(x: Array, y: Array) -> Array:
    """Squared Euclidean distances [N, M] of frames [N, D] and [M, D], difference by difference."""
    return np.array([[((a - b) ** 2).sum() for b in y] for a in x])


def divergence(x: Array, y: Array, gamma: float, solve: Any = loops) -> tuple[float, Array, Array]:
    """Value, gradient in x [N, D] and gradient in y [M, D]."""
    value, grad_x, grad_y = 0.0, np.zeros_like(x), np.zeros_like(y)
    for share, a, b, grad_a, grad_b in (
        (1.0, x, y, grad_x, grad_y), (-0.5, x, x, grad_x, grad_x), (-0.5, y, y, grad_y, grad_y)
    ):  # fmt: skip
        part, grad = solve(distances(a, b), gamma)
        value += share * part
        for i in range(len(a)):
            for j in range(len(b)):
                step = 2 * share * grad[i, j] * (a[i] - b[j])
                grad_a[i] += step
                grad_b[j] -= step
    return value, grad_x, grad_y
