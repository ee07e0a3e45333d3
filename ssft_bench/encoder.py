"""The transformer inside an upstream: its layers by index, and which parameters belong to them.

s3prl's HuBERT, wav2vec 2.0 and WavLM experts, its Hugging Face experts and the mini upstreams all keep
the network as `expert.model` with a list `encoder.layers`. Layers are named by index, never by
counting parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.errors import UsageError
from ssft_bench.upstream import SAMPLE_RATE, Upstream

LAYERS = "model.encoder.layers"
"""Where the transformer layers are, from the expert on."""
CONVOLUTIONS = "model.feature_extractor"
"""Where the convolutional stack is, from the expert on."""
MASK_EMBEDDINGS = ("model.mask_emb", "model.masked_spec_embed")
"""What stands for a masked frame, in s3prl's and in Hugging Face's models."""


def part_of(upstream: Upstream, path: str) -> Any:
    """What the expert has under a path such as `model.encoder`, None where there is nothing."""
    found: Any = getattr(upstream, "expert", None)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def layers(upstream: Upstream) -> nn.ModuleList:
    """The transformer layers, bottom first. Raises UsageError for an upstream without them."""
    found = part_of(upstream, LAYERS)
    if not isinstance(found, nn.ModuleList) or len(found) == 0:
        raise UsageError(
            f"upstream {upstream.spec.name} has no transformer layers ({LAYERS}); this needs HuBERT, "
            "wav2vec 2.0 and WavLM upstreams of s3prl, Hugging Face or this package"
        )
    return found


def width(upstream: Upstream) -> int:
    """Channels of the transformer, by its last layer's last norm. Raises UsageError where it has none."""
    norms = [m for m in layers(upstream)[-1].modules() if isinstance(m, nn.LayerNorm)]
    if not norms:
        raise UsageError(f"upstream {upstream.spec.name}: its transformer layers have no norm")
    return int(norms[-1].normalized_shape[0])


def of_layers(
    upstream: Upstream, top: int, option: str = "method.options.top_layers="
) -> list[str]:
    """Names of all parameters of the `top` highest layers, as in `expert.named_parameters()`.

    Raises UsageError, naming the option, when there are fewer layers.
    """
    found = layers(upstream)
    if not 1 <= top <= len(found):
        raise UsageError(f"{option}{top}: {upstream.spec.name} has {len(found)} layers")
    prefixes = tuple(f"{LAYERS}.{i}." for i in range(len(found) - top, len(found)))
    return [n for n, _ in upstream.expert.named_parameters() if n.startswith(prefixes)]


def of_modules(upstream: Upstream, paths: Sequence[str]) -> list[str]:
    """Names of all parameters of modules such as `model.encoder.layer_norm`.

    Raises UsageError naming a module that the upstream does not have.
    """
    names = [n for n, _ in upstream.expert.named_parameters()]
    chosen = []
    for path in paths:
        own = [n for n in names if n.startswith(f"{path}.")]
        if not own:
            raise UsageError(f"upstream {upstream.spec.name} has no parameters in {path}")
        chosen += own
    return chosen


def participating(upstream: Upstream) -> list[str]:
    """Names of all parameters that the hidden states depend on, found by one backward pass over noise.

    Prediction heads and mask embeddings, which no hidden state sees, are not among them. The convolutional
    stack counts: see `unfreeze_convolutions`.
    """
    expert = upstream.expert
    was = {p: p.requires_grad for p in expert.parameters()}
    if not was:
        return []
    expert.requires_grad_(True)
    noise = torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(expert.parameters()).device)
    with torch.enable_grad():
        total = torch.stack([s.float().mean() for s in upstream([noise]).states]).sum()
    if total.requires_grad:
        total.backward()
    found = [n for n, p in expert.named_parameters() if p.grad is not None]
    for p, required in was.items():
        p.requires_grad_(required)
        p.grad = None
    return found


def unfreeze_convolutions(upstream: Upstream) -> None:
    """Let gradients into the convolutional stack: s3prl's experts stop them by `feature_grad_mult = 0`."""
    model = getattr(upstream.expert, "model", None)
    if model is not None and hasattr(model, "feature_grad_mult"):
        model.feature_grad_mult = 1.0


def freeze_convolutions(upstream: Upstream) -> None:
    """Keep gradients out of the convolutional stack. s3prl's experts do so anyway; transformers' stack
    asks for gradients of its input in training, which would be carried through all of it for nothing."""
    stack = part_of(upstream, CONVOLUTIONS)
    if stack is not None:
        stack.requires_grad_(False)
        if hasattr(stack, "_requires_grad"):
            stack._requires_grad = False


def no_layerdrop(upstream: Upstream) -> dict[str, float]:
    """Switch layer drop off and return what the model draws while it trains.

    Transformers 5 changes the number of hidden states, or crashes, when a layer is dropped. Keys that
    are there: dropout, mask_time_prob (Hugging Face experts only: s3prl's never mask), layerdrop (0).
    """
    model: Any = getattr(upstream.expert, "model", None)
    encoder = getattr(model, "encoder", None)
    if encoder is not None and hasattr(encoder, "layerdrop"):
        encoder.layerdrop = 0.0
    config = getattr(model, "config", None)
    if config is not None:
        config.layerdrop = 0.0
    drawn = {"layerdrop": 0.0}
    dropouts = [m.p for m in upstream.expert.modules() if isinstance(m, nn.Dropout)]
    drawn["dropout"] = max(dropouts, default=0.0)
    if config is not None and getattr(config, "apply_spec_augment", False):
        drawn["mask_time_prob"] = float(config.mask_time_prob)
    return drawn


def features(upstream: Upstream, waves: Sequence[Tensor]) -> list[Tensor]:
    """The last hidden state of each waveform [samples]: a list of [frames, dim], padding removed.

    Waveforms run one at a time, because the first block of Base models normalises over time, padding
    counted (specification of SCORE, section 3).
    """
    return [upstream([wave]).states[-1][0] for wave in waves]


def padded_features(upstream: Upstream, waves: Sequence[Tensor]) -> list[Tensor]:
    """As `features`, but all waveforms padded into one batch, as published code does."""
    hidden = upstream(list(waves))
    return [hidden.states[-1][i, : int(n)] for i, n in enumerate(hidden.lengths)]


def mean_states(upstream: Upstream, waves: Sequence[Tensor]) -> Tensor:
    """[batch, dim]: the mean over time of the plain mean of all hidden states (which need equal widths)."""
    pooled = [sum(upstream([wave]).states) for wave in waves]
    return torch.stack([total[0].mean(0) / upstream.spec.num_layers for total in pooled])
