"""SPIN: speaker-invariant clustering by swapped prediction.

Chang, Liu and Glass, Interspeech 2023, arXiv:2305.11072; settings as the authors' code has them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ssft_bench import encoder
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import UsageError
from ssft_bench.method import FineTuningMethod, MethodOptions, ViewBatch, Wave
from ssft_bench.perturbation import speaker_view
from ssft_bench.tuning.alarms import perplexity
from ssft_bench.upstream import Upstream


class SpinOptions(MethodOptions):
    """Options of SPIN."""

    codes: int = Field(default=256, ge=2)
    """Size of the codebook, K."""
    width: int = Field(default=256, ge=1)
    """Width of the head's output and of the codes."""
    top_layers: int = Field(default=2, ge=1)
    """Highest transformer layers that learn."""
    temperature: float = Field(default=0.1, gt=0)
    """Temperature of the prediction."""
    epsilon: float = Field(default=0.02, gt=0)
    """Sinkhorn's entropy weight."""
    iterations: int = Field(default=3, ge=1)
    """Rounds of Sinkhorn's algorithm."""
    perturbation: Literal["own", "praat"] = "own"
    """Who changes the speaker: our code, or Praat as in the paper (GPL, extra `praat`)."""
    normalize_codebook: Literal["before_forward", "after_forward"] = "before_forward"
    """The authors' hook runs between forward and update, so that codes are not of unit norm when used."""
    frozen_dropout: bool = True
    """Dropout also in the layers that do not learn, as in the authors' code."""


@torch.no_grad()
def sinkhorn(scores: Tensor, iterations: int) -> Tensor:
    """Soft assignments [B, K] from scores [B, K] over epsilon: rows sum to 1, codes are used alike.

    Cuturi 2013; Caron et al. 2020 (SwAV), section 3.1. In fp32, the global maximum taken off before exp,
    which changes nothing.
    """
    q = torch.exp(scores.float() - scores.max()).T
    count, codes = q.shape[1], q.shape[0]
    q = q / q.sum()
    for _ in range(iterations):
        q = q / (codes * q.sum(1, keepdim=True))
        q = q / (count * q.sum(0, keepdim=True))
    return (count * q).T


def swapped_prediction(
    first: Tensor, second: Tensor, temperature: float, epsilon: float, iterations: int
) -> Tensor:
    """Loss of scores [B, K] of two views: each view predicts the other's assignment (Spin, section 2)."""
    total = first.new_zeros(())
    for predicted, other in ((first, second), (second, first)):
        target = sinkhorn(other.detach() / epsilon, iterations)
        total = total - (target * F.log_softmax(predicted / temperature, dim=-1)).sum(-1).mean()
    return total / 2


class Spin(FineTuningMethod):
    """SPIN: a codebook gives an utterance and its copy in another voice the same codes."""

    name = "spin"
    Options = SpinOptions
    options: SpinOptions
    may_remark = ("pitch_not_changed",)
    faithful: ClassVar[dict[str, str]] = {
        "perturbation": "praat",
        "normalize_codebook": "after_forward",
    }

    def __init__(self, options: MethodOptions, student: Upstream, seed: int) -> None:
        """Head and codebook are kept in the checkpoint: they give the units."""
        super().__init__(options, student, seed)
        o = self.options
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Linear(student.spec.dims[-1], o.width)
            self.codebook = nn.Linear(o.width, o.codes, bias=False)
        self.layer = student.spec.num_layers - 1
        self._normalize_codebook()

    def views(
        self, wave: Wave, utterance: Utterance, rng: np.random.Generator, place: int
    ) -> tuple[Wave, Wave]:
        """The original and a copy in another voice, of the same length.

        Where no pitch is found the equaliser (and our own formants) still change; it is counted.
        """
        other, changed = speaker_view(wave, rng, engine=self.options.perturbation)
        if not changed:
            self.remarks.append("pitch_not_changed")
        if len(other) != len(wave):
            raise UsageError(
                f"spin: the views of '{utterance.id}' have {len(wave)} and {len(other)} samples; "
                "frames cannot be matched"
            )
        return wave, other

    def trainable(self, student: Upstream) -> list[str]:
        """The top layers; head and codebook learn too."""
        return encoder.of_layers(student, self.options.top_layers)

    def loss(
        self, student: Upstream, teacher: Upstream | None, batch: ViewBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """Swapped prediction over all frames of the batch."""
        o = self.options
        if not o.frozen_dropout:
            for layer in encoder.layers(student)[: -o.top_layers]:
                layer.eval()
        if o.normalize_codebook == "before_forward":
            self._normalize_codebook()
        # A copy, so that the faithful order may write into the weight before the backward pass.
        codebook = self.codebook.weight.clone()
        one, two = (
            self._scores(torch.cat(encoder.features(student, view)), codebook)
            for view in batch.views
        )
        loss = swapped_prediction(one, two, o.temperature, o.epsilon, o.iterations)
        if o.normalize_codebook == "after_forward":
            self._normalize_codebook()
        with torch.no_grad():
            codes = one.argmax(-1)
            agree = (codes == two.argmax(-1)).float().mean()
            used = perplexity(codes, o.codes)
        return loss, {"agreement": float(agree), "code_perplexity": float(used)}

    def kept(self) -> dict[str, Tensor]:
        """Head and codebook."""
        return self.state_dict()

    def _scores(self, frames: Tensor, codebook: Tensor) -> Tensor:
        """Cosines of frames [B, D] with the codes: [B, K]; in fp32, as epsilon magnifies them fiftyfold."""
        with torch.autocast(frames.device.type, enabled=False):
            return F.normalize(self.head(frames.float()), dim=-1) @ codebook.T

    @torch.no_grad()
    def _normalize_codebook(self) -> None:
        self.codebook.weight.copy_(F.normalize(self.codebook.weight, dim=-1))
