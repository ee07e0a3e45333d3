"""Interface and head as one thing that learns."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ssft_bench.features import Batch
from ssft_bench.interface import Interface
from ssft_bench.task import Task


class Downstream(nn.Module):
    """Interface and head as one learner; the upstream is frozen and not part of it."""

    def __init__(self, interface: Interface, head: nn.Module, task: Task) -> None:
        super().__init__()
        self.interface, self.head = interface, head
        self._task = [task]  # in a list: a task is no module, and keeps no parameters

    def forward(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of a training batch."""
        task = self._task[0]
        features, lengths = self.interface(batch.hidden)
        features = task.augment(features, lengths, generator)
        logits, lengths = self.head(features, lengths)
        return task.loss(logits, lengths, batch.targets), {}

    def logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the head gives for a batch, to be decoded: logits [B,T,V] and lengths [B]."""
        logits, lengths = self.head(*self.interface(batch.hidden))
        return logits, lengths
