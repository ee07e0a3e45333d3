"""cls_pool against row 0 of torch.nn.TransformerEncoderLayer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssft_bench.interfaces.cls_pool import CLSPool
from tests.mixing.padded import (
    Parameters,
    built,
    check,
    padded,
    precisions,
    runs,
)
from tests.states import distance, spec

HEADS = [(2, 6, 6), (7, 12, 6), (13, 24, 8), (3, 7, 7), (5, 11, 1)]
"""Layers, width, and the largest number of heads up to 8 that divides it."""


def tokens(p: Parameters, states: list[Tensor]) -> Tensor:
    """[n, L + 1, D], CLS first."""
    cls = p["cls"].expand_as(states[0])
    return torch.stack([cls, *states], 1) + p["positions"]


def transformer(p: Parameters, x: Tensor, heads: int, **options: Any) -> Tensor:
    chosen = {"activation": "gelu", "norm_first": True, **options}
    layer = nn.TransformerEncoderLayer(
        x.shape[-1], heads, 4 * x.shape[-1], dropout=0.0, batch_first=True, **chosen
    )
    own = {k.removeprefix("transformer."): v for k, v in p.items() if k.startswith("transformer.")}
    out: Tensor = torch.func.functional_call(layer.double(), own, (x,))
    return out


@pytest.mark.parametrize(("layers", "dim", "heads"), HEADS)
@runs
@precisions
def test_equals_row_0(
    layers: int, dim: int, heads: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    def plain(p: Parameters, states: list[Tensor]) -> Tensor:
        return transformer(p, tokens(p, states), heads)[:, 0]

    errors = check(CLSPool, plain, (layers, dim), seed, dtype, block)
    assert max(errors.values()) < tolerance


def test_fewer_heads() -> None:
    def plain(p: Parameters, states: list[Tensor]) -> Tensor:
        return transformer(p, tokens(p, states), 3)[:, 0]

    assert max(check(CLSPool, plain, (7, 12), 1, heads=3).values()) < 1e-10
    assert max(check(CLSPool, plain, (7, 12), 1, heads=5).values()) > 0.01  # takes 4
    with pytest.raises(ValueError, match="heads=0: must be at least 1"):
        CLSPool(spec(7, 12), heads=0)


def test_the_comparison_would_notice() -> None:
    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return transformer(p, tokens(p, states[::-1]), 6)[:, 0]

    def without_cls_as_a_key(p: Parameters, states: list[Tensor]) -> Tensor:
        mask = torch.zeros(8, 8).index_fill(1, torch.tensor([0]), -torch.inf).double()
        return transformer(p, tokens(p, states), 6, mask=mask)[:, 0]

    def post_norm(p: Parameters, states: list[Tensor]) -> Tensor:
        return transformer(p, tokens(p, states), 6, norm_first=False)[:, 0]

    def relu(p: Parameters, states: list[Tensor]) -> Tensor:
        return transformer(p, tokens(p, states), 6, activation="relu")[:, 0]

    def last_row(p: Parameters, states: list[Tensor]) -> Tensor:
        return transformer(p, tokens(p, states), 6)[:, -1]

    def without_positions(p: Parameters, states: list[Tensor]) -> Tensor:
        zero = {"positions": 0 * p["positions"]}
        return transformer(p, tokens(p | zero, states), 6)[:, 0]

    for wrong in (layers_reversed, post_norm, relu, last_row, without_positions):
        assert check(CLSPool, wrong, (7, 12), 1)["features"] > 1e-3, wrong.__name__


def attention(p: Parameters, states: list[Tensor]) -> Tensor:
    """Attention of CLS to every token, mean over heads [n, L + 1], by nn.MultiheadAttention."""
    module = nn.MultiheadAttention(12, 6, batch_first=True).double()
    prefix = "transformer.self_attn."
    own = {k.removeprefix(prefix): v for k, v in p.items() if k.startswith(prefix)}
    weight, bias = p["transformer.norm1.weight"], p["transformer.norm1.bias"]
    x = nn.functional.layer_norm(tokens(p, states), (12,), weight, bias)
    _, shares = torch.func.functional_call(module, own, (x, x, x))
    return shares[:, 0]


def test_gates_are_the_attention_of_cls() -> None:
    hidden = padded(spec(7, 12), 2)
    interface = built(CLSPool, spec(7, 12), torch.float64)
    p = {name: parameter.detach() for name, parameter in interface.named_parameters()}
    real = [s[1, :9] for s in hidden.states]
    shares = attention(p, real)
    wanted = shares[:, 1:] / shares[:, 1:].sum(1, keepdim=True)
    assert distance(interface.gates(real), wanted) < 1e-12
    assert distance(interface.gates(real), shares[:, :-1]) > 1e-3


def test_train_and_evaluation_are_alike() -> None:
    hidden = padded(spec(7, 12), 3)
    interface = built(CLSPool, spec(7, 12), torch.float64)
    assert torch.equal(interface.train()(hidden)[0], interface.eval()(hidden)[0])
