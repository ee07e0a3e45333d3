"""A drawn seed that is shown on failure, and pages of made-up runs."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest

from tests.report.runs import finish, labels, searches, several


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # pytest shows it on failure
    return np.random.default_rng(seed)


@pytest.fixture
def runs(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three upstreams with three seeds on asr, a search without curves, and a task of labels."""
    root = tmp_path / "runs"
    several(root, rng, {"hubert_mini": 0.5, "score_hubert": 0.2, "spin_hubert": 0.5})
    for upstream in ("hubert_mini", "fbank"):
        finish(root, searches(rng), upstream=upstream, interface="layer", task="qbe", usage=None)
        finish(root, labels(rng), upstream=upstream, task="sa")
    return root
