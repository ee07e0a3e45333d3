"""Seeded generators that name their seed, and features that resemble speech a little."""

from __future__ import annotations

import numpy as np
import pytest

from ssft_bench.alignment.subsequence_dtw import Frames


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator; a failing test prints its seed."""
    seed = int(np.random.default_rng().integers(2**31))
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def features(rng: np.random.Generator, frames: int, dim: int = 32) -> Frames:
    """Frames [T, D], each a little like the one before, dimensions of very different sizes."""
    walk = rng.standard_normal((frames, dim))
    for t in range(1, frames):
        walk[t] += 0.8 * walk[t - 1]
    sizes = 10.0 ** np.linspace(-2, 2, dim)
    return np.asarray(sizes * (walk + np.linspace(-3, 3, dim)), np.float32)
