"""Alarms of collapse: a self-supervised loss can fall because all features become the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FALL = 0.2
"""An alarm sounds when a number has fallen to this share of what it was at the first update."""
WATCHED = {
    "spread": "the embeddings' variance: they are becoming one vector",
    "code_perplexity": "the codebook's use: few codes are left",
}
"""Logged number -> what its fall means."""


def spread(vectors: Tensor) -> Tensor:
    """Total variance of vectors [n, D] on the unit sphere, 1 - |mean|^2: 1 is even, 0 one point."""
    mean = F.normalize(vectors.detach().float(), dim=-1).mean(0)
    return 1 - mean.square().sum()


def perplexity(codes: Tensor, count: int) -> Tensor:
    """Effective number of used codes: exp of the entropy of `codes` [n] in 0..count-1."""
    share = torch.bincount(codes, minlength=count).double() / codes.numel()
    return torch.exp(-torch.xlogy(share, share).sum())


class CollapseAlarm(nn.Module):
    """Watches logged numbers, averaged over about ten updates, and rings once for each.

    Its memory is a buffer, so that a resumed run still knows how the numbers began.
    """

    memory: Tensor

    def __init__(self) -> None:
        super().__init__()
        start = torch.full((3, len(WATCHED)), torch.nan, dtype=torch.float64)
        self.register_buffer("memory", start)  # rows: first value, running mean, rung (1)

    def watch(self, logs: Mapping[str, float]) -> list[dict[str, Any]]:
        """Events of this update: kind, number, value, start, meaning."""
        events = []
        for column, (name, meaning) in enumerate(WATCHED.items()):
            if name not in logs:
                continue
            value = logs[name]
            first, mean, rung = self.memory[:, column].tolist()
            if math.isnan(first):
                first = mean = value
            mean = 0.9 * mean + 0.1 * value
            if mean < FALL * first and rung != 1:
                rung = 1
                events.append(
                    {"kind": "collapse", "number": name, "value": mean, "start": first,
                     "meaning": meaning}
                )  # fmt: skip
            self.memory[:, column] = torch.tensor([first, mean, rung], dtype=torch.float64)
        return events
