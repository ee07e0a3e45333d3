"""The audio pretraining may hear: which files, which are kept out, and their samples in memory.

Nobody's test part is ever read: see `recorded_files` and `embedded_files`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from ssft_bench.corpora.held_out import held_out
from ssft_bench.corpora.mini_corpus import Mini, MiniPhrases
from ssft_bench.errors import MissingError

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Recording:
    """One utterance: mono samples at 16 kHz as int16."""

    corpus: str
    name: str
    samples: NDArray[np.int16]

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / SAMPLE_RATE


def recorded_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (corpus, file) of the recorded corpora below `root`, test parts left out.

    an4: the training fileids. librispeech: train-clean-100. keywords, speech_to_intent: what
    `held_out` does not keep for tests. A corpus that is absent is skipped.
    """
    fileids = root / "an4/etc/an4_train.fileids"
    if fileids.exists():
        for line in sorted(fileids.read_text().split()):
            yield "an4", root / "an4/wav" / f"{line}.flac"
    for path in sorted((root / "librispeech_subset/LibriSpeech/train-clean-100").rglob("*.flac")):
        yield "librispeech", path
    for corpus in ("keywords", "speech_to_intent"):
        for path in sorted((root / corpus).rglob("*.flac")):
            if not held_out(path):
                yield corpus, path


def embedded_files() -> Iterator[tuple[str, Path]]:
    """Yield (corpus, file) for the training splits of the package's own corpora."""
    for corpus in (Mini(), MiniPhrases()):
        for path in sorted(row.audio for row in corpus.utterances("train")):
            yield corpus.name, path


def synthetic_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield ("synthetic", file) for what `pretraining.synthetic` has left in `folder`."""
    for path in sorted(folder.glob("*.flac")):
        yield "synthetic", path


def read_recordings(files: Iterable[tuple[str, Path]], min_seconds: float) -> list[Recording]:
    """Read everything once; recordings shorter than `min_seconds` are left out.

    Raises MissingError when a file is absent, has another sampling rate, or nothing is left.
    """
    found = []
    for corpus, path in files:
        try:
            samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
        except (OSError, RuntimeError) as error:
            raise MissingError(f"cannot read the recording {path}: {error}") from error
        if rate != SAMPLE_RATE:
            raise MissingError(f"{path} has {rate} Hz; pretraining wants {SAMPLE_RATE}.")
        if len(samples) >= min_seconds * SAMPLE_RATE:
            found.append(Recording(corpus, f"{path.parent.name}/{path.stem}", samples[:, 0].copy()))
    if not found:
        raise MissingError("no recording to pretrain on: check --data.")
    return found


def normalised(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Zero mean and unit variance over the utterance, as `normalize=True` of HuBERT and wav2vec 2.0."""
    wave = samples.astype(np.float32) / 32768
    return np.asarray((wave - wave.mean()) / np.sqrt(wave.var() + 1e-5), dtype=np.float32)


def hours_by_corpus(recordings: Iterable[Recording]) -> dict[str, float]:
    """Hours of each corpus, for logs and cards."""
    hours: dict[str, float] = {}
    for r in recordings:
        hours[r.corpus] = hours.get(r.corpus, 0.0) + r.seconds / 3600
    return {k: round(v, 3) for k, v in hours.items()}
