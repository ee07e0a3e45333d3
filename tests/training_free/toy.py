"""A corpus of tones with spoken queries, and what tests look up in records of runs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ssft_bench import results
from tests.conftest import HERTZ, spell
from tests.speech import write

Bench = Callable[..., tuple[int, str, str]]
Run = Callable[..., dict[str, Any]]


def corpus_of_tones(folder: Path) -> Path:
    """The layout of corpus mini: words of tones; queries of one word, some of them nowhere."""
    rng = np.random.default_rng(7)
    lines = []
    words = ["ABC", "BD", "EAD", "CCE", "DB", "AEA"]

    def add(kind: str, split: str, name: str, text: str) -> None:
        write(folder / f"{name}.wav", spell(text, rng))
        phones = [
            dict(zip(HERTZ, ("AA", "B", "K", "D", "IY"), strict=True))[c] for c in text if c != " "
        ]
        row = {
            "id": name,
            "kind": kind,
            "split": split,
            "audio": f"{name}.wav",
            "speaker": f"s{len(lines) % 3}",
        }
        lines.append(json.dumps({**row, "text": text, "phones": phones}))

    for split, documents in (("train", 6), ("dev", 14), ("test", 12)):
        for n in range(documents):
            add("utterance", split, f"{split}-{n:02d}", " ".join(rng.choice(words, 3)))
        for n, word in enumerate([*words, "EEEEE"] if split != "train" else []):
            add("query", split, f"{split}-q{n}", word)
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def folder_of(tmp_path: Path, record: dict[str, Any]) -> Path:
    (found,) = (tmp_path / "runs").rglob(f"{record['signature']}/result.json")
    return found.parent


def values(record: dict[str, Any], split: str) -> dict[str, float]:
    return {m["name"]: m["value"] for m in record["metrics"] if m["split"] == split}


def scores(folder: Path) -> dict[str, str]:
    return {p.id: p.hypothesis for p in results.load_predictions(folder)}
