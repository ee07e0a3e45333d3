"""Soft-DTW in torch operations, on any device: anti-diagonals one after the other, N + M - 1 steps.

Each step computes one anti-diagonal of all alignments at once; the backward pass is explicit, so autograd
records nothing of the loop. Accumulated costs are float64 where the device has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor

from ssft_bench.alignment.costs import Alignments

Ends = dict[int, tuple[list[int], list[int]]]
"""Anti-diagonal to the alignments that end on it, and their last rows."""


def align(batches: Sequence[Alignments], gamma: float, keep: bool) -> Tensor:
    """Soft-DTW of every matrix of all batches, one after the other, in one walk; on their device.

    If keep, each cost is overwritten by its gradient. Memory: for N x M cells, N x (N + M) numbers of
    the skewed copy, and three times that for the weights if keep.
    """
    rows = max(batch.cost.shape[1] for batch in batches)
    columns = max(batch.cost.shape[2] for batch in batches)
    number = sum(len(batch.cost) for batch in batches)
    cost = batches[0].cost
    # Rows are padded so far that [d, b, i], cell (i, d - i), falls on padding where there is none.
    skewed = cost.new_zeros(number, rows, rows + columns)
    width = rows + columns
    diagonals = skewed.as_strided((width - 1, number, rows), (1, rows * width, width - 1))
    at = 0
    for batch in batches:
        count, n, m = batch.cost.shape
        skewed[at : at + count, :n, :m] = batch.cost.masked_fill(~batch.real(), 0)
        at += count
    ends: Ends = defaultdict(lambda: ([], []))
    lengths = chain.from_iterable(zip(batch.rows, batch.columns, strict=True) for batch in batches)
    for place, (n, m) in enumerate(lengths):
        ends[n + m - 2][0].append(place)
        ends[n + m - 2][1].append(n - 1)
    exact = cost.dtype if cost.device.type == "mps" else torch.float64
    weights = cost.new_empty(width - 1, 3, number, rows) if keep else None
    values = _forward(diagonals, weights, ends, gamma, exact)
    if weights is not None:
        _backward(diagonals, weights, ends, exact)
        at = 0
        for batch in batches:
            count, n, m = batch.cost.shape
            batch.cost.copy_(skewed[at : at + count, :n, :m])
            at += count
    return values


def _forward(
    diagonals: Tensor, weights: Tensor | None, ends: Ends, gamma: float, exact: torch.dtype
) -> Tensor:
    """Values [B]; `weights` [N + M - 1, 3, B, N] get the softmin's gradient (up, left, diagonal)."""
    steps, number, rows = diagonals.shape
    blocked = 1e300 if exact == torch.float64 else 1e30  # finite: inf - inf is NaN
    values = diagonals.new_zeros(number, dtype=exact)
    # Element i + 1 is row i; element 0 is blocked, except for the start, cell (-1, -1).
    last = values.new_full((number, rows + 1), blocked)
    before = last.clone()
    before[:, 0] = 0
    for d in range(steps):
        ways = torch.stack((last[:, :-1], last[:, 1:], before[:, :-1]))
        low = ways.amin(0)
        likely = torch.exp(low - ways)
        mass = likely.sum(0)
        if weights is not None:
            torch.div(likely, mass, out=likely)
            weights[d] = likely
        before, last = last, torch.full_like(last, blocked)
        total = diagonals[d].to(exact) / gamma + (low - mass.log())
        torch.clamp(total, max=blocked, out=last[:, 1:])
        if d in ends:
            places, final = ends[d]
            values[places] = last[:, 1:][places, final]
    return torch.where(values == blocked, torch.inf, values * gamma)


def _backward(diagonals: Tensor, weights: Tensor, ends: Ends, exact: torch.dtype) -> None:
    """Put the gradient of the values into `diagonals`."""
    steps, number, rows = diagonals.shape
    # What cells pass on along the three ways; element N stands for the row beyond the last.
    last = diagonals.new_zeros(3, number, rows + 1, dtype=exact)
    before = last.clone()
    for d in reversed(range(steps)):
        grad = last[0, :, 1:] + last[1, :, :-1] + before[2, :, 1:]
        if d in ends:
            grad[ends[d]] += 1
        diagonals[d] = grad
        before, last = last, torch.zeros_like(last)
        torch.mul(grad, weights[d], out=last[:, :, :-1])
