"""Each hidden state made narrow, all side by side, projected."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface


class BottleneckConcat(Interface):
    """Each layer from D to r, concatenated, back to D (ours): concat_proj of low rank.

    No nonlinearity in between.
    """

    name = "bottleneck_concat"
    framewise = True
    usage_kind = "norm of the layer's two projections multiplied, as a share"

    def __init__(self, spec: UpstreamSpec, rank: int = 128, normalize: bool = False) -> None:
        """`rank` r is each layer's width in the concatenation."""
        super().__init__(spec, normalize)
        self.align_layers()
        if rank < 1:
            raise ValueError(f"rank={rank}: must be at least 1")
        dim, layers = self.output_dim, spec.num_layers
        self.down = nn.ModuleList(nn.Linear(dim, rank) for _ in range(layers))
        self.up = nn.Linear(layers * rank, dim)

    def combine(self, states: list[Tensor]) -> Tensor:
        """Features [n, D] from the layers of n frames."""
        narrow = [down(state) for down, state in zip(self.down, states, strict=True)]
        projected: Tensor = self.up(torch.cat(narrow, -1))
        return projected

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """2 L D r + L r + D."""
        layers, dim, rank = spec.num_layers, spec.dims[-1], int(options.get("rank", 128))
        return 2 * layers * dim * rank + layers * rank + dim

    def layer_usage(self) -> list[float]:
        """Norm of up_l @ down_l, the map from layer l to the features, as shares."""
        with torch.no_grad():
            ups = self.up.weight.split(self.up.in_features // self.spec.num_layers, 1)
            norms = torch.stack([
                (up @ down.weight).norm() for up, down in zip(ups, self.down, strict=True)
            ])  # fmt: skip
        return (norms / norms.sum()).tolist()
