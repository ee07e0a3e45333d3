"""A weighted sum for each group of layers, joined by a linear layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.mixing import LayerConv, layer_convs, weighted_sum


class GroupedWeightedSum(Interface):
    """A weighted sum for each group of layers, concatenated and projected (arXiv:2406.12209).

    Of "Interface Design for Self-Supervised Speech Models". The layers are split into G groups, each is
    summed with softmax weights of its own, and the concatenation is projected to D. The paper leaves
    open which layers form a group and whether the projection has a bias; ours: contiguous, near equal,
    larger groups first (13 = 7 + 6), with bias.
    """

    name = "grouped_weighted_sum"
    usage_kind = "softmax weight in the group, times the share of the group's projection norm"

    def __init__(self, spec: UpstreamSpec, groups: int = 2, normalize: bool = False) -> None:
        """`groups` G is 2, 3 or 4 in the paper; 1 to L are possible."""
        super().__init__(spec, normalize)
        self.align_layers()
        if groups < 1 or groups > spec.num_layers > 1:
            raise ValueError(f"groups={groups}: {spec.name} has {spec.num_layers} layers")
        groups = min(groups, spec.num_layers)
        size, more = divmod(spec.num_layers, groups)
        self.sizes = [size + (group < more) for group in range(groups)]
        self.weights = nn.Parameter(torch.zeros(spec.num_layers))
        self.projection = LayerConv((self.output_dim,) * 2, (groups, 1), groups, 1, relu=False)

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Projection of the groups' weighted sums: [B, T, D]."""
        sums, start = [], 0
        for shares in self._shares():
            stop = start + len(shares)
            sums.append(weighted_sum(states[start:stop], shares, lengths))
            start = stop
        return layer_convs(sums, lengths, [self.projection])

    def _shares(self) -> list[Tensor]:
        return [own.softmax(0) for own in self.weights.split(self.sizes)]

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """L + G D D + D."""
        dim = spec.dims[-1]
        return spec.num_layers + int(options.get("groups", 2)) * dim * dim + dim

    def layer_usage(self) -> list[float]:
        """Softmax weights, each group scaled by its share of the projection's norm."""
        shares = self.projection.input_shares().tolist()
        return [w * share for own, share in zip(self._shares(), shares, strict=True)
                for w in own.tolist()]  # fmt: skip

    def usage_details(self) -> dict[str, list[float]]:
        """Softmax weights within each group; 0 for layers outside it."""
        details, start = {}, 0
        for group, own in enumerate(self._shares()):
            row = [0.0] * self.spec.num_layers
            row[start : start + len(own)] = own.tolist()
            details[f"group {group}"] = row
            start += len(own)
        return details
