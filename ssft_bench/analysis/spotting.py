"""Spotting of spoken terms: an isolated term asks for the utterances that say it.

Subsequence DTW with the asymmetric steps of SUPERB's query-by-example (s3prl's `quesst14_dtw`, step
pattern of Sakoe and Chiba 1978): every query frame is matched once, the utterance moves on by 0, 1 or 2
frames. A stand-in for the QbE task: no z-norm over queries, no thresholds, MAP instead of MTWV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssft_bench.alignment.subsequence_dtw import subsequence_cost
from ssft_bench.analysis import ranking
from ssft_bench.analysis.dtw import unit_frames
from ssft_bench.analysis.report import Report
from ssft_bench.analysis.retrieval import COLUMNS
from ssft_bench.analysis.sources import Frames, hidden
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import UsageError
from ssft_bench.metric import Prediction
from ssft_bench.progress import Progress
from ssft_bench.statistics import score
from ssft_bench.upstream import Upstream


def terms(corpus: Corpus) -> dict[str, tuple[list[Utterance], list[Utterance]]]:
    """Split -> (isolated terms, utterances), for dev and test.

    Raises UsageError for a corpus without isolated terms.
    """
    found = {split: (corpus.queries(split), corpus.utterances(split)) for split in ("dev", "test")}
    if not any(queries for queries, _ in found.values()):
        raise UsageError(f"corpus {corpus.name} has no isolated terms to look for")
    return found


def says(utterance: Utterance, term: str) -> bool:
    """Whether the words of a term are in the utterance's text, one after the other."""
    return f" {term} " in f" {utterance.text} "


def measure(
    upstream: Upstream,
    layers: Sequence[int],
    splits: dict[str, tuple[list[Utterance], list[Utterance]]],
    *,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row per layer: MAP in % over the queries of all splits, each among its split's utterances."""
    precisions: list[dict[str, float]] = [{} for _ in layers]
    chances: list[float] = []
    for queries, utterances in splits.values():
        frames = [
            [[unit_frames(s.numpy(), subtract_mean=False) for s in states] for states in found]
            for found in (hidden(upstream, rows, layers) for rows in (queries, utterances))
        ]
        relevant = [np.array([says(u, str(q.text)) for u in utterances]) for q in queries]
        with Progress("spotting", len(queries), unit="query") as bar:
            for q, query in enumerate(queries):
                if relevant[q].any():
                    chances.append(
                        ranking.chance_average_precision(len(utterances), int(relevant[q].sum()))
                    )
                    for place in range(len(layers)):
                        found = _similarities(frames[0][q][place], [u[place] for u in frames[1]])
                        precisions[place][query.id] = ranking.average_precision(found, relevant[q])
                bar.advance()
    if not chances:
        raise UsageError("no utterance says any of the terms")
    return [
        _row(upstream, layer, own, chances, splits, seed)
        for layer, own in zip(layers, precisions, strict=True)
    ]


def _similarities(query: Frames, utterances: Sequence[Frames]) -> NDArray[np.float64]:
    return -np.array([subsequence_cost(np.float32(1) - query @ u.T) for u in utterances])


def _row(
    upstream: Upstream,
    layer: int,
    precisions: dict[str, float],
    chances: list[float],
    splits: dict[str, tuple[list[Utterance], list[Utterance]]],
    seed: int,
) -> dict[str, Any]:
    predictions = [Prediction(name, "", repr(value)) for name, value in precisions.items()]
    scored = score(ranking.MAP, predictions, seed=seed)
    return {
        "upstream": upstream.spec.name,
        "layer": layer,
        "map": scored.value,
        "map_ci95": list(scored.ci95),
        "chance": 100 * float(np.mean(chances)),
        "queries": len(precisions),
        "recordings": sum(len(utterances) for _, utterances in splits.values()),
        "words": len({q.text for queries, _ in splits.values() for q in queries}),
        "ci_method": scored.method.replace("utterances", "queries"),
    }


def report(rows: list[dict[str, Any]], corpus: Corpus, settings: dict[str, Any]) -> Report:
    """The table over upstreams and layers."""
    kind = " (synthetic speech)" if corpus.synthetic else ""
    notes = [
        f"Isolated terms of corpus {corpus.name}{kind}, each looked for in the utterances of its split (dev, "
        "test). Subsequence DTW over cosine distance, asymmetric steps; a stand-in for query-by-example.",
        "MAP: mean average precision over the queries. Chance: expected MAP of a random order.",
        f"CI: {rows[0]['ci_method']}; the utterances searched stay the same.",
    ]
    return Report("spotting", "Spotting of spoken terms", COLUMNS, rows, settings, notes)
