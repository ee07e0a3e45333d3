"""Other frame rates and other numbers of layers against loops and torch.nn.functional.interpolate."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ssft_bench.mixing import layer_positions, resample
from tests.mixing.padded import precisions, relative, seeds
from tests.mixing.references import resampled

RATIOS = [(2.0, 13), (0.5, 4), (1.5, 10), (1.0, 7), (2 / 3, 5), (4.0, 27)]
"""Old stride over new one, and frames wanted of an utterance that has 6 or 7."""
ratios = pytest.mark.parametrize(("ratio", "frames"), RATIOS)


@ratios
@seeds
@precisions
def test_equals_a_loop_over_frames(
    ratio: float, frames: int, seed: int, dtype: torch.dtype, tolerance: float
) -> None:
    """And NaN in the padding reaches neither real frames nor their gradients."""
    torch.manual_seed(seed)
    lengths, wanted = torch.tensor([6, 1, 4]), torch.tensor([frames, 1, frames // 2])
    state = torch.randn(8, 3, 5, dtype=dtype).transpose(0, 1)
    for row, length in enumerate(lengths.tolist()):
        state[row, length:] = float("nan")
    state.requires_grad_()
    got = resample(state, lengths, ratio, wanted, frames)
    assert got.shape == (3, frames, 5)
    assert got.dtype == dtype
    for row, (length, count) in enumerate(zip(lengths.tolist(), wanted.tolist(), strict=True)):
        copy = state[row, :length].detach().double().requires_grad_()
        right = resampled(copy, ratio, count)
        assert relative(got[row, :count], right) < tolerance
        direction = torch.randn(count, 5, dtype=dtype)
        (grad,) = torch.autograd.grad(got[row, :count], state, direction, retain_graph=True)
        (wanted_grad,) = torch.autograd.grad(right, copy, direction.double())
        assert relative(grad[row, :length], wanted_grad) < tolerance
        assert not grad[row, length:].any()


def test_the_comparison_would_notice() -> None:
    torch.manual_seed(1)
    state, lengths = torch.randn(1, 6, 5, dtype=torch.float64), torch.tensor([6])
    got = resample(state, lengths, 2.0, torch.tensor([12]), 12)[0]
    assert relative(got, resampled(state[0], 2.0, 12)) < 1e-12
    assert relative(got, state[0].repeat_interleave(2, 0)) > 0.1
    assert relative(got, resampled(state[0], 2.0, 13)[1:]) > 0.1
    corners = functional.interpolate(state.mT, size=12, mode="linear", align_corners=True).mT[0]
    assert relative(got, corners) > 0.05


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_equals_interpolate_between_centres(ratio: int) -> None:
    state, lengths = torch.randn(2, 5, 3, dtype=torch.float64), torch.tensor([5, 5])
    got = resample(state, lengths, ratio, lengths * ratio, 5 * ratio)
    wanted = functional.interpolate(state.mT, scale_factor=ratio, mode="linear").mT
    assert relative(got, wanted) < 1e-12


def test_nothing_to_do_gives_the_same_tensor() -> None:
    state, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    assert resample(state, lengths, 1.0, lengths, 5) is state
    assert resample(state, lengths, 1.0, lengths.clone(), 5) is state
    assert resample(state, lengths, 1.0, lengths, 6) is not state
    assert resample(state, lengths, 1.0, torch.tensor([5, 3]), 5) is not state


def test_one_frame_more_is_the_last_one_held() -> None:
    state = torch.randn(1, 5, 3)
    got = resample(state, torch.tensor([4]), 1.0, torch.tensor([5]), 5)
    assert torch.equal(got[0, :4], state[0, :4])
    assert torch.equal(got[0, 4], state[0, 3])


def test_bf16_is_rounded_once() -> None:
    state, lengths = torch.randn(1, 6, 50).bfloat16(), torch.tensor([6])
    got = resample(state, lengths, 1.5, torch.tensor([9]), 9)
    exact = resampled(state[0].double(), 1.5, 9)
    assert got.dtype == torch.bfloat16
    assert ((got[0] - exact).abs() <= 2.0**-8 * exact.abs() + 1e-6).all()


@pytest.mark.parametrize(("batch", "frames"), [(0, 0), (0, 4), (2, 0)])
def test_nothing_to_resample(batch: int, frames: int) -> None:
    state, lengths = torch.zeros(batch, frames, 3), torch.zeros(batch, dtype=torch.int64)
    assert resample(state, lengths, 2.0, lengths, 8).shape == (batch, 8, 3)


def test_an_utterance_without_a_frame_at_the_coarser_rate() -> None:
    """Its padding does not become a real frame of the finer rate."""
    state = torch.full((2, 3, 4), float("nan"))
    state[0] = 1.0
    got = resample(state, torch.tensor([3, 0]), 2.0, torch.tensor([6, 1]), 6)
    assert torch.equal(got[0], torch.ones(6, 4))
    assert not got[1, 0].isnan().any()


@pytest.mark.parametrize(("layers", "count"), [(5, 7), (7, 7), (2, 13), (13, 25), (1, 4), (12, 13)])
def test_layer_positions_equal_interpolate(layers: int, count: int) -> None:
    """As shares [count, layers]: rows of a linear interpolation with the corners aligned."""
    got = torch.zeros(count, layers, dtype=torch.float64)
    for position, near in enumerate(layer_positions(layers, count)):
        assert 1 <= len(near) <= 2
        for layer, share in near:
            assert share > 0
            got[position, layer] += share
    eye = torch.eye(layers, dtype=torch.float64).unsqueeze(0)
    wanted = functional.interpolate(eye, size=count, mode="linear", align_corners=True)[0].T
    assert relative(got, wanted) < 1e-12
    if 1 < layers != count:
        other = functional.interpolate(eye, size=count, mode="linear", align_corners=False)[0].T
        assert relative(got, other) > 0.01
