"""From features of queries and documents to normalised scores, step by step as s3prl's `quesst14_dtw`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ssft_bench.alignment.subsequence_dtw import Frames, subsequence_scores
from ssft_bench.downstreams.qbe.trials import Scores

TINY = 1e-9
"""Smallest standard deviation that is divided by, of a dimension and of a query's scores."""


class Moments:
    """Mean and unbiased variance of each dimension over frames that come one recording at a time.

    Float64, merged as Chan, Golub & LeVeque (1983) have it: a constant dimension keeps a variance of 0.
    """

    def __init__(self, recordings: Iterable[Frames]) -> None:
        """`recordings` are [T, D], T > 0."""
        frames, mean, squares = 0, np.zeros(0), np.zeros(0)
        for recording in recordings:
            own = recording.astype(np.float64)
            own_mean = own.mean(axis=0)
            own -= own_mean
            own_squares = np.einsum("td,td->d", own, own)
            if not frames:
                frames, mean, squares = len(own), own_mean, own_squares
                continue
            total, apart = frames + len(own), own_mean - mean
            mean = mean + apart * (len(own) / total)
            squares = squares + own_squares + np.square(apart) * (frames * len(own) / total)
            frames = total
        self.mean = mean
        self.deviation = np.maximum(np.sqrt(squares / max(1, frames - 1)), TINY)
        """Standard deviation of each dimension [D], at least `TINY`."""

    def unit(self, frames: Frames) -> Frames:
        """Standardised frames [T, D] of length 1; zeros stay zeros."""
        standard = frames - self.mean
        standard /= self.deviation
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
        [moments.unit(queries[q]) for q in long],
        (moments.unit(frames) for frames in documents()),
        report=report,
    )
    scores = np.zeros((len(queries), found.shape[1]))
    scores[long] = found
    return scores


def normalised(scores: Scores) -> Scores:
    """Scores [queries, documents] with mean 0 and (population) standard deviation 1 for each query."""
    deviation = np.maximum(scores.std(axis=1, keepdims=True), TINY)
    return np.asarray((scores - scores.mean(axis=1, keepdims=True)) / deviation)
