"""Sentences of a closed vocabulary: a judgement of a thing, with labelled phrases around it.

"IN SEATTLE WE REGRETTED THE NEWSPAPER ON SATURDAY": the adjective or verb carries the sentiment,
the phrases carry the entities, so the two vary independently.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from ssft_bench.corpora.mini.make import entities
from ssft_bench.corpora.mini.make.grammar import Sentence
from ssft_bench.corpora.mini.make.plan import Deck

Names = Mapping[str, Deck[str]]
"""Type of entity -> its names, each dealt before any comes again."""

THINGS = (
    "HOTEL TEACHER DINNER MUSIC WEATHER SERVICE KITCHEN MOVIE GARDEN JOURNEY COFFEE NEWSPAPER "
    "NEIGHBORHOOD TELEVISION"
).split()
ADJECTIVES = {
    "positive": "WONDERFUL EXCELLENT BEAUTIFUL FANTASTIC DELIGHTFUL".split(),
    "negative": "TERRIBLE DISGUSTING MISERABLE HORRIBLE DREADFUL".split(),
    "neutral": "ORDINARY FAMILIAR MODERN ENORMOUS SIMILAR".split(),
}
VERBS = {
    "positive": ["ENJOYED", "ADMIRED"],
    "negative": ["HATED", "REGRETTED"],
    "neutral": ["REMEMBERED", "NOTICED"],
}
NAMES: dict[str, list[str]] = {
    "PERSON": "ANNA PETER SUSAN MICHAEL REBECCA DANIEL VIRGINIA JOSHUA".split(),
    "PLACE": "LONDON CHICAGO BERLIN SEATTLE TORONTO CALIFORNIA MADRID OSLO".split(),
    "ORG": (
        "GOLDEN BANK,PACIFIC AIRLINES,RIVERSIDE HOSPITAL,CENTRAL UNIVERSITY,NATIONAL ORCHESTRA,"
        "EAGLE PUBLISHERS"
    ).split(","),
    "WHEN": (
        "MONDAY,TUESDAY,THURSDAY,SATURDAY,DECEMBER,YESTERDAY,LAST SUMMER,THIS MORNING"
    ).split(","),
    "QUANT": (
        "TWENTY DOLLARS,SEVEN MILES,FIFTY PERCENT,THREE EUROS,ELEVEN KILOMETERS,THOUSAND POUNDS"
    ).split(","),
    "NORP": "FRENCH GERMAN ITALIAN JAPANESE CANADIAN AMERICAN".split(),
    "LAW": (
        "CLEAN WATER ACT,ROAD SAFETY BILL,FOREST TREATY,EQUAL PAY AMENDMENT,PUBLIC HEALTH CODE"
    ).split(","),
}  # fmt: skip
"""Type -> names; the words left of an entity belong to its place in the sentence."""
LEADS = {
    "PERSON": "{} SAID THAT",
    "PLACE": "IN {}",
    "ORG": "AT THE {}",
    "WHEN": "{}",
    "QUANT": "FOR {}",
    "LAW": "UNDER THE {}",
}
TAILS = LEADS | {"PERSON": "WITH {}", "LAW": "BECAUSE OF THE {}"}
BEFORE = {"DECEMBER": "IN", "THOUSAND POUNDS": "A"}
"""What stands before single names; weekdays have ON."""


def _mark(tag: str, template: str, names: Names) -> str:
    """A phrase with one entity of type `tag`, written `[TAG WORDS]`."""
    name = names[tag].deal()
    before = "ON" if name.endswith("DAY") and name != "YESTERDAY" else BEFORE.get(name, "")
    return template.format(f"{before} [{tag} {name}]".strip())


def sentence(sentiment: str, tags: Sequence[str], names: Names, rng: random.Random) -> Sentence:
    """One sentence with the wanted sentiment and exactly these entity types (two at most)."""
    outer = [tag for tag in tags if tag != "NORP"]
    thing = rng.choice(THINGS)
    if "NORP" in tags:
        thing = f"[NORP {names['NORP'].deal()}] {thing}"
    lead = outer.pop(0) if len(outer) == 2 or (outer and rng.random() < 0.5) else None
    if rng.random() < 0.6:
        core = f"THE {thing} WAS {rng.choice(ADJECTIVES[sentiment])}"
    else:
        core = f"WE {rng.choice(VERBS[sentiment])} THE {thing}"
    parts = [_mark(lead, LEADS[lead], names)] if lead else []
    parts += [core, *(_mark(tag, TAILS[tag], names) for tag in outer)]
    text, found = entities.parse(" ".join(parts))
    return Sentence(text, found, sentiment)
