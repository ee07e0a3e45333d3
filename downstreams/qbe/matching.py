"""From features of queries and documents to normalised scores, step by step as s3prl's `quesst14_dtw`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ssft_bench.alignment.subsequence_dtw import Frames, subsequence_scores
from ssft_bench.downstreams.qbe.trials import Scores
from ssft_bench.moments import TINY, Moments


def _unit(frames: Frames, moments: Moments) -> Frames:
    """Standardised frames [T, D] of length 1; zeros stay zeros."""
    standard = frames - moments.mean
    standard /= moments.deviation
    norms = np.sqrt(np.einsum("td,td->t", standard, standard))[:, None]
    standard /= np.where(norms > 0, norms, 1)
    return np.asarray(standard, np.float32)


def match(
    queries: Sequence[Frames],
    documents: Callable[[], Iterable[Frames]],
    *,
    min_frames: int,
    report: Callable[[int], None] | None = None,
) -> Scores:
    """Raw scores [queries, documents]: 0 for a query of fewer than `min_frames`, else those of
    `subsequence_scores` after standardising over all frames of the queries and the documents.

    `documents` is called twice, so that they need not be in memory. `report` as `subsequence_scores`.
    """
    moments = Moments(frames for rows in (queries, documents()) for frames in rows)
    long = [q for q, frames in enumerate(queries) if len(frames) >= min_frames]
    found = subsequence_scores(
        [_unit(queries[q], moments) for q in long],
        (_unit(frames, moments) for frames in documents()),
        report=report,
    )
    scores = np.zeros((len(queries), found.shape[1]))
    scores[long] = found
    return scores


def normalised(scores: Scores) -> Scores:
    """Scores [queries, documents] with mean 0 and (population) standard deviation 1 for each query."""
    deviation = np.maximum(scores.std(axis=1, keepdims=True), TINY)
    return np.asarray((scores - scores.mean(axis=1, keepdims=True)) / deviation)
