"""Recordings and corpora that tests make for themselves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ssft_bench.corpora.manifest import Utterance

Wave = NDArray[np.float32]


def noise(rng: np.random.Generator, seconds: float = 0.3, rate: int = 16000) -> Wave:
    """White noise, float32 [samples], well below full scale."""
    return rng.uniform(-0.3, 0.3, round(seconds * rate)).astype(np.float32)


def murmur(rng: np.random.Generator, seconds: float = 0.3, rate: int = 16000) -> Wave:
    """Smooth like speech, unlike white noise: most of its energy is below 500 Hz."""
    time = np.arange(round(seconds * rate)) / rate
    parts = [np.sin(2 * np.pi * (f * time + rng.random())) for f in rng.uniform(80, 500, 5)]
    return (0.1 * np.sum(parts, axis=0)).astype(np.float32)


def sine(hertz: float, seconds: float, rate: int) -> Wave:
    """A sine of amplitude 0.5, float32 [samples]."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def write(path: Path, wave: Wave, rate: int = 16000, subtype: str | None = None) -> Path:
    """Write [samples] or [samples, channels] in the format of the suffix; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".sph": "NIST"}.get(path.suffix)
    soundfile.write(path, wave, rate, subtype=subtype, format=kind)
    return path


def rows(*paths: Path) -> list[Utterance]:
    """Manifest rows without labels, the file's name as identifier."""
    return [Utterance(path.stem, path, "train") for path in paths]


def real_data(folder: str) -> Path:
    """A folder of real recordings for development, or a visible skip where there is none."""
    place = os.environ.get("SSFT_BENCH_TEST_DATA")
    root = Path(place) if place else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (root / folder).is_dir():
        pytest.skip(f"no {folder} in {root}; SSFT_BENCH_TEST_DATA says where it lies")
    return root / folder
