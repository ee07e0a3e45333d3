"""Tests the made corpus against what was asked of it; a problem is one line of text.

Needs soundfile and numpy, no engine. `check` gives the list of problems (empty is good).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ssft_bench.corpora.mini.make import lexicon
from ssft_bench.corpora.mini.make.entities import TAGS

Row = dict[str, Any]
KEYS = (
    "id", "kind", "split", "audio", "samples", "speaker", "engine", "text", "phones", "session",
    "segment", "entities", "sentiment", "conditions", "sha256",
)  # fmt: skip
SAMPLE_RATE = 16_000
MAX_BYTES = 14_000_000
MINUTES = {"train": (36.0, 46.0), "dev": (7.0, 10.0), "test": (7.0, 10.0)}
SECONDS = (2.0, 9.5)  # of an utterance
SENTIMENT_SHARES = {"negative": 0.3, "neutral": 0.4, "positive": 0.3}
MAX_CRAMERS_V = 0.1
TEXT = re.compile(r"[A-Z']+( [A-Z']+)*")


def read_manifest(corpus: Path) -> list[Row]:
    """The rows of `manifest.jsonl`."""
    lines = (corpus / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def cramers_v(pairs: Sequence[tuple[str, str]]) -> float:
    """Strength of association of two labels: 0 is none, 1 is full.

    Bias-corrected (Bergsma 2013, doi 10.1016/j.jkss.2012.10.002): the plain V of labels that have
    nothing to do with each other is well above 0 in a small table.
    """
    firsts, seconds = sorted({a for a, _ in pairs}), sorted({b for _, b in pairs})
    table = np.zeros((len(firsts), len(seconds)))
    for a, b in pairs:
        table[firsts.index(a), seconds.index(b)] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    phi2 = float(((table - expected) ** 2 / expected).sum()) / len(pairs)
    rows, columns, n = len(firsts), len(seconds), len(pairs)
    phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (n - 1))
    smaller = min(size - (size - 1) ** 2 / (n - 1) for size in (rows, columns)) - 1
    return float(np.sqrt(phi2 / smaller)) if smaller > 0 else 0.0


def of_split(rows: Sequence[Row], split: str) -> list[Row]:
    """The utterances (no queries) of a split."""
    return [row for row in rows if row["split"] == split and row["kind"] == "utterance"]


def labels(rows: Sequence[Row], words: dict[str, list[str]]) -> Iterator[str]:
    """Form of each row: keys, text, phones, entity offsets."""
    for row in rows:
        name = row.get("id")
        if tuple(row) != KEYS:
            yield f"{name}: keys are {list(row)}"
        if not TEXT.fullmatch(row["text"]):
            yield f"{name}: text has other characters: {row['text']}"
        if row["phones"] != lexicon.phones_of(row["text"], words):
            yield f"{name}: phones differ from the lexicon's"
        for entity in row["entities"]:
            start, length = entity["start"], entity["length"]
            if entity["tag"] not in TAGS or row["text"][start : start + length] != entity["text"]:
                yield f"{name}: bad entity {entity}"
    for key in ("id", "audio"):
        if len({row[key] for row in rows}) != len(rows):
            yield f"{key}s are not unique"


def audio_files(
    rows: Sequence[Row], corpus: Path, span: tuple[float, float], max_bytes: int
) -> Iterator[str]:
    """Each file decodes to the stated samples, is loud enough and has the stated checksum.

    `span`: shortest and longest utterance in seconds; `max_bytes`: of all files together.
    """
    total = 0
    for row in rows:
        data = (corpus / row["audio"]).read_bytes()
        total += len(data)
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            yield f"{row['id']}: other sha256"
        audio, rate = soundfile.read(corpus / row["audio"], dtype="float32")
        if rate != SAMPLE_RATE or audio.shape != (row["samples"],):
            yield f"{row['id']}: {audio.shape} samples at {rate} Hz"
        if not np.isfinite(audio).all() or np.sqrt((audio**2).mean()) < 0.005:
            yield f"{row['id']}: silent or not finite"
        seconds = len(audio) / rate
        if row["kind"] == "utterance" and not span[0] <= seconds <= span[1]:
            yield f"{row['id']}: lasts {seconds:.1f} s"
    if total > max_bytes:
        yield f"{total} bytes of audio, more than {max_bytes}"
    stray = {p.relative_to(corpus).as_posix() for p in (corpus / "audio").rglob("*") if p.is_file()}
    yield from (f"{path} is in no row" for path in sorted(stray - {row["audio"] for row in rows}))


def speakers_apart(rows: Sequence[Row]) -> Iterator[str]:
    """Each speaker is in one split only."""
    splits = defaultdict(set)
    for row in rows:
        splits[row["speaker"]].add(row["split"])
    yield from (f"{s} is in {sorted(v)}" for s, v in splits.items() if len(v) > 1)


def duration(split: str, members: Sequence[Row], span: tuple[float, float]) -> Iterator[str]:
    """A split lasts as long as was asked, minutes."""
    minutes = sum(row["samples"] for row in members) / SAMPLE_RATE / 60
    if not span[0] <= minutes <= span[1]:
        yield f"{split} lasts {minutes:.1f} min"


def report(problems: Sequence[str]) -> int:
    """Print what `check` has found; the exit code."""
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problem(s)")
    return 1 if problems else 0


def _splits(rows: Sequence[Row]) -> Iterator[str]:
    """Durations, engines, phones of each split; speakers and sentences in one split only."""
    texts = defaultdict(set)
    for row in rows:
        if row["kind"] == "utterance":
            texts[row["text"]].add(row["split"])
    yield from speakers_apart(rows)
    yield from (f"'{t}' is in {sorted(v)}" for t, v in texts.items() if len(v) > 1)
    speakers = {row["speaker"] for row in rows}
    if len(speakers) < 16:
        yield f"only {len(speakers)} speakers"
    for split, span in MINUTES.items():
        members = of_split(rows, split)
        yield from duration(split, members, span)
        if len({row["engine"] for row in members}) < 3:
            yield f"{split} has fewer than 3 engines"
        phones = {phone for row in members for phone in row["phones"]}
        if phones != lexicon.PHONES:
            yield f"{split} lacks phones {sorted(lexicon.PHONES - phones)}"
        yield from _balance(split, members)
    if len({word for row in rows for word in row["text"].split()}) < 900:
        yield "fewer than 900 distinct words"


def _balance(split: str, members: Sequence[Row]) -> Iterator[str]:
    """Shares of sentiments and entities, and their independence of speaker and each other."""
    sentiments = Counter(row["sentiment"] for row in members)
    for name, share in SENTIMENT_SHARES.items():
        if abs(sentiments[name] / len(members) - share) > 0.05:
            yield f"{split}: {sentiments[name] / len(members):.2f} of the utterances are {name}"
    with_entity = sum(bool(row["entities"]) for row in members) / len(members)
    if abs(with_entity - 0.6) > 0.06 or any(len(row["entities"]) > 3 for row in members):
        yield f"{split}: {with_entity:.2f} of the utterances have entities"
    tags = Counter(entity["tag"] for row in members for entity in row["entities"])
    yield from (f"{split}: {tags[tag]} entities {tag}" for tag in TAGS if tags[tag] < 10)
    for title, pairs in associations(members).items():
        v = cramers_v(pairs)
        if v > MAX_CRAMERS_V:
            yield f"{split}: {title} are associated, Cramer's V {v:.2f}"


def associations(members: Sequence[Row]) -> dict[str, list[tuple[str, str]]]:
    """Pairs of labels that must be independent of each other."""
    entity = [(row, e["tag"]) for row in members for e in row["entities"]]
    return {
        "sentiment and speaker": [(row["sentiment"], row["speaker"]) for row in members],
        "sentiment and having entities": [
            (row["sentiment"], str(bool(row["entities"]))) for row in members
        ],
        "having entities and speaker": [
            (str(bool(row["entities"])), row["speaker"]) for row in members
        ],
        "entity type and speaker": [(tag, row["speaker"]) for row, tag in entity],
        "entity type and sentiment": [(tag, row["sentiment"]) for row, tag in entity],
    }


def _sessions(rows: Sequence[Row]) -> Iterator[str]:
    """Sessions have one speaker and segments 0, 1, 2, ...; queries have none."""
    sessions: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "query":
            if any(row[key] is not None for key in ("session", "segment", "sentiment")):
                yield f"{row['id']}: a query with a session or sentiment"
        else:
            sessions[row["session"]].append(row)
    for name, members in sessions.items():
        if [row["segment"] for row in members] != list(range(len(members))):
            yield f"{name}: segments are not numbered in order"
        if len({row["speaker"] for row in members}) != 1 or not 4 <= len(members) <= 8:
            yield f"{name}: {len(members)} segments, or several speakers"


def queries(rows: Sequence[Row]) -> Iterator[str]:
    """Each query is said in 3 utterances to a quarter of those of its split; long enough."""
    for row in (row for row in rows if row["kind"] == "query"):
        documents = [
            d for d in of_split(rows, row["split"]) if f" {row['text']} " in f" {d['text']} "
        ]
        share = len(documents) / len(of_split(rows, row["split"]))
        if len(documents) < 3 or share > 0.25 or len(row["phones"]) < 5:
            yield f"{row['id']}: {row['text']} is in {len(documents)} utterances"


def check(corpus: Path) -> list[str]:
    """All problems of the corpus in the folder `corpus`."""
    rows = read_manifest(corpus)
    words = lexicon.read(corpus / "lexicon.txt")
    found = [*labels(rows, words), *_splits(rows), *_sessions(rows), *queries(rows)]
    return found + list(audio_files(rows, corpus, SECONDS, MAX_BYTES))
