"""Hierarchical convolution beside a weighted sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interfaces.hconv import HConv
from ssft_bench.mixing import weighted_sum


class HConvResidual(HConv):
    """hconv plus a weighted sum with a learned scale that starts at 0 (ours).

    Meant for tasks such as speaker verification, where HConv was behind the weighted sum. Where HConv
    is narrower than D (1023 for 25 layers of 1024), the sum's last dimensions are left out.
    """

    name = "hconv_residual"

    def __init__(
        self, spec: UpstreamSpec, kernel: int = 5, stride: int = 3, normalize: bool = False
    ) -> None:
        """As hconv."""
        super().__init__(spec, kernel, stride, normalize)
        self.weights = nn.Parameter(torch.zeros(spec.num_layers))
        self.scale = nn.Parameter(torch.zeros(1))

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """hconv + scale * weighted sum: [B, T, C_n * L_n]."""
        total = weighted_sum(states, self.weights.softmax(0), lengths)[..., : self.output_dim]
        residual = (self.scale * total).to(total.dtype)
        return super().mix_layers(states, lengths) + residual

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """hconv's, and L + 1."""
        return super().expected_parameters(spec, **options) + spec.num_layers + 1

    def usage_details(self) -> dict[str, list[float]]:
        """Softmax weights of the sum; times |scale| they can be held against each other."""
        return {
            "weighted sum": self.weights.softmax(0).tolist(),
            "weighted sum, times its scale": (self.weights.softmax(0) * self.scale).tolist(),
        }
