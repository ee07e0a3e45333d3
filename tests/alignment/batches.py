"""Padded batches with NaN in the padding, and what tests are repeated over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.alignment.references import Array

backends = pytest.mark.parametrize("backend", ["compiled", "torch"])
gammas = pytest.mark.parametrize("gamma", [1.0, 0.1, 0.01])


def padded(
    arrays: Sequence[Array], dtype: torch.dtype = torch.float64, room: tuple[int, int] = (2, 2)
) -> Tensor:
    """Matrices in one tensor that requires a gradient, with `room` to spare; NaN where none is."""
    shape = np.max([a.shape for a in arrays], axis=0) + room
    batch = torch.full((len(arrays), *shape), torch.nan, dtype=dtype)
    for row, array in zip(batch, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape)] = torch.from_numpy(array)
    return batch.requires_grad_()


def sides(arrays: Sequence[Array], dtype: torch.dtype = torch.float64) -> Tensor:
    """Frames of different lengths in one tensor, as `padded`."""
    return padded(arrays, dtype, (2, 0))


def lengths(arrays: Sequence[Array], axis: int = 0) -> Tensor:
    """Real sizes along an axis, [B]."""
    return torch.tensor([a.shape[axis] for a in arrays])


def costs(
    rng: np.random.Generator, shapes: Sequence[tuple[int, int]], top: float = 4.0
) -> list[Array]:
    """Random cost matrices from 0 to `top`."""
    return [rng.uniform(0, top, shape) for shape in shapes]


def unit_frames(rng: np.random.Generator, number: int, dim: int = 6) -> Array:
    """[number, dim]: random frames of length 1 that change slowly, as speech does."""
    steps = rng.normal(size=(number, dim)) * 0.4
    frames = rng.normal(size=dim) + np.cumsum(steps, axis=0)
    return frames / np.linalg.norm(frames, axis=1, keepdims=True)


def grad(tensor: Tensor) -> NDArray[np.float64]:
    """The gradient as a float64 array."""
    assert tensor.grad is not None
    return tensor.grad.double().numpy()


def apart(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Norm of the difference over the norm of what is wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
