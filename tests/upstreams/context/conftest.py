"""Fixtures of the context tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssft_bench.corpora.manifest import Utterance
from tests.upstreams.context.segments import DIM, segments
from tests.upstreams.tiny import write_tiny


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """Weights of a small random HuBERT with dropout."""
    return write_tiny(tmp_path, seed=3, dropout=0.1, dim=DIM)


@pytest.fixture
def rows(tmp_path: Path) -> list[Utterance]:
    """See `segments`."""
    return segments(tmp_path)
