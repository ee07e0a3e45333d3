"""The card's numbers, counted from the manifest and from what `score` measured."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ssft_bench.corpora.mini.make import check, lexicon
from ssft_bench.corpora.mini.make.entities import TAGS
from ssft_bench.corpora.mini.make.grammar import SENTIMENTS

Row = dict[str, Any]
BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
SPLITS = ("train", "dev", "test")


def table(head: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def minutes(rows: Iterable[Row]) -> float:
    """Duration in minutes."""
    return float(sum(row["samples"] for row in rows) / check.SAMPLE_RATE / 60)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def splits_table(rows: Sequence[Row]) -> str:
    """One line per split, with what it holds."""
    body = []
    seen = {word for row in check.of_split(rows, "train") for word in row["text"].split()}
    for split in SPLITS:
        members = check.of_split(rows, split)
        queries = [row for row in rows if row["split"] == split and row["kind"] == "query"]
        words = [word for row in members for word in row["text"].split()]
        new = sum(word not in seen for word in words) / len(words)
        distinct = [len({row[key] for row in members}) for key in ("session", "speaker", "engine")]
        said = [len(words), len(set(words)), _percent(new), sum(len(r["phones"]) for r in members)]
        spoken = f"{len(queries)} ({60 * minutes(queries):.0f} s)"
        body.append([split, f"{minutes(members):.1f}", len(members), *distinct, *said, spoken])
    head = [
        "split", "minutes", "utterances", "sessions", "speakers", "engines", "words", "word types",
        "words unseen in train", "phones", "queries",
    ]  # fmt: skip
    return table(head, body)


def labels_table(rows: Sequence[Row]) -> str:
    """Entities and sentiments of each split."""
    body = []
    for split in SPLITS:
        members = check.of_split(rows, split)
        tags = Counter(entity["tag"] for row in members for entity in row["entities"])
        having = sum(bool(row["entities"]) for row in members) / len(members)
        moods = Counter(row["sentiment"] for row in members)
        shares = [_percent(moods[name] / len(members)) for name in SENTIMENTS]
        body.append([split, *(tags[tag] for tag in TAGS), _percent(having), *shares])
    return table(["split", *TAGS, "with entities", *SENTIMENTS], body)


def independence_table(rows: Sequence[Row]) -> str:
    """Cramer's V of labels that should not depend on each other."""
    titles = list(check.associations(check.of_split(rows, "train")))
    body = [
        [title, *(
            f"{check.cramers_v(check.associations(check.of_split(rows, split))[title]):.2f}"
            for split in SPLITS
        )]
        for title in titles
    ]  # fmt: skip
    return table(["labels", *SPLITS], body)


def voices_table(rows: Sequence[Row], wer: dict[str, Any]) -> str:
    """Minutes and word error rate of each speaker in each engine."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["kind"] == "utterance":
            groups.setdefault((row["split"], row["speaker"], row["engine"]), []).append(row)
    order = sorted(groups, key=lambda key: (SPLITS.index(key[0]), *key[1:]))
    body = []
    for split, speaker, engine in order:
        measured = wer["speaker"].get(speaker)
        rate = f"{measured['wer']:.3f} ({measured['utterances']})" if measured else "not measured"
        size = f"{minutes(groups[split, speaker, engine]):.1f}"
        body.append([split, speaker, engine, size, rate])
    return table(["split", "speaker", "engine", "minutes", "WER of the speaker (utterances)"], body)


def phone_counts(rows: Sequence[Row]) -> str:
    """The rarest phones of each split."""
    lines = []
    for split in SPLITS:
        counts: Counter[str] = Counter()
        for row in check.of_split(rows, split):
            counts.update(row["phones"])
        rarest = sorted(counts, key=lambda phone: counts[phone])[:5]
        rare = ", ".join(f"{phone} {counts[phone]}" for phone in rarest)
        lines.append(f"* {split}: {len(counts)} of {len(lexicon.PHONES)} phones, rarest: {rare}")
    return "\n".join(lines)


def wer_table(wer: dict[str, Any]) -> str:
    """Word error rates by split and by engine."""
    body = [["all", wer["utterances"], f"{wer['wer']:.3f}"]]
    for kind in ("split", "engine"):
        for name, cell in wer[kind].items():
            body.append([f"{kind} {name}", cell["utterances"], f"{cell['wer']:.3f}"])
    exact = (
        f"Of {wer['queries']} isolated queries {wer['queries_exact']} were heard exactly as said."
    )
    return table(["part", "utterances", "WER"], body) + "\n\n" + exact


def numbers(corpus: Path, wer: dict[str, Any]) -> str:
    """The generated part of the card."""
    rows = check.read_manifest(corpus)
    size = sum((corpus / row["audio"]).stat().st_size for row in rows)
    share = {
        engine: minutes(r for r in rows if r["engine"] == engine) / minutes(rows)
        for engine in sorted({row["engine"] for row in rows})
    }
    types = {word for row in rows for word in row["text"].split()}
    seconds = [r["samples"] / check.SAMPLE_RATE for r in rows if r["kind"] == "utterance"]
    intro = (
        f"{minutes(rows):.1f} minutes in {len(rows)} files of {size / 1e6:.1f} MB in all; "
        f"{len({row['speaker'] for row in rows})} speakers, {len(types)} distinct words. Utterances "
        f"last {min(seconds):.1f} to {max(seconds):.1f} s, the middle one {median(seconds):.1f} s. "
        "Share of the audio: "
        + ", ".join(f"{name} {_percent(part)}" for name, part in share.items())
        + "."
    )
    parts = [
        "### Splits", intro, splits_table(rows), phone_counts(rows),
        "### Entities and sentiment", labels_table(rows),
        "### Independence (bias-corrected Cramer's V; 0 is independent)", independence_table(rows),
        "### Intelligibility", wer_table(wer), "### Voices", voices_table(rows, wer),
    ]  # fmt: skip
    return "\n\n".join(parts)


def replace_numbers(card: Path, text: str) -> None:
    """Put `text` between the marks of a card."""
    before, rest = card.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    card.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def update_card(corpus: Path, wer_file: Path) -> None:
    """Replace the generated part of `README.md` in the corpus' folder."""
    wer = json.loads(wer_file.read_text(encoding="utf-8"))
    replace_numbers(corpus / "README.md", numbers(corpus, wer))
