"""Each dimension takes one layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.mixing import real_frames, weighted_sum


class Gumbel(Interface):
    """Per-dimension layer choice by a straight-through Gumbel softmax.

    After the baseline of "Unifying Model and Layer Fusion" (arXiv:2511.08389); temperature, start and
    straight-through are ours. One draw of noise serves a whole batch. In evaluation each dimension takes
    its most likely layer.
    """

    name = "gumbel"
    usage_kind = "share of dimensions that take the layer"

    def __init__(
        self, spec: UpstreamSpec, temperature: float = 1.0, project: bool = False,
        normalize: bool = False,
    ) -> None:  # fmt: skip
        """`temperature` of the softmax; `project` adds a linear layer D to D."""
        super().__init__(spec, normalize)
        self.align_layers()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: must be above 0")
        self.temperature = temperature
        self.weights = nn.Parameter(torch.zeros(spec.num_layers, self.output_dim))
        self.projection = nn.Linear(self.output_dim, self.output_dim) if project else None

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """The chosen layer's value in each dimension: [B, T, D]."""
        if self.training:
            chosen = nn.functional.gumbel_softmax(self.weights, self.temperature, hard=True, dim=0)
        else:
            chosen = self._most_likely()
        z = weighted_sum(states, chosen, lengths)
        if self.projection is None:
            return z
        real = real_frames(lengths.to(z.device), z.shape[1])
        projected: Tensor = self.projection(z.to(self.projection.weight.dtype))
        return (projected * real.unsqueeze(-1)).to(z.dtype)

    def _most_likely(self) -> Tensor:
        best = self.weights.detach().argmax(0)
        return nn.functional.one_hot(best, self.spec.num_layers).t().to(self.weights.dtype)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """L D, and D D + D with the projection."""
        dim = spec.dims[-1]
        return spec.num_layers * dim + (dim * dim + dim) * bool(options.get("project", False))

    def layer_usage(self) -> list[float]:
        """Share of the dimensions for which each layer is the most likely."""
        return self._most_likely().mean(1).tolist()
