"""Silenced blocks and halves of Rewiring."""

from __future__ import annotations

import numpy as np
import pytest

from ssft_bench.errors import UsageError
from ssft_bench.perturbation import half, zero_block


def test_one_block_of_a_fifth_is_silent() -> None:
    rng = np.random.default_rng()
    for _ in range(200):
        count = int(rng.integers(5, 400))
        wave = rng.uniform(0.1, 0.5, count).astype(np.float32)
        before = wave.copy()
        done = zero_block(wave, rng)
        zeros = np.flatnonzero(done == 0)
        assert len(zeros) == count // 5
        np.testing.assert_array_equal(zeros, np.arange(zeros[0], zeros[0] + count // 5))
        rest = np.delete(np.arange(count), zeros)
        np.testing.assert_array_equal(done[rest], before[rest])
        np.testing.assert_array_equal(wave, before)


def test_the_start_covers_its_range() -> None:
    rng = np.random.default_rng()
    wave = np.ones(23, np.float32)  # m = 4: starts 0 to 14
    starts = [int(np.argmin(zero_block(wave, rng))) for _ in range(3000)]
    counts = np.bincount(starts)
    assert set(starts) == set(range(15))
    assert counts.min() > 200 * 0.6
    assert counts.max() < 200 * 1.4


def test_another_share() -> None:
    rng = np.random.default_rng()
    assert int((zero_block(np.ones(100, np.float32), rng, 10) == 0).sum()) == 10


def test_halves() -> None:
    rng = np.random.default_rng()
    for _ in range(50):
        n = int(rng.integers(5, 300))
        wave = rng.uniform(-1, 1, n).astype(np.float32)
        values = wave.tolist()
        assert half(wave, True).tolist() == values[: n // 2 - 1]
        assert half(wave, False).tolist() == values[n // 2 - 1 : -1]
        assert len(half(wave, True)) + len(half(wave, False)) == n - 1


@pytest.mark.parametrize("count", range(5))
def test_too_short(count: int) -> None:
    wave = np.ones(count, np.float32)
    with pytest.raises(UsageError, match=f"{count} samples"):
        zero_block(wave, np.random.default_rng())
    with pytest.raises(UsageError, match=f"{count} samples"):
        half(wave, True)


def test_same_generator_same_block() -> None:
    seed = int(np.random.default_rng().integers(1 << 30))
    wave = np.ones(1000, np.float32)
    first, second = (zero_block(wave, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    others = [zero_block(wave, np.random.default_rng(seed + 1 + k)) for k in range(5)]
    assert not all(np.array_equal(first, other) for other in others), seed
