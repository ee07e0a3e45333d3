"""Texts of SLUE as its toolkit makes them: one spelling for ASR, another one for NER.

Rules of asappresearch/slue-toolkit @ ed23039, written anew: `prepare_voxpopuli.py` (ASR) and
`data_utils.py` (NER). The two differ, so a word error rate is never computed on NER text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from ssft_bench.corpora.manifest import Entity

_FOREIGN = re.compile(r"[^A-Z0-9' ]")


def asr_text(text: str, *, strip: str = ".;?!") -> str:
    """Upper-case words for ASR: `strip` is removed, which is all that SLUE does, then `spelled`."""
    return spelled(text.translate({ord(mark): None for mark in strip}))


def spelled(text: str) -> str:
    """Upper-case A-Z, apostrophe and single spaces, where that is possible without a dictionary.

    Accents are taken off (é: E) and a curly apostrophe is made straight; any other sign is a gap. The
    toolkit keeps such characters as they are, but 28 letters cannot spell them. Digits stay: they
    cannot be read without knowing how, and a task refuses the row by name.
    """
    plain = unicodedata.normalize("NFKD", text.replace("’", "'")).upper()
    base = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(_FOREIGN.sub(" ", base).split())


def needs_respelling(text: str, *, strip: str = ".;?!") -> bool:
    """Whether `spelled` changes more than case and spaces."""
    kept = text.translate({ord(mark): None for mark in strip})
    return " ".join(kept.split()).upper() != spelled(kept)


def ner_text(text: str, entities: Sequence[Entity]) -> tuple[str, tuple[Entity, ...]]:
    """NER's words, and where the entities are in them.

    `entities` have offsets into `text`. Entities and what lies between them are split into words by
    themselves, so that a word never crosses the border of an entity. An entity that has no word left
    is dropped.

    Raises ValueError when an entity lies outside the text or two of them overlap.
    """
    words: list[str] = []
    found: list[Entity] = []
    place = 0
    for entity in sorted(entities, key=lambda e: (e.start, e.length)):
        end = entity.start + entity.length
        if not place <= entity.start < end <= len(text):
            raise ValueError(
                f"entity {entity.tag} at {entity.start}, {entity.length} characters long, overlaps "
                f"another one or lies outside the text of {len(text)} characters"
            )
        words += ner_words(text[place : entity.start])
        phrase = ner_words(text[entity.start : end])
        if phrase:
            start = sum(map(len, words)) + len(words)  # each word so far is followed by a space
            found.append(Entity(entity.tag, start, len(" ".join(phrase))))
        words += phrase
        place = end
    words += ner_words(text[place:])
    return " ".join(words), tuple(found)


def ner_words(segment: str) -> list[str]:
    """Words of an entity or of the text between two, upper case.

    `. , ! ? ;` go. An apostrophe at a word's end goes; one inside splits it: COMMISSION 'S.
    """
    bare = re.sub(r"[.,!?;]", "", segment).replace("’", "'")
    words = []
    for word in bare.split():
        *before, last = word.removesuffix("'").split("'")
        # 'S alone and a word with an apostrophe in front keep it.
        words += [part for part in (*before, f"'{last}" if before else last) if part]
    return [w for word in words for w in spelled(word).split()]
