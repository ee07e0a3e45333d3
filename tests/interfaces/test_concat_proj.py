"""concat_proj against Linear(cat)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssft_bench.interfaces.concat_proj import ConcatProj
from tests.mixing.padded import Parameters, built, check, precisions, runs, shapes
from tests.states import spec


def plain(p: Parameters, states: list[Tensor]) -> Tensor:
    matrix = torch.cat(list(p["projection.weight"]), 0).T  # Linear's [out, layers * in]
    return functional.linear(torch.cat(states, -1), matrix, p["projection.bias"])


@shapes
@runs
@precisions
def test_equals_linear_of_cat(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    errors = check(ConcatProj, plain, (layers, dim), seed, dtype, block)
    assert max(errors.values()) < tolerance


def test_the_comparison_would_notice() -> None:
    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, states[::-1])

    def missing(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, [*states[:-1], 0 * states[-1]])

    def transposed(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p | {"projection.weight": p["projection.weight"].mT}, states)

    def interleaved(p: Parameters, states: list[Tensor]) -> Tensor:
        matrix = torch.cat(list(p["projection.weight"]), 0).T
        return functional.linear(torch.stack(states, -1).flatten(1), matrix, p["projection.bias"])

    for wrong in (layers_reversed, missing, transposed, interleaved):
        assert check(ConcatProj, wrong, (7, 12), 1)["features"] > 0.02


def test_starts_as_linear_does() -> None:
    """torch.nn.Linear(L * D, D): uniform within 1 / sqrt(L * D)."""
    torch.manual_seed(1)
    interface = ConcatProj(spec(13, 96))
    bound = (13 * 96) ** -0.5
    for parameter in interface.parameters():
        assert 0.9 * bound < float(parameter.detach().abs().max()) <= bound
        assert float(parameter.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.15)


def test_usage_is_the_norm_of_a_layers_projection() -> None:
    interface = built(ConcatProj, spec(5, 6), torch.float64)
    norms = torch.stack([w.norm() for w in interface.projection.weight.detach()])
    assert interface.layer_usage() == pytest.approx((norms / norms.sum()).tolist())
