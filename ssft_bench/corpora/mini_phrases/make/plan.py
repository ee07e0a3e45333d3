"""Who says what under which conditions: the whole corpus as a list, before any sound is made."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ssft_bench.corpora.mini.make.acoustics import Conditions, draw_conditions
from ssft_bench.corpora.mini.make.entities import TAGS
from ssft_bench.corpora.mini.make.grammar import SENTIMENTS
from ssft_bench.corpora.mini.make.lexicon import phones_of
from ssft_bench.corpora.mini.make.plan import (
    EDGE_SECONDS,
    Deck,
    Speaker,
    Utterance,
    most_behind,
    new_sentence,
    queries,
)
from ssft_bench.corpora.mini_phrases.make.grammar import NAMES, sentence
from ssft_bench.corpora.mini_phrases.make.voices import VOICES

MINUTES = {"train": 16.0, "dev": 5.0, "test": 12.0}
PHONES_PER_SECOND = 9.8  # for planning only
SPEED = 0.8  # of a voice's normal rate
QUERIES = 64  # of dev and of test, where so many words fit
COUNTS = (0, 1, 1, 2)  # entities of a sentence


def slow(drawn: Conditions) -> Conditions:
    """The same at the corpus' own rate."""
    return replace(drawn, speed=round(SPEED * drawn.speed, 3))


def _split_utterances(
    split: str, used: set[str], lexicon: Mapping[str, list[str]], seed: int
) -> Iterator[Utterance]:
    """All utterances of a split."""
    rng = random.Random(f"{seed}/phrases/{split}")
    speakers = [
        Speaker(voice, Deck(SENTIMENTS, rng), Deck(COUNTS, rng), Deck(TAGS, rng))
        for voice in VOICES
        if voice.split == split
    ]
    names = {tag: Deck(choices, rng) for tag, choices in NAMES.items()}
    number = 0
    while sum(speaker.seconds for speaker in speakers) < MINUTES[split] * 60:
        speaker = most_behind(speakers, 8, rng)
        found = new_sentence(speaker, lambda mood, tags: sentence(mood, tags, names, rng), used)
        drawn = slow(draw_conditions(rng, gentle=True))
        phones = phones_of(found.text, lexicon)
        speaker.seconds += EDGE_SECONDS + len(phones) / PHONES_PER_SECOND / drawn.speed * SPEED
        number += 1
        yield Utterance(
            f"{split}-{number:03d}", "utterance", split, speaker.voice, found.text, drawn, phones,
            found.entities, found.sentiment,
        )  # fmt: skip


def make_plan(seed: int, lexicon: Mapping[str, list[str]]) -> list[Utterance]:
    """The corpus: utterances of all splits, then the queries of dev and test."""
    used: set[str] = set()
    plan: list[Utterance] = []
    for split in MINUTES:
        documents = list(_split_utterances(split, used, lexicon, seed))
        plan += documents
        if split != "train":
            said = queries(split, documents, lexicon, seed, VOICES, QUERIES)
            plan += [replace(query, conditions=slow(query.conditions)) for query in said]
    return plan
