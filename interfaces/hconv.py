"""Hierarchical convolution over the layer axis."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface


class HConv(Interface):
    """HConv of "Interface Design for Self-Supervised Speech Models" (arXiv:2406.12209, section 2).

    Follows the authors' released code: 1-D convolutions over the layers, kernel 5, stride 3, padding
    kernel // 2, ReLU after each one including the last, floor(log_stride L) of them; the last one
    narrows to D // L_n channels, and the L_n positions left are flattened channel-major (feature
    index = channel * L_n + position). So 25 layers of 1024 give 1023 features. One layer passes.
    """

    name = "hconv"

    def __init__(self, spec: UpstreamSpec, kernel: int = 5, stride: int = 3) -> None:
        """Raises UsageError for a stride below 2 or a kernel smaller than the stride."""
        super().__init__(spec)
        self.require_equal_layers()
        self.kernel, self.stride = kernel, stride
        self.channels, self.positions = _plan(spec.num_layers, spec.dims[-1], kernel, stride)
        pairs = pairwise(self.channels)
        self.convs = nn.ModuleList(nn.Conv1d(i, o, kernel, stride, kernel // 2) for i, o in pairs)
        self.output_dim = self.channels[-1] * self.positions[-1]

    def combine(self, states: list[Tensor]) -> Tensor:
        """Features [B, T, C_n * L_n]; taps that fall on padded layers are never computed."""
        for conv in self._convs():
            # Conv1d keeps [out, in, kernel]: one copy here, instead of one at each product below.
            taps = conv.weight.permute(2, 0, 1).contiguous().unbind()
            pad, count, bias = self.kernel // 2, len(states), conv.bias
            assert bias is not None
            states = [
                torch.relu(_window(states, taps, start, count) + bias)
                for start in range(-pad, count + 2 * pad - self.kernel - pad + 1, self.stride)
            ]
        return torch.stack(states, dim=-1).flatten(-2) if len(states) > 1 else states[0]

    def _convs(self) -> list[nn.Conv1d]:
        return [conv for conv in self.convs if isinstance(conv, nn.Conv1d)]

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """Sum over the convolutions of kernel * C_in * C_out + C_out."""
        kernel, stride = options.get("kernel", 5), options.get("stride", 3)
        channels, _ = _plan(spec.num_layers, spec.dims[-1], kernel, stride)
        return sum(kernel * i * o + o for i, o in pairwise(channels))

    def layer_usage(self) -> list[float] | None:
        """Norm of the first convolution's taps that meet each layer, as shares."""
        if not self.convs:
            return [1.0]
        norms = self._convs()[0].weight.detach().pow(2).sum((0, 1)).cpu()
        usage = torch.zeros(self.spec.num_layers)
        for position in range(self.positions[1]):
            for tap in range(self.kernel):
                layer = position * self.stride - self.kernel // 2 + tap
                if 0 <= layer < self.spec.num_layers:
                    usage[layer] += norms[tap]
        return (usage.sqrt() / usage.sqrt().sum()).tolist()


def _window(states: list[Tensor], taps: tuple[Tensor, ...], start: int, count: int) -> Tensor:
    """Sum over the taps on real layers of states[start + k] @ taps[k].T."""
    products = [
        nn.functional.linear(states[start + k], tap)
        for k, tap in enumerate(taps)
        if 0 <= start + k < count
    ]
    return reduce(torch.add, products)


def _plan(layers: int, dim: int, kernel: int, stride: int) -> tuple[list[int], list[int]]:
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
