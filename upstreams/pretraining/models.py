"""Build s3prl's own model classes from plain dictionaries, without importing s3prl.hub (5 s)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def build_model(
    kind: str, model: Mapping[str, Any], task: Mapping[str, Any], clusters: int, seed: int
) -> nn.Module:
    """A freshly initialised HubertModel ("hubert", with `clusters` targets) or Wav2Vec2Model ("wav2vec2").

    The global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "hubert":
            from s3prl.upstream.hubert import hubert_model as h

            config = h.HubertConfig(**model)
            built: nn.Module = h.HubertModel(config, h.HubertPretrainingConfig(**task), [range(clusters)])
            nn.init.normal_(built.label_embs_concat)  # uniform(0, 1) would start with all cosines near 1
            return built
        from s3prl.upstream.wav2vec2 import wav2vec2_model as w

        built = w.Wav2Vec2Model(w.Wav2Vec2Config(**model))
        return built


def convolved(model: nn.Module, waves: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised convolutional features (batch, frames, channels), and their mean square before that."""
    features = model.feature_extractor(waves)
    penalty = features.float().pow(2).mean()
    return model.layer_norm(features.transpose(1, 2)), penalty


@torch.no_grad()
def layer_output(model: nn.Module, wave: Tensor, layer: int) -> Tensor:
    """Output of transformer layer `layer` (1 is the first) for one normalised wave: (frames, dim)."""
    features, _ = convolved(model, wave[None])
    if model.post_extract_proj is not None:
        features = model.post_extract_proj(features)
    out, _ = model.encoder(features, layer=layer - 1)
    return out[0].float()


class SpectralHead(nn.Module):
    """A linear map from convolutional features to the log mel spectrum, and its mean squared error.

    Not part of HuBERT or wav2vec 2.0: with minutes of training instead of days it gives the convolutional
    stack a dense gradient from the first update on. The head is thrown away.
    """

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, bins)

    def forward(self, features: Tensor, mels: Tensor) -> Tensor:
        """Mean squared error over (batch, frames, bins)."""
        error: Tensor = (self.linear(features).float() - mels).pow(2).mean()
        return error
