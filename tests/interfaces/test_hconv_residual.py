"""hconv_residual against conv1d plus a weighted sum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssft_bench.interfaces.hconv import HConv
from ssft_bench.interfaces.hconv_residual import HConvResidual
from tests.mixing.padded import (
    Parameters,
    built,
    check,
    padded,
    precisions,
    runs,
)
from tests.mixing.references import convolved, mixed
from tests.states import distance, spec

SHAPES = [(2, 6), (7, 12), (13, 24), (25, 10)]
"""The last is narrower than its layers: 3 positions of 3 channels."""


def plain(p: Parameters, states: list[Tensor]) -> Tensor:
    features = convolved(p, torch.stack(states, -1))
    total = mixed(states, p["weights"].softmax(0))
    return features + p["scale"] * total[:, : features.shape[1]]


@pytest.mark.parametrize(("layers", "dim"), SHAPES)
@runs
@precisions
def test_equals_plain_pytorch(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    errors = check(HConvResidual, plain, (layers, dim), seed, dtype, block)
    assert {"weights", "scale", "convs.0.weight"} < set(errors)
    assert max(errors.values()) < tolerance


def test_the_comparison_would_notice() -> None:
    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, states[::-1])

    def without_sum(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p | {"scale": 0 * p["scale"]}, states)

    def last_dimensions(p: Parameters, states: list[Tensor]) -> Tensor:
        features = convolved(p, torch.stack(states, -1))
        return features + p["scale"] * mixed(states, p["weights"].softmax(0))[:, -9:]

    for wrong in (layers_reversed, without_sum, last_dimensions):
        assert check(HConvResidual, wrong, (25, 10), 1)["features"] > 0.02


@pytest.mark.parametrize(("layers", "dim"), SHAPES)
def test_starts_as_hconv(layers: int, dim: int) -> None:
    hidden = padded(spec(layers, dim), 2, torch.float32)
    torch.manual_seed(3)
    one = HConvResidual(spec(layers, dim))
    torch.manual_seed(3)
    other = HConv(spec(layers, dim))
    assert torch.equal(one(hidden)[0], other(hidden)[0])
    one.scale.data.fill_(0.1)
    assert distance(one(hidden)[0], other(hidden)[0]) > 1e-3


def test_usage_details() -> None:
    interface = built(HConvResidual, spec(5, 6), torch.float64)
    details = interface.usage_details()
    shares = interface.weights.softmax(0)
    assert details["weighted sum"] == pytest.approx(shares.tolist())
    scaled = details["weighted sum, times its scale"]
    assert scaled == pytest.approx((shares * interface.scale).tolist())
    assert interface.layer_usage() == pytest.approx(HConv.layer_usage(interface))
