"""Watches whether context vectors still tell segments apart.

A constant vector has auxiliary loss 0, and stopping the gradient does not take that optimum away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssft_bench.errors import CheckFailed

DECAY = 0.9
"""Share of the memory that the next batch leaves: numbers are means over about ten batches."""
FLOOR = 1e-3
"""Least deviation, as a share of the vectors' size. Below it fp32 rounding is near."""
LEAST = 64
"""Vectors that must have been seen before the alarm can ring."""


class CollapseMonitor(nn.Module):
    """Running deviation of context vectors, and cosines of neighbours and of strangers.

    Its memory is a buffer, so that a resumed run goes on where it stopped.
    """

    mean: Tensor
    square: Tensor
    cosines: Tensor
    seen: Tensor

    def __init__(self, context_dim: int) -> None:
        super().__init__()
        for name in ("mean", "square"):
            self.register_buffer(name, torch.zeros(context_dim, dtype=torch.float64))
        self.register_buffer("cosines", torch.full((2,), math.nan, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def watch(
        self,
        vectors: Tensor,
        neighbours: Sequence[tuple[int, int]],
        strangers: Sequence[tuple[int, int]],
    ) -> dict[str, float]:
        """Numbers to log after seeing a batch of context vectors [B, d].

        The pairs are places in the batch: segments that are neighbours, and segments of different
        sessions. context_std is the mean over dimensions of the standard deviation, context_spread that
        deviation over the vectors' root mean square, context_cosine_* mean cosines.
        """
        now = vectors.detach().double()
        keep = DECAY if int(self.seen) else 0.0
        self.mean.copy_(keep * self.mean + (1 - keep) * now.mean(0))
        self.square.copy_(keep * self.square + (1 - keep) * now.square().mean(0))
        self.seen += len(now)
        unit = F.normalize(now, dim=-1)
        for place, pairs in enumerate((neighbours, strangers)):
            if pairs:
                a, b = torch.tensor(pairs, device=now.device).T
                cosine = (unit[a] * unit[b]).sum(-1).mean()
                old = self.cosines[place]
                fresh = cosine if old.isnan() else DECAY * old + (1 - DECAY) * cosine
                self.cosines[place] = fresh
        return self.numbers()

    def numbers(self) -> dict[str, float]:
        """What is known so far; what was never seen is left out."""
        if not int(self.seen):
            return {}
        variance = (self.square - self.mean.square()).clamp(min=0)
        size = float(self.square.sum())
        spread = math.sqrt(float(variance.sum()) / size) if size > 0 else 0.0
        found = {"context_std": float(variance.sqrt().mean()), "context_spread": spread}
        names = ("context_cosine_neighbours", "context_cosine_strangers")
        for name, value in zip(names, self.cosines.tolist(), strict=True):
            if not math.isnan(value):
                found[name] = value
        return found

    def require_spread(self) -> None:
        """Raise CheckFailed once the deviation has gone to 0."""
        numbers = self.numbers()
        if int(self.seen) >= LEAST and numbers["context_spread"] < FLOOR:
            raise CheckFailed(
                f"the context vectors have collapsed into one: their deviation is "
                f"{numbers['context_spread']:.2g} of their size (least allowed {FLOOR:g}). Lower alpha "
                "(upstream option alpha=0.1), or train.optimizer.lr"
            )
