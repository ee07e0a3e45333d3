"""What SCORE and LASER share: perturbed views, a projection, unit rows.

Meghanani and Hain, ICASSP 2024, arXiv:2403.06260, and Interspeech 2024, arXiv:2406.09153.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.method import FineTuningMethod, MethodOptions, Wave
from ssft_bench.perturbation import change_speed, shift_pitch
from ssft_bench.upstream import Upstream


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


class Correspondence(FineTuningMethod):
    """An utterance and its perturbed copy, projected; the subclass says what is compared with what."""

    Options = CorrespondenceOptions
    options: CorrespondenceOptions

    def __init__(self, options: MethodOptions, student: Upstream, seed: int) -> None:
        """The projection is shared by both views and thrown away after tuning."""
        super().__init__(options, student, seed)
        self.projection = projection(student.spec.dims[-1], self.options.projection, seed)

    def views(
        self, wave: Wave, utterance: Utterance, rng: np.random.Generator, place: int
    ) -> tuple[Wave, Wave]:
        """The original and a perturbed copy, in either order."""
        pair = (wave, perturbed(wave, self.options, rng))
        return pair[::-1] if rng.random() < self.options.swap else pair
