"""SLUE's named entity recognition: letters and tags by CTC from speech, scored in entities.

Shon et al., "SLUE" (ICASSP 2022) §3.2; numbers and details as slue-toolkit (commit ed23039) runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.letters import LetterOptions, LetterTask, check_text
from ssft_bench.downstreams.ner.scoring import METRICS
from ssft_bench.downstreams.ner.tags import SLUE_INVENTORY, Inventory, inventory_of
from ssft_bench.errors import MissingError
from ssft_bench.metric import Metric
from ssft_bench.task import TaskOptions


class NEROptions(LetterOptions):
    """Sizes of the head and the augmentation; the defaults are those of SUPERB's ASR."""


class NER(LetterTask):
    """Tagged text, `tag phrase ]`, each special character a word; blank is `<s>`, targets end in `|`."""

    name = "ner"
    metrics: ClassVar[tuple[Metric, ...]] = METRICS
    Options = NEROptions
    inventory: Inventory

    def __init__(self, options: TaskOptions, phone_set: str = "arpabet39") -> None:
        """The inventory is SLUE's until `prepare` has seen the corpus' tags."""
        super().__init__(options, phone_set)
        self.inventory = SLUE_INVENTORY

    @property
    def symbols(self) -> tuple[str, ...]:
        """The inventory's outputs."""
        return self.inventory.symbols

    def prepare(self, splits: Mapping[str, Sequence[Utterance]]) -> None:
        """Check texts and entities, and take the inventory that fits the tags.

        Texts may have their apostrophes split off (COMMISSION 'S) or not; targets always have them
        split. Raises MissingError naming the first utterance that has no text, no list of entities (one
        without any has an empty list), or an entity that is not a span of its text.
        """
        rows = [(split, u) for split, utterances in splits.items() for u in utterances]
        for split, utterance in rows:
            check_text(self.name, utterance, split)
            _check_entities(utterance, split)
        # Those of train first: a language model of its texts must mean the same characters.
        used = {(split != "train", entity.tag) for split, u in rows for entity in u.entities or ()}
        if not used:
            raise MissingError("ner: no utterance of the corpus has an entity.")
        self.inventory = inventory_of(tag for _, tag in sorted(used))

    def words(self, utterance: Utterance) -> list[str]:
        """Words, tag characters and `]` of the tagged text.

        Raises MissingError where there is no text or no list of entities.
        """
        check_text(self.name, utterance, utterance.split)
        _check_entities(utterance, utterance.split)
        return self.inventory.words(utterance)

    def line(self, words: Sequence[str]) -> str:
        """Words with tags by name, see `Inventory.line`."""
        return self.inventory.line(words)

    def describe(self) -> dict[str, Any]:
        """Outputs, blank, decoding, and the tags with their characters."""
        return {
            **super().describe(),
            "inventory": "SLUE" if self.inventory.slue else "corpus",
            "tags": dict(self.inventory.characters),
        }


def _check_entities(utterance: Utterance, split: str) -> None:
    text, at = utterance.text or "", 0
    if utterance.entities is None:
        raise MissingError(
            f"ner needs entities, but utterance '{utterance.id}' ({split}) has no list of them. "
            "Give it an empty one where nothing is tagged, or take the recording out."
        )
    for entity in sorted(utterance.entities, key=lambda e: e.start):
        phrase = text[entity.start : entity.start + entity.length]
        where = f"ner: utterance '{utterance.id}' ({split}): entity {entity.tag}"
        if entity.start < 0 or entity.length < 1 or len(phrase) < entity.length:
            raise MissingError(
                f"{where} at {entity.start}, {entity.length} long, is not in its text of "
                f"{len(text)} characters. Mend the corpus' labels."
            )
        if phrase != phrase.strip() or not phrase.strip("'"):
            raise MissingError(f"{where} covers {phrase!r}, which is no phrase. Mend the labels.")
        if entity.start < at:
            raise MissingError(
                f"{where} {phrase!r} overlaps another one; only one tag can be open at a time. "
                "Keep one of them."
            )
        at = entity.start + entity.length
