"""SCORE: self-supervised correspondence fine-tuning.

Meghanani and Hain, "SCORE", ICASSP 2024, arXiv:2403.06260; settings as the authors' code has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ssft_bench import encoder
from ssft_bench.alignment import soft_dtw_divergence
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.method import FineTuningMethod, MethodOptions, ViewBatch, Wave
from ssft_bench.perturbation import change_speed, shift_pitch
from ssft_bench.tuning.alarms import spread
from ssft_bench.upstream import Upstream

NORMS = ("model.encoder.layer_norm", "model.layer_norm")
"""Both layer norms outside the layers; in a post-LN Base model they come before layer 0."""


class CorrespondenceOptions(MethodOptions):
    """What SCORE and LASER have in common."""

    speeds: list[float] = Field(default=[0.9, 1.0, 1.1], min_length=1)
    """Speed factors of the perturbed view, one of them by chance."""
    semitones: list[float] = Field(default=[2.0, -2.0], min_length=1)
    """Pitch shifts of the perturbed view, one of them by chance, always applied."""
    swap: float = Field(default=0.5, ge=0, le=1)
    """Probability that the perturbed view goes first."""
    top_layers: int = Field(default=2, ge=1)
    """Highest transformer layers that learn."""
    projection: list[int] = Field(default=[256], min_length=1)
    """Widths of the projection's linear layers, ReLU between them."""
    gamma: float = Field(default=0.1, gt=0)
    """Smoothness of soft-DTW."""


class ScoreOptions(CorrespondenceOptions):
    """Options of SCORE."""

    trainable: Literal["top_layers", "top_layers_and_norms"] = "top_layers"
    """The authors' code also frees the two norms before layer 0, for a gradient through all layers."""
    teacher_mode: Literal["eval", "train"] = "eval"
    """The authors' code leaves dropout on in the fixed copy: its target is never the same twice."""


def perturbed(wave: Wave, options: CorrespondenceOptions, rng: np.random.Generator) -> Wave:
    """Speed, then pitch (ICASSP 2024, section 2.1)."""
    faster = change_speed(wave, float(rng.choice(options.speeds)))
    return shift_pitch(faster, float(rng.choice(options.semitones)))


def projection(width: int, widths: Sequence[int], seed: int) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them; initial weights from `seed`."""
    parts: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for out in widths:
            parts += [nn.Linear(width, out), nn.ReLU()]
            width = out
    return nn.Sequential(*parts[:-1])


def padded(frames: Sequence[Tensor], project: nn.Module) -> tuple[Tensor, Tensor]:
    """Projected unit rows [batch, longest, width] of features [frames, dim], and lengths [batch].

    In fp32 under autocast too: the divergence is a small difference of large sums.
    """
    with torch.autocast(frames[0].device.type, enabled=False):
        rows = [F.normalize(project(one.float()), dim=-1) for one in frames]
    lengths = torch.tensor([len(one) for one in rows], device=rows[0].device)
    return pad_sequence(rows, batch_first=True), lengths


class Score(FineTuningMethod):
    """SCORE: features of a perturbed copy match the original's by soft-DTW."""

    name = "score"
    Options = ScoreOptions
    options: ScoreOptions
    needs_teacher = True
    faithful: ClassVar[dict[str, str]] = {
        "trainable": "top_layers_and_norms",
        "teacher_mode": "train",
    }

    def __init__(self, options: MethodOptions, student: Upstream, seed: int) -> None:
        """The projection is shared by both branches and thrown away after tuning."""
        super().__init__(options, student, seed)
        self.projection = projection(student.spec.dims[-1], self.options.projection, seed)

    def views(
        self, wave: Wave, utterance: Utterance, rng: np.random.Generator, place: int
    ) -> tuple[Wave, Wave]:
        """(student's, teacher's): the original and a perturbed copy, swapped by chance."""
        pair = (wave, perturbed(wave, self.options, rng))
        return pair[::-1] if rng.random() < self.options.swap else pair

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
