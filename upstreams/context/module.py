"""The context module: a whole segment, as the encoder gives it, in one vector.

After Shon, Wu, Kim, Sridhar, Livescu and Watanabe, "Context-aware Fine-tuning of Self-supervised Speech
Models", ICASSP 2023, arXiv:2212.08542. Built from the abstract: the pooling and all sizes are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ssft_bench.mixing import real_frames

Pool = Literal["attn", "mean"]
Concat = Literal["head_input", "projected"]


class ContextModule(nn.Module):
    """Pooling over a segment's valid frames, then `Linear(dim, context_dim)`."""

    def __init__(self, dim: int, context_dim: int = 256, pool: Pool = "attn") -> None:
        """`dim` is the encoder's width; `pool` weighs frames by a learned softmax, or all alike."""
        super().__init__()
        self.score = nn.Linear(dim, 1) if pool == "attn" else None
        self.output = nn.Linear(dim, context_dim)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Context vectors [B, context_dim] of states [B, T, dim] with `lengths` [B] valid frames each.

        What padded frames hold, NaN included, changes nothing.
        """
        real = real_frames(lengths.to(states.device), states.shape[1])
        states = states.masked_fill(~real.unsqueeze(-1), 0.0)
        if self.score is None:
            weights = real / lengths.to(states.device).unsqueeze(-1)
        else:
            scores = self.score(states).squeeze(-1).float()
            weights = scores.masked_fill(~real, -torch.inf).softmax(-1)
        pooled = torch.einsum("bt,btd->bd", weights.to(states.dtype), states)
        vectors: Tensor = self.output(pooled)
        return vectors


def module_parameters(dim: int, context_dim: int, pool: Pool = "attn", outputs: int = 0) -> int:
    """Number of parameters by formula, with those that a linear head of `outputs` classes gains."""
    return (dim + 1) * (pool == "attn") + context_dim * (dim + 1) + context_dim * outputs


class ContextInput(nn.Module):
    """How context vectors reach the head: beside every frame, or added to it through a projection.

    `neighbours` vectors of other segments may come with a segment's own; those that are missing are
    zeros plus one learned vector.
    """

    def __init__(
        self, dim: int, context_dim: int, concat: Concat = "head_input", neighbours: int = 0
    ) -> None:
        super().__init__()
        width = context_dim * (1 + neighbours)
        self.missing = nn.Parameter(torch.zeros(context_dim)) if neighbours else None
        self.project = nn.Linear(width, dim, bias=False) if concat == "projected" else None
        self.output_dim = dim if self.project is not None else dim + width

    def forward(
        self, states: Tensor, own: Tensor, around: Sequence[Sequence[Tensor | None]] = ()
    ) -> Tensor:
        """[B, T, output_dim] from states [B, T, dim] and context vectors [B, context_dim].

        `around` has for each segment one vector [context_dim] or None for each neighbour.
        """
        context = own
        if self.missing is not None:
            missing = self.missing.to(own.dtype)
            rows = [
                torch.cat([missing if v is None else v.to(own.dtype) for v in row])
                for row in around
            ]
            context = torch.cat([own, torch.stack(rows)], dim=-1)
        if self.project is not None:
            projected: Tensor = self.project(context)
            return states + projected.unsqueeze(1)
        spread = context.unsqueeze(1).expand(-1, states.shape[1], -1)
        return torch.cat([states, spread.to(states.dtype)], dim=-1)
