"""Is a corpus whole? Rows, labels and every recording, against the sizes that are published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ssft_bench.audio import BrokenAudio
from ssft_bench.audio_check import check_audio
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError

SPLITS = ("train", "dev", "test")
_T = TypeVar("_T")


@dataclass
class Counted:
    """What is there of one split; None where it could not be read."""

    utterances: list[Utterance] | None = None
    queries: list[Utterance] = field(default_factory=list)
    documents: list[Utterance] | None = None
    with_entities: list[Utterance] | None = None
    """The rows as NER wants them."""
    hours: float | None = None
    remarks: list[str] = field(default_factory=list)

    def recordings(self) -> dict[str, Utterance]:
        """Everything that is read, each once."""
        rows = [*(self.utterances or ()), *self.queries, *(self.documents or ())]
        return {row.id: row for row in rows}


def check(corpus: Corpus) -> dict[str, Any]:
    """A report as JSON: `splits`, `figures`, `problems`, `status` (whole, differs or missing).

    Decodes every recording once; good ones are remembered (see `check_audio`). Raises nothing for what is
    absent or broken: that is in `problems`, all of it.
    """
    problems: list[str] = []
    counted = {split: _count(corpus, split, problems) for split in SPLITS}
    figures = [_compared(figure, counted) for figure in corpus.figures()]
    differs = any(row["agrees"] is False for row in figures)
    return {
        "corpus": corpus.name,
        "root": str(corpus.root) if corpus.root else None,
        "source": corpus.source,
        "status": "missing" if problems else "differs" if differs else "whole",
        "splits": {split: _described(found) for split, found in counted.items()},
        "figures": figures,
        "problems": problems,
    }


def _count(corpus: Corpus, split: str, problems: list[str]) -> Counted:
    found = Counted(utterances=_tried(lambda: corpus.utterances(split), problems))
    if found.utterances is None:
        return found
    if "qbe" in corpus.tasks:
        found.queries = _tried(lambda: corpus.queries(split), problems) or []
        found.documents = _tried(lambda: corpus.documents(split), problems)
    if "ner" in corpus.tasks:
        found.with_entities = _tried(lambda: corpus.for_task("ner").utterances(split), problems)
    found.remarks = _tried(lambda: corpus.remarks(split), problems) or []
    rows = list(found.recordings().values())
    try:
        audio = check_audio(rows, label=f"checking {split}", source=corpus.source)
        found.hours = audio.hours
        found.remarks += audio.warnings
    except BrokenAudio as error:
        problems += error.problems
    return found


def _tried(read: Callable[[], _T], problems: list[str]) -> _T | None:
    """What `read` gives, or None and its problem, said once."""
    try:
        return read()
    except MissingError as error:
        if str(error) not in problems:
            problems.append(str(error))
        return None


def _compared(figure: Figure, counted: dict[str, Counted]) -> dict[str, Any]:
    """A number that is expected beside the counted one; `agrees` is None where they are not compared."""
    value = _value(figure.quantity, [counted[split] for split in figure.splits])
    agrees = None
    if value is not None and figure.status != "unverified":
        agrees = abs(value - figure.value) <= figure.tolerance
    return {
        "quantity": figure.quantity,
        "splits": list(figure.splits),
        "expected": figure.value,
        "counted": value,
        "agrees": agrees,
        "status": figure.status,
        "source": figure.source,
    }


def _value(quantity: str, parts: Sequence[Counted]) -> float | None:
    """A quantity over several splits; None where a split could not be read."""
    if any(part.utterances is None for part in parts):
        return None
    if quantity == "hours":
        hours = [part.hours for part in parts if part.hours is not None]
        return sum(hours) if len(hours) == len(parts) else None
    if quantity == "speakers":
        return len({row.speaker for part in parts for row in part.utterances or () if row.speaker})
    values = [_counts(part)[quantity] for part in parts]
    return None if None in values else sum(value or 0 for value in values)


def _counts(found: Counted) -> dict[str, int | None]:
    rows, tagged, documents = found.utterances or [], found.with_entities, found.documents
    moods = {
        mood: sum(r.sentiment == mood for r in rows) for mood in ("negative", "neutral", "positive")
    }
    return {
        "utterances": len(rows),
        "queries": len(found.queries),
        "documents": None if documents is None else len(documents),
        "recordings": len(found.recordings()),
        "entities": None if tagged is None else sum(len(r.entities or ()) for r in tagged),
        **moods,
    }


def _described(found: Counted) -> dict[str, Any] | None:
    """A split in the report; None when it could not be read. What it does not have is left out."""
    if found.utterances is None:
        return None
    counts = {name: count for name, count in _counts(found).items() if count}
    if not found.queries:
        counts = {k: v for k, v in counts.items() if k not in ("documents", "recordings")}
    return {
        "utterances": 0,
        **counts,
        "hours": None if found.hours is None else round(found.hours, 4),
        "speakers": int(_value("speakers", [found]) or 0) or None,
        "remarks": found.remarks,
    }


def text(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"corpus {report['corpus']} in {report['root'] or 'the package'}: {report['status']}"]
    for split, found in report["splits"].items():
        lines.append(f"  {split}: {_split_text(found)}")
        lines += [f"    note: {remark}" for remark in (found or {}).get("remarks", ())]
    lines += [f"  {_figure_text(row)}" for row in report["figures"]]
    lines += [f"  missing or broken: {problem}" for problem in report["problems"]]
    return "\n".join(lines)


def _split_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return "cannot be read"
    counts = [
        f"{v} {k}" for k, v in found.items() if k not in ("hours", "remarks") and v is not None
    ]
    hours = "hours unknown" if found["hours"] is None else f"{found['hours']:.2f} h"
    return ", ".join([*counts, hours])


def _figure_text(row: dict[str, Any]) -> str:
    mark = {True: "agrees", False: "DIFFERS", None: "not compared"}[row["agrees"]]
    value = "not counted" if row["counted"] is None else f"counted {row['counted']:.4g}"
    if isinstance(row["counted"], int):
        value = f"counted {row['counted']}"
    where = " + ".join(row["splits"])
    word = {"verified": "published", "derived": "expected"}.get(
        row["status"], "recalled, unverified:"
    )
    return f"{mark}: {row['quantity']} of {where}: {value}, {word} {row['expected']:g} ({row['source']})"
