"""The real frames of a padded batch, in blocks that fit the processor's caches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ACCELERATOR_FRAMES = 65_536
"""Frames per block where launching many small kernels costs more than memory."""


@dataclass(frozen=True)
class Piece:
    """Frames `start` to `stop` of utterance `row`."""

    row: int
    start: int
    stop: int

    def of(self, state: Tensor) -> Tensor:
        """These frames of `state` [B, T, ...]: a view [n, ...]."""
        return state[self.row, self.start : self.stop]


@dataclass(frozen=True)
class Block:
    """Consecutive real frames of a batch: `offset` of the first one, `size` of them."""

    pieces: tuple[Piece, ...]
    offset: int
    size: int

    @property
    def rows(self) -> slice:
        """Its place among all real frames of the batch, counted without padding."""
        return slice(self.offset, self.offset + self.size)

    def gather(self, state: Tensor, out: Tensor) -> Tensor:
        """Copy the frames of `state` [B, T, D] into `out` [size, D], converting where types differ."""
        place = 0
        for piece in self.pieces:
            count = piece.stop - piece.start
            out[place : place + count].copy_(piece.of(state))
            place += count
        return out

    def scatter(self, values: Tensor, out: Tensor) -> None:
        """Copy `values` [size, ...] to their places in `out` [B, T, ...]."""
        place = 0
        for piece in self.pieces:
            count = piece.stop - piece.start
            piece.of(out).copy_(values[place : place + count])
            place += count


def blocks(lengths: Sequence[int], size: int) -> Iterator[Block]:
    """All real frames of a batch, `size` frames at a time; the last block may hold fewer."""
    pieces: list[Piece] = []
    offset = held = 0
    for row, length in enumerate(lengths):
        start = 0
        while start < length:
            stop = min(length, start + size - held)
            pieces.append(Piece(row, start, stop))
            held += stop - start
            start = stop
            if held == size:
                yield Block(tuple(pieces), offset, held)
                pieces, offset, held = [], offset + held, 0
    if held:
        yield Block(tuple(pieces), offset, held)


def real_frames(lengths: Tensor, frames: int) -> Tensor:
    """Mask of the real frames, bool [B, frames], from `lengths` [B]."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def zero_padding(values: Tensor, lengths: Sequence[int]) -> None:
    """Set the frames of `values` [B, T, ...] at and after each length to zero, in place."""
    for row, length in enumerate(lengths):
        if length < values.shape[1]:
            values[row, length:].zero_()


def block_frames(device: torch.device, on_cpu: int) -> int:
    """Frames per block: `on_cpu` on a CPU, many more elsewhere."""
    return on_cpu if device.type == "cpu" else ACCELERATOR_FRAMES


def sum_type(dtype: torch.dtype) -> torch.dtype:
    """The type sums are kept in: fp32 for bf16 and fp16, else the type itself."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def product_type(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The type of a matrix product's operands; products are summed in fp32 in any case.

    fp16 only where there are matrix units for it: on a CPU it is slower than fp32.
    """
    return sum_type(dtype) if dtype == torch.float16 and device.type == "cpu" else dtype


def first_derivative_only(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate an autograd function's backward: a derivative of it is refused, not silently zero.

    Backward runs with gradients enabled exactly where somebody asked for create_graph=True.
    """

    @functools.wraps(backward)
    def once(ctx: Any, grad: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the kernels of ssft_bench.mixing have no second derivative: create_graph=True is "
                "not supported through an interface"
            )
        return backward(ctx, grad)

    return once
