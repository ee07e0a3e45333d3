"""Interfaces where `s3prl.nn.Featurizer` stands, against s3prl's own and inside its models."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ssft_bench import registry
from ssft_bench.errors import BenchError, UsageError
from ssft_bench.featurizer import InterfaceFeaturizer

NAMES = [p.name for p in registry.plugins("interfaces") if p.origin == "built-in"]
SAMPLES = (4800, 3531, 2000)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def upstream() -> Any:
    from s3prl.nn import S3PRLUpstream

    return S3PRLUpstream("hubert_mini").eval()


def speech(samples: tuple[int, ...] = SAMPLES) -> tuple[Tensor, Tensor]:
    """Noise [B, longest] and its lengths [B]."""
    generator = torch.Generator().manual_seed(3)
    return 0.1 * torch.randn(len(samples), max(samples), generator=generator), torch.tensor(samples)


@pytest.fixture(scope="module")
def given(upstream: Any) -> tuple[list[Tensor], list[Tensor]]:
    """What the upstream gives for the speech."""
    with torch.no_grad():
        all_hs, all_lens = upstream(*speech())
    return all_hs, all_lens


def same_as_s3prl(
    upstream: Any, given: Any, dtype: torch.dtype, flip: bool = False, **options: Any
) -> None:
    """Features, lengths, gradients of weights and states of both featurizers on random weights."""
    from s3prl.nn import Featurizer

    torch.manual_seed(4)
    theirs = Featurizer(upstream, **options).to(dtype)
    mine = InterfaceFeaturizer(upstream, "weighted_sum", **options).to(dtype)
    torch.nn.init.normal_(theirs.weights)
    mine.interface.load_state_dict(theirs.state_dict())
    assert (mine.output_size, mine.downsample_rate) == (256, 320)
    found = []
    for featurizer in (theirs, mine):
        all_lens = given[1]
        all_hs = [h.detach().to(dtype, copy=True).requires_grad_() for h in given[0]]
        order = -1 if flip and featurizer is mine else 1
        features, lengths = featurizer(all_hs[::order], all_lens)
        real = torch.arange(features.shape[1]) < lengths.unsqueeze(1)
        weighting = torch.randn(features.shape, generator=torch.Generator().manual_seed(5))
        (features * weighting.to(dtype) * real.unsqueeze(-1)).mean().backward()
        grads = [h.grad for h in all_hs if h.grad is not None]
        found.append((lengths, features[real], next(featurizer.parameters()).grad, *grads))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    assert len(found[0]) > 3
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options", [{}, {"normalize": True}, {"layer_selections": [5, 0, 3], "normalize": True}]
)
def test_weighted_sum_is_s3prls(
    upstream: Any, given: Any, options: Any, dtype: torch.dtype
) -> None:
    same_as_s3prl(upstream, given, dtype, **options)


def test_reversed_layers_are_not_s3prls(upstream: Any, given: Any) -> None:
    with pytest.raises(AssertionError, match="not close"):
        same_as_s3prl(upstream, given, torch.float32, flip=True)


def test_padded_frames_are_zero(upstream: Any, given: Any) -> None:
    all_hs, all_lens = given
    features, lengths = InterfaceFeaturizer(upstream)(all_hs, all_lens)
    assert lengths.tolist() == [-(-n // 320) for n in SAMPLES]
    assert features.shape[1] == max(lengths)
    assert all(not row[n:].any() for row, n in zip(features, lengths, strict=True))


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_one_step_in_s3prls_model(upstream: Any, name: str, trainable: bool) -> None:
    """UpstreamDownstreamModel with a head of s3prl: one optimiser step moves all that should move."""
    from s3prl.nn import FrameLevel, UtteranceLevel
    from s3prl.nn.upstream import UpstreamDownstreamModel

    torch.manual_seed(6)
    featurizer = InterfaceFeaturizer(upstream, name)
    if featurizer.interface.needs_fit:
        with torch.no_grad():
            frames = featurizer.fit([upstream(*speech()), upstream(*speech((1500,)))])
        assert frames == sum(-(-n // 320) for n in (*SAMPLES, 1500))
    with torch.no_grad():  # hconv_residual starts with a scale of 0, which stops gradients
        for parameter in featurizer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    pools = featurizer.interface.pools_time
    head = (UtteranceLevel if pools else FrameLevel)(featurizer.output_size, 5, hidden_sizes=[8])
    model = UpstreamDownstreamModel(upstream, featurizer, head, upstream_trainable=trainable)
    assert model.downsample_rate == 320
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    try:
        model.train()
        output = model(*speech())
        prediction, lengths = (output, None) if pools else output
        longest = -(-max(SAMPLES) // 320)
        assert prediction.shape == ((3, 5) if pools else (3, longest, 5))
        assert lengths is None or lengths.tolist() == [-(-n // 320) for n in SAMPLES]
        prediction.square().sum().backward()
        optimiser.step()
        moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
        learned = {f"featurizer.{key}" for key, _ in featurizer.named_parameters()}
        assert learned | {f"downstream.{key}" for key, _ in head.named_parameters()} <= moved
        assert any(key.startswith("upstream.") for key in moved) == trainable
    finally:
        upstream.load_state_dict({k[9:]: v for k, v in before.items() if k.startswith("upstream.")})
        upstream.zero_grad(set_to_none=True)
        upstream.eval()


def test_one_vector_per_utterance_or_per_frame(upstream: Any, given: Any) -> None:
    all_hs, all_lens = given
    features, lengths = InterfaceFeaturizer(upstream, "mhfa:output=9")(all_hs, all_lens)
    assert features.shape == (3, 1, 9)
    assert lengths.tolist() == [1, 1, 1]
    features, lengths = InterfaceFeaturizer(upstream, "mhfa:output=9,window=5")(all_hs, all_lens)
    assert features.shape == (3, 15, 9)
    assert torch.equal(lengths, all_lens[0])


class Uneven:
    """Layers of two widths and two strides, constant in time, with rubbish where padded."""

    num_layers, hidden_sizes, downsample_rates = 3, (4, 6, 6), (320, 640, 320)

    def __call__(self) -> tuple[list[Tensor], list[Tensor]]:
        lengths = [torch.tensor(n) for n in ([8, 5], [4, 3], [8, 5])]
        rows = [torch.randn(2, 1, width) for width in self.hidden_sizes]
        states = [row.repeat(1, int(n.max()), 1) for row, n in zip(rows, lengths, strict=True)]
        for state, own in zip(states, lengths, strict=True):
            state[1, int(own[1]) :] = 1e3
        return states, lengths


def test_layers_of_other_widths_and_strides() -> None:
    from s3prl.nn import Featurizer

    torch.manual_seed(7)
    with pytest.raises(AssertionError):
        Featurizer(Uneven())
    featurizer = InterfaceFeaturizer(Uneven(), "weighted_sum")
    assert (featurizer.output_size, featurizer.downsample_rate) == (6, 320)
    torch.nn.init.normal_(featurizer.interface.weights)
    all_hs, all_lens = Uneven()()
    features, lengths = featurizer(all_hs, all_lens)
    assert torch.equal(lengths, all_lens[0])
    projection = featurizer.interface.projections["0"]
    first = [projection(all_hs[0][:, 0]), all_hs[1][:, 0], all_hs[2][:, 0]]
    shares = featurizer.interface.weights.softmax(0)
    wanted = sum(share * row for share, row in zip(shares, first, strict=True))
    for row, row_wanted, frames in zip(features, wanted, lengths, strict=True):
        torch.testing.assert_close(row[:frames], row_wanted.expand(int(frames), -1))
        assert not row[frames:].any()
    single = InterfaceFeaturizer(Uneven(), "layer:index=1")
    features, lengths = single(all_hs, all_lens)
    assert (single.output_size, single.downsample_rate) == (6, 640)
    assert torch.equal(features[0], all_hs[1][0])
    assert torch.equal(lengths, all_lens[1])


def test_one_chosen_layer_passes_through() -> None:
    all_hs, all_lens = Uneven()()
    featurizer = InterfaceFeaturizer(Uneven(), "hconv", layer_selections=[1])
    features, lengths = featurizer(all_hs, all_lens)
    assert torch.equal(features[0], all_hs[1][0])
    assert torch.equal(lengths, all_lens[1])


def test_keys_of_the_state(upstream: Any) -> None:
    assert list(InterfaceFeaturizer(upstream).state_dict()) == ["interface.weights"]
    featurizer = InterfaceFeaturizer(upstream, "hconv:kernel=3,stride=2")
    wanted = [f"interface.convs.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")]
    assert list(featurizer.state_dict()) == wanted
    assert "fitted" in InterfaceFeaturizer(upstream, "pca_concat").state_dict()


def test_what_was_fitted_once_is_saved(upstream: Any, given: Any) -> None:
    all_hs, all_lens = given
    fitted, fresh = (InterfaceFeaturizer(upstream, "pca_concat") for _ in range(2))
    fitted.fit([(all_hs, all_lens)])
    with pytest.raises(UsageError, match=r"pca_concat learns without gradients.*fit\(\)"):
        fresh(all_hs, all_lens)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(all_hs, all_lens)[0], fitted(all_hs, all_lens)[0])
    # The components of the real frames of layer 2 have its singular values as lengths.
    real = torch.arange(all_hs[2].shape[1]) < all_lens[2].unsqueeze(1)
    frames, kept = all_hs[2][real], fitted.interface.components
    features = fitted(all_hs, all_lens)[0][real][:, 2 * kept : 2 * kept + 10]
    values = torch.linalg.svdvals(frames - frames.mean(0))[:10]
    torch.testing.assert_close(features.norm(dim=0), values, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [6, 8])
@pytest.mark.parametrize("name", ["weighted_sum", "hconv", "last", "layer:index=2"])
def test_layer_drop_is_told(upstream: Any, given: Any, name: str, count: int) -> None:
    all_hs, all_lens = given
    featurizer = InterfaceFeaturizer(upstream, name)
    with pytest.raises(UsageError, match=f"hubert_mini gave {count} hidden states.*layer drop"):
        featurizer((all_hs * 2)[:count], (all_lens * 2)[:count])


@pytest.mark.parametrize(
    ("interface", "options", "message"),
    [
        ("hkonv", {}, "unknown interface 'hkonv'. Did you mean hconv"),
        ("hconv:colour=red", {}, "--interface hconv:colour=red: .*'colour'"),
        ("hconv:kernel", {}, "'kernel' is not of the form option=value"),
        ("layer", {"normalize": True}, "--interface layer: .*'normalize'"),
        ("hconv", {"layer_selections": [0, 7]}, r"\[0, 7\]: must be different numbers from 0 to 6"),
        ("hconv", {"layer_selections": [1, 1]}, "must be different"),
        ("hconv", {"layer_selections": []}, "must be different"),
    ],
)
def test_mistakes(upstream: Any, interface: str, options: Any, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        InterfaceFeaturizer(upstream, interface, **options)


def test_more_mistakes(upstream: Any) -> None:
    with pytest.raises(UsageError, match=r"SimpleNamespace is no s3prl\.nn.S3PRLUpstream"):
        InterfaceFeaturizer(SimpleNamespace(), "hconv")
    with pytest.raises(UsageError, match="hconv learns by gradients alone"):
        InterfaceFeaturizer(upstream, "hconv").fit([])


def test_a_class_of_ones_own(upstream: Any, given: Any) -> None:
    from ssft_bench.interface import Interface

    class First(Interface):
        def combine(self, states: list[Tensor]) -> Tensor:
            return states[0]

    all_hs, all_lens = given
    features, _ = InterfaceFeaturizer(upstream, First)(all_hs, all_lens)
    assert torch.equal(features[0], all_hs[0][0])


def test_importing_it_does_not_import_s3prls_hub() -> None:
    code = "import ssft_bench.featurizer, sys; sys.exit('s3prl.hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
