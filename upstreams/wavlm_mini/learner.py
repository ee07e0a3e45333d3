"""WavLM's objective: HuBERT's on mixed waves, with the clusters of the clean primary utterance.

Chen et al. 2022, "WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech Processing"
(arXiv:2110.13900): masked speech prediction and denoising. s3prl's WavLM has no prediction head; it lives
here and is not exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.errors import UsageError
from ssft_bench.upstreams.hubert_mini.learner import HubertLearner
from ssft_bench.upstreams.pretraining.batches import Crops
from ssft_bench.upstreams.pretraining.recipe import Stage
from ssft_bench.upstreams.wavlm_mini.mixing import mixed


class WithHead(nn.Module):
    """A WavLM with the prediction head of s3prl's HubertModel under HubertModel's names."""

    def __init__(self, body: Any, stage: Stage) -> None:
        """Raises UsageError when the stage lacks `head` or `targets`."""
        super().__init__()
        if stage.head is None or stage.targets is None:
            raise UsageError(f"stage {stage.name}: WavLM needs `head` and `targets`.")
        self.body = body
        self.logit_temp = stage.head.temperature
        self.final_proj = nn.Linear(body.cfg.encoder_embed_dim, stage.head.dim)
        self.label_embs_concat = nn.Parameter(torch.randn(stage.targets.clusters, stage.head.dim))

    def __getattr__(self, name: str) -> Any:
        """Everything that is not the head is the body's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("body"), name)

    def apply_mask(self, x: Tensor, padding: Tensor | None, targets: None) -> tuple[Tensor, Tensor]:
        """HubertModel's signature: it has one argument more, unused."""
        masked: tuple[Tensor, Tensor] = self.body.apply_mask(x, padding)
        return masked


class WavLMLearner(HubertLearner):
    """Loss of a micro-batch of crops; `model` is s3prl's WavLM."""

    def __init__(self, model: nn.Module, stage: Stage) -> None:
        """The stage's `mixing` says what is added to the waves; without it nothing is."""
        super().__init__(WithHead(model, stage), stage)
        self.mixing = stage.mixing

    def forward(
        self, batch: Crops, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """HuBERT's loss and logs for the mixed batch."""
        if self.mixing is not None:
            batch = batch._replace(waves=mixed(batch.waves, self.mixing, generator))
        return super().forward(batch, generator)
