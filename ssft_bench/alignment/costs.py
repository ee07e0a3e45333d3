"""The matrices that are aligned: what the kernels are given, and squared distances of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alignments:
    """Cost matrices of a batch. A kernel may overwrite them: it leaves the gradient in their place."""

    cost: Tensor
    """[B, N, M], contiguous, float32 or float64; anything beyond the lengths."""
    rows: Sequence[int]
    """Real rows of each matrix, 1 to N."""
    columns: Sequence[int]
    """Real columns of each matrix, 1 to M."""
    symmetric: bool = False
    """Every matrix equals its transpose, so half of the cells tell the rest."""

    def real(self) -> Tensor:
        """[B, N, M] bool: the cells within the lengths."""
        within = [
            torch.arange(size, device=self.cost.device)
            < torch.tensor(lengths, device=self.cost.device)[:, None]
            for size, lengths in zip(self.cost.shape[1:], (self.rows, self.columns), strict=True)
        ]
        return within[0][:, :, None] & within[1][:, None, :]


def centred(x: Tensor, y: Tensor, x_lengths: Tensor, y_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides minus their common mean frame; zeros beyond the lengths, whatever was there.

    Distances do not change, but |x|^2 + |y|^2 - 2xy loses digits where the frames share an offset
    that is large beside their differences. x [B, N, D], y [B, M, D], lengths [B].
    """
    real_x, real_y = (
        (torch.arange(side.shape[1], device=side.device) < lengths[:, None])[..., None]
        for side, lengths in ((x, x_lengths), (y, y_lengths))
    )
    x, y = x.masked_fill(~real_x, 0), y.masked_fill(~real_y, 0)
    mean = (x.sum(1, keepdim=True) + y.sum(1, keepdim=True)) / (x_lengths + y_lengths)[
        :, None, None
    ]
    return (x - mean).masked_fill_(~real_x, 0), (y - mean).masked_fill_(~real_y, 0)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 [B, N, M] of x [B, N, D] and y [B, M, D], by one matrix product.

    The norms are two more columns, so that no other pass over the costs is needed. Rounding can leave
    a cost a little below 0: to cut it off there would move the mean. A frame is at 0 from itself.
    """
    norms, ones = [side.square().sum(2, keepdim=True) for side in (x, y)], x.new_ones(())
    left = torch.cat((-2 * x, norms[0], ones.expand_as(norms[0])), 2)
    right = torch.cat((y, ones.expand_as(norms[1]), norms[1]), 2)
    cost = torch.bmm(left, right.mT)
    if x is y:
        cost.diagonal(dim1=1, dim2=2).zero_()
    return cost
