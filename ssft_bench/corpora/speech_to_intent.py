"""Spoken orders of coffee with their slots: Picovoice's recordings for speech to intent.

Two layouts are read, that of https://github.com/Picovoice/speech-to-intent-benchmark and a tidy one:

    data/speech/clean/<id>.wav      data/label/label.json     {"<id>.wav": {"slots": {name: value}}}
    speech_to_intent/audio/<id>.flac    utterances.tsv        id, text, slots (as JSON)

The public one has no transcripts. Those of 400 of its 619 recordings were recovered from the closed grammar
that the orders follow; they come with this package (`speech_to_intent_texts.txt`).
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ssft_bench.audio import listing
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.held_out import split_of
from ssft_bench.corpora.lexicon import numbered_lines
from ssft_bench.corpora.manifest import Entity, Utterance
from ssft_bench.errors import MissingError, UsageError

SLOTS = ("coffeeDrink", "milkAmount", "numberOfShots", "roast", "size", "sugarAmount")
TEXTS = Path(__file__).with_name("speech_to_intent_texts.txt")


@dataclass(frozen=True)
class Order:
    """One recording with its labels."""

    id: str
    text: str
    slots: dict[str, str]
    audio: Path


class SpeechToIntent(Corpus):
    """Orders of coffee by more than 50 people (crowd-sourced, 16 kHz), 400 sentences with slots, 0.95 h.

    The six kinds of slots serve as entities: a stand-in for NER, and an easy one, for the sentences follow
    a closed grammar with a small vocabulary. Splits are ours (`ssft_bench.corpora.held_out`): a fixed fifth
    is test, a fifth of the rest dev. Speakers are not known, so one may be in several splits. The transcripts
    were recovered from the grammar, not written by a person.
    """

    name = "speech_to_intent"
    licence = "Apache-2.0"
    source = "https://github.com/Picovoice/speech-to-intent-benchmark"
    tasks = ("asr", "ner")
    stands_in: ClassVar[dict[str, str]] = {
        "ner": "slots of orders from a small closed grammar stand in for named entities"
    }

    def utterances(self, split: str) -> list[Utterance]:
        """Rows of train, dev or test, sorted by identifier.

        Raises MissingError naming a recording that is absent or a label that does not fit its text.
        """
        if split not in ("train", "dev", "test"):
            raise UsageError(
                f"corpus speech_to_intent has no split {split!r}; splits: train, dev, test"
            )
        rows, problems = [], []
        for order in self._orders:
            try:
                row = _row(order, split)
            except ValueError as error:
                problems.append(f"{order.id}: {error}")
                continue
            if split_of(f"audio/{order.id}") == split:
                rows.append(row)
        if problems:
            raise MissingError(
                f"{len(problems)} recordings of speech_to_intent are unusable; get it again from "
                f"{self.source}:{listing(problems)}"
            )
        return rows

    def figures(self) -> list[Figure]:
        """Recordings with a transcript."""
        counted = "the transcripts that come with the package"
        return [Figure("utterances", ("train", "dev", "test"), 400, counted, "derived")]

    @cached_property
    def _orders(self) -> list[Order]:
        if self.root is None:
            raise MissingError(
                f"corpus speech_to_intent needs --data FOLDER; get it from {self.source}"
            )
        folders = [
            self.root / part for part in ("", "speech_to_intent", "speech-to-intent-benchmark")
        ]
        for folder in folders:
            if (folder / "utterances.tsv").is_file():
                return _tidy(folder)
            if (folder / "data" / "label" / "label.json").is_file():
                return _public(folder / "data")
        raise MissingError(
            f"no speech_to_intent in {self.root}: neither utterances.tsv nor data/label/label.json is there "
            "or in speech_to_intent; get it with `ssft-bench data get speech_to_intent` or mend --data FOLDER"
        )


def _tidy(folder: Path) -> list[Order]:
    path = folder / "utterances.tsv"
    orders = []
    for number, line in numbered_lines(path)[1:]:
        try:
            name, text, slots = next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))
            orders.append(Order(name, text, _slots(json.loads(slots)), _audio(folder, name)))
        except (ValueError, AttributeError) as error:
            raise MissingError(
                f"{path}:{number} is not id, text, slots: {error}; mend it"
            ) from error
    return sorted(orders, key=lambda order: order.id)


def _public(data: Path) -> list[Order]:
    path = data / "label" / "label.json"
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
        found = {name: _slots(labels[f"{name}.wav"]["slots"]) for name in texts()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise MissingError(
            f"{path} does not have the labels of all recordings: {type(error).__name__} {error}; get it again"
        ) from error
    folder = data / "speech" / "clean"
    return [
        Order(name, text, found[name], _audio(folder, name))
        for name, text in sorted(texts().items())
    ]


def texts() -> dict[str, str]:
    """Recording -> transcript, as they come with the package."""
    lines = (line.partition(" ") for _, line in numbered_lines(TEXTS) if not line.startswith("#"))
    return {name: text for name, _, text in lines}


def _slots(values: dict[str, Any]) -> dict[str, str]:
    """Values with single spaces; some of the public ones begin with one."""
    return {name: " ".join(str(value).split()) for name, value in values.items()}


def _audio(folder: Path, name: str) -> Path:
    for place in (folder / "audio", folder):
        for suffix in (".flac", ".wav"):
            if (place / f"{name}{suffix}").is_file():
                return place / f"{name}{suffix}"
    return folder / f"{name}.wav"


def _row(order: Order, split: str) -> Utterance:
    """A manifest row. Raises ValueError when there is no recording or a slot is not in the text."""
    if not order.audio.is_file():
        raise ValueError(f"no {order.audio}")
    text = order.text.upper()
    entities = locate(text, {name: value.upper() for name, value in order.slots.items()})
    return Utterance(order.id, order.audio, split, text=text, entities=entities)


def locate(text: str, slots: dict[str, str]) -> tuple[Entity, ...]:
    """Where each slot's value stands in the text, as whole words, none inside another.

    Longer values are placed first, so that the size MEDIUM is not looked for in MEDIUM ROAST; of several
    places the first free one is taken. Raises ValueError for a value that has no place of its own.
    """
    taken: list[Entity] = []
    for name, value in sorted(slots.items(), key=lambda slot: (-len(slot[1]), slot[0])):
        pattern = rf"(?<![\w']){re.escape(value)}(?![\w'])"
        for found in re.finditer(pattern, text):
            start, end = found.span()
            if all(end <= e.start or start >= e.start + e.length for e in taken):
                taken.append(Entity(name, start, end - start))
                break
        else:
            raise ValueError(f"the slot {name} is {value!r}, which is not in the text {text!r}")
    return tuple(sorted(taken, key=lambda entity: entity.start))
