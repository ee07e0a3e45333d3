"""channel_weighted_sum against the stack times a softmax for each dimension."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssft_bench.interfaces.channel_weighted_sum import ChannelWeightedSum
from ssft_bench.interfaces.weighted_sum import WeightedSum
from tests.mixing.padded import (
    Parameters,
    built,
    check,
    padded,
    precisions,
    runs,
    shapes,
)
from tests.mixing.references import mixed
from tests.states import distance, spec


def plain(p: Parameters, states: list[Tensor]) -> Tensor:
    return mixed(states, p["weights"].exp() / p["weights"].exp().sum(0))


@shapes
@runs
@precisions
def test_equals_plain_pytorch(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    errors = check(ChannelWeightedSum, plain, (layers, dim), seed, dtype, block)
    assert max(errors.values()) < tolerance


def test_the_comparison_would_notice() -> None:
    def other_softmax(p: Parameters, states: list[Tensor]) -> Tensor:
        return mixed(states, p["weights"].softmax(1))

    def dimensions_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain({"weights": p["weights"].flip(1)}, states)

    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, states[::-1])

    for wrong in (other_softmax, dimensions_reversed, layers_reversed):
        assert check(ChannelWeightedSum, wrong, (7, 12), 1)["features"] > 0.05


def test_equal_channels_give_weighted_sum() -> None:
    hidden = padded(spec(7, 12), 2)
    one, other = (
        built(cls, spec(7, 12), torch.float64) for cls in (ChannelWeightedSum, WeightedSum)
    )
    assert distance(one(hidden)[0], other(hidden)[0]) > 0.01
    with torch.no_grad():
        one.weights.copy_(other.weights.unsqueeze(1).expand(7, 12))
    assert distance(one(hidden)[0], other(hidden)[0]) < 1e-12
    assert one.layer_usage() == pytest.approx(other.layer_usage())


def test_starts_as_the_mean() -> None:
    hidden = padded(spec(7, 12), 3, garbage=0.0)
    features, _ = ChannelWeightedSum(spec(7, 12))(hidden)
    assert distance(features, hidden.stack().mean(0)) < 1e-7
