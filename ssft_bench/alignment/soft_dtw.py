"""Soft-DTW (Cuturi and Blondel, ICML 2017) and its divergence (Blondel, Mensch and Vert, AISTATS 2021).

With softmin(u) = -gamma log sum exp(-u / gamma), the accumulated cost of cell (i, j) is

    R[i, j] = C[i, j] + softmin(R[i-1, j-1], R[i-1, j], R[i, j-1]),

and soft-DTW is R of the last cell. Its gradient in C does not depend on what follows, so the forward pass
computes it at once: a matrix of costs turns into its gradient in place, the softmin's weights live only
while one alignment is computed, and nothing of size N x M waits for the backward pass of the divergence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ssft_bench.alignment.costs import Alignments, centred, squared_distances

Backend = Literal["auto", "compiled", "torch"]
"""auto: compiled for tensors on the CPU, torch operations on any other device."""


def soft_dtw(
    cost: Tensor, x_lengths: Tensor, y_lengths: Tensor, gamma: float, backend: Backend = "auto"
) -> Tensor:
    """Soft-DTW of each cost matrix, [B], differentiable (once) in the costs.

    cost [B, N, M], float; bf16 and fp16 are computed and returned as fp32. An infinite cost forbids a
    cell (a band, say). x_lengths [B] and y_lengths [B]: real rows and columns, at least 1; what lies
    beyond is never looked at. gamma > 0 has the unit of the costs. Raises ValueError for other shapes,
    lengths or gamma, RuntimeError for a second derivative.
    """
    if cost.dim() != 3:
        raise ValueError(f"soft_dtw: cost must be [B, N, M], not {list(cost.shape)}")
    rows = _lengths("x_lengths", x_lengths, len(cost), cost.shape[1])
    columns = _lengths("y_lengths", y_lengths, len(cost), cost.shape[2])
    _check("soft_dtw", (cost,), gamma, backend)
    value: Tensor = _SoftDTW.apply(*_prepared(cost), rows, columns, float(gamma), backend)
    return value


def soft_dtw_divergence(
    x: Tensor,
    y: Tensor,
    x_lengths: Tensor,
    y_lengths: Tensor,
    gamma: float = 0.1,
    backend: Backend = "auto",
) -> Tensor:
    """sdtw(x, y) - (sdtw(x, x) + sdtw(y, y)) / 2 of squared Euclidean costs, [B].

    The loss of SCORE (before it is divided by the lengths) and LASER. x [B, N, D] and y [B, M, D], float;
    bf16 and fp16 are computed and returned as fp32, under autocast too. x_lengths [B] and y_lengths [B]:
    real frames, at least 1; padding, even NaN, changes neither value nor gradient. Differentiable (once)
    in x and y through all three terms. Memory grows with B x (N x M + N^2 + M^2), never times D.
    Raises ValueError for other shapes, lengths or gamma, RuntimeError for a second derivative.
    """
    if x.dim() != 3 or y.dim() != 3 or (len(x), x.shape[2]) != (len(y), y.shape[2]):
        shapes = f"{list(x.shape)} and {list(y.shape)}"
        raise ValueError(
            f"soft_dtw_divergence: x and y must be [B, N, D] and [B, M, D], not {shapes}"
        )
    rows = _lengths("x_lengths", x_lengths, len(x), x.shape[1])
    columns = _lengths("y_lengths", y_lengths, len(y), y.shape[1])
    _check("soft_dtw_divergence", (x, y), gamma, backend)
    value: Tensor = _Divergence.apply(*_prepared(x, y), rows, columns, float(gamma), backend)
    return value


class _SoftDTW(torch.autograd.Function):
    """Soft-DTW of given costs; keeps their gradient."""

    @staticmethod
    def forward(
        ctx: Any, cost: Tensor, rows: list[int], columns: list[int], gamma: float, backend: Backend
    ) -> Tensor:
        keep = ctx.needs_input_grad[0]
        own = cost.detach().clone(memory_format=torch.contiguous_format) if keep else cost.detach()
        batch = Alignments(own.contiguous(), rows, columns)
        values = _align([batch], gamma, keep, backend)
        if keep:
            ctx.save_for_backward(cost, batch.cost)
        return values.to(cost.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        cost, own = ctx.saved_tensors
        return _scaled(grad_output, own, cost), None, None, None, None


class _Divergence(torch.autograd.Function):
    """The divergence of frames; keeps its gradient in them, [B, N, D] and [B, M, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        rows: list[int],
        columns: list[int],
        gamma: float,
        backend: Backend,
    ) -> Tensor:
        of_x, of_y = ctx.needs_input_grad[:2]
        with torch.autocast(x.device.type, enabled=False):
            a, b = centred(x, y, *(torch.tensor(n, device=x.device) for n in (rows, columns)))
            cross = Alignments(squared_distances(a, b), rows, columns)
            own_x = Alignments(squared_distances(a, a), rows, rows, symmetric=True)
            own_y = Alignments(squared_distances(b, b), columns, columns, symmetric=True)
            values = _align([cross, own_x, own_y], gamma, of_x or of_y, backend)
            grad_x = _grad(a, b, cross.cost, own_x.cost) if of_x else None
            grad_y = _grad(b, a, cross.cost.mT, own_y.cost) if of_y else None
        ctx.save_for_backward(x, y, grad_x, grad_y)
        both, only_x, only_y = values.view(3, len(x))
        value: Tensor = both - (only_x + only_y) / 2
        return value.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, y, grad_x, grad_y = ctx.saved_tensors
        of_x = None if grad_x is None else _scaled(grad_output, grad_x, x)
        of_y = None if grad_y is None else _scaled(grad_output, grad_y, y)
        return of_x, of_y, None, None, None, None


class _Scaled(torch.autograd.Function):
    """The gradient, tied to what it depends on, so that whoever wants to derive it again is told.

    `once_differentiable` is silent where grad_output does not require a gradient: a second derivative
    of a sum of losses would then lack this term.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, grad_output: Tensor, grad: Tensor, _: Tensor) -> Tensor:
        return grad_output.to(grad.dtype)[:, None, None] * grad

    @staticmethod
    def backward(ctx: FunctionCtx, *_: Tensor) -> None:
        raise RuntimeError(
            "soft-DTW can be differentiated once; its second derivative is not built"
        )


def _scaled(grad_output: Tensor, grad: Tensor, of: Tensor) -> Tensor:
    scaled: Tensor = _Scaled.apply(grad_output, grad, of)
    return scaled


def _align(batches: Sequence[Alignments], gamma: float, keep: bool, backend: Backend) -> Tensor:
    """Values of all batches, float64, one after the other; if keep, costs turn into gradients."""
    if backend == "torch" or (backend == "auto" and batches[0].cost.device.type != "cpu"):
        from ssft_bench.alignment.soft_dtw_torch import align
    else:
        from ssft_bench.alignment.soft_dtw_compiled import align
    values: Tensor = align(batches, gamma, keep)
    return values


def _grad(a: Tensor, b: Tensor, cross: Tensor, own: Tensor) -> Tensor:
    """Gradient of the divergence in the frames a [B, N, D], from those in the costs.

    With E = cross and the symmetric S = own, and d|a_i - b_j|^2 / da_i = 2 (a_i - b_j):
    2 (sum_j E_ij) a_i - 2 E b, and for the own term, where a stands on both sides, minus half of
    4 (sum_j S_ij) a_i - 4 S a.
    """
    grad = torch.baddbmm((cross.sum(2) - own.sum(2))[..., None] * a, own, a)
    return grad.baddbmm_(cross, b, alpha=-1).mul_(2)


def _prepared(*tensors: Tensor) -> list[Tensor]:
    """All in their common type, at least float32; without a gradient where none is recorded, for
    a Function does not see that."""
    kind = torch.float32
    for tensor in tensors:
        kind = torch.promote_types(kind, tensor.dtype)
    return [t.to(kind) if torch.is_grad_enabled() else t.detach().to(kind) for t in tensors]


def _lengths(name: str, lengths: Tensor, number: int, most: int) -> list[int]:
    """Lengths as a list; ValueError unless there is one for each of the batch, from 1 to `most`."""
    found = [int(n) for n in lengths.tolist()] if lengths.dim() == 1 else []
    if number == 0 or len(found) != number:
        raise ValueError(f"{name}: must be [B] with B = {number} > 0, not {list(lengths.shape)}")
    if min(found) < 1 or max(found) > most:
        raise ValueError(f"{name}: must be 1 to {most}, not {min(found)} to {max(found)}")
    return found


def _check(name: str, tensors: Sequence[Tensor], gamma: float, backend: Backend) -> None:
    if not all(tensor.is_floating_point() for tensor in tensors):
        raise ValueError(f"{name}: needs floating-point tensors, not {tensors[0].dtype}")
    if len({tensor.device for tensor in tensors}) > 1:
        raise ValueError(f"{name}: x and y are on different devices")
    if not (math.isfinite(gamma) and gamma > 0):
        raise ValueError(f"{name}: gamma must be above 0, not {gamma}")
    if backend not in ("auto", "compiled", "torch"):
        raise ValueError(f"{name}: backend must be auto, compiled or torch, not {backend!r}")
    if backend == "compiled" and tensors[0].device.type != "cpu":
        raise ValueError(f"{name}: the compiled backend is for the CPU, not {tensors[0].device}")
