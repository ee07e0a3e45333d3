"""Scores of a three-way classification, from counts per class that add up over utterances.

As slue-toolkit (`eval/eval_w2v_sentiment.py`) calls scikit-learn: `average="macro"` without a list of
labels, so that a class which is neither in the references nor predicted is left out of the mean.
"""

from __future__ import annotations

import numpy as np

from ssft_bench.errors import CheckFailed
from ssft_bench.metric import Counts, Metric, Prediction

CLASSES = ("negative", "neutral", "positive")


def class_counts(prediction: Prediction) -> Counts:
    """(right, predicted, reference) of each class, flattened: float64 [9].

    Raises CheckFailed for a class that is none.
    """
    counts = np.zeros((len(CLASSES), 3))
    wanted, given = (_index(prediction, c) for c in (prediction.reference, prediction.hypothesis))
    counts[wanted, 0] = wanted == given
    counts[given, 1] = 1
    counts[wanted, 2] = 1
    return counts.ravel()


def _index(prediction: Prediction, name: str) -> int:
    if name not in CLASSES:
        raise CheckFailed(f"prediction '{prediction.id}': {name!r} is none of {', '.join(CLASSES)}")
    return CLASSES.index(name)


def macro_f1(sums: Counts) -> Counts:
    """Percent, [...], of summed counts [..., 9]: mean over classes of 2 right / (predicted + reference)."""
    right, predicted, reference = _by_class(sums)
    return _mean(2 * right, predicted + reference, present=predicted + reference > 0)


def macro_recall(sums: Counts) -> Counts:
    """Percent, [...], of summed counts [..., 9]: mean over classes of right / reference."""
    right, predicted, reference = _by_class(sums)
    return _mean(right, reference, present=predicted + reference > 0)


def accuracy(sums: Counts) -> Counts:
    """Percent, [...], of summed counts [..., 9]."""
    right, _, reference = _by_class(sums)
    share: Counts = 100.0 * right.sum(-1) / np.maximum(reference.sum(-1), 1)
    return share


def _by_class(sums: Counts) -> tuple[Counts, Counts, Counts]:
    """Right, predicted and reference utterances, each [..., 3]."""
    table = sums.reshape(*sums.shape[:-1], len(CLASSES), 3)
    return table[..., 0], table[..., 1], table[..., 2]


def _mean(part: Counts, whole: Counts, present: np.ndarray) -> Counts:
    """Percent, mean over the classes that are `present`; a class divided by 0 counts 0."""
    each = part / np.where(whole == 0, 1.0, whole)
    mean: Counts = 100.0 * each.sum(-1, where=present) / np.maximum(present.sum(-1), 1)
    return mean


METRICS = (
    Metric("macro_f1", "%", True, True, class_counts, macro_f1),
    Metric("macro_recall", "%", True, False, class_counts, macro_recall),
    Metric("accuracy", "%", True, False, class_counts, accuracy),
)
