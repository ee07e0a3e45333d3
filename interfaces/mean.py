"""All hidden states alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.mixing import weighted_sum


class Mean(Interface):
    """The mean of all hidden states; no parameters."""

    name = "mean"
    usage_kind = "constant weight"

    def __init__(self, spec: UpstreamSpec, normalize: bool = False) -> None:
        """`normalize` applies a layer norm without parameters to each state first."""
        super().__init__(spec, normalize)
        self.align_layers()

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Sum of states[l] / L: [B, T, D]."""
        equal = torch.full((len(states),), 1 / len(states), dtype=torch.float64)
        return weighted_sum(states, equal, lengths)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """None are learned."""
        return 0

    def layer_usage(self) -> list[float]:
        """1 / L for each."""
        return [1 / self.spec.num_layers] * self.spec.num_layers
