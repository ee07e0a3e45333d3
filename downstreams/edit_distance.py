"""Error rates from edit distances (Levenshtein): counts per utterance that add up over a corpus.

A corpus' rate is the sum of all edits over the sum of all reference lengths, not a mean of rates.
"""

from __future__ import annotations

import jiwer
import numpy as np

from ssft_bench.metric import Counts, Metric, Prediction


def word_counts(prediction: Prediction) -> Counts:
    """(edits, reference words), float64 [2]; words, or phones, are split at white space."""
    return _counts(jiwer.process_words(prediction.reference, prediction.hypothesis))


def character_counts(prediction: Prediction) -> Counts:
    """(edits, reference characters), float64 [2]; spaces between words count as characters."""
    return _counts(jiwer.process_characters(prediction.reference, prediction.hypothesis))


def error_rate(sums: Counts) -> Counts:
    """Percent, [...], of summed counts [..., 2].

    Without any reference token there is nothing to divide by: the edits count against one token.
    """
    rate: Counts = 100.0 * sums[..., 0] / np.maximum(sums[..., 1], 1.0)
    return rate


def error_rate_metric(name: str, *, primary: bool, characters: bool = False) -> Metric:
    """Metric in percent, lower is better, over words or (`characters`) characters."""
    counts = character_counts if characters else word_counts
    alignment = character_alignment if characters else word_alignment
    return Metric(name, "%", False, primary, counts, error_rate, alignment=alignment)


def word_alignment(prediction: Prediction) -> list[jiwer.AlignmentChunk]:
    """Stretches of words that are equal, substituted, inserted or deleted, in their order."""
    return jiwer.process_words(prediction.reference, prediction.hypothesis).alignments[0]


def character_alignment(prediction: Prediction) -> list[jiwer.AlignmentChunk]:
    """As `word_alignment`, of characters."""
    return jiwer.process_characters(prediction.reference, prediction.hypothesis).alignments[0]


def _counts(out: jiwer.WordOutput | jiwer.CharacterOutput) -> Counts:
    kept = out.hits + out.substitutions + out.deletions
    return np.array([out.substitutions + out.insertions + out.deletions, kept], dtype=np.float64)
