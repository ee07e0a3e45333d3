"""Attentive pooling over time, for tasks with one answer per utterance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.mixing import real_frames, weighted_sum


class MHFA(Interface):
    """Attentive pooling over time (MHFA, Peng et al., SLT 2022, arXiv:2210.01273).

    Multi-head factorised attentive pooling: two weighted sums of the layers, one for keys and one for
    values; 64 heads attend over time; one vector per utterance. Unlike in the authors' code, padded
    frames get no attention.

    With `window` (ours) each frame pools over that many frames around it instead of over all: features
    for tasks that need a vector per frame. Such a task sets window=25, half a second, and heads=8 (64
    for every frame would be 8,192 numbers), unless you do.
    """

    name = "mhfa"
    usage_kind = "softmax weight, mean of keys and values"
    frame_options = {"window": 25, "heads": 8}  # noqa: RUF012

    def __init__(
        self, spec: UpstreamSpec, compression: int = 128, heads: int = 64, output: int = 256,
        window: int | None = None, normalize: bool = False,
    ) -> None:  # fmt: skip
        """`compression` is the width of keys and values; `output` that of the features."""
        super().__init__(spec, normalize)
        self.align_layers()
        if min(compression, heads, output) < 1 or (window is not None and window < 1):
            raise ValueError(
                f"compression={compression}, heads={heads}, output={output}, window={window}: "
                "must be at least 1"
            )
        self.window = window
        self.pools_time = window is None  # type: ignore[misc]
        dim = self.output_dim
        self.key_weights = nn.Parameter(torch.zeros(spec.num_layers))
        self.value_weights = nn.Parameter(torch.zeros(spec.num_layers))
        self.keys, self.values = nn.Linear(dim, compression), nn.Linear(dim, compression)
        self.attention = nn.Linear(compression, heads)
        self.project_out = nn.Linear(heads * compression, output)
        self.output_dim = output

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """One vector [B, 1, E] for each utterance, or with a window one for each frame [B, T, E]."""
        kind = self.attention.weight.dtype
        keys = self.keys(weighted_sum(states, self.key_weights.softmax(0), lengths).to(kind))
        values = self.values(weighted_sum(states, self.value_weights.softmax(0), lengths).to(kind))
        scores = self.attention(keys)
        real = real_frames(lengths.to(scores.device), scores.shape[1]).unsqueeze(-1)
        scores = scores.masked_fill(~real, -torch.inf)
        if self.window is None:
            pooled = torch.einsum("bth,btc->bhc", _shares(scores, 1), values).unsqueeze(1)
            real = real.any(1, keepdim=True)
        else:
            pooled = _local(scores, values, self.window)
        features: Tensor = self.project_out(pooled.flatten(2)) * real
        return features.to(states[0].dtype)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """2 L + 2 (D c + c) + c H + H + H c E + E."""
        dim, narrow = spec.dims[-1], int(options.get("compression", 128))
        heads, out = int(options.get("heads", 64)), int(options.get("output", 256))
        pooling = narrow * heads + heads + heads * narrow * out + out
        return 2 * spec.num_layers + 2 * (dim * narrow + narrow) + pooling

    def layer_usage(self) -> list[float]:
        """Mean of the keys' and the values' softmax weights."""
        both = (self.key_weights.softmax(0) + self.value_weights.softmax(0)) / 2
        return both.tolist()

    def usage_details(self) -> dict[str, list[float]]:
        """Softmax weights of keys and values."""
        return {
            "keys": self.key_weights.softmax(0).tolist(),
            "values": self.value_weights.softmax(0).tolist(),
        }


def _shares(scores: Tensor, dim: int) -> Tensor:
    """Softmax that is zero, not NaN, where there is no real frame."""
    return scores.softmax(dim).nan_to_num(0.0)


def _local(scores: Tensor, values: Tensor, window: int) -> Tensor:
    """Attention within `window` frames around each: scores [B, T, H], values [B, T, c] to [B, T, H, c]."""
    if not scores.shape[1]:  # unfold makes no windows of nothing
        return values.new_zeros(*scores.shape, values.shape[-1])
    before = window // 2
    around = (before, window - 1 - before)
    near = nn.functional.pad(scores, (0, 0, *around), value=-torch.inf).unfold(1, window, 1)
    padded = nn.functional.pad(values, (0, 0, *around)).unfold(1, window, 1)
    pooled: Tensor = torch.einsum("bthw,btcw->bthc", _shares(near, -1), padded)
    return pooled
