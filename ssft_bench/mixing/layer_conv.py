"""Convolutions over the layer axis of a list of hidden states, as matrix products of few frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ssft_bench.mixing.frames import (
    Block,
    block_frames,
    blocks,
    first_derivative_only,
    product_type,
    sum_type,
)

CPU_FRAMES = 512
"""Frames per matrix product: enough to fill it, few enough to stay out of main memory."""


class Source(NamedTuple):
    """What is added to one input position: `scale` times a state, from channel `column` on."""

    state: int
    scale: float = 1.0
    column: int = 0


class _Window(NamedTuple):
    """Input positions `first` to `last` (excluded) of an output position, and the tap of the first."""

    first: int
    last: int
    tap: int


class LayerConv(nn.Module):
    """Parameters and shape of one convolution over the layers: kernel, stride, padding of zeros.

    `weight` is [kernel, C_in, C_out], so that a window of layers is one product without a copy. It
    equals `torch.nn.Conv1d`'s [C_out, C_in, kernel] permuted by (2, 1, 0), and starts as it does.
    """

    def __init__(
        self,
        channels: tuple[int, int],
        positions: tuple[int, int],
        kernel: int,
        stride: int,
        padding: int = 0,
        relu: bool = True,
    ) -> None:
        """`channels` and `positions` are (in, out)."""
        super().__init__()
        self.channels, self.positions, self.relu = channels, positions, relu
        like = nn.Conv1d(*channels, kernel)
        self.weight = nn.Parameter(like.weight.detach().permute(2, 1, 0).contiguous())
        assert like.bias is not None
        self.bias = nn.Parameter(like.bias.detach().clone())
        self.windows: list[_Window] = []
        for start in range(-padding, positions[1] * stride - padding, stride):
            first, last = max(0, start), min(positions[0], start + kernel)
            self.windows.append(_Window(first, last, first - start))

    def input_shares(self) -> Tensor:
        """Norm of the taps that meet each input position, over all windows, as shares [positions]."""
        with torch.no_grad():
            by_tap = self.weight.double().pow(2).sum((1, 2))
            by_position = by_tap.new_zeros(self.positions[0])
            for first, last, tap in self.windows:
                by_position[first:last] += by_tap[tap : tap + last - first]
        norms = by_position.sqrt()
        return norms / norms.sum()

    def weights_of(self, window: _Window, weight: Tensor) -> Tensor:
        """Rows [taps * C_in, C_out] of `weight` [kernel * C_in, C_out] that meet real layers."""
        low, width = window.tap * self.channels[0], (window.last - window.first) * self.channels[0]
        return weight[low : low + width]

    def inputs_of(self, window: _Window, x: Tensor) -> Tensor:
        """Columns [n, taps * C_in] of x [n, positions, C_in]: a view."""
        width = self.channels[0]
        return x.flatten(1)[:, window.first * width : window.last * width]

    def apply_to(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x [n, positions_in, C_in] to [n, positions_out, C_out]."""
        y = x.new_empty(x.shape[0], self.positions[1], self.channels[1])
        for place, window in enumerate(self.windows):
            rows = self.weights_of(window, weight)
            torch.addmm(bias, self.inputs_of(window, x), rows, out=y[:, place])
        return y.relu_() if self.relu else y

    def back(self, grad: Tensor, x: Tensor, weight: Tensor, sums: Tensor, need_x: bool) -> Tensor:
        """Add the weight's gradient to `sums` and return x's (empty when not needed)."""
        by_x = torch.zeros_like(x) if need_x else x.new_empty(0)
        for place, window in enumerate(self.windows):
            g, inputs = grad[:, place], self.inputs_of(window, x)
            target = self.weights_of(window, sums)
            if target.dtype == g.dtype:
                target.addmm_(inputs.t(), g)
            else:
                target.add_(inputs.t() @ g)
            if need_x:
                self.inputs_of(window, by_x).addmm_(g, self.weights_of(window, weight).t())
        return by_x


@dataclass(frozen=True)
class _Plan:
    convs: tuple[LayerConv, ...]
    sources: tuple[tuple[Source, ...], ...]
    """What each input position of the first convolution is made of."""


def layer_convs(
    states: Sequence[Tensor],
    lengths: Tensor,
    convs: Sequence[LayerConv],
    sources: Sequence[Sequence[Source]] | None = None,
) -> Tensor:
    """A chain of convolutions over the layers of `states`, each [B, T, D_l]: [B, T, C * P].

    P positions of C channels are left after the last; feature index = channel * P + position.
    `sources` says what each input position is made of; by default position l is state l. Products
    with padding, of layers or of time, are never computed; frames at and after `lengths` [B] come
    out zero. Kept for the backward pass: references, and each convolution's own output.
    """
    if sources is None:
        sources = [[Source(place)] for place in range(len(states))]
    plan = _Plan(tuple(convs), tuple(map(tuple, sources)))
    _check_filled(plan, states)
    parameters = [p for conv in convs for p in (conv.weight, conv.bias)]
    out: Tensor = _LayerConvs.apply(plan, lengths, *parameters, *states)
    return out


def _check_filled(plan: _Plan, states: Sequence[Tensor]) -> None:
    """Raise ValueError unless every channel of every input position is made of some state."""
    positions, width = plan.convs[0].positions[0], plan.convs[0].channels[0]
    if len(plan.sources) != positions:
        raise ValueError(f"layer_convs: {len(plan.sources)} sources for {positions} positions")
    for place, sources in enumerate(plan.sources):
        filled = {s.column: states[s.state].shape[-1] for s in sources}
        if sum(filled.values()) != width:
            raise ValueError(f"layer_convs: position {place} has {filled}, not {width} channels")


class _LayerConvs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, lengths: Tensor, *tensors: Tensor) -> Tensor:
        work = _Work(plan, tensors)
        ctx.plan, ctx.lengths = plan, lengths.tolist()
        first, last = work.states[0], plan.convs[-1]
        out = first.new_zeros(*first.shape[:2], last.channels[1] * last.positions[1])
        frames = sum(ctx.lengths)
        kept = [first.new_empty(frames, c.positions[1], c.channels[1]) for c in plan.convs[:-1]]
        for block in work.blocks(ctx.lengths):
            x = work.gather(block)
            for place, conv in enumerate(plan.convs):
                x = conv.apply_to(x, work.weights[place], work.biases[place])
                if conv is not last:
                    kept[place][block.rows].copy_(x)
            block.scatter(x.transpose(1, 2).flatten(1), out)
        ctx.save_for_backward(out, *kept, *tensors)
        return out

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        out, *saved = ctx.saved_tensors
        count = len(plan.convs)
        kept, tensors = saved[: count - 1], saved[count - 1 :]
        work = _Work(plan, tensors)
        needs = ctx.needs_input_grad[2 + 2 * count :]
        by_state = [
            torch.zeros_like(s) if n else None for s, n in zip(work.states, needs, strict=True)
        ]
        sums = [torch.zeros_like(w, dtype=sum_type(w.dtype)) for w in work.weights]
        by_bias = [torch.zeros_like(b, dtype=sum_type(b.dtype)) for b in work.biases]
        for block in work.blocks(ctx.lengths):
            outputs = [work.convert(k[block.rows]) for k in kept]
            outputs.append(work.last_output(block, out))
            inputs = [work.gather(block), *outputs[:-1]]
            g = work.last_output(block, grad)
            for place in reversed(range(count)):
                conv = plan.convs[place]
                if conv.relu:
                    g = torch.ops.aten.threshold_backward(g, outputs[place], 0)
                by_bias[place] += g.sum((0, 1), dtype=by_bias[place].dtype)
                need = place > 0 or any(needs)
                g = conv.back(g, inputs[place], work.weights[place], sums[place], need)
            if any(needs):
                work.spread(block, g, by_state)
        found = [value for pair in zip(sums, by_bias, strict=True) for value in pair]
        wanted = ctx.needs_input_grad[2 : 2 + 2 * count]
        parameters = [
            value.view_as(parameter).to(parameter.dtype) if needed else None
            for value, parameter, needed in zip(found, tensors, wanted, strict=False)
        ]
        return None, None, *parameters, *by_state


class _Work:
    """What forward and backward share: operands in the type of the products, blocks, layout."""

    def __init__(self, plan: _Plan, tensors: Sequence[Tensor]) -> None:
        count = 2 * len(plan.convs)
        self.plan, self.states = plan, tensors[count:]
        first = self.states[0]
        self.kind, self.device = product_type(first.dtype, first.device), first.device
        self.weights = [self.convert(w).flatten(0, 1) for w in tensors[0:count:2]]
        self.biases = [self.convert(b) for b in tensors[1:count:2]]

    def convert(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.kind)

    def blocks(self, lengths: Sequence[int]) -> list[Block]:
        return list(blocks(lengths, block_frames(self.device, CPU_FRAMES)))

    def gather(self, block: Block) -> Tensor:
        """Input of the first convolution [n, positions, C_in] in the products' type."""
        shape = (block.size, len(self.plan.sources), self.plan.convs[0].channels[0])
        x = torch.empty(shape, dtype=self.kind, device=self.device)
        for place, sources in enumerate(self.plan.sources):
            filled: set[int] = set()
            for source in sources:
                state = self.states[source.state]
                target = x[:, place, source.column : source.column + state.shape[-1]]
                if source.scale == 1.0 and source.column not in filled:
                    block.gather(state, target)
                else:
                    own = block.gather(state, torch.empty_like(target)).mul_(source.scale)
                    target.copy_(target + own if source.column in filled else own)
                filled.add(source.column)
        return x

    def spread(self, block: Block, g: Tensor, by_state: Sequence[Tensor | None]) -> None:
        """Give each state its share of the gradient of the first convolution's input."""
        sums: dict[int, Tensor] = {}
        for place, sources in enumerate(self.plan.sources):
            for source in sources:
                if by_state[source.state] is None:
                    continue
                width = self.states[source.state].shape[-1]
                own = g[:, place, source.column : source.column + width]
                own = own if source.scale == 1.0 else own * source.scale
                old = sums.get(source.state)
                sums[source.state] = own if old is None else old + own
        for state, value in sums.items():
            target = by_state[state]
            assert target is not None
            block.scatter(value, target)

    def last_output(self, block: Block, tensor: Tensor) -> Tensor:
        """Features [B, T, C * P] of a block as [n, P, C]."""
        last = self.plan.convs[-1]
        x = torch.empty(block.size, tensor.shape[-1], dtype=self.kind, device=self.device)
        block.gather(tensor, x)
        return x.view(block.size, last.channels[1], last.positions[1]).transpose(1, 2).contiguous()
