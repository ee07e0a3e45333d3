"""Small corpora in the official layouts, made of noise."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.speech import Wave, noise, write

SHORT = noise(np.random.default_rng(0), 0.1)


def librispeech(folder: Path, chapters: Mapping[str, Sequence[str]], wave: Wave = SHORT) -> None:
    """`<speaker>/<chapter>` -> texts, each a recording of its own."""
    for chapter, texts in chapters.items():
        stem = chapter.replace("/", "-")
        for i in range(len(texts)):
            write(folder / chapter / f"{stem}-{i:04d}.flac", wave)
        lines = [f"{stem}-{i:04d} {text}\n" for i, text in enumerate(texts)]
        (folder / chapter / f"{stem}.trans.txt").write_text("".join(lines))


def tsv(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """A table as pandas writes it: fields with quotes in them are quoted."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def encoded(wave: Wave, rate: int = 16000, kind: str = "FLAC") -> bytes:
    """The bytes of a sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=kind)
    return buffer.getvalue()


def parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A parquet file as Hugging Face's datasets write it; skips the test without pyarrow."""
    import pytest

    pytest.importorskip("pyarrow", reason="parquet files need the extra hf")
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
