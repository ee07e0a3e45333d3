"""HuBERT's objective: predict the cluster of masked frames from their surroundings.

Hsu et al. 2021, "HuBERT", section III.B, equations 3 to 5. s3prl's `HubertModel.forward` computes the
same numbers by repeating all class embeddings for each frame; here one matrix product does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssft_bench.upstreams.pretraining.batches import Crops
from ssft_bench.upstreams.pretraining.models import convolved
from ssft_bench.upstreams.pretraining.recipe import Stage


class HubertLearner(nn.Module):
    """Loss of a micro-batch of crops; `model` is s3prl's HubertModel."""

    def __init__(self, model: nn.Module, stage: Stage) -> None:
        """The stage's weights say what is added to the loss on masked frames."""
        super().__init__()
        self.model: Any = model
        self.unmasked_weight, self.penalty_weight = stage.unmasked_weight, stage.penalty_weight

    def forward(
        self, batch: Crops, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Mean cross-entropy in nats per masked frame, plus the weighted extras."""
        model, targets = self.model, batch.targets
        assert targets is not None
        features, penalty = convolved(model, batch.waves)
        if model.post_extract_proj is not None:
            features = model.post_extract_proj(features)
        masked, where = model.apply_mask(model.dropout_input(features).float(), None, None)
        hidden, _ = model.encoder(masked)
        loss, right = self._predict(hidden[where], targets[where])
        total = loss + self.penalty_weight * penalty
        logs = {
            "masked": float(loss.detach()),
            "accuracy": right,
            "penalty": float(penalty.detach()),
        }
        if self.unmasked_weight:
            plain, logs["unmasked_accuracy"] = self._predict(hidden[~where], targets[~where])
            total = total + self.unmasked_weight * plain
        return total, logs

    def _predict(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        """Cross-entropy of cosine similarities over the temperature, and the share of right guesses."""
        projected = F.normalize(self.model.final_proj(hidden).float(), dim=-1)
        codes = F.normalize(self.model.label_embs_concat.float(), dim=-1)
        logits = (projected @ codes.T).float() / self.model.logit_temp
        return F.cross_entropy(logits, targets), float(
            (logits.argmax(-1) == targets).float().mean()
        )
