"""Recordings, states and stores that the tests of the feature store make for themselves."""

from __future__ import annotations

import os
import secrets
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.feature_store import FeatureStore, StoreView
from tests.speech import noise, write

WIDTHS = {0: 7, 1: 7, 2: 5}
KEY = "a" * 64


def fresh_seed() -> int:
    """A new seed; pytest shows what was printed when a test fails."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return seed


def utterances(folder: Path, count: int, split: str = "train", seed: int = 0) -> list[Utterance]:
    """Rows with recordings of their own; files that are there stay as they are."""
    rows = []
    for n in range(count):
        path = folder / f"{split}{n}.wav"
        if not path.exists():
            rng = np.random.default_rng([seed, n, *split.encode()])
            write(path, noise(rng, 0.05))
        rows.append(Utterance(path.stem, path, split))
    return rows


def states_of(number: int, layers: Sequence[int], seed: int = 0, frames: int = 40) -> list[Tensor]:
    """Random states [T, D_l], the same for the same numbers."""
    made = []
    for layer in layers:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number * 101 + layer)
        length = 1 + int(torch.randint(frames, (), generator=generator))
        made.append(torch.randn(length, WIDTHS[layer], generator=generator))
    return made


def view_of(
    root: Path, layers: Sequence[int] = (0, 1, 2), dtype: str = "float32", quota: float = 1.0
) -> StoreView:
    """A view as a process of its own would have it: another store object each time."""
    return FeatureStore(root, quota).view(KEY, dtype, layers)


def same(got: Sequence[Tensor] | None, wanted: Sequence[Tensor]) -> bool:
    return (
        got is not None
        and len(got) == len(wanted)
        and all(torch.equal(g, w) for g, w in zip(got, wanted, strict=True))
    )


def in_child(work: Callable[[], object]) -> int:
    """Start a process that does this and ends, with 1 where it raises; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def ended(child: int) -> int:
    """Exit code of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def file_of(root: Path, name: str) -> Path:
    (found,) = root.glob(f"*/*/*/{name}")
    return found
