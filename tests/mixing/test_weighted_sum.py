"""The kernel of the weighted sum against plain autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssft_bench.mixing import weighted_sum
from tests.mixing.padded import block_sizes, blocks_of, padded, precisions, relative, runs
from tests.states import spec

kinds = pytest.mark.parametrize("per_dimension", [False, True], ids=["[L]", "[L, D]"])
NAN = float("nan")


def inputs(
    layers: int, dim: int, seed: int, dtype: torch.dtype, per_dimension: bool, garbage: float = NAN
) -> tuple[list[Tensor], Tensor, Tensor]:
    """States with garbage padding and weights, which all take gradients, and lengths."""
    hidden = padded(spec(layers, dim), seed, dtype, garbage=garbage)
    weights = torch.randn(layers, dim if per_dimension else 1, dtype=dtype)
    weights = weights if per_dimension else weights.squeeze(1)
    return [s.requires_grad_() for s in hidden.states], weights.requires_grad_(), hidden.lengths


def plain(states: list[Tensor], weights: Tensor, lengths: Tensor) -> Tensor:
    """Stack, multiply, sum, in fp64; padding is made zero first."""
    frames = torch.arange(states[0].shape[1])
    padding = (frames >= lengths.unsqueeze(1)).unsqueeze(-1)
    stacked = torch.stack([s.double().masked_fill(padding, 0.0) for s in states])
    return (stacked * weights.double().view(len(states), 1, 1, -1)).sum(0)


@kinds
@runs
@precisions
@pytest.mark.parametrize(("layers", "dim"), [(1, 3), (2, 7), (13, 16)])
def test_equals_plain_autograd(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float,
    seed: int, block: int, per_dimension: bool,
) -> None:  # fmt: skip
    """NaN in the padding of states and of the incoming gradient reaches nothing."""
    states, weights, lengths = inputs(layers, dim, seed, dtype, per_dimension)
    direction = torch.randn_like(states[0])
    padding = torch.arange(direction.shape[1]) >= lengths.unsqueeze(1)
    direction[padding] = NAN
    with blocks_of(block):
        got = weighted_sum(states, weights, lengths)
        found = torch.autograd.grad(got, [weights, *states], direction)
    wanted = plain(states, weights, lengths)
    assert got.dtype == dtype
    assert relative(got, wanted) < tolerance
    real = direction.nan_to_num(0.0).double()
    for one, other in zip(
        found, torch.autograd.grad(wanted, [weights, *states], real), strict=True
    ):
        assert relative(one, other) < tolerance
    assert not got[padding].any()
    assert not any(grad[padding].any() for grad in found[1:])


@kinds
def test_the_comparison_would_notice(per_dimension: bool) -> None:
    states, weights, lengths = inputs(5, 6, 1, torch.float64, per_dimension)
    got = weighted_sum(states, weights, lengths)
    assert relative(got, plain(states[::-1], weights, lengths)) > 0.1
    assert relative(got, plain(states[:-1], weights[:-1], lengths)) > 0.05
    assert relative(got, plain(states, weights, lengths - 1)) > 0.05
    if per_dimension:
        assert relative(got, plain(states, weights.flip(1), lengths)) > 0.1


@kinds
def test_gradcheck(per_dimension: bool) -> None:
    states, weights, lengths = inputs(3, 2, 2, torch.float64, per_dimension, garbage=1.0)
    with blocks_of(3):
        assert torch.autograd.gradcheck(
            lambda w, *s: weighted_sum(s, w, lengths), (weights, *states)
        )


@kinds
@pytest.mark.parametrize("needed", [(), (1,), (0, 3)])
@pytest.mark.parametrize("train_weights", [True, False])
def test_only_what_needs_a_gradient_gets_one(
    needed: tuple[int, ...], train_weights: bool, per_dimension: bool
) -> None:
    states, weights, lengths = inputs(4, 5, 3, torch.float64, per_dimension)
    states = [s.detach().requires_grad_(layer in needed) for layer, s in enumerate(states)]
    weights = weights.detach().requires_grad_(train_weights)
    got = weighted_sum(states, weights, lengths)
    assert got.requires_grad == (train_weights or bool(needed))
    if not got.requires_grad:
        return
    leaves = [x for x in (weights, *states) if x.requires_grad]
    direction = torch.randn_like(got)
    wanted = torch.autograd.grad(plain(states, weights, lengths), leaves, direction)
    got.backward(direction)
    for leaf, other in zip(leaves, wanted, strict=True):
        assert leaf.grad is not None
        assert relative(leaf.grad, other) < 1e-12
    assert all(s.grad is None for s in states if not s.requires_grad)


def test_a_second_derivative_is_refused() -> None:
    states, weights, lengths = inputs(3, 4, 4, torch.float64, False)
    loss = weighted_sum(states, weights, lengths).square().sum()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, weights, create_graph=True)


@kinds
@pytest.mark.parametrize("frozen", [True, False])
def test_keeps_references_only(per_dimension: bool, frozen: bool) -> None:
    states, weights, lengths = inputs(9, 16, 5, torch.bfloat16, per_dimension)
    states = [s.detach().requires_grad_(not frozen) for s in states]
    given = {x.untyped_storage().data_ptr() for x in (weights, *states)}
    extra: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in given:
            extra.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        assert weighted_sum(states, weights, lengths).requires_grad
    assert sum(x.numel() * x.element_size() for x in extra) == 0


@kinds
@block_sizes
def test_bf16_is_rounded_once(per_dimension: bool, block: int) -> None:
    states, weights, lengths = inputs(25, 40, 6, torch.bfloat16, per_dimension)
    weights = weights.detach().float().requires_grad_()
    with blocks_of(block):
        got = weighted_sum(states, weights, lengths)
        direction = torch.randn_like(got)
        by_weights, *by_states = torch.autograd.grad(got, [weights, *states], direction)
    exact = plain(states, weights, lengths)
    wanted = torch.autograd.grad(exact, [weights, *states], direction.double())
    half_ulp, tiny = 2.0**-8, 1e-5
    assert got.dtype == torch.bfloat16
    assert ((got - exact).abs() <= half_ulp * exact.abs() + tiny).all()
    assert by_weights.dtype == torch.float32
    assert relative(by_weights, wanted[0]) < 1e-5
    for one, other in zip(by_states, wanted[1:], strict=True):  # other is rounded, too
        assert one.dtype == torch.bfloat16
        assert torch.equal(one, other)
    total = torch.zeros_like(got)  # the control: rounded 25 times
    for state, weight in zip(states, weights.to(torch.bfloat16), strict=True):
        total = total + state.nan_to_num(0.0) * weight
    assert ((total - exact).abs() > half_ulp * exact.abs() + tiny).any()


def test_gradients_lie_in_memory_as_the_states_do() -> None:
    states, weights, lengths = inputs(3, 4, 7, torch.float64, False)
    states[1] = states[1].detach().contiguous().requires_grad_()
    got = weighted_sum(states, weights, lengths)
    assert got.stride() == states[0].stride()
    grads = torch.autograd.grad(got.sum(), states)
    assert [g.stride() for g in grads] == [s.stride() for s in states]
    assert grads[0].stride() != grads[1].stride()


@kinds
@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [0, 3, 0]])
def test_utterances_of_no_frames(lengths: list[int], per_dimension: bool) -> None:
    batch, frames = len(lengths), max(lengths, default=0) + 1
    states = [torch.full((batch, frames, 4), NAN).requires_grad_() for _ in range(3)]
    for state in states:
        for row, length in enumerate(lengths):
            state.data[row, :length] = 1.0
    weights = torch.ones(3, 4 if per_dimension else 1).squeeze(1).requires_grad_()
    got = weighted_sum(states, weights, torch.tensor(lengths, dtype=torch.int64))
    assert float(got.detach().sum()) == 3 * 4 * sum(lengths)
    by_weights, *by_states = torch.autograd.grad(got.sum(), [weights, *states])
    assert float(by_weights.sum()) == 3 * 4 * sum(lengths)
    assert all(float(g.sum()) == 4 * sum(lengths) for g in by_states)


def test_another_number_of_weights() -> None:
    states, _, lengths = inputs(3, 4, 8, torch.float64, False)
    with pytest.raises(ValueError, match="2 weights for 3 states"):
        weighted_sum(states, torch.ones(2), lengths)
