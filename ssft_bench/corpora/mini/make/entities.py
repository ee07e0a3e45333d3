"""Phrases for the seven combined entity types of SLUE, drawn from the word lists.

An entity is written in the sentence as `[TAG WORDS]`; `parse` turns this into plain text and
character offsets. Like OntoNotes, the labelled span has no preposition and no title, and a
cardinal number stands without its noun. Unlike OntoNotes, articles stay outside throughout.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from ssft_bench.corpora.mini.make import names

TAGS = ("PERSON", "PLACE", "ORG", "WHEN", "QUANT", "NORP", "LAW")
ENTITY = re.compile(r"\[([A-Z]+) ([^\]]+)\]")


@dataclass(frozen=True)
class Entity:
    """A labelled span; `start` and `length` are characters of the sentence."""

    tag: str
    text: str
    start: int
    length: int


def parse(marked: str) -> tuple[str, list[Entity]]:
    """Plain text and entities of a sentence with `[TAG WORDS]` marks."""
    text, entities, last = "", [], 0
    for match in ENTITY.finditer(marked):
        text += marked[last : match.start()]
        entities.append(Entity(match[1], match[2], len(text), len(match[2])))
        text += match[2]
        last = match.end()
    return text + marked[last:], entities


def number(rng: random.Random) -> str:
    """A cardinal from two to nine hundred ninety nine, spelled out."""
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(names.UNITS[1:])
    if kind < 0.6:
        return rng.choice(names.TENS)
    if kind < 0.85:
        return f"{rng.choice(names.TENS)} {rng.choice(names.UNITS[:9])}"
    return f"{rng.choice(names.UNITS[:9])} HUNDRED"


def person_name(rng: random.Random) -> str:
    """First name and surname, invented by chance."""
    return f"{rng.choice(names.FIRST)} {rng.choice(names.SURNAMES)}"


def person_mention(rng: random.Random, name: str) -> str:
    """The person by full name, first name, or surname with a title."""
    first, last = name.split()
    kind = rng.random()
    if kind < 0.5:
        return f"[PERSON {name}]"
    if kind < 0.75:
        return f"[PERSON {first}]"
    return f"{rng.choice(['MISTER', 'DOCTOR', 'MISS'])} [PERSON {last}]"


def organisation(rng: random.Random) -> str:
    """An invented company, or an office of the state."""
    if rng.random() < 0.3:
        return rng.choice(names.ORG_OFFICES)
    return f"{rng.choice(names.ORG_HEADS)} {rng.choice(names.ORG_TYPES)}"


def law(rng: random.Random) -> str:
    """An invented law or treaty."""
    return f"{rng.choice(names.LAW_HEADS)} {rng.choice(names.LAW_TYPES)}"


def place(rng: random.Random) -> str:
    """A town or a country."""
    return rng.choice(names.TOWNS if rng.random() < 0.6 else names.COUNTRIES)


def when(rng: random.Random) -> str:
    """A phrase of time with its preposition, which is not part of the entity."""

    def year() -> str:
        return f"{rng.choice(['NINETEEN', 'EIGHTEEN'])} {rng.choice(names.TENS)}"

    def date() -> str:
        return f"{rng.choice(names.MONTHS)} THE {rng.choice(names.ORDINALS)}"

    forms: tuple[Callable[[], str], ...] = (
        lambda: f"ON [WHEN {rng.choice(names.WEEKDAYS)}]",
        lambda: f"IN [WHEN {rng.choice(names.MONTHS)}]",
        lambda: f"[WHEN {rng.choice(names.PERIODS)}]",
        lambda: f"[WHEN {rng.choice(names.PERIODS)}]",
        lambda: f"IN [WHEN {year()}]",
        lambda: f"ON [WHEN {date()}]",
        lambda: f"AT [WHEN {rng.choice(names.UNITS[:12])} O'CLOCK]",
    )
    return rng.choice(forms)()


def quantity(rng: random.Random) -> str:
    """Amount with its unit: money, a measure, or a share."""
    kind = rng.random()
    if kind < 0.45:
        return f"[QUANT {number(rng)} {rng.choice(names.MONEY)}]"
    if kind < 0.8:
        return f"[QUANT {number(rng)} {rng.choice(names.MEASURES)}]"
    return f"[QUANT {number(rng)} PERCENT]"
