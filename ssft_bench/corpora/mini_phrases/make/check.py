"""Tests the made corpus against what was asked of it; a problem is one line of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssft_bench.corpora.mini.make import lexicon
from ssft_bench.corpora.mini.make.check import (
    Row,
    audio_files,
    duration,
    labels,
    of_split,
    queries,
    read_manifest,
    speakers_apart,
)
from ssft_bench.corpora.mini.make.entities import TAGS
from ssft_bench.corpora.mini.make.grammar import SENTIMENTS

MAX_BYTES = 8_000_000
MINUTES = {"train": (15.0, 18.0), "dev": (4.5, 6.0), "test": (11.0, 13.0)}
SECONDS = (1.2, 7.0)  # of an utterance
SPEAKERS = {"train": 15, "dev": 6, "test": 26}
MAX_WORDS = 125


def _splits(rows: Sequence[Row]) -> Iterator[str]:
    """Durations, speakers, phones and labels of each split; sentences and persons in one split only."""
    texts = Counter(row["text"] for row in rows if row["kind"] == "utterance")
    yield from speakers_apart(rows)
    yield from (f"'{text}' is said {count} times" for text, count in texts.items() if count > 1)
    words = {word for row in rows for word in row["text"].split()}
    if len(words) > MAX_WORDS:
        yield f"{len(words)} distinct words"
    trained = {word for row in of_split(rows, "train") for word in row["text"].split()}
    if words - trained:
        yield f"words that training lacks: {sorted(words - trained)}"
    for split, span in MINUTES.items():
        members = of_split(rows, split)
        yield from duration(split, members, span)
        if len({row["speaker"] for row in members}) != SPEAKERS[split]:
            yield f"{split} has other speakers"
        if {phone for row in members for phone in row["phones"]} != lexicon.PHONES:
            yield f"{split} lacks phones"
        yield from _balance(split, members)


def _balance(split: str, members: Sequence[Row]) -> Iterator[str]:
    """Shares of sentiments and entities."""
    moods = Counter(row["sentiment"] for row in members)
    for mood in SENTIMENTS:
        if abs(moods[mood] / len(members) - 1 / 3) > 0.06:
            yield f"{split}: {moods[mood]} of {len(members)} utterances are {mood}"
    having = sum(bool(row["entities"]) for row in members) / len(members)
    if abs(having - 0.75) > 0.08 or any(len(row["entities"]) > 2 for row in members):
        yield f"{split}: {having:.2f} of the utterances have entities"
    tags = Counter(entity["tag"] for row in members for entity in row["entities"])
    yield from (f"{split}: {tags[tag]} entities {tag}" for tag in TAGS if tags[tag] < 10)


def check(corpus: Path) -> list[str]:
    """All problems of the corpus in the folder `corpus`."""
    rows = read_manifest(corpus)
    words = lexicon.read(corpus / "lexicon.txt")
    found = [*labels(rows, words), *_splits(rows), *queries(rows)]
    return found + list(audio_files(rows, corpus, SECONDS, MAX_BYTES))
