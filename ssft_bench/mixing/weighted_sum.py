"""sum_l w_l h_l over a list of hidden states: no stack, nothing kept but references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ssft_bench.mixing.frames import (
    Piece,
    block_frames,
    first_derivative_only,
    sum_type,
    zero_padding,
)

CPU_FRAMES = 256
"""Frames whose running sum stays in a core's cache while the layers pass by."""


def weighted_sum(states: Sequence[Tensor], weights: Tensor, lengths: Tensor) -> Tensor:
    """Weighted sum of L states, each [B, T, D], of one type and any strides: [B, T, D].

    `weights` is [L], or [L, D] with a weight for each dimension. Frames at and after `lengths` [B]
    are not read and come out zero. Sums in fp32 under bf16 and fp16, and returns the states' type.
    Nothing is saved for the backward pass but references to what was given. Backward can run once:
    a second derivative raises RuntimeError.
    """
    if len(states) != weights.shape[0]:
        raise ValueError(f"weighted_sum: {weights.shape[0]} weights for {len(states)} states")
    out: Tensor = _WeightedSum.apply(weights, lengths, *states)
    return out


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, lengths: Tensor, *states: Tensor) -> Tensor:
        ctx.save_for_backward(weights, *states)
        ctx.lengths = lengths.tolist()
        out = torch.empty_like(states[0])
        zero_padding(out, ctx.lengths)
        kind = sum_type(out.dtype)
        first, *others = _scales(weights, kind)
        for piece in _pieces(ctx.lengths, out.device):
            target = piece.of(out)
            total = target if kind == target.dtype else torch.empty_like(target, dtype=kind)
            torch.mul(piece.of(states[0]).to(kind), first, out=total)
            for state, scale in zip(states[1:], others, strict=True):
                _add(total, piece.of(state), scale)
            if total is not target:
                target.copy_(total)
        return out

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, *states = ctx.saved_tensors
        need_weights, need_states = ctx.needs_input_grad[0], ctx.needs_input_grad[2:]
        by_state = [
            torch.empty_like(s) if needed else None
            for s, needed in zip(states, need_states, strict=True)
        ]
        for target in by_state:
            if target is not None:
                zero_padding(target, ctx.lengths)
        kind = sum_type(states[0].dtype)
        scales = _scales(weights, kind)
        over = (0, 1) if weights.dim() == 1 else (0,)
        sums: list[Tensor] = []
        for piece in _pieces(ctx.lengths, grad.device):
            g = piece.of(grad).to(kind)
            product = torch.empty(g.shape, dtype=kind, device=g.device)
            for state, scale, target in zip(states, scales, by_state, strict=True):
                if need_weights:
                    sums.append(torch.mul(g, piece.of(state), out=product).sum(over))
                if target is not None:
                    torch.mul(g, scale, out=product)
                    piece.of(target).copy_(product)
        if not need_weights:
            return None, None, *by_state
        if not sums:
            return torch.zeros_like(weights), None, *by_state
        # fp64: one number sums up the products of every frame and dimension.
        by_weight = torch.stack(sums).unflatten(0, (-1, len(states))).double().sum(0)
        return by_weight.to(weights.dtype), None, *by_state


def _pieces(lengths: Sequence[int], device: torch.device) -> list[Piece]:
    size = block_frames(device, CPU_FRAMES)
    return [
        Piece(row, start, min(length, start + size))
        for row, length in enumerate(lengths)
        for start in range(0, length, size)
    ]


def _scales(weights: Tensor, kind: torch.dtype) -> Sequence[Any]:
    """Numbers for one weight per layer (they cost no broadcast), rows [D] otherwise."""
    return weights.tolist() if weights.dim() == 1 else weights.to(kind).unbind()


def _add(total: Tensor, state: Tensor, scale: Any) -> None:
    if isinstance(scale, Tensor):
        total.addcmul_(state, scale)
    else:
        total.add_(state, alpha=scale)
