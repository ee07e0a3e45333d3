"""Layer weights of each frame's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface


class Gated(Interface):
    """Weighted sum whose weights depend on the frame (ours): softmax over l of a_l . LN(h_l) + b_l.

    LN is a layer norm without parameters. a starts at 0, so it begins as the mean; with a = 0 it is
    weighted_sum with weights b.
    """

    name = "gated"
    framewise = True
    has_gates = True
    usage_kind = "gate, mean over the frames of dev"

    def __init__(self, spec: UpstreamSpec, normalize: bool = False) -> None:
        """`normalize` applies a layer norm without parameters to each state before it is summed, too."""
        super().__init__(spec, normalize)
        self.align_layers()
        self.directions = nn.Parameter(torch.zeros(spec.num_layers, self.output_dim))
        self.biases = nn.Parameter(torch.zeros(spec.num_layers))

    def gates(self, states: list[Tensor]) -> Tensor:
        """Weights [n, L] of the layers in each of n frames."""
        scores = [
            nn.functional.layer_norm(state, state.shape[-1:]) @ direction
            for state, direction in zip(states, self.directions, strict=True)
        ]
        return (torch.stack(scores, -1) + self.biases).softmax(-1)

    def combine(self, states: list[Tensor]) -> Tensor:
        """Features [n, D] from the layers of n frames."""
        total = torch.zeros_like(states[0])
        for gate, state in zip(self.gates(states).split(1, -1), states, strict=True):
            total = total + gate * state
        return total

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """L D + L."""
        return spec.num_layers * spec.dims[-1] + spec.num_layers
