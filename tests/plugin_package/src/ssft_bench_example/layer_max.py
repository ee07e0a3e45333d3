"""An interface with one option and no parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface


class LayerMax(Interface):
    """The largest value over the layers, for each dimension."""

    name = "layer_max"

    def __init__(self, spec: UpstreamSpec, scale: float = 1.0) -> None:
        """`scale` multiplies the result."""
        super().__init__(spec)
        self.require_equal_layers()
        self.scale = scale

    def combine(self, states: list[Tensor]) -> Tensor:
        """Features [B, T, D]."""
        best = states[0]
        for state in states[1:]:
            best = torch.maximum(best, state)
        return self.scale * best
