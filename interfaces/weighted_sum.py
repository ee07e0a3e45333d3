"""SUPERB's interface: a learned weight for each layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.mixing import weighted_sum


class WeightedSum(Interface):
    """Softmax-weighted sum of all hidden states, as SUPERB's featurizer (arXiv:2105.01051, section 3).

    Weights start at 0, so the sum starts as the mean. No layer is copied or stacked, and nothing is
    kept for the backward pass but references to the states.
    """

    name = "weighted_sum"
    usage_kind = "softmax weight"

    def __init__(
        self, spec: UpstreamSpec, normalize: bool = False, temperature: float = 1.0
    ) -> None:
        """`temperature` divides the weights before the softmax (ours; 1 is SUPERB's)."""
        super().__init__(spec, normalize)
        self.align_layers()
        if temperature <= 0:
            raise ValueError(f"temperature={temperature}: must be above 0")
        self.temperature = temperature
        self.weights = nn.Parameter(torch.zeros(spec.num_layers))

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Sum of softmax(weights)[l] * states[l]: [B, T, D]."""
        return weighted_sum(states, self._shares(), lengths)

    def _shares(self) -> Tensor:
        return (self.weights / self.temperature).softmax(0)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """One per layer."""
        return spec.num_layers

    def layer_usage(self) -> list[float]:
        """The softmax weights."""
        return self._shares().tolist()
