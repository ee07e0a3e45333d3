"""Bottleneck adapters inside an encoder's layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssft_bench import encoder
from ssft_bench.errors import UsageError
from ssft_bench.seeds import seed_for
from ssft_bench.upstream import Upstream

PLACES = (("dropout1", "dropout3"), ("dropout", "feed_forward.output_dropout"))
"""The last modules of the attention and of the feed-forward part before each residual sum, in s3prl's and
in transformers' layers."""


class Bottleneck(nn.Module):
    """x + Linear(width, dim)(gelu(Linear(dim, width)(x))): the identity at the start.

    Houlsby et al. 2019, "Parameter-efficient transfer learning for NLP", section 2.1. The second matrix
    starts at 0 where theirs starts near it.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, width), nn.Linear(width, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] to [..., dim]."""
        return x + self.up(F.gelu(self.down(x)))  # type: ignore[no-any-return]

    __call__: Callable[[Tensor], Tensor]


def adapter_parameters(layers: int, dim: int, width: int) -> int:
    """Number of parameters by formula: two adapters a layer."""
    return 2 * layers * (dim * width + width + width * dim + dim)


def add_adapters(upstream: Upstream, width: int, seed: int) -> list[str]:
    """Two adapters in every layer: after attention and after the feed-forward part, before each residual
    sum. Names of the new parameters, as the expert has them; they are drawn from the run's seed.

    Raises UsageError for layers that are not built as s3prl's or transformers' transformer layers.
    """
    before = {id(p) for p in upstream.expert.parameters()}
    dim = encoder.width(upstream)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "adapter"))
        for layer in encoder.layers(upstream):
            for path in _places(layer, upstream.spec.name):
                owner, _, name = path.rpartition(".")
                parent, last = layer.get_submodule(owner), layer.get_submodule(path)
                device = next(layer.parameters()).device
                setattr(parent, name, nn.Sequential(last, Bottleneck(dim, width).to(device)))
    return [n for n, p in upstream.expert.named_parameters() if id(p) not in before]


def _places(layer: nn.Module, name: str) -> tuple[str, str]:
    modules = dict(layer.named_modules())
    for pair in PLACES:
        if all(isinstance(modules.get(path), nn.Dropout) for path in pair):
            return pair
    raise UsageError(
        f"finetune.trainable=adapter: the layers of {name} are not built as HuBERT's, wav2vec 2.0's or "
        "WavLM's; use top:K"
    )
