"""Batches of runs: consecutive segments of one session beside each other.

So a segment's neighbours are mostly in its batch, and their context vectors cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.seeds import seed_for


def runs(rows: Sequence[Utterance], length: int, generator: torch.Generator) -> list[list[int]]:
    """Indices of `rows` in runs of at most `length` consecutive segments of one session.

    Where a long stretch is cut changes from pass to pass. A row without a session is a run of its own.
    """
    found = []
    for stretch in _stretches(rows):
        first = int(torch.randint(1, length + 1, (1,), generator=generator))
        cuts = [0, *range(first, len(stretch), length), len(stretch)]
        found += [stretch[a:b] for a, b in pairwise(cuts)]
    return found


def _stretches(rows: Sequence[Utterance]) -> list[list[int]]:
    """Indices of rows, each stretch without a gap in its session's numbers."""
    alone = [[i] for i, row in enumerate(rows) if row.session is None or row.segment is None]
    placed = sorted(
        (row.split, row.session, row.segment, i)
        for i, row in enumerate(rows)
        if row.session is not None and row.segment is not None
    )
    stretches: list[list[int]] = []
    before: tuple[str, str, int] | None = None
    for split, session, segment, index in placed:
        if before == (split, session, segment - 1):
            stretches[-1].append(index)
        else:
            stretches.append([index])
        before = (split, session, segment)
    return stretches + alone


def consecutive_batches(
    rows: Sequence[Utterance],
    seconds: Sequence[float],
    *,
    batch_size: int,
    batch_seconds: float | None,
    run_length: int,
    seed: int,
    epoch: int,
) -> list[list[int]]:
    """One pass: indices of `rows` in batches of whole runs, each row once, fixed by (seed, epoch).

    A batch has at most `batch_size` rows, and at most `batch_seconds` of audio with padding counted,
    unless a single row is longer. Runs that do not fit are cut.
    """
    generator = torch.Generator().manual_seed(seed_for(seed, "runs", epoch))
    whole = runs(rows, min(run_length, batch_size), generator)
    pieces = [p for run in whole for p in _fitting(run, seconds, batch_seconds)]
    batches: list[list[int]] = []
    for index in torch.randperm(len(pieces), generator=generator).tolist():
        piece = pieces[index]
        joined = (batches[-1] if batches else []) + piece
        if batches and len(joined) <= batch_size and _fits(joined, seconds, batch_seconds):
            batches[-1] = joined
        else:
            batches.append(list(piece))
    return batches


def _fits(indices: Sequence[int], seconds: Sequence[float], limit: float | None) -> bool:
    return limit is None or max(seconds[i] for i in indices) * len(indices) <= limit


def _fitting(run: list[int], seconds: Sequence[float], limit: float | None) -> list[list[int]]:
    """A run in pieces that fit into a batch."""
    pieces: list[list[int]] = [[]]
    for index in run:
        if pieces[-1] and not _fits([*pieces[-1], index], seconds, limit):
            pieces.append([])
        pieces[-1].append(index)
    return pieces
