"""Hierarchical convolution over the joined layers of several upstreams."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.interfaces.hconv import HConv, fused_positions, make_convs, plan, shares_of_layers
from ssft_bench.mixing import LayerConv, layer_convs, weighted_sum


class CHConv(Interface):
    """Layers of several upstreams joined at each depth, then hconv (CHConv, arXiv:2511.08389).

    After "Unifying Model and Layer Fusion for Speech Foundation Models". For `--upstream a+b`: numbers
    of layers and frame rates are aligned by linear interpolation, the layers of all upstreams at one
    depth are concatenated and projected, then hconv. Ours, where the paper leaves it open: the most
    layers, the finest rate, one projection shared by all depths, to the width of the last upstream, with
    a bias. For one upstream it is hconv.
    """

    name = "chconv"
    usage_kind = (
        "norm of the projection and of the first convolution's taps on the layer, as a share"
    )

    def __init__(
        self, spec: UpstreamSpec, kernel: int = 5, stride: int = 3, normalize: bool = False
    ) -> None:
        """As hconv."""
        super().__init__(spec, normalize)
        self.align_layers(widths=len(spec.parts) < 2)
        dims, columns = part_widths(spec)
        self.sources = fused_positions(spec, columns)
        channels, positions = plan(len(self.sources), self.output_dim, kernel, stride)
        self.projection: LayerConv | None = None
        if len(dims) > 1:
            depths = (positions[0], positions[0])
            self.projection = LayerConv((sum(dims), channels[0]), depths, 1, 1, relu=False)
        self.convs = make_convs(channels, positions, kernel, stride)
        self.output_dim = channels[-1] * positions[-1]

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Features [B, T, C_n * L_n]."""
        convs = [conv for conv in (self.projection, *self.convs) if isinstance(conv, LayerConv)]
        if not convs:
            return weighted_sum(states, torch.ones(1, dtype=torch.float64), lengths)
        return layer_convs(states, lengths, convs, self.sources)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """hconv's; for several upstreams also (sum of their widths) * D + D."""
        dims, _ = part_widths(spec)
        own = HConv.expected_parameters(spec, **options)
        return own + (sum(dims) * spec.dims[-1] + spec.dims[-1] if len(dims) > 1 else 0)

    def layer_usage(self) -> list[float]:
        """Shares of the depths, times each upstream's share of the projection's norm."""
        norms = None
        if self.projection is not None:
            dims, columns = part_widths(self.spec)
            parts = self.projection.weight.detach()[0].split(dims)
            norms = {c: float(part.norm()) for c, part in zip(columns, parts, strict=True)}
        return shares_of_layers(self.convs, self.sources, self.spec.num_layers, norms)


def part_widths(spec: UpstreamSpec) -> tuple[list[int], list[int]]:
    """Width of each upstream's layers, and the channel its own begin at.

    Raises ValueError when one upstream has layers of several widths.
    """
    ends = list(accumulate(spec.parts)) or [spec.num_layers]
    starts = [0, *ends[:-1]]
    widths = [set(spec.dims[a:b]) for a, b in zip(starts, ends, strict=True)]
    if len(spec.parts) > 1 and any(len(own) > 1 for own in widths):
        raise ValueError(
            f"chconv: an upstream of {spec.name} has layers of several widths; use hconv"
        )
    dims = [spec.dims[end - 1] for end in ends]
    return dims, [0, *accumulate(dims)][:-1]
