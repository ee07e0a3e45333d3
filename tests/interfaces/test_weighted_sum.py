"""weighted_sum against both featurizers of s3prl."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from s3prl.nn.upstream import Featurizer
from s3prl.upstream.interfaces import Featurizer as RunnerFeaturizer
from s3prl.upstream.interfaces import UpstreamBase
from torch import Tensor

from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interfaces.weighted_sum import WeightedSum
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


def test_equals_the_authors_package() -> None:
    package = pytest.importorskip("SSL_Interface.interfaces")
    configs = pytest.importorskip("SSL_Interface.configs")
    hidden = random_states(13, 24, 5)
    ours = WeightedSum(spec(13, 24)).double()
    randomize(ours)
    config = configs.WeightedSumInterfaceConfig(upstream_layer_num=13, upstream_feat_dim=24)
    theirs = package.WeightSumInterface(config).double()
    theirs.weighte_sum_weights.data.copy_(ours.weights)
    assert distance(ours(hidden)[0], theirs(hidden.stack())) < 1e-12


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
