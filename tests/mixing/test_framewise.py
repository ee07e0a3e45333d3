"""Functions of one frame in blocks, computed again in the backward pass, against plain autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.mixing import framewise
from tests.mixing.padded import block_sizes, blocks_of, padded, precisions, relative, runs

NAN = float("nan")
LIKE = UpstreamSpec("random", (4, 6, 4), (320,) * 3)
WIDTH = 5


def inputs(
    seed: int, dtype: torch.dtype = torch.float64, garbage: float = NAN
) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """States of two widths that take gradients, lengths, and parameters."""
    hidden = padded(LIKE, seed, dtype, garbage=garbage)
    kind = torch.promote_types(dtype, torch.float32)
    parameters = [torch.randn(14, WIDTH, dtype=kind), torch.randn(WIDTH, dtype=kind)]
    states = [s.requires_grad_() for s in hidden.states]
    return states, hidden.lengths, [p.requires_grad_() for p in parameters]


class Mixer:
    """tanh of a product over all layers; remembers what it was given and its dropout's masks."""

    def __init__(self, parameters: list[Tensor], dropout: float = 0.0) -> None:
        self.parameters, self.dropout = parameters, nn.Dropout(dropout)
        self.calls: list[list[Tensor]] = []
        self.masks: list[Tensor] = []

    def __call__(self, states: list[Tensor]) -> Tensor:
        self.calls.append([s.detach().clone() for s in states])
        weight, bias = self.parameters
        y = (torch.cat(states, -1) @ weight + bias).tanh() * states[1][:, :1]
        self.masks.append(self.dropout(torch.ones_like(y)))
        return y * self.masks[-1]

    def run(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        draws = self.dropout.p > 0
        return framewise(self, states, lengths, WIDTH, self.parameters, draws=draws)


def plain(
    states: list[Tensor], lengths: Tensor, parameters: list[Tensor], mask: Tensor | None = None
) -> Tensor:
    """Utterance by utterance in fp64; `mask` [frames, width] is for all real frames."""
    weight, bias = (p.double() for p in parameters)
    out = torch.zeros(*states[0].shape[:2], WIDTH, dtype=torch.float64)
    for row, length in enumerate(lengths.tolist()):
        own = [s[row, :length].double() for s in states]
        z = own[0] @ weight[:4] + own[1] @ weight[4:10] + own[2] @ weight[10:] + bias
        out[row, :length] = z.tanh() * own[1][:, 0].unsqueeze(1)
    if mask is None:
        return out
    real = torch.arange(out.shape[1]) < lengths.unsqueeze(1)
    return out * torch.zeros_like(out).index_put((real,), mask.double())


@runs
@precisions
def test_equals_plain_autograd(dtype: torch.dtype, tolerance: float, seed: int, block: int) -> None:
    """NaN in the padding of states and of the incoming gradient reaches nothing."""
    states, lengths, parameters = inputs(seed, dtype)
    leaves = [*parameters, *states]
    padding = torch.arange(states[0].shape[1]) >= lengths.unsqueeze(1)
    with blocks_of(block):
        got = Mixer(parameters).run(states, lengths)
        direction = torch.randn_like(got)
        direction[padding] = NAN
        found = torch.autograd.grad(got, leaves, direction)
    wanted = plain(states, lengths, parameters)
    right = torch.autograd.grad(wanted, leaves, direction.nan_to_num(0.0).double())
    assert got.dtype == dtype
    assert relative(got, wanted) < tolerance
    for one, other in zip(found, right, strict=True):
        assert relative(one, other) < tolerance
    assert not got[padding].any()
    assert not any(grad[padding].any() for grad in found[2:])


def test_the_comparison_would_notice() -> None:
    states, lengths, parameters = inputs(1)
    got = Mixer(parameters).run(states, lengths)
    assert relative(got, plain([states[2], states[1], states[0]], lengths, parameters)) > 0.1
    assert relative(got, plain([*states[:2], states[2] * 0], lengths, parameters)) > 0.05
    assert relative(got, plain(states, lengths - 1, parameters)) > 0.05


@block_sizes
def test_sees_real_frames_once_in_each_pass(block: int) -> None:
    states, lengths, parameters = inputs(2)
    mixer = Mixer(parameters)
    with blocks_of(block):
        out = mixer.run(states, lengths)
        count = len(mixer.calls)
        out.sum().backward()
    real = torch.arange(out.shape[1]) < lengths.unsqueeze(1)
    for calls in (mixer.calls[:count], mixer.calls[count:]):
        assert len(calls) == -(-int(lengths.sum()) // block)
        for layer, state in enumerate(states):
            assert torch.equal(torch.cat([call[layer] for call in calls]), state[real])


def test_gradcheck() -> None:
    states, lengths, parameters = inputs(3, garbage=1.0)

    def call(weight: Tensor, bias: Tensor, *states: Tensor) -> Tensor:
        return Mixer([weight, bias]).run(list(states), lengths)

    with blocks_of(3):
        assert torch.autograd.gradcheck(call, (*parameters, *states), fast_mode=True)


@pytest.mark.parametrize("needed", [(), (1,), (0, 2)])
@pytest.mark.parametrize("trained", [(), (1,), (0, 1)])
def test_only_what_needs_a_gradient_gets_one(
    needed: tuple[int, ...], trained: tuple[int, ...]
) -> None:
    states, lengths, parameters = inputs(4)
    states = [s.detach().requires_grad_(place in needed) for place, s in enumerate(states)]
    parameters = [p.detach().requires_grad_(place in trained) for place, p in enumerate(parameters)]
    leaves = [x for x in (*parameters, *states) if x.requires_grad]
    with blocks_of(3):
        got = Mixer(parameters).run(states, lengths)
        assert got.requires_grad == bool(leaves)
        if not leaves:
            return
        direction = torch.randn_like(got)
        got.backward(direction)
    right = torch.autograd.grad(plain(states, lengths, parameters), leaves, direction)
    for leaf, other in zip(leaves, right, strict=True):
        assert leaf.grad is not None
        assert relative(leaf.grad, other) < 1e-12
    assert all(x.grad is None for x in (*parameters, *states) if not x.requires_grad)


def test_a_layer_or_parameter_that_plays_no_part() -> None:
    states, lengths, parameters = inputs(5)
    out = framewise(lambda x: x[0] @ parameters[0][:4], states, lengths, WIDTH, parameters)
    found = torch.autograd.grad(out.sum(), [*states, *parameters])
    assert [bool(g.any()) for g in found] == [True, False, False, True, False]


def test_a_second_derivative_is_refused() -> None:
    states, lengths, parameters = inputs(6)
    loss = Mixer(parameters).run(states, lengths).square().sum()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(loss, parameters[0], create_graph=True)


def test_keeps_references_only() -> None:
    states, lengths, parameters = inputs(7, torch.bfloat16)
    given = {x.untyped_storage().data_ptr() for x in (*parameters, *states)}
    extra: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in given:
            extra.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        assert Mixer(parameters).run(states, lengths).requires_grad
    assert sum(x.nbytes for x in extra) == 0


@block_sizes
def test_bf16_is_computed_in_fp32_and_rounded_once(block: int) -> None:
    states, lengths, parameters = inputs(8, torch.bfloat16)
    mixer = Mixer(parameters)
    with blocks_of(block):
        got = mixer.run(states, lengths)
        direction = torch.randn_like(got)
        found = torch.autograd.grad(got, [*parameters, *states], direction)
    exact = plain(states, lengths, parameters)
    right = torch.autograd.grad(exact, [*parameters, *states], direction.double())
    assert {x.dtype for call in mixer.calls for x in call} == {torch.float32}
    assert got.dtype == torch.bfloat16
    assert ((got - exact).abs() <= 2.0**-8 * exact.abs() + 1e-5).all()
    for one, other in zip(found, right, strict=True):
        assert one.dtype == other.dtype
        assert relative(one, other) < (1e-5 if one.dtype == torch.float32 else 2.0**-8)


def test_gradients_lie_in_memory_as_the_states_do() -> None:
    states, lengths, parameters = inputs(9)
    states[1] = states[1].detach().contiguous().requires_grad_()
    grads = torch.autograd.grad(Mixer(parameters).run(states, lengths).sum(), states)
    assert [g.stride() for g in grads] == [s.stride() for s in states]


@runs
def test_dropout_is_the_same_in_both_passes(seed: int, block: int) -> None:
    states, lengths, parameters = inputs(seed)
    mixer = Mixer(parameters, dropout=0.4)
    with blocks_of(block):
        got = mixer.run(states, lengths)
        before = torch.get_rng_state()
        direction = torch.randn_like(got)
        torch.set_rng_state(before)
        found = torch.autograd.grad(got, [*parameters, *states], direction)
    assert torch.equal(torch.get_rng_state(), before)  # the model's own draws are not disturbed
    half = len(mixer.masks) // 2
    mask = torch.cat(mixer.masks[:half])
    assert torch.equal(mask, torch.cat(mixer.masks[half:]))
    assert 0.2 < float((mask == 0).double().mean()) < 0.6
    wanted = plain(states, lengths, parameters, mask)
    right = torch.autograd.grad(wanted, [*parameters, *states], direction)
    assert relative(got, wanted) < 1e-12
    for one, other in zip(found, right, strict=True):
        assert relative(one, other) < 1e-12
    wrong = plain(states, lengths, parameters, mask.roll(1, 0))
    assert relative(got, wrong) > 0.1


def test_dropout_differs_between_blocks_and_runs_and_follows_the_seed() -> None:
    states, lengths, parameters = inputs(10)
    mixer = Mixer(parameters, dropout=0.4)
    with blocks_of(5):
        torch.manual_seed(1)
        first, second = mixer.run(states, lengths), mixer.run(states, lengths)
        torch.manual_seed(1)
        again = mixer.run(states, lengths)
    assert not torch.equal(mixer.masks[0], mixer.masks[1])
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [0, 3, 0]])
def test_utterances_of_no_frames(lengths: list[int]) -> None:
    counts = torch.tensor(lengths, dtype=torch.int64)
    shape = (len(lengths), max(lengths, default=0) + 1)
    states = [torch.randn(*shape, dim).requires_grad_() for dim in LIKE.dims]
    for state in states:
        state.data[torch.arange(shape[1]) >= counts.unsqueeze(1)] = NAN
    _, _, parameters = inputs(11, torch.float32)
    got = Mixer(parameters).run(states, counts)
    found = torch.autograd.grad(got, [*parameters, *states], torch.ones_like(got))
    wanted = plain(states, counts, parameters)
    assert relative(got, wanted) < 1e-5
    total = wanted.sum() + 0 * parameters[0].sum()  # an empty batch has no graph
    right = torch.autograd.grad(total, [*parameters, *states], allow_unused=True)
    for one, other in zip(found, right, strict=True):
        assert relative(one, torch.zeros_like(one) if other is None else other) < 1e-5
