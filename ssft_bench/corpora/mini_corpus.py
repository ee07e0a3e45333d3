"""The corpora that come with the package: synthetic speech with labels for all five tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.lexicon import numbered_lines
from ssft_bench.corpora.manifest import Entity, Utterance
from ssft_bench.errors import MissingError, UsageError


class Mini(Corpus):
    """Embedded synthetic speech of several text-to-speech engines; needs no download.

    Numbers on it compare methods with each other while they are built. They say nothing about
    real speech: every voice is a machine's.
    """

    name = "mini"
    licence = "CC BY 4.0"
    source = "the ssft-bench package itself"
    needs_root = False
    synthetic = True
    tasks = ("asr", "pr", "qbe", "ner", "sa")
    phone_set = "arpabet39"

    def __init__(self, root: Path | None = None, *, folder: Path | None = None) -> None:
        """`root` is not used; `folder` holds another `manifest.jsonl` and its audio, for tests."""
        super().__init__(root)
        self.folder = Path(folder or Path(__file__).parent / self.name)

    def utterances(self, split: str) -> list[Utterance]:
        """Sentences of train, dev or test in the manifest's order.

        Raises MissingError naming the manifest, and its line when one is broken.
        """
        return [row for row in self._rows(split) if row.kind == "utterance"]

    def queries(self, split: str) -> list[Utterance]:
        """Isolated spoken terms of a split, the queries of query-by-example. May be empty."""
        return [row for row in self._rows(split) if row.kind == "query"]

    def _rows(self, split: str) -> list[Utterance]:
        if split not in ("train", "dev", "test"):
            raise UsageError(f"corpus {self.name} has no split {split!r}; splits: train, dev, test")
        path = self.folder / "manifest.jsonl"
        if not path.is_file():
            raise MissingError(f"{path} is missing; install ssft-bench anew")
        rows = []
        for number, line in numbered_lines(path):
            try:
                row = _utterance(json.loads(line), self.folder)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                what = f"{type(error).__name__}: {error}"
                raise MissingError(f"{path}:{number} is broken ({what}); install anew") from error
            if row.split == split:
                rows.append(row)
        return rows


class MiniPhrases(Mini):
    """Embedded synthetic speech: short sentences, 119 words in all, for tasks about words.

    The sentences of `mini` are too long and too varied for what a small head learns in minutes.
    """

    name = "mini_phrases"


def _utterance(row: dict[str, Any], folder: Path) -> Utterance:
    """A manifest line; labels that a row lacks are null or left out."""
    phones, entities = row.get("phones"), row.get("entities")
    if entities is not None:
        entities = tuple(Entity(one["tag"], one["start"], one["length"]) for one in entities)
    return Utterance(
        id=row["id"],
        audio=folder / row["audio"],
        split=row["split"],
        speaker=row["speaker"],
        text=row["text"],
        phones=None if phones is None else tuple(phones),
        session=row.get("session"),
        segment=row.get("segment"),
        entities=entities,
        sentiment=row.get("sentiment"),
        kind=row["kind"],
    )
