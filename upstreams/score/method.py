"""SCORE: self-supervised correspondence fine-tuning.

Meghanani and Hain, "SCORE", ICASSP 2024, arXiv:2403.06260; settings as the authors' code has them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ssft_bench import encoder
from ssft_bench.alignment import soft_dtw_divergence
from ssft_bench.method import ViewBatch
from ssft_bench.tuning.alarms import spread
from ssft_bench.upstream import Upstream
from ssft_bench.upstreams.score.correspondence import (
    Correspondence,
    CorrespondenceOptions,
    padded,
)

NORMS = ("model.encoder.layer_norm", "model.layer_norm")
"""Both layer norms outside the layers; in a post-LN Base model they come before layer 0."""


class ScoreOptions(CorrespondenceOptions):
    """Options of SCORE."""

    trainable: Literal["top_layers", "top_layers_and_norms"] = "top_layers"
    """The authors' code also frees the two norms before layer 0, for a gradient through all layers."""
    teacher_mode: Literal["eval", "train"] = "eval"
    """The authors' code leaves dropout on in the fixed copy: its target is never the same twice."""


class Score(Correspondence):
    """SCORE: features of a perturbed copy match the original's by soft-DTW."""

    name = "score"
    Options = ScoreOptions
    options: ScoreOptions
    needs_teacher = True
    faithful: ClassVar[dict[str, str]] = {
        "trainable": "top_layers_and_norms",
        "teacher_mode": "train",
    }

    def trainable(self, student: Upstream) -> list[str]:
        """The top layers; `top_layers_and_norms` adds the two norms outside the layers."""
        names = encoder.of_layers(student, self.options.top_layers)
        if self.options.trainable == "top_layers_and_norms":
            names += encoder.of_modules(student, NORMS)
        return names

    def loss(
        self, student: Upstream, teacher: Upstream | None, batch: ViewBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """Soft-DTW divergence over Tx + Ty, mean over the batch."""
        assert teacher is not None
        teacher.train(self.options.teacher_mode == "train")
        with torch.no_grad():
            targets = encoder.features(teacher, batch.views[1])
        x, x_lengths = padded(encoder.features(student, batch.views[0]), self.projection)
        y, y_lengths = padded(targets, self.projection)
        divergence = soft_dtw_divergence(x, y, x_lengths, y_lengths, self.options.gamma)
        loss = (divergence / (x_lengths + y_lengths)).mean()
        return loss, {"spread": float(spread(x[0, : int(x_lengths[0])]))}
