"""lap against its formulas, head by head, with the dropout masks that were drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ssft_bench.interface import Interface
from ssft_bench.interfaces.lap import LAP
from tests.mixing.padded import (
    Parameters,
    Reference,
    against,
    blocks_of,
    built,
    check,
    one_thread,
    padded,
    precisions,
    runs,
    shapes,
)
from tests.states import distance, gradients, require_grad, spec

HEADS = 3


def linear_norm(p: Parameters, name: str, x: Tensor) -> Tensor:
    """Layer norm with the parameters of that name, written out."""
    centred = x - x.mean(-1, keepdim=True)
    unit = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return unit * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p: Parameters, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def gated(p: Parameters, states: list[Tensor], mask: Tensor | None = None) -> Tensor:
    """[n, L, D]: each layer projected, times its gate in each head; `mask` is [n, L, heads]."""
    x = linear(p, "project_in", linear_norm(p, "norm_in", torch.stack(states, 1)))
    parts = []
    for head, own in enumerate(x.chunk(HEADS, -1)):

        def scores(statistic: Tensor, head: int = head) -> Tensor:
            low = (statistic @ p["squeeze"][head] + p["squeeze_bias"][head]).relu()
            return low @ p["excite"][head] + p["excite_bias"][head]

        gate = (scores(own.mean(-1)) + scores(own.max(-1)[0])).sigmoid()
        gate = gate if mask is None else gate * mask[..., head]
        parts.append(own * gate.unsqueeze(-1))
    return torch.cat(parts, -1)


def plain(p: Parameters, states: list[Tensor], mask: Tensor | None = None) -> Tensor:
    pooled = gated(p, states, mask).max(1)[0]
    return linear_norm(p, "norm_out", linear(p, "project_out", pooled))


@shapes
@runs
@precisions
def test_equals_the_formulas(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    errors = check(LAP, plain, (layers, dim), seed, dtype, block, heads=HEADS, output=10)
    assert max(errors.values()) < tolerance


def test_the_comparison_would_notice() -> None:
    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, states[::-1])

    def missing(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, [*states[:-1], 0 * states[-1]])

    def sum_over_layers(p: Parameters, states: list[Tensor]) -> Tensor:
        return linear_norm(p, "norm_out", linear(p, "project_out", gated(p, states).sum(1)))

    def heads_interleaved(p: Parameters, states: list[Tensor]) -> Tensor:
        order = torch.arange(12).view(4, 3).T.flatten()
        return plain(p | {n: p[n][order] for n in ("project_in.weight", "project_in.bias")}, states)

    def one_head_for_all(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p | {"excite_bias": p["excite_bias"][:1].expand(HEADS, -1)}, states)

    for wrong in (layers_reversed, missing, sum_over_layers, heads_interleaved, one_head_for_all):
        errors = check(LAP, wrong, (7, 12), 1, heads=HEADS, output=10)
        assert errors["features"] > 0.01, wrong.__name__


def record(interface: Interface) -> list[Tensor]:
    """Masks [n, L, heads] as they are drawn: in the forward pass, then in the backward pass."""
    masks: list[Tensor] = []

    def note(module: nn.Dropout, inputs: tuple[Tensor], output: Tensor) -> None:
        assert inputs[0].min() > 0
        masks.append((output.detach() != 0).double() / (1 - module.p))

    interface.dropout.register_forward_hook(note)
    return masks


def with_masks(masks: list[Tensor], shift: int = 0) -> Reference:
    place = 0

    def reference(p: Parameters, states: list[Tensor]) -> Tensor:
        nonlocal place
        half = len(masks) // 2
        forward, backward = torch.cat(masks[:half]), torch.cat(masks[half:])
        assert torch.equal(forward, backward)
        own = forward.roll(shift, 0)[place : place + len(states[0])]
        place += len(states[0])
        return plain(p, states, own)

    return reference


@shapes
@runs
def test_training_with_dropout(layers: int, dim: int, seed: int, block: int) -> None:
    """The mask of the recomputed pass is the forward pass's; gradients follow from it."""
    hidden = padded(spec(layers, dim), seed)
    options = {"heads": HEADS, "output": 10, "dropout": 0.4}
    interface = built(LAP, spec(layers, dim), torch.float64, **options).train()
    masks = record(interface)
    assert max(against(interface, with_masks(masks), hidden, block).values()) < 1e-10
    assert 0.2 < float((torch.cat(masks) == 0).double().mean()) < 0.6


def test_other_masks_would_be_noticed() -> None:
    hidden = padded(spec(7, 12), 1)
    options = {"heads": HEADS, "output": 10, "dropout": 0.4}
    interface = built(LAP, spec(7, 12), torch.float64, **options).train()
    masks = record(interface)
    assert against(interface, with_masks(masks, shift=1), hidden)["features"] > 0.05
    assert against(interface, plain, hidden)["features"] > 0.05


@one_thread()
def test_equals_plain_autograd_of_the_same_seed() -> None:
    """All frames in one block, differentiated without recomputation."""
    hidden = require_grad(padded(spec(7, 12), 2))
    interface = built(LAP, spec(7, 12), torch.float64, dropout=0.4).train()
    torch.manual_seed(7)
    features, _ = interface(hidden)
    real = hidden.valid()
    direction = torch.randn_like(features)
    features.backward(direction)
    leaves = [s.detach()[real].requires_grad_() for s in hidden.states]
    torch.manual_seed(7)
    torch.manual_seed(int(torch.randint(2**62, ())))
    alone = interface.combine(leaves)
    assert distance(features[real], alone) < 1e-12
    wanted = torch.autograd.grad(alone, leaves, direction[real])
    for grad, other in zip(gradients(hidden), wanted, strict=True):
        assert distance(grad[real], other) < 1e-12


@one_thread()
def test_dropout_is_of_training_only_and_new_in_each_step() -> None:
    hidden = padded(spec(7, 12), 3)
    interface = built(LAP, spec(7, 12), torch.float64, dropout=0.4)
    with blocks_of(5):
        assert torch.equal(interface(hidden)[0], interface(hidden)[0])
        interface.train()
        assert distance(interface(hidden)[0], interface(hidden)[0]) > 0.01


def test_evaluation_draws_no_random_numbers() -> None:
    """Else training would go on differently after an evaluation."""
    hidden = padded(spec(7, 12), 4)
    interface = built(LAP, spec(7, 12), torch.float64)
    before = torch.get_rng_state()
    interface(hidden)
    assert torch.equal(torch.get_rng_state(), before)


def test_gates_are_the_share_of_dimensions_a_layer_wins() -> None:
    hidden = padded(spec(7, 12), 5)
    interface = built(LAP, spec(7, 12), torch.float64, heads=HEADS)
    p = {name: parameter.detach() for name, parameter in interface.named_parameters()}
    real = [s[1, :9] for s in hidden.states]
    wanted = torch.zeros(9, 7, dtype=torch.float64)
    for frame, winners in enumerate(gated(p, real).argmax(1).tolist()):
        for layer in winners:
            wanted[frame, layer] += 1 / 12
    assert distance(interface.gates(real), wanted) < 1e-12


@pytest.mark.parametrize("options", [{"heads": 0}, {"output": 0}, {"dropout": 1.0}])
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        LAP(spec(7, 12), **options)
