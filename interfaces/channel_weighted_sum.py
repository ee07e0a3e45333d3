"""A learned weight for each layer and dimension."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.mixing import weighted_sum


class ChannelWeightedSum(Interface):
    """Weighted sum whose softmax over layers is taken for each dimension on its own (ours).

    Equal weights at the start, so it begins as the mean; equal across dimensions it is weighted_sum.
    """

    name = "channel_weighted_sum"
    usage_kind = "softmax weight, mean over dimensions"

    def __init__(self, spec: UpstreamSpec, normalize: bool = False) -> None:
        """`normalize` applies a layer norm without parameters to each state first."""
        super().__init__(spec, normalize)
        self.align_layers()
        self.weights = nn.Parameter(torch.zeros(spec.num_layers, self.output_dim))

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Sum of softmax(weights, over layers)[l] * states[l]: [B, T, D]."""
        return weighted_sum(states, self.weights.softmax(0), lengths)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """L D."""
        return spec.num_layers * spec.dims[-1]

    def layer_usage(self) -> list[float]:
        """The softmax weights, averaged over the dimensions."""
        return self.weights.detach().softmax(0).mean(1).tolist()
