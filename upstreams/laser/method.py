"""LASER: learning by aligning self-supervised representations.

Meghanani and Hain, Interspeech 2024, arXiv:2406.09153; settings as the authors' code has them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
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


class LaserOptions(CorrespondenceOptions):
    """Options of LASER."""

    alpha: float = Field(default=0.4, ge=0)
    """Weight of the temporal regulariser."""
    margin: float = Field(default=1.1, gt=0)
    """Distance below which far frames are pushed apart."""
    sigma: int = Field(default=0, ge=0)
    """Frames at most this far apart are pulled together; 0 is the paper's window of 1."""
    trainable: Literal["top_layers", "top_layers_and_norm"] = "top_layers"
    """The authors' code also frees encoder.layer_norm, which comes before layer 0 in Base models."""
    padding: Literal["separate", "together"] = "separate"
    """The authors' code pads both views into one batch, which changes the shorter one's features."""


def temporal_regulariser(frames: Tensor, sigma: int, margin: float) -> Tensor:
    """Contrastive inverse-difference-moment regulariser of frames [n, D], a scalar (LASER, section 2.2).

    Frames further apart than `sigma` are pushed to a distance of `margin`, weighted by 1 + lag^2; nearer
    ones are pulled together, weighted by 1 / (1 + lag^2). Euclidean distances; the gradient of a distance
    of 0 is 0.
    """
    n = len(frames)
    # Exact differences: products would leave equal frames a distance of some 1e-4 in fp32.
    distance = torch.cdist(frames, frames, compute_mode="donot_use_mm_for_euclid_dist")
    place = torch.arange(n, device=frames.device)
    lag = (place[:, None] - place).abs()
    weight = 1 + lag.to(frames.dtype).square()
    push = weight * (margin - distance).clamp(min=0)
    return torch.where(lag > sigma, push, distance / weight).sum() / n**2


class Laser(Correspondence):
    """LASER: both views of one encoder match by soft-DTW, frames of an utterance stay apart."""

    name = "laser"
    Options = LaserOptions
    options: LaserOptions
    faithful: ClassVar[dict[str, str]] = {
        "trainable": "top_layers_and_norm",
        "padding": "together",
    }

    def trainable(self, student: Upstream) -> list[str]:
        """The top layers; `top_layers_and_norm` adds the encoder's norm."""
        names = encoder.of_layers(student, self.options.top_layers)
        if self.options.trainable == "top_layers_and_norm":
            names += encoder.of_modules(student, ["model.encoder.layer_norm"])
        return names

    def loss(
        self, student: Upstream, teacher: Upstream | None, batch: ViewBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """Soft-DTW divergence (not divided by length) + alpha (R(x) + R(y)), mean over the batch."""
        o = self.options
        first, second = batch.views
        if o.padding == "together":
            found = [
                encoder.padded_features(student, pair) for pair in zip(first, second, strict=True)
            ]
            pairs = [[one[0] for one in found], [one[1] for one in found]]
        else:
            pairs = [encoder.features(student, first), encoder.features(student, second)]
        (x, x_lengths), (y, y_lengths) = (padded(p, self.projection) for p in pairs)
        align = soft_dtw_divergence(x, y, x_lengths, y_lengths, o.gamma).mean()
        apart = torch.stack(
            [
                temporal_regulariser(side[i, : int(n)], o.sigma, o.margin)
                for side, lengths in ((x, x_lengths), (y, y_lengths))
                for i, n in enumerate(lengths)
            ]
        ).sum() / len(first)
        logs = {
            "align": float(align.detach()),
            "apart": float(apart.detach()),
            "spread": float(spread(x[0, : int(x_lengths[0])])),
        }
        return align + o.alpha * apart, logs
