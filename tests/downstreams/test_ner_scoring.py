"""Entities of a tagged line: one case per rule, another definition of the same on random lines, scores."""

from __future__ import annotations

import random
import secrets
from collections import Counter

import numpy as np
import pytest

from ssft_bench.downstreams.ner.scoring import (
    METRICS,
    entities,
    entity_counts,
    from_slue,
    tag_counts,
    to_slue,
)
from ssft_bench.downstreams.ner.tags import MERGED, SLUE_TAGS
from ssft_bench.errors import UsageError
from ssft_bench.metric import Prediction
from ssft_bench.statistics import score

SEEDS = [1, secrets.randbelow(2**31)]
BY_NAME = {metric.name: metric for metric in METRICS}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # 1. An opening tag throws away what is open.
        ("% new @ monday ]", [("WHEN", "MONDAY")]),
        ("% % york ]", [("PLACE", "YORK")]),
        # 2. `]` closes; with no word, or with nothing open, it does nothing.
        ("in % new york ] we", [("PLACE", "NEW YORK")]),
        ("% ] york ]", []),
        ("york ] we ] } ann ]", [("PERSON", "ANN")]),
        ("% york ] we ]", [("PLACE", "YORK")]),
        # 3. What is open at the end is dropped.
        ("} ann ] % new york", [("PERSON", "ANN")]),
        # 4. Words outside count for nothing; special characters within a word are letters of it.
        ("we met york", []),
        ("%york ] % new]york ] %", [("PLACE", "NEW]YORK")]),
        # Discarded tags throw away and close as others do.
        ("$ the bridge ] % york $ tower ] a ]", []),
        # Spaces: two are one; three leave an empty word, as in the official scorer.
        ("%  new  york ]", [("PLACE", "NEW YORK")]),
        ("% new   york ]", [("PLACE", "NEW  YORK")]),
        ("  % york ]  ", [("PLACE", "YORK")]),
        # Two equal ones are two.
        ("% eu ] * eu ] ^ latin ]", [("PLACE", "EU"), ("PLACE", "EU")]),
        ("", []),
        ("]", []),
        ("%", []),
    ],
)
def test_rules(line: str, expected: list[tuple[str, str]]) -> None:
    assert entities(from_slue(line)) == expected


def by_nearest(line: str) -> list[tuple[str, str]]:
    """Another definition: a `]` counts when the special word nearest to its left is no `]`."""
    tags = {character: tag for tag, character in SLUE_TAGS.items()}
    words, found = line.split(), []
    for end, word in enumerate(words):
        if word != "]":
            continue
        start = end - 1
        while start >= 0 and words[start] not in (*tags, "]"):
            start -= 1
        if start < 0 or words[start] == "]" or end - start == 1:
            continue
        merged = MERGED[tags[words[start]]]
        if merged:
            found.append((merged, " ".join(words[start + 1 : end]).upper()))
    return found


def random_line(rng: random.Random) -> str:
    words = [*"abcde", *"]]]]", *rng.sample(sorted(SLUE_TAGS.values()), 4)]
    return " ".join(rng.choices(words, k=rng.randrange(1, 25)))


@pytest.mark.parametrize("seed", SEEDS)
def test_parser_equals_another_definition(seed: int) -> None:
    rng = random.Random(seed)
    lines = [random_line(rng) for _ in range(500)]
    assert [entities(from_slue(line)) for line in lines] == [by_nearest(line) for line in lines]
    assert sum(bool(by_nearest(line)) for line in lines) > 100


@pytest.mark.parametrize("seed", SEEDS)
def test_lines_can_be_given_to_the_official_scorer_and_back(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        line = random_line(rng)
        assert to_slue(from_slue(line)) == line


def test_tags_of_others_are_no_line_of_the_official_scorer() -> None:
    for line in ("[SIZE: BIG ]", "[=GPE: ROME ]"):
        with pytest.raises(UsageError, match="no tag of SLUE's"):
            to_slue(line)


def test_tags_of_others_count_as_they_are() -> None:
    line = "A [size: BIG ] [=PRODUCT: MOCHA ] [=DATE: TODAY ] [PLACE: ROME ]"
    expected = [("size", "BIG"), ("PRODUCT", "MOCHA"), ("DATE", "TODAY"), ("PLACE", "ROME")]
    assert entities(line) == expected


def prediction(reference: str, hypothesis: str, name: str = "u") -> Prediction:
    return Prediction(name, from_slue(reference), from_slue(hypothesis))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "whole", "tags"),
    [
        ("% eu ] % eu ]", "% eu ]", (1, 1, 2), (1, 1, 2)),
        ("% eu ]", "% eu ] % eu ]", (1, 2, 1), (1, 2, 1)),
        ("% eu ] @ today ]", "@ today ] * eu ]", (2, 2, 2), (2, 2, 2)),
        ("% eu ]", "` eu ]", (0, 1, 1), (0, 1, 1)),
        ("% eu ]", "% you ]", (0, 1, 1), (1, 1, 1)),
        ("$ hall ]", "$ hall ] # war ]", (0, 0, 0), (0, 0, 0)),
        ("a b", "a ] b", (0, 0, 0), (0, 0, 0)),
    ],
)
def test_counts(
    reference: str, hypothesis: str, whole: tuple[int, ...], tags: tuple[int, ...]
) -> None:
    found = prediction(reference, hypothesis)
    assert tuple(entity_counts(found)) == whole
    assert tuple(tag_counts(found)) == tags


def test_corpus_scores_by_hand() -> None:
    """3 matched of 5 predicted, of 4 in the references: sums over the corpus, no mean of rates."""
    pairs = [
        ("% eu ] % eu ] a", "% eu ] % eu ] % eu ] a"),
        ("@ today ] b", "@ today ] ` b ]"),
        ("} ann ]", "c"),
    ]
    found = [prediction(r, h, str(i)) for i, (r, h) in enumerate(pairs)]
    values = {name: score(metric, found, seed=1).value for name, metric in BY_NAME.items()}
    assert values["precision"] == pytest.approx(60)
    assert values["recall"] == pytest.approx(75)
    assert values["f1"] == pytest.approx(200 / 3)
    assert values["label_f1"] == pytest.approx(200 / 3)
    # Tagged words: 7 + 4 + 3; three inserted, two inserted, two deleted and one replaced.
    assert values["tagged_wer"] == pytest.approx(100 * 8 / 14)
    means = np.mean([[2 / 3, 1], [1 / 2, 1], [0, 0]], axis=0)  # negative control: mean of rates
    assert 100 * means[0] != pytest.approx(60)


def test_nothing_to_divide_by_is_zero() -> None:
    nothing = np.zeros((2, 3))
    for name in ("f1", "label_f1", "precision", "recall"):
        assert BY_NAME[name].combine(nothing).tolist() == [0, 0]


def test_a_set_in_place_of_the_multiset_would_be_seen() -> None:
    """Negative control for the two equal entities."""
    found = prediction("% eu ] % eu ]", "% eu ]")
    sets = [set(entities(line)) for line in (found.reference, found.hypothesis)]
    counts = [len(sets[0] & sets[1]), len(sets[1]), len(sets[0])]
    assert counts != entity_counts(found).tolist()
    assert Counter(entities(found.reference))["PLACE", "EU"] == 2
