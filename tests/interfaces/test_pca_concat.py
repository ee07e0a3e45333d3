"""pca_concat against numpy's singular value decomposition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interfaces.pca_concat import PCAConcat
from tests.mixing.padded import Parameters, against, one_thread, padded, precisions, runs, seeds
from tests.states import SEEDS, distance, spec

LIKE = UpstreamSpec("random", (8, 6, 8), (320,) * 3)
KEPT = 3


def frames(seed: int, count: int = 200) -> list[Tensor]:
    """Of each layer [count, D]: correlated, of unequal spread, off the origin."""
    torch.manual_seed(seed)
    made = []
    for dim in LIKE.dims:
        spread = torch.linspace(3.0, 0.5, dim, dtype=torch.float64)
        x = torch.randn(count, dim, dtype=torch.float64) * spread
        made.append(x @ torch.randn(dim, dim, dtype=torch.float64) + 5)
    return made


def pieces(whole: list[Tensor], seed: int) -> Iterator[list[Tensor]]:
    """The same frames, in utterances of 1 to 19."""
    draw, start = np.random.default_rng(seed), 0
    while start < len(whole[0]):
        stop = start + int(draw.integers(1, 20))
        yield [x[start:stop] for x in whole]
        start = stop


def svd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Axes [D, D], of falling variance and any sign, and the variances' shares."""
    centred = x.numpy() - x.numpy().mean(0)
    _, sizes, rows = np.linalg.svd(centred, full_matrices=False)
    return torch.from_numpy(rows.T), torch.from_numpy(sizes**2 / (sizes**2).sum())


def fitted(whole: list[Tensor], **options: int | bool) -> PCAConcat:
    interface = PCAConcat(LIKE, components=KEPT, **options).double()
    assert interface.fit(iter([whole])) == len(whole[0])
    return interface


def features(interface: PCAConcat, states: list[Tensor]) -> list[Tensor]:
    """By layer, each [n, k]."""
    hidden = HiddenStates([s.unsqueeze(0) for s in states], torch.tensor([len(states[0])]))
    return list(interface(hidden)[0][0].split(KEPT, -1))


@seeds
def test_equals_numpys_svd_up_to_sign(seed: int) -> None:
    whole = frames(seed)
    interface = fitted(whole)
    for got, x in zip(features(interface, whole), whole, strict=True):
        axes, _ = svd(x)
        wanted = (x - x.mean(0)) @ axes[:, :KEPT]
        signs = (got * wanted).sum(0).sign()
        assert distance(got, wanted * signs) < 1e-10 * float(wanted.abs().max())


@seeds
@one_thread()
def test_the_comparison_would_notice(seed: int) -> None:
    whole = frames(seed)
    for got, x in zip(features(fitted(whole), whole), whole, strict=True):
        axes, _ = svd(x)
        _, _, rows = np.linalg.svd(x.numpy(), full_matrices=False)
        least = axes.flip(1)
        for wrong in (
            x @ axes[:, :KEPT],  # not centred
            (x - x.mean(0)) @ torch.from_numpy(rows.T)[:, :KEPT],  # fitted around the origin
            (x - x.mean(0)) @ least[:, :KEPT],
            (x - x.mean(0)) @ axes[:, :KEPT] / (x @ axes[:, :KEPT]).std(0),  # whitened
        ):
            assert distance(got.abs(), wrong.abs()) > 0.01 * float(got.abs().max())


@seeds
@one_thread()
def test_a_stream_of_pieces_gives_what_the_whole_gives(seed: int) -> None:
    whole = frames(seed)
    one, other = fitted(whole), PCAConcat(LIKE, components=KEPT).double()
    assert other.fit(pieces(whole, seed)) == 200
    for (name, buffer), (_, same) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        assert distance(buffer, same) < 1e-10, name
    less = PCAConcat(LIKE, components=KEPT).double()
    less.fit(iter(list(pieces(whole, seed))[:-3]))
    assert distance(one.axes_0, less.axes_0) > 1e-4


@runs
@precisions
def test_features_and_gradients(
    dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    def plain(p: Parameters, states: list[Tensor]) -> Tensor:
        parts = [
            torch.stack([(frame - p[f"mean_{layer}"]) @ p[f"axes_{layer}"] for frame in state])
            for layer, state in enumerate(states)
        ]
        return torch.cat(parts, -1)

    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return torch.cat(plain(p, states).split(KEPT, -1)[::-1], -1)

    interface = fitted(frames(seed)).to(dtype)
    hidden = padded(LIKE, seed, dtype)
    errors = against(interface, plain, hidden, block)
    assert len(errors) == 4
    assert max(errors.values()) < tolerance
    assert against(interface, layers_reversed, hidden)["features"] > 0.1


def test_the_sign_is_fixed() -> None:
    whole = frames(1)
    interface = fitted(whole)
    for layer in range(3):
        axes = interface.get_buffer(f"axes_{layer}")
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        assert (largest > 0).all()
        assert distance(axes.T @ axes, torch.eye(KEPT)) < 1e-12


def test_usage_is_the_variance_that_is_kept() -> None:
    whole = frames(2)
    interface = PCAConcat(LIKE, components=KEPT).double()
    assert interface.layer_usage() is None
    interface.fit(iter([whole]))
    shares = torch.stack([svd(x)[1][:KEPT].sum() for x in whole])
    assert distance(interface.kept_variance, shares) < 1e-10
    assert interface.layer_usage() == pytest.approx((shares / shares.sum()).tolist())


def test_far_from_the_origin() -> None:
    """A mean 10,000 times the spread costs no digits that matter."""
    whole = frames(3)
    far = [x + 3e4 for x in whole]
    for got, wanted in zip(features(fitted(far), far), features(fitted(whole), whole), strict=True):
        assert distance(got, wanted) < 1e-8


def test_normalize_is_part_of_what_is_fitted() -> None:
    whole = frames(4)
    normed = [torch.nn.functional.layer_norm(x, x.shape[-1:]) for x in whole]
    one, other = fitted(whole, normalize=True), fitted(normed)
    for got, wanted in zip(features(one, whole), features(other, normed), strict=True):
        assert distance(got, wanted) < 1e-10


def test_utterances_of_no_frames_in_the_stream() -> None:
    whole = frames(5)
    nothing = [x[:0] for x in whole]
    one, other = fitted(whole), PCAConcat(LIKE, components=KEPT).double()
    assert other.fit(iter([nothing, *pieces(whole, 5), nothing])) == 200
    for (name, buffer), (_, same) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        assert distance(buffer, same) < 1e-10, name


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_frames(count: int) -> None:
    interface = PCAConcat(LIKE, components=KEPT)
    with pytest.raises(ValueError, match=rf"pca_concat: {count} frames are too few to fit"):
        interface.fit(iter([frames(SEEDS[0], 1)] * count))


@pytest.mark.parametrize(
    ("layers", "dim", "components", "width"),
    [(13, 768, 60, 780), (25, 768, 31, 775), (13, 1024, 79, 1027), (25, 1024, 41, 1025)],
)
def test_sizes_of_base_and_large_models(layers: int, dim: int, components: int, width: int) -> None:
    with torch.device("meta"):
        interface = PCAConcat(spec(layers, dim))
    assert (interface.components, interface.output_dim) == (components, width)
    stored = sum(b.numel() for name, b in interface.named_buffers() if name != "kept_variance")
    assert stored == layers * dim * components + layers * dim


@pytest.mark.parametrize("components", [0, 7])
def test_components_that_cannot_be(components: int) -> None:
    with pytest.raises(ValueError, match=rf"components={components}: .* at least 6 dimensions"):
        PCAConcat(LIKE, components=components)
