"""mean against torch.mean over the stack."""

from __future__ import annotations

import torch
from torch import Tensor

from ssft_bench.interfaces.mean import Mean
from tests.mixing.padded import Parameters, check, precisions, runs, shapes


def plain(_: Parameters, states: list[Tensor]) -> Tensor:
    return torch.stack(states).mean(0)


@shapes
@runs
@precisions
def test_equals_the_mean(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    errors = check(Mean, plain, (layers, dim), seed, dtype, block)
    assert len(errors) == layers + 1
    assert max(errors.values()) < tolerance


def test_the_comparison_would_notice() -> None:
    def missing(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, states[:-1]) + 0 * states[-1]

    errors = check(Mean, missing, (7, 12), 1)
    assert errors["features"] > 0.1
    assert errors["state 6"] > 0.1
