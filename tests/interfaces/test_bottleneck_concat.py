"""bottleneck_concat against two linear layers with a concatenation between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssft_bench.interfaces.bottleneck_concat import BottleneckConcat
from tests.mixing.padded import Parameters, built, check, precisions, runs, shapes
from tests.states import spec


def plain(p: Parameters, states: list[Tensor]) -> Tensor:
    narrow = [
        functional.linear(state, p[f"down.{layer}.weight"], p[f"down.{layer}.bias"])
        for layer, state in enumerate(states)
    ]
    return functional.linear(torch.cat(narrow, -1), p["up.weight"], p["up.bias"])


@shapes
@runs
@precisions
def test_equals_plain_pytorch(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    errors = check(BottleneckConcat, plain, (layers, dim), seed, dtype, block, rank=5)
    assert max(errors.values()) < tolerance


def test_the_comparison_would_notice() -> None:
    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, states[::-1])

    def missing(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, [*states[:-1], 0 * states[-1]])

    def interleaved(p: Parameters, states: list[Tensor]) -> Tensor:
        columns = p["up.weight"].unflatten(1, (-1, 5)).transpose(1, 2).flatten(1)
        return plain(p | {"up.weight": columns}, states)

    for wrong in (layers_reversed, missing, interleaved):
        assert check(BottleneckConcat, wrong, (7, 12), 1, rank=5)["features"] > 0.1


def test_the_map_of_a_layer_is_of_low_rank_and_its_norm_is_the_usage() -> None:
    interface = built(BottleneckConcat, spec(3, 8), torch.float64, rank=2)
    frame = torch.zeros(1, 8, dtype=torch.float64)
    maps = [
        torch.autograd.functional.jacobian(
            lambda x, layer=layer: interface.combine(
                [x if n == layer else frame for n in range(3)]
            )[0],
            frame,
        )[:, 0]
        for layer in range(3)
    ]
    assert [int(torch.linalg.matrix_rank(m)) for m in maps] == [2, 2, 2]
    norms = torch.stack([m.norm() for m in maps])
    assert interface.layer_usage() == pytest.approx((norms / norms.sum()).tolist())


def test_a_rank_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="rank=0: must be at least 1"):
        BottleneckConcat(spec(3, 8), rank=0)
