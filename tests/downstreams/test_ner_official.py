"""SLUE's own scorer and references, as PyPI's slue-evaluator 0.8 ships them: same counts, same scores."""

from __future__ import annotations

import random
import secrets
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssft_bench.corpora.manifest import Entity, Utterance
from ssft_bench.downstreams.ner.scoring import (
    METRICS,
    entities,
    entity_counts,
    from_slue,
    tag_counts,
    to_slue,
)
from ssft_bench.downstreams.ner.tags import (
    MERGED,
    SLUE_INVENTORY,
    SLUE_TAGS,
    opened,
    split_apostrophes,
)
from ssft_bench.metric import Counts, Prediction

SEEDS = [1, secrets.randbelow(2**31)]
BY_NAME = {metric.name: metric for metric in METRICS}


@pytest.fixture(scope="module")
def official() -> Any:
    """Its modules; importing them puts `../` on the path, which is taken off again."""
    before = list(sys.path)
    pytest.importorskip("slue_evaluator", reason="pip install slue-evaluator==0.8 (test only)")
    from slue_evaluator import eval as parser
    from slue_evaluator import slue_toolkit_eval_utils as scorer
    from slue_evaluator import slue_toolkit_generic_utils as tables

    sys.path[:] = before
    return SimpleNamespace(parser=parser, scorer=scorer, tables=tables)


def references(split: str) -> list[str]:
    file = resources.files("slue_evaluator") / "data" / f"{split}.raw.wrd"
    return file.read_text(encoding="utf-8").splitlines()


def corrupted(line: str, rng: random.Random) -> str:
    """Words lost, doubled and replaced, tags changed, brackets where they do not belong, odd spaces."""
    special = [*SLUE_TAGS.values(), "]"]
    out = []
    for word in line.split(" "):
        draw = rng.random()
        if draw < 0.06:
            continue
        if draw < 0.12:
            word = rng.choice(special) if word in special else word[::-1]
        elif draw < 0.15:
            word += rng.choice(special)
        out.append(word)
        while rng.random() < 0.08:
            out.append(rng.choice([*special, "]", "]", word, "", ""]))
    return " ".join(out)


def official_counts(
    official: Any, kind: str, pairs: list[tuple[str, str]], folder: Path
) -> tuple[list[Counts], dict[str, Any]]:
    """Per line (matched, predicted, reference), and the scores of all lines."""
    for name, which in (("ref", 0), ("hypo", 1)):
        (folder / name).write_text("".join(pair[which] + "\n" for pair in pairs))
    labels, _ = official.parser.get_gt_pred(kind, folder / "hypo", folder / "ref", "combined")
    rows = []
    for one in zip(labels["ref"], labels["hypo"], strict=True):
        stats = official.scorer.get_ner_stats([one[0]], [one[1]])
        keys = ("tp", "pred_cnt", "gt_cnt")
        rows.append(np.array([sum(sum(s[key]) for s in stats.values()) for key in keys], float))
    return rows, official.scorer.get_ner_scores(labels["ref"], labels["hypo"])["overall_micro"]


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_equal_the_official_ones(official: Any, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    chosen = rng.sample(references("dev"), 1000)
    pairs = [(line, corrupted(line, rng)) for line in chosen]
    found = [Prediction(str(i), from_slue(r), from_slue(h)) for i, (r, h) in enumerate(pairs)]
    for kind, count, name in (("standard", entity_counts, "f1"), ("label", tag_counts, "label_f1")):
        rows, micro = official_counts(official, kind, pairs, tmp_path)
        own = [count(p) for p in found]
        assert [r.tolist() for r in own] == [r.tolist() for r in rows]
        assert 30 < 100 * micro["fscore"] < 95  # neither all right nor all wrong
        assert BY_NAME[name].combine(sum(own)) == pytest.approx(100 * micro["fscore"])  # type: ignore[arg-type]
        if kind == "standard":
            for part in ("precision", "recall"):
                value = BY_NAME[part].combine(sum(own))  # type: ignore[arg-type]
                assert value == pytest.approx(100 * float(micro[part]))
    wer = BY_NAME["tagged_wer"]
    expected = 100 * official.scorer.get_wer(*zip(*pairs, strict=True))
    assert wer.combine(sum(map(wer.counts, found))) == pytest.approx(expected)  # type: ignore[arg-type]


def test_other_rules_would_be_seen(official: Any, tmp_path: Path) -> None:
    """Negative controls: no merging, and sets in place of multisets, give other sums."""
    rng = random.Random(1)
    pairs = [(line, corrupted(line, rng)) for line in references("dev")]
    rows, _ = official_counts(official, "standard", pairs, tmp_path)
    wanted = sum(rows).tolist()  # type: ignore[union-attr]
    lines = [(from_slue(r), from_slue(h)) for r, h in pairs]
    unmerged, as_sets = np.zeros(3), np.zeros(3)
    for reference, hypothesis in lines:
        raw = [entities(line.replace("[", "[=")) for line in (reference, hypothesis)]
        unmerged += [(Counter(raw[0]) & Counter(raw[1])).total(), len(raw[1]), len(raw[0])]
        sets = [set(entities(line)) for line in (reference, hypothesis)]
        as_sets += [len(sets[0] & sets[1]), len(sets[1]), len(sets[0])]
    assert sum(entity_counts(Prediction("u", r, h)) for r, h in lines).tolist() == wanted  # type: ignore[union-attr]
    assert unmerged.tolist() != wanted
    assert as_sets.tolist() != wanted


def test_the_tables_are_the_official_ones(official: Any) -> None:
    assert dict(SLUE_TAGS) == official.tables.raw_entity_to_spl_char
    merged = {tag: name or "DISCARD" for tag, name in MERGED.items()}
    assert merged == official.tables.raw_to_combined_tag_map


@pytest.mark.parametrize(
    ("split", "raw", "with_one", "kept"),
    [
        (
            "fine-tune",
            5820,
            2905,
            {"PLACE": 2012, "QUANT": 923, "WHEN": 762, "ORG": 864, "NORP": 647, "LAW": 250, "PERSON": 272},
        ),
        (
            "dev",
            1862,
            946,
            {"PLACE": 642, "QUANT": 327, "WHEN": 260, "ORG": 259, "NORP": 220, "LAW": 60, "PERSON": 51},
        ),
    ],
)  # fmt: skip
def test_counts_of_the_official_references(
    official: Any, split: str, raw: int, with_one: int, kept: dict[str, int]
) -> None:
    lines = [from_slue(line) for line in references(split)]
    opening = [sum(opened(word) is not None for word in line.split()) for line in lines]
    assert (sum(opening), sum(map(bool, opening))) == (raw, with_one)
    assert Counter(tag for line in lines for tag, _ in entities(line)) == kept


def untagged(line: str) -> Utterance:
    """The utterance that a tagged line of SLUE's was made of, as a corpus reader gives it."""
    tags = {character: tag for tag, character in SLUE_TAGS.items()}
    words: list[str] = []
    found: list[Entity] = []
    start = 0
    for word in line.split():
        if word in tags:
            tag, start = tags[word], len(" ".join(words)) + bool(words)
        elif word == "]":
            found.append(Entity(tag, start, len(" ".join(words)) - start))
        else:
            words.append(word.upper())
    return Utterance("u", Path("u.ogg"), "dev", text=" ".join(words), entities=tuple(found))


def test_targets_equal_the_official_ones(official: Any) -> None:
    lines = references("dev")
    built = [" ".join(SLUE_INVENTORY.words(untagged(line))).lower() for line in lines]
    assert built == lines
    texts = [SLUE_INVENTORY.line(SLUE_INVENTORY.words(untagged(line))) for line in lines]
    assert [to_slue(text) for text in texts] == lines
    # Negative control: joined again, as ASR writes them, the words are others until they are split.
    joined = [u.text.replace(" '", "'") for line in lines if (u := untagged(line)).text]
    assert [text.lower().split() for text in joined] != [u.split() for u in lines]
    assert [split_apostrophes(text) for text in joined] == [untagged(u).text.split() for u in lines]  # type: ignore[union-attr]
