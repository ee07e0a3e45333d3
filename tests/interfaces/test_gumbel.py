"""gumbel against a straight-through softmax with the same noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interfaces.gumbel import Gumbel
from tests.mixing.padded import (
    DRAWS,
    Parameters,
    Reference,
    against,
    built,
    padded,
    precisions,
    runs,
    seeds,
    shapes,
)
from tests.mixing.references import mixed
from tests.states import distance, spec


def one_hot(scores: Tensor) -> Tensor:
    chosen = torch.zeros_like(scores)
    for dim, layer in enumerate(scores.argmax(0).tolist()):
        chosen[layer, dim] = 1
    return chosen


def projected(p: Parameters, features: Tensor) -> Tensor:
    if "projection.weight" not in p:
        return features
    return functional.linear(features, p["projection.weight"], p["projection.bias"])


def chosen(p: Parameters, states: list[Tensor]) -> Tensor:
    """In evaluation: no noise, no gradient to the weights."""
    return projected(p, mixed(states, one_hot(p["weights"].detach())))


def drawn(dtype: torch.dtype, temperature: float = 1.0) -> Reference:
    """In training: hard forward, soft backward. torch draws other numbers for other types."""

    def plain(p: Parameters, states: list[Tensor]) -> Tensor:
        torch.manual_seed(DRAWS)
        noise = -torch.empty_like(p["weights"], dtype=dtype).exponential_().log()
        soft = ((p["weights"] + noise.double()) / temperature).softmax(0)
        return projected(p, mixed(states, one_hot(soft) + soft - soft.detach()))

    return plain


@shapes
@runs
@precisions
@pytest.mark.parametrize("project", [False, True])
def test_training_equals_plain_pytorch(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float,
    seed: int, block: int, project: bool,
) -> None:  # fmt: skip
    hidden = padded(spec(layers, dim), seed, dtype)
    options = {"temperature": 0.7, "project": project}
    interface = built(Gumbel, spec(layers, dim), dtype, **options).train()
    errors = against(interface, drawn(dtype, 0.7), hidden, block)
    assert "weights" in errors
    assert max(errors.values()) < tolerance


@shapes
@seeds
@precisions
@pytest.mark.parametrize("project", [False, True])
def test_evaluation_takes_the_most_likely(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, project: bool
) -> None:
    hidden = padded(spec(layers, dim), seed, dtype)
    interface = built(Gumbel, spec(layers, dim), dtype, project=project)
    errors = against(interface, chosen, hidden)
    assert "weights" not in errors
    assert max(errors.values()) < tolerance
    if not project:  # no arithmetic: these are the layers' own values
        features, _ = interface(hidden)
        for dim_, layer in enumerate(interface.weights.argmax(0).tolist()):
            assert torch.equal(features[1, :9, dim_], hidden.states[layer][1, :9, dim_])


def test_equals_torchs_gumbel_softmax_with_the_same_seed() -> None:
    hidden = padded(spec(7, 12), 1, garbage=0.0)
    interface = built(Gumbel, spec(7, 12), torch.float64).train()
    torch.manual_seed(3)
    features, _ = interface(hidden)
    torch.manual_seed(3)
    shares = functional.gumbel_softmax(interface.weights, hard=True, dim=0)
    wanted = torch.einsum("lbtd,ld->btd", hidden.stack(), shares)
    assert distance(features, wanted) < 1e-12
    torch.manual_seed(4)
    assert distance(features, interface(hidden)[0]) > 0.1


def test_the_comparison_would_notice() -> None:
    hidden = padded(spec(7, 12), 1)
    training = built(Gumbel, spec(7, 12), torch.float64, temperature=0.7).train()
    right = drawn(torch.float64, 0.7)
    assert max(against(training, right, hidden).values()) < 1e-10

    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return right(p, states[::-1])

    def soft_forward(p: Parameters, states: list[Tensor]) -> Tensor:
        torch.manual_seed(DRAWS)
        noise = -torch.empty_like(p["weights"]).exponential_().log()
        return mixed(states, ((p["weights"] + noise) / 0.7).softmax(0))

    for wrong in (layers_reversed, soft_forward):
        assert against(training, wrong, hidden)["features"] > 0.1
    other_temperature = against(training, drawn(torch.float64, 1.0), hidden)
    assert other_temperature["features"] < 1e-10  # it only bends the gradient
    assert other_temperature["weights"] > 0.05

    def without_noise(p: Parameters, states: list[Tensor]) -> Tensor:
        return chosen(p, states) + 0 * p["weights"].sum()

    assert against(training, without_noise, hidden)["features"] > 0.1


def test_one_draw_serves_a_whole_batch() -> None:
    """Frames that are alike stay alike, in every utterance."""
    states = [torch.randn(6).expand(3, 5, 6) for _ in range(7)]
    interface = built(Gumbel, spec(7, 6), torch.float32).train()
    features, _ = interface(HiddenStates(states, torch.tensor([5, 5, 5])))
    assert torch.equal(features, features[:1, :1].expand_as(features))


def test_usage_is_the_share_of_dimensions() -> None:
    interface = Gumbel(spec(3, 4))
    interface.weights.data[[2, 2, 0, 2], range(4)] = 1.0
    assert interface.layer_usage() == [0.25, 0.0, 0.75]


def test_a_temperature_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="temperature=0: must be above 0"):
        Gumbel(spec(3, 4), temperature=0)
