"""Single words spoken by many people: Picovoice's recordings for wake words.

Two layouts are read, that of https://github.com/Picovoice/wake-word-benchmark and one with tidy names:

    audio/{alexa,computer,smart mirror,view glass}/<name>.{flac,wav}
    keywords/{alexa,computer,smart_mirror,view_glass}/<name>.flac
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.held_out import rank, split_of
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError

WORDS = ("alexa", "computer", "smart_mirror", "view_glass")
DAMAGED = frozenset(
    f"alexa/{n}" for n in (32, 33, 34, 126, 127, 128, 129, 142, 144, 229, 272, 273, 274, 275)
)
"""Recordings that cannot be decoded in the public repository (commit 8491919); they are left out."""
QUERIES = 10
"""Queries of each word in dev and in test."""
SUFFIXES = (".flac", ".wav")


class Keywords(Corpus):
    """Four keywords spoken by more than 50 people (crowd-sourced, 16 kHz), 1.2 h: word against word.

    Splits are ours (`ssft_bench.corpora.held_out`): a fixed fifth is test, a fifth of the rest dev. In
    either, ten recordings of each word, by a hash of their names, are queries; the others are documents;
    those of the query's word match it. Speakers are not known, so one may be in several splits, and the
    documents are single words: a small stand-in for QUESST 2014, whose chance level is one in four.
    """

    name = "keywords"
    licence = "Apache-2.0"
    source = "https://github.com/Picovoice/wake-word-benchmark"
    tasks = ("qbe",)
    stands_in: ClassVar[dict[str, str]] = {
        "qbe": "documents are single words, one in four is a match: a stand-in for QUESST 2014"
    }

    def utterances(self, split: str) -> list[Utterance]:
        """Recordings of a split that are no queries, by word and name.

        Raises MissingError naming the word whose folder is absent or empty.
        """
        return [row for row in self._rows(split) if row.kind == "utterance"]

    def queries(self, split: str) -> list[Utterance]:
        """Ten recordings of each word for dev and test, none for train. Raises MissingError."""
        return [row for row in self._rows(split) if row.kind == "query"]

    def figures(self) -> list[Figure]:
        """Recordings of the public repository that can be decoded, documents and queries together."""
        counted = "counted in the repository at commit 8491919, without 14 damaged files"
        return [Figure("recordings", ("train", "dev", "test"), 1494, counted, "derived")]

    def _rows(self, split: str) -> list[Utterance]:
        if split not in ("train", "dev", "test"):
            raise UsageError(f"corpus keywords has no split {split!r}; splits: train, dev, test")
        rows = []
        for word, folder in self._folders().items():
            files = {
                f"{word}/{path.stem}": path
                for path in sorted(folder.iterdir())
                if path.suffix.lower() in SUFFIXES
            }
            names = [n for n in files if split_of(n) == split and n not in DAMAGED]
            if not names:
                raise MissingError(
                    f"{folder} has no recording of split {split}; get it from {self.source}"
                )
            asked = set(sorted(names, key=rank)[:QUERIES]) if split != "train" else set()
            text = word.replace("_", " ").upper()
            rows += [
                Utterance(
                    n, files[n], split, text=text, kind="query" if n in asked else "utterance"
                )
                for n in sorted(names)
            ]
        return rows

    def _folders(self) -> dict[str, Path]:
        """Word -> folder."""
        if self.root is None:
            raise MissingError(f"corpus keywords needs --data FOLDER; get it from {self.source}")
        below = ("", "keywords", "audio", "keywords/audio", "wake-word-benchmark/audio")
        for place in (self.root / part for part in below):
            for gap in ("_", " "):
                found = {word: place / word.replace("_", gap) for word in WORDS}
                if all(folder.is_dir() for folder in found.values()):
                    return found
        raise MissingError(
            f"no keywords in {self.root}: expected the folders {', '.join(WORDS)} there, in keywords or in "
            "audio; get it with `ssft-bench data get keywords` or mend --data FOLDER"
        )
