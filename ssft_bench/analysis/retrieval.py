"""Retrieval of isolated words: every recording asks for the others of its word.

Like query-by-example, but the recordings hold one word each, so whole sequences are compared. Known as
the same-different task with MAP instead of AP over pairs (Carlin et al., Interspeech 2011).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssft_bench.analysis import dtw, ranking
from ssft_bench.analysis.alignments import Alignment, aligned
from ssft_bench.analysis.report import Column, Report
from ssft_bench.analysis.sources import Frames, Speech, hidden
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.progress import Progress
from ssft_bench.seeds import seed_for
from ssft_bench.upstream import Upstream

SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".sph")
Pooling = Literal["dtw", "mean"]

COLUMNS = (
    Column("upstream", "upstream"),
    Column("layer", "layer"),
    Column("MAP %", "map", ".2f"),
    Column("95% CI", "map_ci95", ".2f"),
    Column("chance %", "chance", ".2f"),
    Column("queries", "queries"),
    Column("recordings", "recordings"),
    Column("words", "words"),
)


@dataclass(frozen=True)
class Words:
    """Recordings of one word each (`text`), and where they are from."""

    rows: list[Utterance]
    origin: str


def folder_words(root: Path, *, held_out_only: bool) -> Words:
    """`<root>/<word>/*.flac` and the like: the folder is the word, speakers are not known.

    `held_out_only` keeps the fifth of the recordings that our pretraining never hears.
    Raises MissingError when no such file is there.
    """
    from ssft_bench.corpora.held_out import held_out

    if not root.is_dir():
        raise MissingError(f"--words {root}: no such folder")
    paths = sorted(p for p in root.glob("*/*") if p.suffix.lower() in SUFFIXES)
    kept = [p for p in paths if not held_out_only or held_out(p)]
    if not kept:
        raise MissingError(f"--words {root}: expected recordings in <word>/*.flac (or .wav, .ogg)")
    rows = [
        Utterance(f"{p.parent.name}/{p.name}", p, "test", text=p.parent.name.upper()) for p in kept
    ]
    fifth = ", the held-out fifth" if held_out_only else ""
    return Words(rows, f"words of {root.name}{fifth}")


def query_words(corpus: Corpus) -> Words:
    """The isolated spoken terms of a corpus, of all splits together.

    Raises UsageError for a corpus without such terms.
    """
    rows = [row for split in ("train", "dev", "test") for row in corpus.queries(split)]
    if not rows:
        raise UsageError(
            f"corpus {corpus.name} has no isolated words; cut them out with --alignments FILE, or give "
            "--words FOLDER"
        )
    kind = " (synthetic speech)" if corpus.synthetic else ""
    return Words(rows, f"isolated terms of corpus {corpus.name}{kind}, all splits")


def cut_words(speech: Speech, alignments: dict[str, Alignment], min_seconds: float) -> Words:
    """Words cut out of recordings by their alignment, those of `min_seconds` and longer."""
    rows = []
    for utterance in aligned(speech.utterances, alignments, speech.origin):
        begin = utterance.start or 0.0
        for word in alignments[utterance.id].words:
            if word.frames >= 100 * min_seconds:
                start = begin + word.start / 100
                cut = replace(utterance, id=f"{utterance.id}@{word.start}", text=word.label)
                rows.append(replace(cut, start=start, end=start + word.frames / 100))
    return Words(rows, f"{speech.origin}, words of at least {min_seconds:g} s cut out by alignment")


def chosen(words: Words, max_per_word: int | None, seed: int) -> Words:
    """At most so many recordings of each word, drawn by (seed, word), in the order they had.

    Raises UsageError when no word is left with two recordings.
    """
    by_word: dict[str, list[Utterance]] = {}
    for row in words.rows:
        by_word.setdefault(str(row.text), []).append(row)
    kept: set[str] = set()
    for word, own in by_word.items():
        order = np.random.default_rng(seed_for(seed, "word", word)).permutation(len(own))
        kept |= {own[i].id for i in order[:max_per_word].tolist()}
    rows = [row for row in words.rows if row.id in kept]
    if max(Counter(row.text for row in rows).values(), default=0) < 2:
        raise UsageError(
            f"{words.origin}: no word has two recordings, so there is nothing to find; give more data "
            "or a larger --max-per-word"
        )
    return replace(words, rows=rows)


def similarities(
    sequences: Sequence[Frames], pooling: Pooling, *, subtract_mean: bool
) -> ranking.Floats:
    """Symmetric matrix [n, n]: minus the warped cosine distance, or the cosine of means over time."""
    if pooling == "mean":
        means = np.stack([s.mean(axis=0, dtype=np.float64) for s in sequences])
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        unit = means / np.where(norms > 0, norms, 1)
        return np.asarray(unit @ unit.T)
    unit_sequences = [dtw.unit_frames(s, subtract_mean=subtract_mean) for s in sequences]
    count = len(sequences)
    found = np.zeros((count, count))
    with Progress("retrieval", count, unit="query") as bar:
        for i, costs in dtw.pairwise(unit_sequences):
            found[i, i + 1 :] = found[i + 1 :, i] = -costs
            bar.advance()
    return found


def measure(
    upstream: Upstream,
    layers: Sequence[int],
    words: Words,
    *,
    pooling: Pooling = "dtw",
    subtract_mean: bool = False,
    across_speakers: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row per layer: MAP in % with its interval, chance, and MAP of each word.

    `across_speakers` hides recordings of the query's own speaker from it. Layers' frames stay in
    memory meanwhile. Raises UsageError when nothing can be found.
    """
    names = [str(row.text) for row in words.rows]
    ids = [row.id for row in words.rows]
    allowed = _allowed(words, across_speakers)
    sequences: list[list[Frames]] = [[] for _ in layers]
    for states in hidden(upstream, words.rows, layers):
        for place, state in enumerate(states):
            sequences[place].append(state.numpy())
    found = []
    for place, layer in enumerate(layers):
        similarity = similarities(sequences[place], pooling, subtract_mean=subtract_mean)
        sequences[place] = []
        result = ranking.mean_average_precision(similarity, names, ids, allowed, seed)
        if result is None:
            raise UsageError(f"{words.origin}: no word has recordings of two speakers")
        found.append(
            {
                "upstream": upstream.spec.name,
                "layer": layer,
                "map": result.score.value,
                "map_ci95": list(result.score.ci95),
                "chance": result.chance,
                "queries": result.queries,
                "recordings": len(names),
                "words": len(set(names)),
                "map_by_word": ranking.by_word(result, names, ids),
                "ci_method": result.score.method.replace("utterances", "queries"),
            }
        )
    return found


def _allowed(words: Words, across_speakers: bool) -> ranking.Bools:
    count = len(words.rows)
    if not across_speakers:
        return np.ones((count, count), bool)
    speakers = [row.speaker for row in words.rows]
    if any(speaker is None for speaker in speakers):
        raise UsageError(f"--across-speakers: the speakers of {words.origin} are not known")
    number = np.unique(np.array(speakers, dtype=str), return_inverse=True)[1]
    return np.asarray(number[:, None] != number)


def report(rows: list[dict[str, Any]], words: Words, settings: dict[str, Any]) -> Report:
    """The table over upstreams and layers."""
    how = (
        "cosine of means over time"
        if settings["pooling"] == "mean"
        else "dynamic time warping over cosine distance of frames, divided by the path's cells"
    )
    minus = ", the recording's mean subtracted from its frames" if settings["subtract_mean"] else ""
    others = "all others of other speakers" if settings["across_speakers"] else "all others"
    notes = [
        f"{words.origin}. Isolated words, each a query against {others}; similarity: {how}{minus}.",
        "MAP: mean average precision over the queries that have something to find. Chance: expected "
        "MAP of a random order.",
        f"CI: {rows[0]['ci_method']}; the recordings searched stay the same.",
    ]
    return Report("retrieval", "Retrieval of isolated words", COLUMNS, rows, settings, notes)
