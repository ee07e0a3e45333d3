"""The kernel of convolutions over the layer axis against torch.nn.functional.conv1d."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.mixing import LayerConv, Source, layer_convs
from tests.mixing.padded import block_sizes, blocks_of, padded, precisions, relative, runs
from tests.states import spec

NAN = float("nan")


class Chain(nn.Module):
    """Convolutions that start on `positions[0]` positions; random weights that keep values near 1."""

    def __init__(
        self, channels: Sequence[int], positions: Sequence[int], kernel: int, stride: int,
        padding: int = 0, relu: bool = True, sources: Sequence[Sequence[Source]] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        shapes = zip(pairwise(channels), pairwise(positions), strict=True)
        self.convs = nn.ModuleList(
            LayerConv(c, p, kernel, stride, padding, relu) for c, p in shapes
        )
        self.stride, self.padding, self.relu, self.sources = stride, padding, relu, sources

    def forward(self, lengths: Tensor, *states: Tensor) -> Tensor:
        return layer_convs(states, lengths, list(self.convs), self.sources)

    def plain(self, lengths: Tensor, *states: Tensor, flip: bool = False) -> Tensor:
        """[B, T, C * P] in fp64, from the stack of the layers, with conv1d."""
        real = torch.arange(states[0].shape[1]) < lengths.unsqueeze(1)
        frames = [s[real].double() for s in states]
        planes = torch.stack(frames, -1) if self.sources is None else self._fused(frames)
        for conv in self.convs:
            weight = conv.weight.double().permute(2, 1, 0)
            weight = weight.flip(-1) if flip else weight
            planes = torch.conv1d(planes, weight, conv.bias.double(), self.stride, self.padding)
            planes = planes.relu() if self.relu else planes
        out = planes.new_zeros(*states[0].shape[:2], planes.shape[1:].numel())
        return out.index_put((real,), planes.flatten(1))

    def _fused(self, frames: list[Tensor]) -> Tensor:
        first = self.convs[0].channels[0]
        planes = [torch.zeros(len(frames[0]), first, dtype=torch.float64) for _ in self.sources]
        for place, sources in enumerate(self.sources):
            for source in sources:
                state = frames[source.state] * source.scale
                after = first - source.column - state.shape[1]
                planes[place] = planes[place] + nn.functional.pad(state, (source.column, after))
        return torch.stack(planes, -1)


def hconv_like() -> Chain:
    return Chain((6, 6, 3), (13, 5, 2), 5, 3, 2)


def projection_like() -> Chain:
    return Chain((6, 5), (4, 1), 4, 1, relu=False)


def sources_like() -> Chain:
    """Five positions of 6 + 2 channels: states that come twice, shares of them, and sums."""
    sources = [
        [Source(0), Source(3, 1.0, 6)],
        [Source(0, 0.25), Source(1, 0.75), Source(2), Source(4, 0.5, 6)],
        [Source(3, 1.0, 6), Source(1), Source(3, 1.0, 6)],
        [Source(2, -1.5), Source(3, 0.5, 6), Source(4, 0.5, 6)],
        [Source(4, 1.0, 6), Source(2), Source(0, 2.0)],
    ]
    return Chain((8, 4, 3), (5, 3, 2), 3, 2, 1, sources=sources)


CHAINS = {"hconv": hconv_like, "projection": projection_like, "sources": sources_like}
chains = pytest.mark.parametrize("name", CHAINS)


def inputs(
    name: str, seed: int, dtype: torch.dtype = torch.float64, garbage: float = NAN
) -> tuple[Chain, list[Tensor], Tensor]:
    """A chain, states that take gradients, and lengths."""
    if name == "sources":
        like = UpstreamSpec("random", (6, 6, 6, 2, 2), (320,) * 5)
    else:
        like = spec({"hconv": 13, "projection": 4}[name], 6)
    hidden = padded(like, seed, dtype, garbage=garbage)
    chain = CHAINS[name]().to(dtype)
    return chain, [s.requires_grad_() for s in hidden.states], hidden.lengths


def without_padding(direction: Tensor, lengths: Tensor) -> Tensor:
    padding = torch.arange(direction.shape[1]) >= lengths.unsqueeze(1)
    return direction.masked_fill(padding.unsqueeze(-1), 0.0)


@chains
@runs
@precisions
def test_equals_plain_autograd(
    name: str, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    """NaN in the padding of states and of the incoming gradient reaches nothing."""
    chain, states, lengths = inputs(name, seed, dtype)
    leaves = [*chain.parameters(), *states]
    with blocks_of(block):
        got = chain(lengths, *states)
        direction = torch.randn_like(got)
        padding = torch.arange(got.shape[1]) >= lengths.unsqueeze(1)
        direction[padding] = NAN
        found = torch.autograd.grad(got, leaves, direction)
    wanted = chain.plain(lengths, *states)
    right = torch.autograd.grad(wanted, leaves, without_padding(direction, lengths).double())
    assert got.dtype == dtype
    assert relative(got, wanted) < tolerance
    for one, other in zip(found, right, strict=True):
        assert relative(one, other) < tolerance
    assert not got[padding].any()
    assert not any(grad[padding].any() for grad in found[-len(states) :])


@chains
def test_the_comparison_would_notice(name: str) -> None:
    chain, states, lengths = inputs(name, 1)
    got = chain(lengths, *states)
    if name != "sources":  # there the widths differ
        assert relative(got, chain.plain(lengths, *states[::-1])) > 0.05
    assert relative(got, chain.plain(lengths, *states[:-1], states[-1] * 0)) > 0.05
    assert relative(got, chain.plain(lengths, *states, flip=True)) > 0.05
    assert relative(got, chain.plain(lengths - 1, *states)) > 0.05
    positions = chain.convs[-1].positions[1]
    if positions > 1:
        other = got.unflatten(-1, (-1, positions)).transpose(-1, -2).flatten(-2)
        assert relative(other, chain.plain(lengths, *states)) > 0.05


@chains
def test_gradcheck(name: str) -> None:
    chain, states, lengths = inputs(name, 2, garbage=1.0)
    names = [n for n, _ in chain.named_parameters()]

    def call(*tensors: Tensor) -> Tensor:
        own = dict(zip(names, tensors, strict=False))
        return torch.func.functional_call(chain, own, (lengths, *tensors[len(names) :]))

    few = [s[:, :5].detach().requires_grad_() for s in states]
    lengths = lengths.clamp_max(5)
    with blocks_of(3):
        parameters = [p.detach().requires_grad_() for p in chain.parameters()]
        assert torch.autograd.gradcheck(call, (*parameters, *few), fast_mode=True)


@chains
@pytest.mark.parametrize("needed", [(), (1,), (0, 3)])
@pytest.mark.parametrize("trained", ["all", "none", "biases", "first weight"])
def test_only_what_needs_a_gradient_gets_one(
    name: str, needed: tuple[int, ...], trained: str
) -> None:
    chain, states, lengths = inputs(name, 3)
    states = [s.detach().requires_grad_(place in needed) for place, s in enumerate(states)]
    for title, parameter in chain.named_parameters():
        chosen = {"biases": title.endswith("bias"), "first weight": title == "convs.0.weight"}
        parameter.requires_grad_(chosen.get(trained, trained == "all"))
    leaves = [x for x in (*chain.parameters(), *states) if x.requires_grad]
    got = chain(lengths, *states)
    assert got.requires_grad == bool(leaves)
    if not leaves:
        return
    direction = torch.randn_like(got)
    right = torch.autograd.grad(
        chain.plain(lengths, *states), leaves, without_padding(direction, lengths)
    )
    got.backward(direction)
    for leaf, other in zip(leaves, right, strict=True):
        assert leaf.grad is not None
        assert relative(leaf.grad, other) < 1e-12
    assert all(x.grad is None for x in (*chain.parameters(), *states) if not x.requires_grad)


def test_a_second_derivative_is_refused() -> None:
    chain, states, lengths = inputs("hconv", 4)
    loss = chain(lengths, *states).square().sum()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, states[0], create_graph=True)


@pytest.mark.parametrize(("layers", "positions"), [(13, (13, 5, 2)), (25, (25, 9, 3))])
@pytest.mark.parametrize("dim", [768, 1024])
def test_what_a_frozen_upstream_costs(layers: int, positions: tuple[int, ...], dim: int) -> None:
    """At most half of the hidden states' bytes, the output included; states are referred to."""
    chain = Chain((dim, dim, dim // positions[-1]), positions, 5, 3, 2)
    states = padded(spec(layers, dim), 5, torch.float32, [(4, 4)], NAN).states
    states = [s[:, :4] for s in states]
    given = {x.untyped_storage().data_ptr() for x in (*chain.parameters(), *states)}
    new: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            new[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = chain(torch.tensor([4, 4]), *states)
    new[out.untyped_storage().data_ptr()] = out.untyped_storage().nbytes()
    assert 0.3 < sum(new.values()) / sum(s.nbytes for s in states) < 0.5


@chains
@block_sizes
def test_bf16_is_within_one_percent(name: str, block: int) -> None:
    """With parameters in fp32. Gradients without ReLU: near 0, bf16 may take its other side."""
    chain, states, lengths = inputs(name, 6, torch.bfloat16)
    chain = chain.float()
    got = chain(lengths, *states)
    assert got.dtype == torch.bfloat16
    assert relative(got, chain.plain(lengths, *states)) < 0.01
    for part in (chain, *chain.convs):
        part.relu = False
    with blocks_of(block):
        got = chain(lengths, *states)
        direction = torch.randn_like(got)
        found = torch.autograd.grad(got, [*chain.parameters(), *states], direction)
    wanted = chain.plain(lengths, *states)
    right = torch.autograd.grad(
        wanted, [*chain.parameters(), *states], without_padding(direction, lengths).double()
    )
    assert relative(got, wanted) < 0.01
    for one, other in zip(found, right, strict=True):
        assert one.dtype == other.dtype
        assert relative(one, other) < 0.02  # products are rounded in each block of frames


def test_gradients_lie_in_memory_as_the_states_do() -> None:
    chain, states, lengths = inputs("hconv", 7)
    states[1] = states[1].detach().contiguous().requires_grad_()
    grads = torch.autograd.grad(chain(lengths, *states).sum(), states)
    assert [g.stride() for g in grads] == [s.stride() for s in states]
    assert grads[0].stride() != grads[1].stride()


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [0, 3, 0]])
def test_utterances_of_no_frames(lengths: list[int]) -> None:
    batch, frames = len(lengths), max(lengths, default=0) + 1
    chain = projection_like()
    states = [torch.full((batch, frames, 6), NAN).requires_grad_() for _ in range(4)]
    for state in states:
        for row, length in enumerate(lengths):
            state.data[row, :length] = torch.randn(length, 6)
    counts = torch.tensor(lengths, dtype=torch.int64)
    got = chain(counts, *states)
    leaves = [*chain.parameters(), *states]
    found = torch.autograd.grad(got, leaves, torch.ones_like(got))
    wanted = chain.plain(counts, *states)
    right = torch.autograd.grad(wanted.sum(), leaves)
    assert relative(got, wanted) < 1e-5
    for one, other in zip(found, right, strict=True):
        assert relative(one, other) < 1e-5


def test_starts_as_a_conv1d_does() -> None:
    torch.manual_seed(8)
    conv = LayerConv((6, 4), (13, 5), 5, 3, 2)
    torch.manual_seed(8)
    like = nn.Conv1d(6, 4, 5, 3, 2)
    assert torch.equal(conv.weight.permute(2, 1, 0), like.weight)
    assert torch.equal(conv.bias, like.bias)
