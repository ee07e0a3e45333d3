"""Any function of one frame's layers, in blocks of real frames, computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ssft_bench.mixing.frames import Block, block_frames, blocks, first_derivative_only, sum_type

CPU_FRAMES = 512
"""Frames per block: bounds what a function may keep while it is differentiated."""

Combine = Callable[[list[Tensor]], Tensor]


def framewise(
    combine: Combine,
    states: Sequence[Tensor],
    lengths: Tensor,
    width: int,
    parameters: Sequence[Tensor] = (),
    *,
    draws: bool = False,
) -> Tensor:
    """Features [B, T, width] of `combine`, which maps the layers of n frames, each [n, D_l], to [n, width].

    `combine` sees real frames only, in blocks, in fp32 where the states are bf16 or fp16. Nothing of
    it is kept for the backward pass, which computes it again; `parameters` are what it learns, and
    `draws` says that it draws random numbers (the second time the same). Frames at and after
    `lengths` [B] are zero.
    """
    seed = int(torch.randint(2**62, ())) if draws else None
    out: Tensor = _Framewise.apply(combine, lengths, width, seed, tuple(parameters), len(states),
                                   *states, *parameters)  # fmt: skip
    return out


class _Framewise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        combine: Combine,
        lengths: Tensor,
        width: int,
        seed: int | None,
        parameters: tuple[Tensor, ...],
        count: int,
        *tensors: Tensor,
    ) -> Tensor:
        states = tensors[:count]
        ctx.save_for_backward(*tensors)
        ctx.combine, ctx.seed, ctx.parameters = combine, seed, parameters
        ctx.lengths, ctx.count = lengths.tolist(), count
        first = states[0]
        out = first.new_zeros(*first.shape[:2], width)
        for block in _blocks(ctx.lengths, first.device):
            with _drawing(seed, block, first.device):
                block.scatter(combine([_gather(block, s) for s in states]), out)
        return out

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        states, needs = tensors[: ctx.count], ctx.needs_input_grad[6:]
        by_state = [
            torch.zeros_like(s) if n else None
            for s, n in zip(states, needs[: ctx.count], strict=True)
        ]
        learned = [p for p, n in zip(ctx.parameters, needs[ctx.count :], strict=True) if n]
        sums = [torch.zeros_like(p) for p in learned]
        for block in _blocks(ctx.lengths, grad.device):
            inputs = [_gather(block, s) for s in states]
            wanted = [x.requires_grad_() for x, n in zip(inputs, needs, strict=False) if n]
            with torch.enable_grad(), _drawing(ctx.seed, block, grad.device):
                y = ctx.combine(inputs)
            found = torch.autograd.grad(
                y, [*wanted, *learned], _gather(block, grad).to(y.dtype), allow_unused=True
            )
            for target, own in zip([t for t in by_state if t is not None], found, strict=False):
                if own is not None:
                    block.scatter(own, target)
            for total, own in zip(sums, found[len(wanted) :], strict=True):
                if own is not None:
                    total += own
        left = iter(sums)
        by_parameter = [next(left) if n else None for n in needs[ctx.count :]]
        return None, None, None, None, None, None, *by_state, *by_parameter


def _blocks(lengths: Sequence[int], device: torch.device) -> list[Block]:
    return list(blocks(lengths, block_frames(device, CPU_FRAMES)))


def _gather(block: Block, state: Tensor) -> Tensor:
    """The block's frames [n, D], in at least fp32; a view where that is possible."""
    kind = sum_type(state.dtype)
    if len(block.pieces) == 1 and state.dtype == kind:
        return block.pieces[0].of(state.detach())
    out = torch.empty(block.size, state.shape[-1], dtype=kind, device=state.device)
    return block.gather(state, out)


@contextmanager
def _drawing(seed: int | None, block: Block, device: torch.device) -> Iterator[None]:
    """Random numbers of this block alone, and the generators back where they were afterwards."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed((seed + block.offset) % 2**63)
        yield
