"""Hierarchical convolution over the layer axis."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.mixing import LayerConv, Source, layer_convs, layer_positions, weighted_sum


class HConv(Interface):
    """Hierarchical convolution over the layers (HConv, arXiv:2406.12209, section 2).

    Of "Interface Design for Self-Supervised Speech Models"; follows the authors' released code: 1-D
    convolutions over the layers, kernel 5, stride 3, padding kernel // 2, ReLU after each one including
    the last, floor(log_stride L) of them; the last one narrows to D // L_n channels, and the L_n
    positions left are flattened channel-major (feature index = channel * L_n + position). So 25 layers
    of 1024 give 1023 features. One layer passes.

    Of several upstreams (`--upstream a+b`) the layers are added first, after "Unifying Model and Layer
    Fusion" (arXiv:2511.08389): numbers of layers and frame rates are aligned by linear interpolation, to
    the most layers and the finest rate (that choice is ours). `chconv` concatenates them instead.
    """

    name = "hconv"
    usage_kind = "norm of the first convolution's taps on the layer, as a share"

    def __init__(
        self, spec: UpstreamSpec, kernel: int = 5, stride: int = 3, normalize: bool = False
    ) -> None:
        """Raises UsageError for a stride below 2 or a kernel smaller than the stride."""
        super().__init__(spec, normalize)
        self.align_layers()
        self.kernel, self.stride = kernel, stride
        self.sources = fused_positions(spec)
        layers, dim = len(self.sources), self.output_dim
        self.channels, self.positions = plan(layers, dim, kernel, stride)
        self.convs = make_convs(self.channels, self.positions, kernel, stride)
        self.output_dim = self.channels[-1] * self.positions[-1]

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Features [B, T, C_n * L_n]."""
        if not self.convs:  # the only layer, or the sum of several upstreams' only ones
            return weighted_sum(states, torch.ones(len(states), dtype=torch.float64), lengths)
        convs = [conv for conv in self.convs if isinstance(conv, LayerConv)]
        return layer_convs(states, lengths, convs, self.sources)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """Sum over the convolutions of kernel * C_in * C_out + C_out."""
        kernel, stride = options.get("kernel", 5), options.get("stride", 3)
        layers = max(spec.parts, default=spec.num_layers)
        channels, _ = plan(layers, spec.dims[-1], kernel, stride)
        return sum(kernel * i * o + o for i, o in pairwise(channels))

    def layer_usage(self) -> list[float]:
        """Norm of the first convolution's taps that meet each layer, as shares."""
        return shares_of_layers(self.convs, self.sources, self.spec.num_layers)


def make_convs(
    channels: list[int], positions: list[int], kernel: int, stride: int
) -> nn.ModuleList:
    """The convolutions of a plan, with padding kernel // 2 and ReLU."""
    shapes = zip(pairwise(channels), pairwise(positions), strict=True)
    return nn.ModuleList(LayerConv(c, p, kernel, stride, kernel // 2) for c, p in shapes)


def plan(layers: int, dim: int, kernel: int, stride: int) -> tuple[list[int], list[int]]:
    """Channels and number of layer positions, before each convolution and after the last."""
    if stride < 2 or kernel < stride:
        raise UsageError(
            f"--interface hconv:kernel={kernel},stride={stride}: stride must be at least 2 and "
            "kernel at least stride, else layers are skipped"
        )
    positions, left = [layers], layers
    while left >= stride:  # floor(log_stride(layers)) times, in whole numbers
        left //= stride
        positions.append((positions[-1] + 2 * (kernel // 2) - kernel) // stride + 1)
    if layers > 1 and len(positions) == 1:  # fewer layers than the stride: one convolution
        positions.append((layers + 2 * (kernel // 2) - kernel) // stride + 1)
    channels = [dim] * (len(positions) - 1) + [dim // positions[-1]]
    return (channels, positions) if len(positions) > 1 else ([dim], positions)


def fused_positions(spec: UpstreamSpec, columns: list[int] | None = None) -> list[list[Source]]:
    """What each position of the layer axis is made of, for one upstream or several.

    Every upstream is stretched to the most layers any of them has; `columns` says from which channel
    on each one's layers are written (all from 0: they are added).
    """
    parts = spec.parts or (spec.num_layers,)
    columns = columns or [0] * len(parts)
    fused: list[list[Source]] = [[] for _ in range(max(parts))]
    first = 0
    for layers, column in zip(parts, columns, strict=True):
        for position, near in zip(fused, layer_positions(layers, max(parts)), strict=True):
            position += [Source(first + layer, share, column) for layer, share in near]
        first += layers
    return fused


def shares_of_layers(
    convs: nn.ModuleList,
    sources: list[list[Source]],
    layers: int,
    norms: Mapping[int, float] | None = None,
) -> list[float]:
    """Shares of the first convolution's positions, handed to the layers they are made of.

    `norms` weighs what is written from each channel on (all alike by default).
    """
    first = next(iter(convs), None)
    shares = first.input_shares().tolist() if isinstance(first, LayerConv) else [1.0]
    usage = [0.0] * layers
    for share, made_of in zip(shares, sources, strict=True):
        parts = [source.scale * (norms[source.column] if norms else 1.0) for source in made_of]
        for source, part in zip(made_of, parts, strict=True):
            usage[source.state] += share * part / sum(parts)
    return usage
