"""SLUE's two spellings: hand-made cases, and tagged lines against a plain reading of the rules."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

from ssft_bench.corpora.manifest import Entity
from ssft_bench.corpora.slue_text import asr_text, needs_respelling, ner_text, spelled

WORDS = (
    "this the commission's european members' eu's o'clock's union. well, yes; no! ' 's where? a"
).split()


@pytest.mark.parametrize(
    ("text", "asr", "ner"),
    [
        ("the commission's view.", "THE COMMISSION'S VIEW", "THE COMMISSION 'S VIEW"),
        ("the members' rights; yes!", "THE MEMBERS' RIGHTS YES", "THE MEMBERS RIGHTS YES"),
        ("it is five o'clock", "IT IS FIVE O'CLOCK", "IT IS FIVE O 'CLOCK"),
        ("'s alone and ' alone", "'S ALONE AND ' ALONE", "'S ALONE AND ALONE"),
        ("  two   gaps ", "TWO GAPS", "TWO GAPS"),
        ("is it? no", "IS IT NO", "IS IT NO"),
    ],
)
def test_two_spellings(text: str, asr: str, ner: str) -> None:
    assert asr_text(text) == asr
    assert ner_text(text, ())[0] == ner


def test_what_letters_cannot_spell() -> None:
    assert spelled("Beyoncé’s e-mail") == "BEYONCE'S E MAIL"
    assert spelled("in 2013") == "IN 2013"  # nobody can say how it was read
    assert asr_text("a.b", strip="") == "A B"
    assert asr_text("a.b") == "AB"
    assert not needs_respelling("plain text's, no".replace(",", "") + ".")
    assert needs_respelling("a, b")
    assert needs_respelling("caf\u00e9")


def test_entities_move_with_the_text() -> None:
    text = "well, the EU's members' union. met"
    entities = [Entity("NORP", 10, 2), Entity("ORG", 15, 15)]
    found, moved = ner_text(text, entities[::-1])
    assert found == "WELL THE EU 'S MEMBERS UNION MET"
    assert [(e.tag, found[e.start : e.start + e.length]) for e in moved] == [
        ("NORP", "EU"),
        ("ORG", "MEMBERS UNION"),
    ]


def test_an_entity_without_words_is_dropped() -> None:
    assert ner_text("a ' b", [Entity("LAW", 2, 1)]) == ("A B", ())


@pytest.mark.parametrize(
    "entities",
    [[Entity("A", 0, 3), Entity("B", 2, 3)], [Entity("A", 3, 9)], [Entity("A", 1, 0)]],
)
def test_entities_that_cannot_be(entities: list[Entity]) -> None:
    with pytest.raises(ValueError, match="overlaps another one or lies outside the text of 5"):
        ner_text("abcde", entities)


def plain_words(segment: str) -> list[str]:
    """The rules once more, character by character."""
    words, word = [], ""
    for c in segment + " ":
        if c == " ":
            if word.endswith("'"):
                word = word[:-1]
            if word == "'s":
                words.append(word)
            elif "'" in word:
                cut = word.rindex("'")
                words += [*word[:cut].replace("'", " ").split(), word[cut:]]
            elif word:
                words.append(word)
            word = ""
        elif c not in ".,!?;":
            word += c
    return [w.upper() for w in words]


@pytest.mark.parametrize("seed", [1, secrets.randbelow(2**31)])
def test_random_texts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(500):
        words = list(rng.choice(WORDS, rng.integers(1, 12)))
        text, entities, wanted, i = " ".join(words), [], [], 0
        while i < len(words):
            n = int(rng.integers(1, 4)) if rng.random() < 0.3 else 0
            phrase = " ".join(words[i : i + max(n, 1)])
            if n:
                entities.append(Entity("T", len(" ".join(words[:i])) + (i > 0), len(phrase)))
                wanted += ["<", *plain_words(phrase), ">"] if plain_words(phrase) else []
            else:
                wanted += plain_words(phrase)
            i += max(n, 1)
        found, moved = ner_text(text, entities)
        tagged, place = [], 0
        for e in moved:
            tagged += [*found[place : e.start].split(), "<"]
            tagged += [*found[e.start : e.start + e.length].split(), ">"]
            place = e.start + e.length
        assert [*tagged, *found[place:].split()] == wanted, (text, entities)
        assert " ".join(found.split()) == found
