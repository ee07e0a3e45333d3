"""The matched pairs sentence-segment word error test (MAPSSWE), as NIST's tools make it.

Gillick & Cox, "Some statistical issues in the comparison of speech recognition algorithms" (ICASSP
1989); segments as in NIST's SCTK (`sc_stats -t mapsswe`, src/sclite/mtchprs.c, with 2 buffer words).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ssft_bench.comparison.pairing import check_same
from ssft_bench.errors import UsageError
from ssft_bench.metric import Metric, Prediction

BUFFER = 2
"""Words in a row, right in both systems and with nothing inserted between, that end a segment."""


@dataclass(frozen=True)
class Mapsswe:
    """Result of the test of A against B."""

    segments: int
    mean: float
    """Mean over the segments of A's errors minus B's."""
    deviation: float
    """Their standard deviation, with n - 1."""
    z: float
    """Mean over its standard error; negative when A makes fewer errors. 0 without any spread."""
    p: float
    """Two-sided, from the normal distribution."""


def mapsswe(metric: Metric, a: Sequence[Prediction], b: Sequence[Prediction]) -> Mapsswe:
    """Test whether A and B make equally many errors per segment.

    A segment is a stretch of an utterance that holds errors of A or B and is bounded by `BUFFER` words
    that both have right, or by the utterance's ends. The test takes segments for independent: where
    utterances of a speaker err together it finds too much, and the number of speakers does not count.

    SCTK's own alignment weighs a substitution 4 and an insertion or deletion 3; here all edits weigh 1, as
    in the error rate, so the segments can differ where two alignments are as good.

    Raises UsageError for a metric that counts no edits, and where a and b are not of the same utterances.
    """
    rows_a, rows_b = (sorted(rows, key=lambda p: p.id) for rows in (a, b))
    check_same(rows_a, rows_b)
    cut = chain.from_iterable(segments(metric, p, q) for p, q in zip(rows_a, rows_b, strict=True))
    differences = np.array([errors_a - errors_b for errors_a, errors_b in cut], dtype=np.float64)
    n = len(differences)
    mean = float(differences.mean()) if n else 0.0
    deviation = float(differences.std(ddof=1)) if n > 1 else 0.0
    z = mean / (deviation / math.sqrt(n)) if deviation > 0 else 0.0
    return Mapsswe(n, mean, deviation, z, math.erfc(abs(z) / math.sqrt(2)))


def segments(metric: Metric, a: Prediction, b: Prediction) -> list[tuple[int, int]]:
    """Errors of A and of B in each segment of an utterance, in their order."""
    found: list[tuple[int, int]] = []
    in_a = in_b = good = 0
    for is_gap, wrong_a, wrong_b in _events(metric, a, b):
        if wrong_a or wrong_b:
            in_a, in_b, good = in_a + wrong_a, in_b + wrong_b, 0
        elif not is_gap:
            good += 1
            if good == BUFFER and (in_a or in_b):
                found.append((in_a, in_b))
                in_a = in_b = 0
    return [*found, (in_a, in_b)] if in_a or in_b else found


def _events(metric: Metric, a: Prediction, b: Prediction) -> Iterator[tuple[bool, int, int]]:
    """What happens along the reference: (whether it is a gap, errors of A, of B), gaps and words in turn.
    In a gap it is inserted words that are counted; a word is wrong or right."""
    if metric.alignment is None:
        raise UsageError(f"MAPSSWE is a test of error rates; {metric.name} counts no edits")
    sides = [metric.alignment(p) for p in (a, b)]
    words = max((chunk.ref_end_idx for side in sides for chunk in side), default=0)
    wrong = [[0] * words for _ in sides]
    inserted = [[0] * (words + 1) for _ in sides]
    for chunks, own_wrong, own_inserted in zip(sides, wrong, inserted, strict=True):
        for chunk in chunks:
            if chunk.type == "insert":
                own_inserted[chunk.ref_start_idx] += chunk.hyp_end_idx - chunk.hyp_start_idx
            elif chunk.type != "equal":
                span = chunk.ref_end_idx - chunk.ref_start_idx
                own_wrong[chunk.ref_start_idx : chunk.ref_end_idx] = [1] * span
    for place in range(words):
        yield True, inserted[0][place], inserted[1][place]
        yield False, wrong[0][place], wrong[1][place]
    yield True, inserted[0][words], inserted[1][words]
