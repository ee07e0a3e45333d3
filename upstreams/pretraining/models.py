"""Build s3prl's own model classes from plain dictionaries, without importing s3prl.hub (5 s)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.errors import UsageError
from ssft_bench.upstreams.pretraining.audio import SAMPLE_RATE

BAND_KERNEL = 160
"""A first convolution of at least this many samples (10 ms) starts from band filters."""


def build_model(
    kind: str, model: Mapping[str, Any], task: Mapping[str, Any], clusters: int, seed: int
) -> nn.Module:
    """A freshly initialised model: "hubert" (with `clusters` targets), "wav2vec2" or "wavlm".

    The global generator is left as it was. Raises UsageError for a key that WavLM does not know.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "hubert":
            from s3prl.upstream.hubert import hubert_model as h

            config = h.HubertConfig(**model)
            built: Any = h.HubertModel(config, h.HubertPretrainingConfig(**task), [range(clusters)])
            # s3prl's uniform(0, 1) would start with all cosines near 1.
            nn.init.normal_(built.label_embs_concat)
            return _with_bands(built)
        if kind == "wavlm":
            return _with_bands(_wavlm({**model, **task}))
        from s3prl.upstream.wav2vec2 import wav2vec2_model as w

        return _with_bands(w.Wav2Vec2Model(w.Wav2Vec2Config(**model)))


def _wavlm(config: Mapping[str, Any]) -> nn.Module:
    """s3prl's WavLM: one configuration for model and task, and no prediction head."""
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    # WavLMConfig takes any key, so a misspelt one would change nothing and nobody would know.
    if strangers := config.keys() - vars(WavLMConfig()).keys():
        raise UsageError(f"model: WavLM has no setting {', '.join(sorted(strangers))}")
    built: nn.Module = WavLM(WavLMConfig(dict(config)))
    return built


def zero_relative_positions_(model: nn.Module) -> None:
    """Set WavLM's relative position embeddings to zero.

    The bias of attention is gate times embedding (Chen et al. 2022, "WavLM"), so the model then computes
    what the same transformer without relative positions does. It still learns them: their gradient
    is the gate, which is not zero.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("relative_attention_bias.weight"):
            nn.init.zeros_(parameter)


def _with_bands(model: Any) -> nn.Module:
    conv = model.feature_extractor.conv_layers[0][0]
    if conv.weight.shape[-1] >= BAND_KERNEL:
        gabor_(conv)
    built: nn.Module = model
    return built


def gabor_(conv: nn.Conv1d) -> None:
    """Fill a first convolution with windowed sinusoids at mel-spaced frequencies, four phases each.

    Starting from band filters instead of noise spares the updates in which a stack learns to see spectra:
    Ravanelli and Bengio 2018 (SincNet), Zeghidour et al. 2021 (LEAF). All weights go on learning. The four
    phases, rectified by what follows, add up to about the magnitude of the band. Filters have norm 1 times
    the square root of frequency over 1 kHz, against the tilt of speech.
    """
    channels, _, size = conv.weight.shape
    bands = channels // 4
    mel = torch.linspace(_mel(80.0), _mel(7200.0), bands + 2)
    hertz = 700 * (torch.exp(mel / 1127) - 1)
    centres, widths = hertz[1:-1], (hertz[2:] - hertz[:-2]) / 2
    seconds = (torch.arange(size) - (size - 1) / 2) / SAMPLE_RATE
    # A Gaussian whose frequency response has about the band's width, not longer than the kernel.
    sigma = (0.5 / widths).clamp(max=size / SAMPLE_RATE / 5)
    window = torch.exp(-0.5 * (seconds / sigma[:, None]) ** 2)
    angle = 2 * math.pi * centres[:, None] * seconds
    with torch.no_grad():
        for phase in range(4):
            filters = window * torch.cos(angle + phase * math.pi / 2)
            filters = filters / filters.norm(dim=1, keepdim=True) * (centres / 1000).sqrt()[:, None]
            conv.weight[phase * bands : (phase + 1) * bands, 0] = filters


def _mel(hertz: float) -> float:
    return 1127 * math.log(1 + hertz / 700)


def convolved(model: Any, waves: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised convolutional features (batch, frames, channels), and their mean square before that."""
    # With feature_grad_mult 0, s3prl's experts keep gradients out of the convolutions, and only there.
    with torch.set_grad_enabled(torch.is_grad_enabled() and model.feature_grad_mult > 0):
        features = model.feature_extractor(waves)
    if 0 < model.feature_grad_mult < 1:
        from s3prl.upstream.wav2vec2.wav2vec2_model import GradMultiply

        features = GradMultiply.apply(features, model.feature_grad_mult)
    penalty = features.float().pow(2).mean()
    return model.layer_norm(features.transpose(1, 2)), penalty


@torch.no_grad()
def layer_output(model: Any, wave: Tensor, layer: int) -> Tensor:
    """Output of transformer layer `layer` (1 is the first) for one normalised wave: (frames, dim)."""
    features, _ = convolved(model, wave[None])
    if model.post_extract_proj is not None:
        features = model.post_extract_proj(features)
    out, _ = model.encoder(features, layer=layer - 1)
    states: Tensor = out[0].float()
    return states
