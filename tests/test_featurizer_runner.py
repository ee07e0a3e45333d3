"""Interfaces where `s3prl.upstream.interfaces.Featurizer` stands, against s3prl's own."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.featurizer import RunnerFeaturizer
from ssft_bench.s3prl_runner import use_in_s3prl

NAMES = [p.name for p in registry.plugins("interfaces") if p.origin == "built-in"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def expert() -> Any:
    """hubert_mini as s3prl's runner gets it."""
    import s3prl.hub

    import ssft_bench  # noqa: F401

    return s3prl.hub.hubert_mini().eval()


@pytest.fixture(scope="module")
def given(expert: Any) -> tuple[list[Tensor], dict[str, Any]]:
    """Waveforms of different lengths, and what the upstream gives for them."""
    generator = torch.Generator().manual_seed(3)
    waves = [0.1 * torch.randn(n, generator=generator) for n in (4000, 8000, 3700)]
    with torch.no_grad():
        return waves, expert(waves)


def same_as_s3prl(expert: Any, given: Any, flip: bool = False, **options: Any) -> None:
    """Features of each utterance and gradients of weights and states, on random weights."""
    from s3prl.upstream.interfaces import Featurizer

    theirs = Featurizer(expert, upstream_device="cpu", **options)
    mine = RunnerFeaturizer(expert, upstream_device="cpu", **options)
    for key in ("output_dim", "downsample_rate", "name", "feature_selection"):
        assert getattr(mine, key) == getattr(theirs, key)
    torch.nn.init.normal_(theirs.weights)
    mine.interface.load_state_dict(theirs.state_dict())
    found = []
    for one in (theirs, mine):
        states = [h.detach().clone().requires_grad_() for h in given[1]["hidden_states"]]
        order = -1 if flip and one is mine else 1
        features = one(given[0], {"hidden_states": states[::order]})
        generator = torch.Generator().manual_seed(5)
        weighting = [torch.randn(f.shape, generator=generator) for f in features]
        (torch.cat(features) * torch.cat(weighting)).mean().backward()
        grads = [h.grad for h in states if h.grad is not None]
        found.append((*features, next(one.parameters()).grad, *grads))
    # An utterance keeps round(samples / 320) frames, of which the last ones may be its padding.
    assert [len(f) for f in found[0][:3]] == [12, 24, 12]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"normalize": True}])
def test_weighted_sum_is_s3prls(expert: Any, given: Any, options: Any) -> None:
    same_as_s3prl(expert, given, **options)


def test_reversed_layers_are_not_s3prls(expert: Any, given: Any) -> None:
    with pytest.raises(AssertionError, match="not close"):
        same_as_s3prl(expert, given, flip=True)


@pytest.mark.parametrize("name", NAMES)
def test_every_interface(expert: Any, given: Any, name: str) -> None:
    torch.manual_seed(1)
    waves, outputs = given
    featurizer = RunnerFeaturizer(expert, interface=name)
    if featurizer.interface.needs_fit:
        assert featurizer.fit([given]) == 12 + 24 + 12
    features = featurizer(waves, outputs)
    frames = [1, 1, 1] if featurizer.interface.pools_time else [12, 24, 12]
    assert [f.shape for f in features] == [(n, featurizer.output_dim) for n in frames]
    assert featurizer.downsample_rate == 320
    assert all(f.isfinite().all() and f.any() for f in features)


class Fake(torch.nn.Module):
    """Gives `more` frames than its stride of 320 declares, and its layers under other keys too."""

    def __init__(self, more: int = 0, dropped: int = 0) -> None:
        super().__init__()
        self.more, self.dropped = more, dropped

    def get_downsample_rates(self, key: str) -> int:
        return 320

    def forward(self, waves: list[Tensor]) -> dict[str, Any]:
        frames = round(max(map(len, waves)) / 320) + self.more
        layers = [torch.randn(len(waves), frames, 4) for _ in range(3)][self.dropped :]
        named = {str(i): layer for i, layer in enumerate(layers)}
        return {"hidden_states": layers, "named": named, "last_hidden_state": layers[-1]}


@pytest.mark.parametrize("more", [-5, -4, 4, 5])
def test_frames_may_be_off_by_as_many_as_in_s3prl(more: int) -> None:
    from s3prl.upstream.interfaces import Featurizer

    waves = [torch.randn(16000), torch.randn(8000)]
    outputs = Fake(more)(waves)
    theirs, mine = Featurizer(Fake(), upstream_device="cpu"), RunnerFeaturizer(Fake())
    if abs(more) > 4:
        with pytest.raises(AssertionError):
            theirs(waves, outputs)
        with pytest.raises(UsageError, match=r"Fake: \d+ frames for 50 .*get_downsample_rates"):
            mine(waves, outputs)
        return
    wanted = theirs(waves, outputs)
    assert [len(f) for f in wanted] == [min(50, 50 + more), 25]
    for one, other in zip(mine(waves, outputs), wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_other_selections() -> None:
    waves = [torch.randn(16000)]
    outputs = Fake()(waves)
    featurizer = RunnerFeaturizer(Fake(), "named", interface="layer:index=1")
    assert torch.equal(featurizer(waves, outputs)[0], outputs["named"]["1"][0])
    with pytest.raises(
        UsageError, match=r"last_hidden_state .* is one layer .*hidden_states, named"
    ):
        RunnerFeaturizer(Fake(), "last_hidden_state", interface="hconv")
    with pytest.raises(UsageError, match=r"PR .* is not among the outputs of upstream Fake"):
        RunnerFeaturizer(Fake(), "PR", interface="hconv")
    with pytest.raises(UsageError, match="--interface layer:index=2"):
        RunnerFeaturizer(Fake(), layer_selection=2, interface="hconv")


def test_layer_drop_and_missing_fit_are_told() -> None:
    waves = [torch.randn(16000)]
    with pytest.raises(UsageError, match=r"Fake gave 2 hidden states, but 3 when.*layer drop"):
        RunnerFeaturizer(Fake(), interface="hconv")(waves, Fake(dropped=1)(waves))
    with pytest.raises(UsageError, match="--fit FOLDER"):
        RunnerFeaturizer(Fake(), interface="pca_concat")(waves, Fake()(waves))
    with pytest.raises(UsageError, match="learns by gradients alone"):
        RunnerFeaturizer(Fake(), interface="hconv", fit=waves)


def test_a_checkpoint_of_another_interface_is_refused() -> None:
    state = RunnerFeaturizer(Fake(), interface="layer:index=1").state_dict()
    with pytest.raises(UsageError, match="give --interface layer:index=1"):
        RunnerFeaturizer(Fake(), interface="last").load_state_dict(state)


def test_s3prl_gets_its_featurizer_back() -> None:
    from s3prl.upstream.interfaces import Featurizer

    with use_in_s3prl("hconv"):
        from s3prl.downstream import runner

        with use_in_s3prl("last"):
            assert runner.Featurizer.keywords["interface"] == "last"
        assert runner.Featurizer.keywords["interface"] == "hconv"
    assert runner.Featurizer is Featurizer
    with pytest.raises(RuntimeError), use_in_s3prl("hconv"):
        raise RuntimeError
    assert runner.Featurizer is Featurizer
    assert "tensorboardX" not in sys.modules or hasattr(sys.modules["tensorboardX"], "__file__")
    with pytest.raises(UsageError, match="Did you mean hconv"), use_in_s3prl("hkonv"):
        pass
