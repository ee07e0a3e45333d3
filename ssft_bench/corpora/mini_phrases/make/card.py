"""The card's numbers, counted from the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssft_bench.corpora.mini.make import check, statistics
from ssft_bench.corpora.mini.make.check import Row


def numbers(corpus: Path) -> str:
    """The generated part of the card."""
    rows = check.read_manifest(corpus)
    size = sum((corpus / row["audio"]).stat().st_size for row in rows)
    words = {word for row in rows for word in row["text"].split()}
    speakers = {row["speaker"] for row in rows}
    intro = (
        f"{statistics.minutes(rows):.1f} minutes in {len(rows)} files of {size / 1e6:.1f} MB in all; "
        f"{len(speakers)} speakers, {len(words)} distinct words."
    )
    return "\n\n".join([
        "### Splits", intro, _splits(rows), statistics.phone_counts(rows),
        "### Entities and sentiment", statistics.labels_table(rows),
        "### Independence (bias-corrected Cramer's V; 0 is independent)",
        statistics.independence_table(rows),
        "### Voices", _voices(rows),
    ])  # fmt: skip


def _splits(rows: Sequence[Row]) -> str:
    """One line per split, with what it holds."""
    body = []
    for split in statistics.SPLITS:
        members = check.of_split(rows, split)
        queries = sum(row["split"] == split and row["kind"] == "query" for row in rows)
        words = sum(len(row["text"].split()) for row in members)
        entities = sum(len(row["entities"]) for row in members)
        speakers = len({row["speaker"] for row in members})
        length = f"{statistics.minutes(members):.1f}"
        body.append([split, length, len(members), speakers, words, entities, queries])
    head = ["split", "minutes", "utterances", "speakers", "words", "entities", "queries"]
    return statistics.table(head, body)


def _voices(rows: Sequence[Row]) -> str:
    """The speakers of each split by engine."""
    body = []
    for split in statistics.SPLITS:
        for engine in ("flite", "festival", "espeak"):
            members = [r for r in rows if r["split"] == split and r["engine"] == engine]
            names = ", ".join(sorted({row["speaker"] for row in members}))
            if names:
                body.append([split, engine, f"{statistics.minutes(members):.1f}", names])
    return statistics.table(["split", "engine", "minutes", "speakers"], body)


def update_card(corpus: Path) -> None:
    """Replace the generated part of `README.md` in the corpus' folder."""
    statistics.replace_numbers(corpus / "README.md", numbers(corpus))
