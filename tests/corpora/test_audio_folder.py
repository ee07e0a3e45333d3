"""A folder of recordings is a training split without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssft_bench.corpora.audio_folder import AudioFolder
from ssft_bench.errors import MissingError, UsageError
from tests.speech import murmur, write


def test_everything_below_is_train(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    for name in ("b/2.flac", "b/1.WAV", "a.wav", "c/d/e.f.ogg"):
        write(tmp_path / name, murmur(rng))
    (tmp_path / "b/notes.txt").write_text("no sound")
    corpus = AudioFolder(tmp_path)
    rows = corpus.utterances("train")
    assert [row.id for row in rows] == ["a", "b/1", "b/2", "c/d/e.f"]
    assert all(row.audio.is_file() and row.text is None for row in rows)
    assert corpus.utterances("dev") == corpus.utterances("test") == []
    with pytest.raises(UsageError, match="splits"):
        corpus.utterances("valid")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no recording"):
        AudioFolder(tmp_path).utterances("train")
    with pytest.raises(MissingError, match="--data"):
        AudioFolder().utterances("train")
