"""SLUE-VoxPopuli: speeches of the European Parliament with transcripts and named entities."""

from __future__ import annotations

import ast
import copy
from pathlib import Path
from typing import Any

from ssft_bench.audio import listing
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.manifest import Entity, Utterance
from ssft_bench.corpora.slue import REPOSITORY, Record, Table, read_table
from ssft_bench.corpora.slue_text import asr_text, needs_respelling, ner_text
from ssft_bench.errors import MissingError

_TOOLKIT = "asappresearch/slue-toolkit README"
_COUNTED = "counted on the references in PyPI slue-evaluator 0.8"


class SlueVoxPopuli(Corpus):
    """SLUE-VoxPopuli v0.2: European Parliament speeches, 24 h, with 18 OntoNotes entity tags.

    Two texts: ASR's by default, without entities, and NER's with `for_task("ner")`, whose words are
    split and cleaned as SLUE does it. train is the official fine-tune split. `session` is the recording
    and paragraph, `segment` the index in it, read off the identifier; some indices are missing.
    """

    name = "slue_voxpopuli"
    licence = "CC0"
    source = REPOSITORY
    tasks = ("asr", "ner")
    audio = "{split}/{id}.ogg"

    def __init__(self, root: Path | None = None) -> None:
        """`root` holds `slue-voxpopuli` or Hugging Face's `slue`, or is `slue-voxpopuli` itself."""
        super().__init__(root)
        self._ner = False

    def for_task(self, task: str) -> Corpus:
        """For `ner`, the same recordings with NER's text and entities."""
        corpus = copy.copy(self)
        corpus._ner = task == "ner"
        return corpus

    def utterances(self, split: str) -> list[Utterance]:
        """Rows of train, dev or test in the order of the table.

        Raises MissingError naming a table, a column, a recording or a label that is absent or broken.
        """
        table = self._table(split)
        table.require("normalized_text", *(("normalized_ner",) if self._ner else ()))
        rows, problems = [], []
        for record in table.records:
            try:
                rows.append(self._row(record, split))
            except ValueError as error:
                problems.append(f"{record.where}: {record.id}: {error}")
        if problems:
            raise MissingError(
                f"{len(problems)} rows of {table.path} are unusable:{listing(problems)}"
            )
        return rows

    def _table(self, split: str) -> Table:
        return read_table(self.root, "voxpopuli", split, self.audio)

    def _row(self, record: Record, split: str) -> Utterance:
        text, entities = str(record.values["normalized_text"]), None
        if self._ner:
            text, entities = ner_text(text, read_entities(record.values["normalized_ner"]))
        else:
            text = asr_text(text)
        session, segment = place(record.id)
        return Utterance(
            record.id,
            record.audio,
            split,
            speaker=speaker(record.values.get("speaker_id")),
            text=text,
            session=session,
            segment=segment,
            entities=entities,
        )

    def figures(self) -> list[Figure]:
        """Sizes of v0.2, and entities as the toolkit's own references have them."""
        sizes = {"train": (5000, 14.5, 5820), "dev": (1753, 5.0, 1862), "test": (1842, 4.9, None)}
        figures = []
        for split, (count, hours, entities) in sizes.items():
            figures.append(Figure("utterances", (split,), count, _TOOLKIT))
            figures.append(Figure("hours", (split,), hours, _TOOLKIT))
            if entities:
                figures.append(Figure("entities", (split,), entities, _COUNTED, "derived"))
        return figures

    def remarks(self, split: str) -> list[str]:
        """Texts that have more than letters, apostrophes and the four signs that SLUE removes."""
        return respelled([str(r.values.get("normalized_text")) for r in self._table(split).records])


def respelled(texts: list[str], strip: str = ".;?!") -> list[str]:
    """A remark on texts that 28 letters cannot spell as they are; none where there is no such text."""
    odd = [text for text in texts if needs_respelling(text, strip=strip)]
    if not odd:
        return []
    return [
        f"{len(odd)} of {len(texts)} texts have characters besides A-Z and apostrophe that SLUE leaves in "
        f"and we respell (see ssft_bench/corpora/slue_text.py), such as {odd[0]!r}"
    ]


def read_entities(value: Any) -> list[Entity]:
    """`[['LAW', 86, 18], ...]` as text, or Hugging Face's lists of types, starts and lengths.

    Raises ValueError for anything else.
    """
    if isinstance(value, str):
        if value.strip() in ("", "None", "nan"):
            return []
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise ValueError(f"normalized_ner is no list: {value!r}") from error
    if value is None:
        return []
    if isinstance(value, dict):
        value = list(zip(value["type"], value["start"], value["length"], strict=True))
    try:
        return [Entity(str(tag), int(start), int(length)) for tag, start, length in value]
    except (TypeError, ValueError) as error:
        raise ValueError(f"normalized_ner is not [tag, start, length]: {value!r}") from error


def place(identifier: str) -> tuple[str | None, int | None]:
    """Session and segment: what stands before and after the last `_`, if the latter is a number."""
    session, _, number = identifier.rpartition("_")
    return (session, int(number)) if session and number.isdecimal() else (None, None)


def speaker(value: Any) -> str | None:
    """A speaker's identifier; None where it is not known. A table with gaps has numbers as 4567.0."""
    text = "" if value is None else str(value).strip().removesuffix(".0")
    return None if text in ("", "None", "nan") else text
