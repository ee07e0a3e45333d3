"""Entities of tagged lines, and their scores: SLUE's rules (slue-toolkit, `eval/eval_w2v_ner.py`)."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ssft_bench.downstreams.edit_distance import error_rate_metric
from ssft_bench.downstreams.ner.tags import CLOSE, MERGED, SLUE_TAGS, opened, opening
from ssft_bench.errors import UsageError
from ssft_bench.metric import Counts, Metric, Prediction

Found = tuple[str, str]
"""(tag, phrase)."""


def entities(line: str) -> list[Found]:
    """(merged tag, phrase) of each entity that counts, in the order in which they close.

    Word by word: an opening tag throws away what is open; `]` closes, and without a word in between, or
    with nothing open, is ignored; what is open at the end is dropped. Discarded tags are left out.
    """
    found: list[Found] = []
    tag: str | None = None
    is_open, phrase = False, list[str]()
    # Once, as SLUE does: of three spaces two are left, which make an empty word.
    for word in line.strip().replace("  ", " ").split(" "):
        opens = opened(word)
        if opens is not None:
            name, as_it_is = opens
            tag = name if as_it_is else MERGED.get(name, name)
            is_open, phrase = True, []
        elif word == CLOSE:
            if is_open and phrase and tag is not None:
                found.append((tag, " ".join(phrase)))
            is_open, phrase = False, []
        elif is_open:
            phrase.append(word)
    return found


def entity_counts(prediction: Prediction) -> Counts:
    """(matched, predicted, reference) entities, float64 [3]; tag and phrase must be equal.

    Equal entities of an utterance are matched one to one, wherever they stand.
    """
    return _matches(entities(prediction.reference), entities(prediction.hypothesis))


def tag_counts(prediction: Prediction) -> Counts:
    """As `entity_counts`, with tags alone compared."""
    tags = [[tag for tag, _ in entities(line)] for line in _lines(prediction)]
    return _matches(*tags)


def _lines(prediction: Prediction) -> tuple[str, str]:
    return prediction.reference, prediction.hypothesis


def _matches(reference: list[Found] | list[str], hypothesis: list[Found] | list[str]) -> Counts:
    matched = Counter(reference) & Counter(hypothesis)
    return np.array([matched.total(), len(hypothesis), len(reference)], dtype=np.float64)


def precision(sums: Counts) -> Counts:
    """Percent, [...], of summed counts [..., 3]; 0 where nothing was predicted."""
    return _percent(sums[..., 0], sums[..., 1])


def recall(sums: Counts) -> Counts:
    """Percent, [...], of summed counts [..., 3]; 0 where there is nothing to find."""
    return _percent(sums[..., 0], sums[..., 2])


def f1(sums: Counts) -> Counts:
    """Percent, [...], of summed counts [..., 3]: micro-averaged, 2 matched / (predicted + reference)."""
    return _percent(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _percent(part: Counts, whole: Counts) -> Counts:
    share: Counts = 100.0 * part / np.where(whole == 0, 1.0, whole)
    return share


METRICS = (
    Metric("f1", "%", True, True, entity_counts, f1),
    Metric("label_f1", "%", True, False, tag_counts, f1),
    Metric("precision", "%", True, False, entity_counts, precision),
    Metric("recall", "%", True, False, entity_counts, recall),
    # Of the tagged text, each tag and `]` a word: it picks SLUE's checkpoints. It is no WER of speech.
    error_rate_metric("tagged_wer", primary=False),
)


def to_slue(line: str) -> str:
    """A line as SLUE's own scorer reads it: lower case, `% strasbourg ]` for `[GPE: STRASBOURG ]`.

    Raises UsageError for a tag that is not one of SLUE's eighteen.
    """
    found = []
    for word in line.split(" "):
        opens = opened(word)
        if opens is None:
            found.append(word.lower())
        elif opens[0] in SLUE_TAGS and not opens[1]:
            found.append(SLUE_TAGS[opens[0]])
        else:
            raise UsageError(f"ner: {word} is no tag of SLUE's; its scorer cannot read the line")
    return " ".join(found)


def from_slue(line: str) -> str:
    """The inverse of `to_slue`: SLUE's tagged text as predictions are stored here."""
    names = {c: opening(tag, as_it_is=False) for tag, c in SLUE_TAGS.items()}
    return " ".join(names.get(word, word.upper()) for word in line.split(" "))
