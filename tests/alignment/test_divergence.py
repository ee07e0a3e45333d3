"""The divergence of frames, on both backends, beside plain loops; what holds for any divergence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssft_bench.alignment import soft_dtw, soft_dtw_divergence
from ssft_bench.alignment.costs import squared_distances
from tests.alignment.batches import apart, backends, gammas, grad, lengths, sides, unit_frames
from tests.alignment.references import Array, divergence

SIZES = [(6, 9), (1, 1), (14, 8), (1, 5), (4, 1), (10, 10)]


def pairs(rng: np.random.Generator, sizes: list[tuple[int, int]] = SIZES) -> list[list[Array]]:
    """Random frames of both sides, one list for each."""
    return [[unit_frames(rng, size[side]) for size in sizes] for side in (0, 1)]


@backends
@gammas
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_padded_batch_against_loops(
    rng: np.random.Generator, gamma: float, backend: Any, dtype: torch.dtype, bound: float
) -> None:
    """Value and both gradients of each pair as they are alone, NaN in the padding.

    Where two paths cost nearly the same, rounding of the costs moves the gradient from one to the other, by
    the error over gamma: rare, but seen (float32, gamma 0.01: 0.0001 times the pair's weight).
    """
    left, right = pairs(rng)
    x, y = sides(left, dtype), sides(right, dtype)
    weight = rng.normal(size=len(left))
    value = soft_dtw_divergence(x, y, lengths(left), lengths(right), gamma, backend)
    assert value.dtype == dtype
    (value * torch.from_numpy(weight)).sum().backward()
    for b, (one, other) in enumerate(zip(left, right, strict=True)):
        wanted, *wanted_grads = divergence(one, other, gamma)
        assert value[b].item() == pytest.approx(wanted, abs=10 * bound)
        for found, wanted_grad in zip((grad(x)[b], grad(y)[b]), wanted_grads, strict=True):
            n = len(wanted_grad)
            difference = np.abs(found[:n] - weight[b] * wanted_grad).max()
            assert difference < 10 * bound * max(1, 0.1 / gamma) * max(1, abs(weight[b]))
            assert not found[n:].any()


def test_gradient_needs_all_three_terms(rng: np.random.Generator) -> None:
    """Negative control: with constant sdtw(x, x) and sdtw(y, y) the gradient is another one."""
    (left,), (right,) = pairs(rng, [(9, 7)])
    x, y = torch.from_numpy(left)[None].requires_grad_(), torch.from_numpy(right)[None]
    cost = (x[:, :, None] - y[:, None]).square().sum(3)
    soft_dtw(cost, torch.tensor([9]), torch.tensor([7]), 1.0).sum().backward()
    assert apart(grad(x)[0], divergence(left, right, 1.0)[1]) > 0.01


@backends
@pytest.mark.parametrize("gamma", [1.0, 0.1])
@pytest.mark.parametrize("sizes", [(3, 5), (5, 3)])
def test_finite_differences(
    rng: np.random.Generator, gamma: float, backend: Any, sizes: tuple[int, int]
) -> None:
    """gradcheck in x and y at once; both Tx < Ty and Tx > Ty."""
    x, y = (torch.from_numpy(rng.normal(size=(2, n, 2))).requires_grad_() for n in sizes)
    real = [torch.tensor([n, n - 1]) for n in sizes]
    assert torch.autograd.gradcheck(
        lambda a, b: soft_dtw_divergence(a, b, *real, gamma, backend), (x, y)
    )


@backends
@gammas
def test_zero_of_itself_and_symmetric(rng: np.random.Generator, gamma: float, backend: Any) -> None:
    """D(x, x) = 0 without gradient; D(x, y) = D(y, x), their gradients too."""
    left, right = pairs(rng)
    x, y = sides(left), sides(right)
    n, m = lengths(left), lengths(right)
    same = soft_dtw_divergence(x, sides(left), n, n, gamma, backend)
    assert same.abs().max() < 1e-8
    (still,) = torch.autograd.grad(same.sum(), x)
    assert still.abs().max() < 1e-8
    one, other = (
        soft_dtw_divergence(x, y, n, m, gamma, backend),
        soft_dtw_divergence(y, x, m, n, gamma, backend),
    )
    assert (one - other).abs().max() < 1e-10
    assert (one > 1e-3).any()
    for a, b in zip(
        torch.autograd.grad(one.sum(), (x, y)),
        torch.autograd.grad(other.sum(), (x, y)),
        strict=True,
    ):
        assert (a - b).abs().max() < 1e-10


@backends
def test_batch_equals_single_runs(rng: np.random.Generator, backend: Any) -> None:
    """The mean loss over the lengths, and its gradients, of a batch and of its parts."""
    left, right = pairs(rng)
    x, y = sides(left), sides(right)
    n, m = lengths(left), lengths(right)
    (soft_dtw_divergence(x, y, n, m, 0.1, backend) / (n + m)).mean().backward()
    for b, (one, other) in enumerate(zip(left, right, strict=True)):
        a, c = (torch.from_numpy(side)[None].requires_grad_() for side in (one, other))
        loss = soft_dtw_divergence(a, c, n[b : b + 1], m[b : b + 1], 0.1, backend) / (n + m)[b]
        (loss.sum() / len(left)).backward()
        assert np.abs(grad(x)[b, : n[b]] - grad(a)[0]).max() < 1e-12
        assert np.abs(grad(y)[b, : m[b]] - grad(c)[0]).max() < 1e-12


@backends
@pytest.mark.parametrize("constant", [0, 1])
def test_one_side_without_gradient(rng: np.random.Generator, backend: Any, constant: int) -> None:
    """A fixed teacher costs no gradient; the other side's is the same."""
    left, right = pairs(rng)
    both = [sides(left), sides(right)]
    one = [side.detach().requires_grad_(at != constant) for at, side in enumerate(both)]
    sizes = lengths(left), lengths(right)
    for pair in (both, one):
        soft_dtw_divergence(*pair, *sizes, 0.1, backend).sum().backward()
    assert one[constant].grad is None
    assert np.array_equal(grad(one[1 - constant]), grad(both[1 - constant]))


def test_nothing_is_kept_without_gradient(rng: np.random.Generator) -> None:
    """Under no_grad the value is the same, and has no graph."""
    left, right = pairs(rng)
    x, y = sides(left), sides(right)
    with torch.no_grad():
        value = soft_dtw_divergence(x, y, lengths(left), lengths(right))
    assert not value.requires_grad
    assert torch.equal(value, soft_dtw_divergence(x, y, lengths(left), lengths(right)))


@backends
def test_a_shared_offset_costs_no_digits(rng: np.random.Generator, backend: Any) -> None:
    """Features far from 0: squared distances by matrix product alone are off by more than they are."""
    (left,), (right,) = pairs(rng, [(30, 40)])
    offset = 1000 * rng.uniform(1, 2, left.shape[1])
    x, y = (
        torch.from_numpy(side + offset).float()[None].requires_grad_() for side in (left, right)
    )
    rounded = [side.detach()[0].double().numpy() for side in (x, y)]
    wanted, *wanted_grads = divergence(*rounded, 0.1)
    value = soft_dtw_divergence(x, y, torch.tensor([30]), torch.tensor([40]), 0.1, backend)
    value.sum().backward()
    assert value.item() == pytest.approx(wanted, rel=1e-3)
    assert apart(grad(x)[0], wanted_grads[0]) < 1e-2
    assert apart(grad(y)[0], wanted_grads[1]) < 1e-2
    naive = squared_distances(x.detach(), y.detach())[0].numpy()
    exact = squared_distances(*(torch.from_numpy(side)[None] for side in rounded))[0].numpy()
    assert apart(naive, exact) > 0.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast(rng: np.random.Generator, dtype: torch.dtype) -> None:
    """Half-precision frames are computed in fp32; autocast does not reach the matrix products."""
    left, right = pairs(rng)
    sizes = lengths(left), lengths(right)
    x, y = sides(left, dtype), sides(right, dtype)
    same = [side.detach().float().requires_grad_() for side in (x, y)]
    with torch.autocast("cpu", torch.bfloat16):
        value = soft_dtw_divergence(x, y, *sizes)
    wanted = soft_dtw_divergence(*same, *sizes)
    assert value.dtype == torch.float32
    assert torch.equal(value, wanted)
    value.sum().backward()
    wanted.sum().backward()
    for side, other in zip((x, y), same, strict=True):
        assert side.grad is not None
        assert other.grad is not None
        assert side.grad.dtype == dtype
        assert torch.equal(side.grad, other.grad.to(dtype))


def test_second_derivative_is_refused(rng: np.random.Generator) -> None:
    """A gradient penalty gets a clear error, not a missing term."""
    left, right = pairs(rng)
    x = sides([np.nan_to_num(side) for side in left])
    loss = soft_dtw_divergence(x, sides(right), lengths(left), lengths(right)).sum()
    (first,) = torch.autograd.grad(loss + x.nansum().square(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiated once"):
        first.square().sum().backward()


@pytest.mark.parametrize(
    ("y", "told"),
    [
        (torch.zeros(2, 4, 5), "x and y must be"),
        (torch.zeros(3, 4, 6), "x and y must be"),
        (torch.zeros(4, 6), "x and y must be"),
        (torch.zeros(2, 3, 6), "y_lengths: must be 1 to 3, not 2 to 4"),
    ],
)
def test_mistakes_are_named(y: Tensor, told: str) -> None:
    """Sides that do not belong together."""
    with pytest.raises(ValueError, match=told):
        soft_dtw_divergence(torch.zeros(2, 5, 6), y, torch.tensor([5, 1]), torch.tensor([4, 2]))
