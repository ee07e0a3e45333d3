"""wav2vec 2.0's objective: tell the quantised latent of a masked frame from those of other masked frames.

Baevski et al. 2020, "wav2vec 2.0", section 3.2, equations 2 to 4. Where the paper samples 100 distractors
from the masked frames of the utterance, all the others serve here: one matrix product gives all
similarities. A distractor that got the same code as the right answer does not count.
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


class Wav2Vec2Learner(nn.Module):
    """Loss of a micro-batch of crops; `model` is s3prl's Wav2Vec2Model."""

    updates: Tensor

    def __init__(self, model: nn.Module, stage: Stage) -> None:
        """The stage's weights say what is added to the contrastive loss."""
        super().__init__()
        self.model: Any = model
        self.diversity_weight, self.penalty_weight = stage.diversity_weight, stage.penalty_weight
        # A buffer, so that a resumed run goes on with the Gumbel temperature it had.
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def forward(
        self, batch: Crops, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Mean contrastive loss in nats per masked frame, plus the weighted extras."""
        model = self.model
        model.quantizer.set_num_updates(int(self.updates))
        features, penalty = convolved(model, batch.waves)
        inputs = features if model.post_extract_proj is None else model.post_extract_proj(features)
        masked, where = model.apply_mask(model.dropout_input(inputs).float().clone(), None)
        hidden, _ = model.encoder(masked)
        count = len(features)
        chosen = features[where].view(count, -1, features.shape[-1])
        codes = model.quantizer(chosen, produce_targets=True)
        context = model.final_proj(hidden[where].view(count, -1, hidden.shape[-1]))
        loss, right = self._contrast(context, model.project_q(codes["x"]), codes["targets"])
        diversity = 1 - codes["prob_perplexity"] / codes["num_vars"]
        total = loss + self.diversity_weight * diversity + self.penalty_weight * penalty
        if self.training:
            self.updates += 1
        logs = {"contrast": float(loss.detach()), "accuracy": right, "penalty": float(penalty.detach()),
                "perplexity": float(codes["code_perplexity"]), "tau": float(codes["temp"])}  # fmt: skip
        return total, logs

    def _contrast(self, context: Tensor, quantised: Tensor, codes: Tensor) -> tuple[Tensor, float]:
        """Cross-entropy over the masked frames of each utterance: (batch, masked, dim) both."""
        similar = F.normalize(context.float(), dim=-1) @ F.normalize(quantised.float(), dim=-1).mT
        logits = similar.float() / self.model.logit_temp
        same = (codes[:, :, None] == codes[:, None]).all(-1)
        same &= ~torch.eye(same.shape[1], dtype=torch.bool)
        logits = logits.masked_fill(same, float("-inf"))
        answer = torch.arange(logits.shape[1]).expand(len(logits), -1)
        loss = F.cross_entropy(logits.flatten(0, 1), answer.flatten())
        return loss, float((logits.argmax(-1) == answer).float().mean())
