"""Tags of named entities, the characters that they are spelled with, and how scoring merges them.

Shon et al., "SLUE" (ICASSP 2022) §3.2; tables and rules as in slue-toolkit (`generic_utils.py`,
`prepare/data_utils.py`, commit ed23039).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.letters import LETTERS, SPECIALS
from ssft_bench.errors import UsageError

CLOSE = "]"
"""Ends an entity, whatever its tag."""

# fmt: off
SLUE_TAGS: Mapping[str, str] = {
    "CARDINAL": "!", "DATE": "@", "EVENT": "#", "FAC": "$", "GPE": "%", "LANGUAGE": "^",
    "LAW": "&", "LOC": "*", "MONEY": "(", "NORP": ")", "ORDINAL": "~", "ORG": "`",
    "PERCENT": "{", "PERSON": "}", "PRODUCT": "[", "QUANTITY": "<", "TIME": ">",
    "WORK_OF_ART": "?",
}
"""OntoNotes' 18 tags and the character that opens each in SLUE's targets."""

MERGED: Mapping[str, str | None] = {
    "DATE": "WHEN", "TIME": "WHEN",
    "CARDINAL": "QUANT", "ORDINAL": "QUANT", "QUANTITY": "QUANT", "MONEY": "QUANT",
    "PERCENT": "QUANT",
    "GPE": "PLACE", "LOC": "PLACE",
    "NORP": "NORP", "ORG": "ORG", "LAW": "LAW", "PERSON": "PERSON",
    "FAC": None, "EVENT": None, "WORK_OF_ART": None, "PRODUCT": None, "LANGUAGE": None,
}
"""What each of SLUE's tags counts as in scoring; None: it does not count."""
# fmt: on

_POOL = (*SLUE_TAGS.values(), *'0123456789"+,-./;\\_abcdefghijklmnopqrstuvwxyz')
"""Characters for a corpus' own tags: no letter of a text, no gap, none of `]`, `:`, `=`."""
_TAG = re.compile(r"[^\s:=\[\]]+")
_OPENING = re.compile(r"\[(=?)([^\s:=\[\]]+):")


@dataclass(frozen=True)
class Inventory:
    """The tags that a model can put out."""

    characters: Mapping[str, str]
    """Tag -> the character that opens it."""
    slue: bool
    """Whether these are SLUE's eighteen, merged in scoring; else each counts as it is."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Outputs: specials, gap and letters, `]`, tag characters; 51 for SLUE's."""
        return (*SPECIALS, *LETTERS, CLOSE, *self.characters.values())

    def words(self, utterance: Utterance) -> list[str]:
        """The text with its entities as `% STRASBOURG ]`, each special character its own word."""
        text, entities = utterance.text or "", utterance.entities or ()
        found, at = [], 0
        for entity in sorted(entities, key=lambda e: e.start):
            end = entity.start + entity.length
            found += split_apostrophes(text[at : entity.start])
            phrase = split_apostrophes(text[entity.start : end])
            found += [self.characters[entity.tag], *phrase, CLOSE]
            at = end
        return found + split_apostrophes(text[at:])

    def line(self, words: Iterable[str]) -> str:
        """The same words with tags by name, `[GPE: STRASBOURG ]`: what predictions are stored as.

        A special character inside a longer word stays as it is; it tags nothing.
        """
        names = {c: opening(tag, as_it_is=not self.slue) for tag, c in self.characters.items()}
        return " ".join(names.get(word, word) for word in words)


SLUE_INVENTORY = Inventory(SLUE_TAGS, slue=True)


def inventory_of(tags: Iterable[str]) -> Inventory:
    """SLUE's inventory where all `tags` are SLUE's, else one of these tags in their order.

    Raises UsageError for a tag that cannot be written, or for more tags than there are characters.
    """
    found = list(dict.fromkeys(tags))
    if any(MERGED.get(tag) for tag in found) and SLUE_TAGS.keys() >= set(found):
        return SLUE_INVENTORY
    for tag in found:
        if not _TAG.fullmatch(tag):
            raise UsageError(
                f"ner: entity tag {tag!r} cannot be written: blanks and the characters : = [ ] are "
                "not allowed. Rename it in the corpus."
            )
    if len(found) > len(_POOL):
        raise UsageError(f"ner: {len(found)} entity tags; there are characters for {len(_POOL)}.")
    return Inventory(dict(zip(found, _POOL, strict=False)), slue=False)


def opening(tag: str, *, as_it_is: bool) -> str:
    """The word that opens an entity in a line: `[GPE:`; `[=GPE:` where scoring must not merge it."""
    return f"[={tag}:" if as_it_is and MERGED.get(tag, tag) != tag else f"[{tag}:"


def opened(word: str) -> tuple[str, bool] | None:
    """Tag and "as it is" of a word that opens an entity, None for any other word."""
    found = _OPENING.fullmatch(word)
    return (found[2], found[1] == "=") if found else None


def split_apostrophes(text: str) -> list[str]:
    """Words of `text`, parts from an apostrophe on as words of their own: COMMISSION'S -> COMMISSION 'S.

    A final apostrophe is dropped; text that is split already stays as it is.
    """
    found = []
    for word in text.split():
        *first, last = word.removesuffix("'").split("'")
        found += [*first, f"'{last}"] if first else [last]
    return [word for word in found if word not in ("", "'")]
