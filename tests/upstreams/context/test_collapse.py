"""The alarm of collapse: a constant vector raises, random ones do not; its numbers are the plain ones."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from ssft_bench.errors import CheckFailed
from ssft_bench.upstreams.context.collapse import DECAY, CollapseMonitor

SEEDS = [1, secrets.randbelow(2**31)]
NEAR, FAR = [(0, 1), (1, 2)], [(0, 3), (4, 2)]


def watch(monitor: CollapseMonitor, batch: torch.Tensor) -> dict[str, float]:
    logs = monitor.watch(batch, NEAR, FAR)
    monitor.require_spread()
    return logs


def train(monitor: CollapseMonitor, batches: Iterable[torch.Tensor]) -> None:
    for batch in batches:
        watch(monitor, batch)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e3])
def test_constant_vectors_raise_and_random_ones_do_not(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    constant = size * torch.randn(1, 32, generator=generator).expand(8, -1)
    monitor = CollapseMonitor(32)
    with pytest.raises(CheckFailed, match="collapsed"):
        train(monitor, [constant] * 40)
    assert int(monitor.seen) == 64
    if size:
        random = [size * torch.randn(8, 32, generator=generator) for _ in range(40)]
        train(CollapseMonitor(32), random)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collapse_on_the_way_is_noticed_and_shrinking_is_none(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shrinking = [0.9**step * torch.randn(8, 16, generator=generator) for step in range(400)]
    train(CollapseMonitor(16), shrinking)
    centre = torch.randn(1, 16, generator=generator)
    with pytest.raises(CheckFailed):
        train(CollapseMonitor(16), [centre + own for own in shrinking])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_numbers_are_the_plain_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [rng.standard_normal((5, 4)) + 2 for _ in range(3)]
    monitor = CollapseMonitor(4)
    logs = [watch(monitor, torch.from_numpy(b)) for b in batches][-1]
    mean, square = batches[0].mean(0), (batches[0] ** 2).mean(0)
    near, far = (np.mean([cosine(batches[0], *p) for p in pairs]) for pairs in (NEAR, FAR))
    for batch in batches[1:]:
        mean = DECAY * mean + (1 - DECAY) * batch.mean(0)
        square = DECAY * square + (1 - DECAY) * (batch**2).mean(0)
        near = DECAY * near + (1 - DECAY) * np.mean([cosine(batch, *p) for p in NEAR])
        far = DECAY * far + (1 - DECAY) * np.mean([cosine(batch, *p) for p in FAR])
    variance = square - mean**2
    assert logs["context_std"] == pytest.approx(np.sqrt(variance).mean())
    assert logs["context_spread"] == pytest.approx(np.sqrt(variance.sum() / square.sum()))
    assert logs["context_cosine_neighbours"] == pytest.approx(near)
    assert logs["context_cosine_strangers"] == pytest.approx(far)


def cosine(batch: np.ndarray, i: int, j: int) -> float:
    a, b = batch[i], batch[j]
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_what_was_never_seen_is_left_out_and_memory_survives() -> None:
    monitor = CollapseMonitor(4)
    assert monitor.numbers() == {}
    logs = monitor.watch(torch.randn(1, 4), [], [])
    assert set(logs) == {"context_std", "context_spread"}
    assert logs["context_std"] == 0
    monitor.require_spread()  # one vector is too few to tell
    other = CollapseMonitor(4)
    other.load_state_dict(monitor.state_dict())
    assert other.numbers() == monitor.numbers()
