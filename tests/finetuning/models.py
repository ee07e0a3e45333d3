"""Random models of every family that can be fine-tuned: s3prl's, transformers', and the mini upstreams."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import s3prl.upstream.hf_hubert.hubconf as hf_hubert
import s3prl.upstream.hf_wav2vec2.hubconf as hf_wav2vec2
import torch
import transformers
from torch import Tensor, nn

from ssft_bench.checkpoints.exporters import export_hf
from ssft_bench.upstream import Upstream
from tests.checkpoints.layouts import base_expert
from tests.upstreams.tiny import tiny

S3PRL = (
    "hubert-base",
    "hubert-large",
    "wav2vec2-base",
    "wav2vec2-large",
    "wavlm-base",
    "wavlm-large",
)
TRANSFORMERS = ("hf_hubert-large", "hf_wav2vec2-large", "hf_wavlm-base")
KINDS = ("tiny-hubert", *S3PRL, *TRANSFORMERS)
FEW = ("tiny-hubert", "hubert-base", "wavlm-large", "hf_hubert-large", "hf_wavlm-base")
"""One of each way to build a layer."""
HF_LOADERS = {
    "hf_hubert": hf_hubert.hf_hubert_custom,
    "hf_wav2vec2": hf_wav2vec2.hf_wav2vec2_custom,
}


class WavLMOfTransformers(nn.Module):
    """An expert as s3prl has them for HuBERT and wav2vec 2.0, around transformers' WavLM."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.model = transformers.WavLMModel.from_pretrained(folder)

    def get_downsample_rates(self, key: str) -> int:
        return 320

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        padded = nn.utils.rnn.pad_sequence(wavs, batch_first=True)
        lengths = torch.tensor([len(w) for w in wavs])
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        output = self.model(padded, attention_mask=mask, output_hidden_states=True)
        return {"hidden_states": output.hidden_states}


def fresh() -> int:
    """A seed that is new each time; tests show it when they fail."""
    return secrets.randbelow(2**31)


def build(kind: str, folder: Path, seed: int) -> Upstream:
    """An upstream of three layers; the same for the same seed."""
    folder = folder / f"{kind}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    family, shape = kind.rsplit("-", 1)
    generator = torch.Generator().manual_seed(seed)
    if family == "tiny":
        return tiny(folder, shape, seed=seed)
    expert = base_expert(family.removeprefix("hf_"), shape, folder, generator)
    if family.startswith("hf_"):
        if not (folder / "hf").exists():
            export_hf(expert, folder / "hf")
        expert = HF_LOADERS.get(family, WavLMOfTransformers)(str(folder / "hf"))
    return Upstream(kind, expert)


def waves(seed: int, samples: Sequence[int] = (8000, 6400, 4801)) -> list[Tensor]:
    """Noise of these lengths."""
    rng = np.random.default_rng(seed)
    return [torch.from_numpy(0.1 * rng.standard_normal(n).astype(np.float32)) for n in samples]


def values(upstream: Upstream) -> dict[str, Tensor]:
    """Copies of the expert's parameters."""
    return {n: p.detach().clone() for n, p in upstream.expert.named_parameters()}


def layers_of(upstream: Upstream) -> Any:
    return upstream.expert.model.encoder.layers


def furthest(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Largest difference of two lists of states, relative to each layer's largest value."""
    pairs = list(zip(some, others, strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float((a - b).detach().abs().max() / a.detach().abs().max()) for a, b in pairs)
