"""Soft-DTW of cost matrices, on both backends, beside plain loops and the sum over all paths."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from ssft_bench.alignment import soft_dtw
from tests.alignment.batches import apart, backends, costs, gammas, grad, lengths, padded
from tests.alignment.references import enumerated, loops

SHAPES = [(5, 9), (1, 1), (20, 17), (1, 6), (7, 1), (33, 40)]


@backends
@gammas
def test_sum_over_all_paths(rng: np.random.Generator, gamma: float, backend: Any) -> None:
    """Every shape up to 5 x 5 in one batch: values and gradients as if each path were walked."""
    matrices = costs(rng, list(product(range(1, 6), repeat=2)))
    cost = padded(matrices)
    value = soft_dtw(cost, lengths(matrices), lengths(matrices, 1), gamma, backend)
    value.sum().backward()
    for matrix, found, found_grad in zip(matrices, value, grad(cost), strict=True):
        wanted, wanted_grad = enumerated(matrix, gamma)
        assert abs(found.item() - wanted) < 1e-10
        n, m = matrix.shape
        assert np.abs(found_grad[:n, :m] - wanted_grad).max() < 1e-10


@backends
@gammas
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_padded_batch_against_loops(
    rng: np.random.Generator, gamma: float, backend: Any, dtype: torch.dtype, bound: float
) -> None:
    """Each matrix of a batch as it is alone; NaN around it leaves no trace, its gradient is 0."""
    matrices = costs(rng, SHAPES)
    cost = padded(matrices, dtype)
    weight = rng.normal(size=len(matrices))
    value = soft_dtw(cost, lengths(matrices), lengths(matrices, 1), gamma, backend)
    assert value.dtype == dtype
    (value * torch.from_numpy(weight)).sum().backward()
    found_grad = grad(cost)
    for matrix, found, part, w in zip(matrices, value, found_grad, weight, strict=True):
        n, m = matrix.shape
        wanted, wanted_grad = loops(matrix, gamma)
        assert found.item() == pytest.approx(wanted, rel=bound, abs=bound)
        # Rounding the costs alone moves the gradient: 4 * 6e-8 / gamma a cell, added up along two paths.
        assert apart(part[:n, :m], w * wanted_grad) < 10 * bound * max(1, 0.1 / gamma) * max(
            1, abs(w)
        )
        assert not part[n:].any()
        assert not part[:, m:].any()


def test_a_wrong_gamma_is_seen(rng: np.random.Generator) -> None:
    """Negative control: one percent more gamma is out of the bounds above by far."""
    (matrix,) = costs(rng, [(20, 17)])
    cost = padded([matrix])
    value = soft_dtw(cost, torch.tensor([20]), torch.tensor([17]), 1.01)
    value.sum().backward()
    wanted, wanted_grad = loops(matrix, 1.0)
    assert value.item() != pytest.approx(wanted, rel=1e-5)
    assert apart(grad(cost)[0, :20, :17], wanted_grad) > 1e-4


@backends
@pytest.mark.parametrize("gamma", [1.0, 0.1])
def test_finite_differences(rng: np.random.Generator, gamma: float, backend: Any) -> None:
    """gradcheck over a batch of two lengths."""
    cost = torch.from_numpy(rng.uniform(0, 2, (2, 5, 6))).requires_grad_()
    x_lengths, y_lengths = torch.tensor([5, 3]), torch.tensor([4, 6])
    assert torch.autograd.gradcheck(
        lambda c: soft_dtw(c, x_lengths, y_lengths, gamma, backend), (cost,)
    )


@backends
def test_memory_layout_does_not_matter(rng: np.random.Generator, backend: Any) -> None:
    """Transposed and expanded costs; the caller's costs stay what they were."""
    flat = torch.from_numpy(rng.uniform(0, 4, (7, 9, 3)))
    one = torch.from_numpy(rng.uniform(0, 4, (1, 9, 7)))
    for cost in (flat.permute(2, 1, 0), one.expand(3, 9, 7)):
        leaf = cost.detach().requires_grad_()
        before, plain = cost.clone(), cost.clone(memory_format=torch.contiguous_format)
        sizes = torch.tensor([9, 5, 2]), torch.tensor([6, 7, 1])
        found = soft_dtw(leaf, *sizes, 0.1, backend)
        wanted = soft_dtw(plain.requires_grad_(), *sizes, 0.1, backend)
        (found_grad,) = torch.autograd.grad(found.sum(), leaf)
        (wanted_grad,) = torch.autograd.grad(wanted.sum(), plain)
        assert torch.equal(found, wanted)
        assert torch.equal(found_grad, wanted_grad)
        assert torch.equal(cost, before)
        with torch.no_grad():
            assert torch.equal(soft_dtw(cost, *sizes, 0.1, backend), wanted)
            assert torch.equal(cost, before)


@backends
def test_infinite_costs_forbid_cells(rng: np.random.Generator, backend: Any) -> None:
    """A band of infinite costs is one of very large costs; no path at all costs infinity."""
    (matrix,) = costs(rng, [(12, 14)])
    outside = np.abs(np.subtract.outer(np.arange(12), np.arange(14))) > 3
    cost = padded([np.where(outside, np.inf, matrix)])
    sizes = torch.tensor([12]), torch.tensor([14])
    value = soft_dtw(cost, *sizes, 0.1, backend)
    value.sum().backward()
    wanted, wanted_grad = loops(np.where(outside, 1e4, matrix), 0.1)
    assert value.item() == pytest.approx(wanted, rel=1e-11)
    assert np.abs(grad(cost)[0, :12, :14] - wanted_grad).max() < 1e-11
    closed = padded([np.where(np.arange(14) == 5, np.inf, matrix)])
    assert soft_dtw(closed, *sizes, 0.1, backend).item() == np.inf


@backends
@pytest.mark.parametrize("cell", [(0, 0), (3, 2), (8, 8)])
def test_nan_within_the_lengths_is_not_hidden(
    rng: np.random.Generator, backend: Any, cell: tuple[int, int]
) -> None:
    """Training must notice NaN: the value is NaN wherever the cell is."""
    (matrix,) = costs(rng, [(9, 9)])
    matrix[cell] = np.nan
    value = soft_dtw(padded([matrix]), torch.tensor([9]), torch.tensor([9]), 0.1, backend)
    assert torch.isnan(value).all()


@backends
def test_second_derivative_is_refused(rng: np.random.Generator, backend: Any) -> None:
    """Also where other terms have one, and the first derivative is the same with its graph."""
    cost = torch.from_numpy(rng.uniform(0, 4, (1, 5, 6))).requires_grad_()
    sizes = torch.tensor([5]), torch.tensor([6])
    loss = soft_dtw(cost, *sizes, 0.1, backend).sum() + cost.square().sum()
    (plain,) = torch.autograd.grad(loss, cost, retain_graph=True)
    (first,) = torch.autograd.grad(loss, cost, create_graph=True)
    assert torch.equal(first, plain)
    with pytest.raises(RuntimeError, match="differentiated once"):
        first.square().sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_fp32(rng: np.random.Generator, dtype: torch.dtype) -> None:
    """Values as of the same costs in fp32, the gradient in the costs' own type."""
    cost = torch.from_numpy(rng.uniform(0, 4, (2, 8, 9))).to(dtype).requires_grad_()
    same = cost.detach().float().requires_grad_()
    sizes = torch.tensor([8, 5]), torch.tensor([9, 9])
    value, wanted = soft_dtw(cost, *sizes, 0.1), soft_dtw(same, *sizes, 0.1)
    assert value.dtype == torch.float32
    assert torch.equal(value, wanted)
    value.sum().backward()
    wanted.sum().backward()
    assert cost.grad is not None
    assert same.grad is not None
    assert cost.grad.dtype == dtype
    assert torch.equal(cost.grad, same.grad.to(dtype))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cost": torch.zeros(3, 4)}, r"\[B, N, M\]"),
        ({"cost": torch.zeros(2, 3, 4, dtype=torch.int64)}, "floating-point"),
        ({"x_lengths": torch.tensor([3])}, "x_lengths"),
        ({"x_lengths": torch.tensor([0, 3])}, "x_lengths: must be 1 to 3"),
        ({"y_lengths": torch.tensor([4, 5])}, "y_lengths: must be 1 to 4"),
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": float("nan")}, "gamma"),
        ({"backend": "cuda"}, "backend"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], told: str) -> None:
    """Wrong shapes, lengths, gamma and backend."""
    good = {
        "cost": torch.zeros(2, 3, 4), "x_lengths": torch.tensor([3, 2]),
        "y_lengths": torch.tensor([4, 4]), "gamma": 0.1,
    }  # fmt: skip
    soft_dtw(**good)
    with pytest.raises(ValueError, match=told):
        soft_dtw(**good | change)
