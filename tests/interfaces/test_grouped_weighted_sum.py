"""grouped_weighted_sum against softmax, cat and linear in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssft_bench.interfaces.grouped_weighted_sum import GroupedWeightedSum
from ssft_bench.interfaces.weighted_sum import WeightedSum
from tests.mixing.padded import (
    Parameters,
    Reference,
    built,
    check,
    padded,
    precisions,
    runs,
)
from tests.mixing.references import mixed
from tests.states import distance, spec

GROUPS = [
    (7, 1, [range(7)]),
    (2, 2, [range(1), range(1, 2)]),
    (13, 2, [range(7), range(7, 13)]),
    (13, 3, [range(5), range(5, 9), range(9, 13)]),
    (13, 4, [range(4), range(4, 7), range(7, 10), range(10, 13)]),
    (25, 4, [range(7), range(7, 13), range(13, 19), range(19, 25)]),
]
"""Layers, groups, and the borders: near equal, larger groups first."""


def grouped(borders: Sequence[range], flip: bool = False) -> Reference:
    def plain(p: Parameters, states: list[Tensor]) -> Tensor:
        sums = [
            mixed([states[layer] for layer in group], p["weights"][list(group)].softmax(0))
            for group in borders
        ]
        matrix = torch.cat(list(p["projection.weight"]), 0).T  # Linear's [out, groups * in]
        return functional.linear(
            torch.cat(sums[::-1] if flip else sums, -1), matrix, p["projection.bias"]
        )

    return plain


@pytest.mark.parametrize(("layers", "groups", "borders"), GROUPS)
@runs
@precisions
def test_equals_plain_pytorch(
    layers: int, groups: int, borders: list[range],
    dtype: torch.dtype, tolerance: float, seed: int, block: int,
) -> None:  # fmt: skip
    plain = grouped(borders)
    errors = check(GroupedWeightedSum, plain, (layers, 12), seed, dtype, block, groups=groups)
    assert max(errors.values()) < tolerance


def test_the_comparison_would_notice() -> None:
    right = [range(7), range(7, 13)]
    smaller_first = [range(6), range(6, 13)]
    interleaved = [range(0, 13, 2), range(1, 13, 2)]
    for wrong in (grouped(smaller_first), grouped(interleaved), grouped(right, flip=True)):
        assert check(GroupedWeightedSum, wrong, (13, 12), 1)["features"] > 0.02


def test_one_group_and_the_identity_give_weighted_sum() -> None:
    hidden = padded(spec(7, 12), 2)
    one = built(GroupedWeightedSum, spec(7, 12), torch.float64, groups=1)
    other = built(WeightedSum, spec(7, 12), torch.float64)
    with torch.no_grad():
        other.weights.copy_(one.weights)
        one.projection.weight.copy_(torch.eye(12))
        one.projection.bias.zero_()
    assert distance(one(hidden)[0], other(hidden)[0]) < 1e-12
    assert one.layer_usage() == pytest.approx(other.layer_usage())
    with torch.no_grad():
        one.projection.bias[3] = 0.1
    assert distance(one(hidden)[0], other(hidden)[0]) > 0.09


def test_usage_of_the_groups() -> None:
    interface = built(GroupedWeightedSum, spec(5, 4), torch.float64)
    with torch.no_grad():
        interface.projection.weight[0] *= 3 / interface.projection.weight[0].norm()
        interface.projection.weight[1] *= 1 / interface.projection.weight[1].norm()
    first, second = (own.softmax(0) for own in interface.weights.detach().split([3, 2]))
    usage = torch.tensor(interface.layer_usage(), dtype=torch.float64)
    assert distance(usage, torch.cat([first * 0.75, second * 0.25])) < 1e-12
    details = interface.usage_details()
    assert details["group 1"] == pytest.approx([0, 0, 0, *second.tolist()])


@pytest.mark.parametrize("groups", [0, -1, 8])
def test_a_number_of_groups_that_cannot_be(groups: int) -> None:
    with pytest.raises(ValueError, match=rf"groups={groups}: random has 7 layers"):
        GroupedWeightedSum(spec(7, 12), groups=groups)
