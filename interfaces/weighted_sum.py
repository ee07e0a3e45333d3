"""SUPERB's interface: a learned weight for each layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface


class WeightedSum(Interface):
    """Softmax-weighted sum of all hidden states, as SUPERB's featurizer (arXiv:2105.01051, section 3).

    Weights start at 0, so the sum starts as the mean. No layer is copied or stacked: autograd keeps
    references to the states and nothing else.
    """

    name = "weighted_sum"

    def __init__(self, spec: UpstreamSpec, normalize: bool = False) -> None:
        """`normalize` applies a layer norm without parameters to each state first (s3prl's option)."""
        super().__init__(spec)
        self.require_equal_layers()
        self.normalize = normalize
        self.weights = nn.Parameter(torch.zeros(spec.num_layers))

    def combine(self, states: list[Tensor]) -> Tensor:
        """Sum of softmax(weights)[l] * states[l]: [B, T, D]."""
        weights = self.weights.softmax(0).unbind()
        if self.normalize:
            states = [nn.functional.layer_norm(state, state.shape[-1:]) for state in states]
        total = weights[0] * states[0]
        for weight, state in zip(weights[1:], states[1:], strict=True):
            total = total + weight * state
        return total

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """One per layer."""
        return spec.num_layers

    def layer_usage(self) -> list[float]:
        """The softmax weights."""
        return self.weights.detach().softmax(0).tolist()
