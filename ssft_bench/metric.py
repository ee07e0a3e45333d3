"""Predictions, and how a metric is made of per-utterance counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from jiwer import AlignmentChunk

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """One scored utterance, as stored in predictions.jsonl."""

    id: str
    reference: str
    hypothesis: str
    speaker: str | None = None
    hypothesis_lm: str | None = None
    """Decoded with a language model, where the run has one."""


@dataclass(frozen=True)
class Metric:
    """A score as a function of counts that add up over utterances.

    `counts` gives one utterance's row [K]; `combine` takes sums [..., K] and gives values [...].
    So a bootstrap over utterances or speakers is one matrix product.
    """

    name: str
    unit: str
    higher_is_better: bool
    primary: bool
    counts: Callable[[Prediction], Counts]
    combine: Callable[[Counts], Counts]
    table: Callable[[Sequence[Prediction]], Counts] | None = None
    """Rows of all predictions at once [N, K], where they depend on each other (shared thresholds)."""
    over: str = "utterances"
    """What a prediction is of, for the description of the interval."""
    alignment: Callable[[Prediction], Sequence[AlignmentChunk]] | None = None
    """Edits that make the hypothesis of the reference, where it is edits that the metric counts."""

    def rows(self, predictions: Sequence[Prediction]) -> Counts:
        """Counts [N, K] of the predictions, in their order."""
        if self.table is not None:
            return self.table(predictions)
        return np.stack([self.counts(p) for p in predictions])

    def value(self, predictions: Sequence[Prediction]) -> float:
        """The score over these predictions, without an interval."""
        return float(self.combine(self.rows(predictions).sum(axis=0)))
