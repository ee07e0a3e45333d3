"""SLUE's sentiment analysis: attention pooling over the features, one of three classes.

Shon et al., "SLUE" (ICASSP 2022) §3.3; numbers and details as slue-toolkit (commit ed23039) runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.heads import AttentionPoolHead
from ssft_bench.downstreams.sa.scoring import CLASSES, METRICS
from ssft_bench.errors import MissingError
from ssft_bench.metric import Metric
from ssft_bench.task import Task, TaskOptions


class SAOptions(TaskOptions):
    """The classifier; the defaults are SLUE's."""

    hidden_dim: int | None = Field(default=None, ge=1)
    """Width between the two linear layers; null: that of the features."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout before each linear layer."""


class SA(Task):
    """Negative, neutral or positive, for each utterance as a whole."""

    name = "sa"
    reads = "utterances"
    size_options = ("hidden_dim",)
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    Options = SAOptions
    options: SAOptions

    def prepare(self, splits: Mapping[str, Sequence[Utterance]]) -> None:
        """Check every label. Raises MissingError naming the first utterance without one of CLASSES."""
        for split, utterances in splits.items():
            for utterance in utterances:
                _check(utterance, split)

    def reference(self, utterance: Utterance) -> str:
        """The class."""
        return _check(utterance, utterance.split)

    def encode(self, utterance: Utterance) -> Tensor:
        """Index of the class, int64 [1]."""
        return torch.tensor([CLASSES.index(self.reference(utterance))])

    def head(self, input_dim: int, input_stride: int = 320) -> nn.Module:
        """`AttentionPoolHead`: [B,T,D] to [B,1,3]."""
        o = self.options
        return AttentionPoolHead(input_dim, len(CLASSES), o.hidden_dim, o.dropout)

    def loss(self, logits: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Cross-entropy of logits [B,1,3], the mean over the batch."""
        wanted = torch.cat(list(targets)).to(logits.device)
        return functional.cross_entropy(logits[:, 0].float(), wanted)

    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """The likeliest class of each utterance."""
        return [CLASSES[i] for i in logits[:, 0].argmax(-1).tolist()]

    def describe(self) -> dict[str, Any]:
        """The classes, in the order of the outputs."""
        return {"outputs": len(CLASSES), "classes": list(CLASSES)}


def _check(utterance: Utterance, split: str) -> str:
    if utterance.sentiment not in CLASSES:
        raise MissingError(
            f"sa needs a sentiment ({', '.join(CLASSES)}), but utterance '{utterance.id}' ({split}) "
            f"has {utterance.sentiment!r}. Add it to the corpus' labels, or take the recording out."
        )
    return utterance.sentiment
