"""weighted_sum against both featurizers of s3prl, the authors' package and plain PyTorch."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from s3prl.nn.upstream import Featurizer
from s3prl.upstream.interfaces import Featurizer as RunnerFeaturizer
from s3prl.upstream.interfaces import UpstreamBase
from torch import Tensor

from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interfaces.mean import Mean
from ssft_bench.interfaces.weighted_sum import WeightedSum
from tests.mixing.padded import (
    LENGTHS,
    Parameters,
    against,
    built,
    check,
    padded,
    precisions,
    runs,
    shapes,
)
from tests.mixing.references import mixed, resampled
from tests.states import SEEDS, distance, gradients, random_states, randomize, require_grad, spec


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("layers", "dim"), [(2, 5), (13, 96), (25, 40)])
def test_equals_s3prls_nn_featurizer(layers: int, dim: int, normalize: bool, seed: int) -> None:
    ours_in = require_grad(random_states(layers, dim, seed, torch.float32))
    theirs_in = require_grad(ours_in)
    ours = WeightedSum(spec(layers, dim), normalize=normalize)
    randomize(ours)
    described = SimpleNamespace(
        hidden_sizes=[dim] * layers, downsample_rates=[320] * layers, num_layers=layers
    )
    theirs = Featurizer(described, normalize=normalize)
    theirs.load_state_dict(ours.state_dict())  # also: the same name of the parameter

    got, lengths = ours(ours_in)
    wanted, _ = theirs(theirs_in.states, [theirs_in.lengths] * layers)
    assert torch.equal(lengths, ours_in.lengths)
    assert got.dtype == torch.float32
    assert distance(got, wanted) < 1e-6
    direction = torch.randn_like(wanted)
    (got * direction).sum().backward()
    (wanted * direction).sum().backward()
    assert ours.weights.grad is not None
    assert distance(ours.weights.grad, theirs.weights.grad) < 1e-6 * max(
        1.0, float(ours.weights.grad.abs().max())
    )
    for one, other in zip(gradients(ours_in), gradients(theirs_in), strict=True):
        assert distance(one, other) < 1e-6


class Constant(UpstreamBase):  # type: ignore[misc]
    """Always the same hidden states, so that the runner's featurizer can be built."""

    def __init__(self, states: list[Tensor]) -> None:
        super().__init__()
        self.states = states

    def get_downsample_rates(self, key: str) -> int:
        return 320

    def forward(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        return {"hidden_states": self.states}


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_s3prls_runner_featurizer(seed: int) -> None:
    hidden = random_states(7, 12, seed, torch.float32)
    lengths = torch.randint(1, int(hidden.lengths[0]) + 1, hidden.lengths.shape)
    lengths[0] = hidden.lengths[0]
    hidden = HiddenStates(hidden.states, lengths)
    ours = WeightedSum(spec(7, 12))
    randomize(ours)
    theirs = RunnerFeaturizer(Constant(hidden.states), upstream_device="cpu")
    theirs.load_state_dict(ours.state_dict())
    features, got_lengths = ours(hidden)
    wavs = [torch.zeros(int(n) * 320) for n in lengths]
    wanted = theirs(wavs, {"hidden_states": hidden.states})
    for row, expected in enumerate(wanted):
        assert got_lengths[row] == len(expected)
        assert distance(features[row, : got_lengths[row]], expected) < 1e-6


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("layers", "dim"), [(2, 5), (13, 96), (25, 128), (13, 768), (25, 1024)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 5e-6)], ids=["fp64", "fp32"]
)
def test_equals_the_authors_package(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int
) -> None:
    package = pytest.importorskip("SSL_Interface.interfaces")
    configs = pytest.importorskip("SSL_Interface.configs")
    ours_in = require_grad(random_states(layers, dim, seed, dtype))
    theirs_in = require_grad(ours_in)
    ours = WeightedSum(spec(layers, dim)).to(dtype)
    randomize(ours)
    config = configs.WeightedSumInterfaceConfig(upstream_layer_num=layers, upstream_feat_dim=dim)
    theirs = package.WeightSumInterface(config).to(dtype)
    weights = theirs.weighte_sum_weights
    weights.data.copy_(ours.weights)
    got, wanted = ours(ours_in)[0], theirs(theirs_in.stack())
    assert distance(got, wanted) < tolerance
    direction = torch.randn_like(wanted) / wanted.numel() ** 0.5
    got.backward(direction)
    wanted.backward(direction)
    assert distance(ours.weights.grad, weights.grad) < tolerance
    for one, other in zip(gradients(ours_in), gradients(theirs_in), strict=True):
        assert distance(one, other) < tolerance
    assert distance(theirs(theirs_in.stack().flip(0)), wanted) > 0.1
    weights.data[-1] = -100.0  # without the last layer
    assert distance(theirs(theirs_in.stack()), wanted) > 1e-3


def plain(p: Parameters, states: list[Tensor]) -> Tensor:
    return mixed(states, p["weights"].exp() / p["weights"].exp().sum())


@shapes
@runs
@precisions
def test_padded_batches_equal_plain_pytorch(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    assert max(check(WeightedSum, plain, (layers, dim), seed, dtype, block).values()) < tolerance


def test_a_temperature_divides_the_weights() -> None:
    def cold(p: Parameters, states: list[Tensor]) -> Tensor:
        return plain({"weights": p["weights"] / 0.3}, states)

    assert max(check(WeightedSum, cold, (7, 12), 1, temperature=0.3).values()) < 1e-10
    assert check(WeightedSum, plain, (7, 12), 1, temperature=0.3)["features"] > 0.1
    with pytest.raises(ValueError, match="temperature=0: must be above 0"):
        WeightedSum(spec(7, 12), temperature=0)


UNEVEN = UpstreamSpec("uneven", (8, 8, 12, 12), (640, 640, 320, 320))


@runs
@precisions
def test_layers_of_several_widths_and_strides(
    dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    """Projected to the last one's width, then brought to the finest rate, frame by frame."""

    def aligned(p: Parameters, states: list[Tensor], ratio: float = 2.0) -> Tensor:
        even = []
        for layer in (0, 1):
            own = [p[f"projections.{layer}.{name}"] for name in ("weight", "bias")]
            coarse = torch.nn.functional.linear(states[layer], *own)
            even.append(resampled(coarse, ratio, len(states[3])))
        return plain(p, [*even, *states[2:]])

    def held(p: Parameters, states: list[Tensor]) -> Tensor:
        return aligned(p, states, ratio=1.0)

    hidden = padded(UNEVEN, seed, dtype, [(2, 5, 1, 3)] * 2 + [LENGTHS] * 2)
    interface = built(WeightedSum, UNEVEN, dtype)
    assert max(against(interface, aligned, hidden, block).values()) < tolerance
    assert against(interface, held, hidden, block)["features"] > 0.02


def test_no_weights_equal_mean() -> None:
    hidden = padded(spec(7, 12), 2)
    interface, mean = WeightedSum(spec(7, 12)).double(), Mean(spec(7, 12))
    assert not interface.weights.any()
    assert distance(interface(hidden)[0], mean(hidden)[0]) < 1e-10
    interface.weights.data[0] = 0.1
    assert distance(interface(hidden)[0], mean(hidden)[0]) > 0.01


def test_starts_as_the_mean_and_tells_its_weights() -> None:
    hidden = random_states(5, 8, 1)
    interface = WeightedSum(spec(5, 8)).double()
    assert distance(interface(hidden)[0], hidden.stack().mean(0)) < 1e-12
    assert interface.layer_usage() == pytest.approx([0.2] * 5)
    interface.weights.data[3] = 50.0
    assert interface.layer_usage()[3] == pytest.approx(1.0)
    assert distance(interface(hidden)[0], hidden.states[3]) < 1e-12


def test_keeps_nothing_for_the_backward_pass_but_references() -> None:
    hidden = random_states(9, 16, 2)
    pointers = {s.untyped_storage().data_ptr() for s in hidden.states}
    extra = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal extra
        if tensor.dim() == 3 and tensor.untyped_storage().data_ptr() not in pointers:
            extra += tensor.numel() * (tensor.dtype != torch.bool)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        WeightedSum(spec(9, 16)).double()(hidden)
    assert extra == 0
