"""One row per recording: what every corpus reader gives and every task takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entity:
    """A named entity inside an utterance's text."""

    tag: str
    """Entity type, e.g. PERSON."""
    start: int
    """Character offset into the text."""
    length: int
    """Number of characters."""


@dataclass(frozen=True)
class Utterance:
    """A recording with the labels its corpus has for it; what it has no label for is None."""

    id: str
    """Unique within the corpus."""
    audio: Path
    """File that soundfile can read."""
    split: str
    """train, dev or test."""
    speaker: str | None = None
    """None where the corpus does not tell."""
    text: str | None = None
    """Upper-case words, A-Z and apostrophe, single spaces."""
    phones: tuple[str, ...] | None = None
    """Phone labels of the utterance, first pronunciation of each word, no silence."""
    start: float | None = None
    """Seconds into the file where the utterance begins; None for the whole file."""
    end: float | None = None
    """Seconds into the file where it ends; None for the end of the file."""
    session: str | None = None
    """Recording session or topic that consecutive segments share."""
    segment: int | None = None
    """0-based position in the session."""
    entities: tuple[Entity, ...] | None = None
    """Named entities, in order."""
    sentiment: str | None = None
    """negative, neutral or positive."""
    kind: str = "utterance"
    """utterance, or query (an isolated spoken term for query-by-example)."""
    gain_db: float = 0.0
    """Change of level on reading, where a benchmark's recipe asks for one (QUESST 2014: -3)."""
