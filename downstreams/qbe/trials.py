"""The trials of one query as text: what a prediction of query-by-example holds.

`hypothesis` is a line `<document> <score>` for every document searched, best first, scores with 4 decimals.
`reference` is a line for every document that the query occurs in. Where the ground truth has more than was
searched, the first line of `reference` says so: `# 12492 documents, 560 queries for 138`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssft_bench.metric import Prediction

DEFAULT_SCORE = -10.0
"""Of a trial without a score; what SUPERB gives to the official scorer."""

Scores = NDArray[np.float64]

_HEADER = re.compile(r"# (\d+) documents, (\d+) queries for (\d+)")


@dataclass(frozen=True)
class Trials:
    """Scores of a query in every document, by whether it occurs there."""

    true: Scores
    """Scores of the documents that it occurs in."""
    false: Scores
    """Scores of the others that were searched."""
    documents: int
    """All documents; those beyond the scores have the default score."""
    queries: float = 1.0
    """How many queries of the ground truth this one stands for."""


def reference_text(
    matches: Iterable[str], *, documents: int = 0, queries: tuple[int, int] = (0, 0)
) -> str:
    """Documents that a query occurs in, one a line, sorted.

    `documents` of the ground truth, and `queries` (of the ground truth, searched), where there are more
    than were searched; 0 where not.
    """
    lines = sorted(matches)
    if documents:
        lines.insert(0, f"# {documents} documents, {queries[0]} queries for {queries[1]}")
    return "\n".join(lines)


def hypothesis_text(names: Sequence[str], scores: Scores) -> str:
    """Documents with their scores [documents], best first, of equal ones by name."""
    rows = [(f"{score:.4f}", name) for name, score in zip(names, scores, strict=True)]
    rows.sort(key=lambda row: (-float(row[0]), row[1]))
    return "\n".join(f"{name} {score}" for score, name in rows)


def matched(prediction: Prediction) -> list[str]:
    """Documents that the query occurs in."""
    lines = prediction.reference.splitlines()
    return lines[1:] if _HEADER.match(prediction.reference) else lines


def read(prediction: Prediction) -> Trials:
    """The trials that a prediction holds."""
    matches = set(matched(prediction))
    rows = [line.rpartition(" ") for line in prediction.hypothesis.splitlines()]
    scores = np.array([row[2] for row in rows], np.float64)
    occurs = np.array([row[0] in matches for row in rows], bool)
    missing = len(matches) - int(occurs.sum())
    true = np.concatenate([scores[occurs], np.full(missing, DEFAULT_SCORE)])
    documents, queries = len(rows) + missing, 1.0
    header = _HEADER.match(prediction.reference)
    if header:
        documents = max(documents, int(header[1]))
        queries = int(header[2]) / int(header[3])
    return Trials(true, scores[~occurs], documents, queries)
