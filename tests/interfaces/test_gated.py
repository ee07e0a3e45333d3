"""gated against a softmax over the layers of each frame."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssft_bench.interfaces.gated import Gated
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
from tests.states import distance, spec


def normed(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def gates(p: Parameters, states: list[Tensor]) -> Tensor:
    """[n, L], frame by frame and layer by layer."""
    rows = [
        torch.stack([
            normed(state[frame]).dot(p["directions"][layer]) + p["biases"][layer]
            for layer, state in enumerate(states)
        ])
        for frame in range(len(states[0]))
    ]  # fmt: skip
    scores = torch.stack(rows)
    return scores.exp() / scores.exp().sum(1, keepdim=True)


def plain(p: Parameters, states: list[Tensor]) -> Tensor:
    return (torch.stack(states, 1) * gates(p, states).unsqueeze(-1)).sum(1)


@shapes
@runs
@precisions
def test_equals_plain_pytorch(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    errors = check(Gated, plain, (layers, dim), seed, dtype, block)
    assert max(errors.values()) < tolerance


def test_normalize_also_norms_what_is_summed() -> None:
    def both(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, [normed(state) for state in states])

    assert max(check(Gated, both, (7, 12), 1, normalize=True).values()) < 1e-10
    assert check(Gated, plain, (7, 12), 1, normalize=True)["features"] > 0.1


def test_the_comparison_would_notice() -> None:
    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p, states[::-1])

    def not_normed(p: Parameters, states: list[Tensor]) -> Tensor:
        scores = torch.einsum("lnd,ld->nl", torch.stack(states), p["directions"]) + p["biases"]
        return (torch.stack(states, 1) * scores.softmax(1).unsqueeze(-1)).sum(1)

    def without_biases(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain(p | {"biases": 0 * p["biases"]}, states)

    def one_gate_for_all_frames(p: Parameters, states: list[Tensor]) -> Tensor:
        return torch.einsum("lnd,l->nd", torch.stack(states), gates(p, states).mean(0))

    for wrong in (layers_reversed, not_normed, without_biases, one_gate_for_all_frames):
        assert check(Gated, wrong, (7, 12), 1)["features"] > 0.01


def test_without_directions_it_is_weighted_sum() -> None:
    hidden = padded(spec(7, 12), 2)
    one, other = (built(cls, spec(7, 12), torch.float64) for cls in (Gated, WeightedSum))
    with torch.no_grad():
        other.weights.copy_(one.biases)
    assert distance(one(hidden)[0], other(hidden)[0]) > 0.01
    with torch.no_grad():
        one.directions.zero_()
    assert distance(one(hidden)[0], other(hidden)[0]) < 1e-12


def test_starts_as_the_mean() -> None:
    hidden = padded(spec(7, 12), 3, garbage=0.0)
    features, _ = Gated(spec(7, 12)).double()(hidden)
    assert distance(features, hidden.stack().mean(0)) < 1e-12


def test_sums_of_gates_are_over_real_frames() -> None:
    hidden = padded(spec(5, 6), 4)
    interface = built(Gated, spec(5, 6), torch.float64)
    sums, frames = interface.gate_sums(hidden)
    wanted = torch.zeros(5, dtype=torch.float64)
    parameters = {name: p.detach() for name, p in interface.named_parameters()}
    for row, length in enumerate(hidden.lengths.tolist()):
        wanted += gates(parameters, [s[row, :length] for s in hidden.states]).sum(0)
    assert frames == int(hidden.lengths.sum()) == pytest.approx(float(sums.sum()))
    assert distance(sums, wanted) < 1e-12
