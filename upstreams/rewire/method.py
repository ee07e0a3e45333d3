"""Self-supervised rewiring: whole utterances and their positives attract, others repel.

Yang, Zhao, Haffari and Shareghi, Findings of EMNLP 2022, arXiv:2210.13030; settings as the authors' code
has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ssft_bench import encoder
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError
from ssft_bench.method import FineTuningMethod, MethodOptions, ViewBatch, Wave
from ssft_bench.perturbation import half, zero_block
from ssft_bench.speech_synthesis import SpeechCache, pick_engine, speech_folder
from ssft_bench.tuning.alarms import spread
from ssft_bench.upstream import Upstream


class RewireOptions(MethodOptions):
    """Options of rewiring."""

    positive: Literal["neutral", "twin", "mixed"] = "neutral"
    """neutral: a synthetic reading of the transcript; twin: the recording with a fifth of it set to zero;
    mixed: either by chance."""
    temperature: float = Field(default=0.04, gt=0)
    """Temperature of NT-Xent."""
    halve_samples: int = Field(default=90_000, ge=1)
    """Longer recordings are halved: the first half at even places of a pass, the second at odd ones."""
    gradients: Literal["zeroed", "summed"] = "zeroed"
    """The authors' code never calls zero_grad: every update follows the sum of all gradients so far."""
    tts: str = "auto"
    """Speech synthesiser of neutral and mixed: auto (Festival as in the paper, else what is installed),
    festival, flite, kokoro, espeak, or a folder of speech that was prepared elsewhere."""


def _speech(tts: str) -> SpeechCache:
    if Path(tts).is_dir():
        return SpeechCache(Path(tts))
    engine = pick_engine(tts)
    return SpeechCache(speech_folder(engine), engine)


def nt_xent(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """NT-Xent of pairs (a_i, b_i), each [n, D], both directions (Chen et al. 2020, equation 1).

    In fp32 under autocast too: pooled vectors have cosines that differ in the third digit.
    """
    n = len(a)
    with torch.autocast(a.device.type, enabled=False):
        z = F.normalize(torch.cat([a, b]).float(), dim=-1)
        similar = z @ z.T / temperature
    similar = similar.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(similar, torch.arange(2 * n, device=z.device).roll(n))


class Rewire(FineTuningMethod):
    """Rewiring: contrast pooled utterances with a synthetic reading or a masked copy of them."""

    name = "rewire"
    Options = RewireOptions
    options: RewireOptions
    faithful: ClassVar[dict[str, str]] = {"gradients": "summed"}

    def __init__(self, options: MethodOptions, student: Upstream, seed: int) -> None:
        """It adds no module: vectors are pooled without a projection."""
        super().__init__(options, student, seed)
        self.sums_gradients = self.options.gradients == "summed"
        self.speech: SpeechCache | None = None
        encoder.unfreeze_convolutions(student)
        self.draws = encoder.no_layerdrop(student)

    @property
    def reads(self) -> bool:
        """Whether transcripts are read."""
        return self.options.positive != "twin"

    def prepare(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Synthesise each transcript once. Raises MissingError for an utterance without text."""
        if not self.reads:
            return {}
        silent = [u.id for u in utterances if not u.text]
        if silent:
            raise MissingError(
                f"rewire {self.options.positive} reads transcripts, but {len(silent)} utterances have "
                f"none, the first is '{silent[0]}'; use --set method.options.positive=twin"
            )
        self.speech = _speech(self.options.tts)
        self.speech.prepare([str(u.text) for u in utterances])
        return {"speech_synthesis": self.speech.engine_id}

    def views(
        self, wave: Wave, utterance: Utterance, rng: np.random.Generator, place: int
    ) -> tuple[Wave, Wave]:
        """(recording or a half of it, its positive)."""
        halved, even = len(wave) > self.options.halve_samples, place % 2 == 0
        first = half(wave, even) if halved else wave
        neutral = self.options.positive == "neutral" or (
            self.options.positive == "mixed" and rng.random() < 0.5
        )
        if not neutral:
            return first, zero_block(first, rng)
        assert self.speech is not None, "prepare comes first"
        read = self.speech.read(str(utterance.text), utterance.id)
        return first, half(read, even) if halved else read

    def trainable(self, student: Upstream) -> list[str]:
        """Every parameter that a hidden state depends on, the convolutional stack included."""
        return encoder.participating(student)

    def loss(
        self, student: Upstream, teacher: Upstream | None, batch: ViewBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """NT-Xent of the pooled vectors: plain mean of all hidden states, then over time."""
        first, second = (encoder.mean_states(student, view) for view in batch.views)
        loss = nt_xent(first, second, self.options.temperature)
        with torch.no_grad():
            a, b = (F.normalize(v.double(), dim=-1) for v in (first, second))
            cosines = a @ b.T
            n = len(a)
            off = (cosines.sum() - cosines.trace()) / max(1, n * n - n)
        logs = {
            "positive_cosine": float(cosines.trace() / n),
            "negative_cosine": float(off),
            "spread": float(spread(first)),
        }
        return loss, logs

    def describe(self, student: Upstream) -> dict[str, Any]:
        """What the model draws while it trains."""
        return {"draws_in_training": self.draws}
