"""A corpus made ready for one run: rows checked, recordings checked, bytes hashed."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssft_bench import registry
from ssft_bench.audio_check import AudioSummary, check_audio
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.search import Search, searches
from ssft_bench.digests import file_digests
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import sha256_json
from ssft_bench.names import split_options, unknown
from ssft_bench.spec import DataSpec

SPLITS = ("train", "dev", "test")
SHARE_SEED = 15
"""Which utterances a low-resource run keeps does not depend on the run's seed."""

LATER_FIELDS = {"gain_db": 0.0}
"""Fields of a row that are newer than stored digests; where they say nothing they are not hashed."""


@dataclass(frozen=True)
class RunData:
    """The splits of a run and what is known of them."""

    corpus: Corpus
    splits: dict[str, list[Utterance]]
    audio: AudioSummary
    seconds: dict[str, float]
    """Length of each utterance, by id."""
    sha256: str
    """Digest over every row's labels and its recording's bytes; paths do not count."""
    searches: dict[str, Search] = field(default_factory=dict)
    """What is searched in dev and test where nothing is trained; `splits` has the documents."""

    def describe(self) -> dict[str, Any]:
        """What the result record says of the data."""
        described = {
            "corpus": self.corpus.name,
            "synthetic": self.corpus.synthetic,
            "licence": self.corpus.licence,
            "sha256": self.sha256,
            "utterances": {split: len(rows) for split, rows in self.splits.items()},
            "hours": {
                split: round(sum(self.seconds[u.id] for u in rows) / 3600, 4)
                for split, rows in self.splits.items()
            },
            "speakers": {
                split: len({u.speaker for u in rows if u.speaker})
                for split, rows in self.splits.items()
            },
        }
        if self.searches:
            described["queries"] = {
                split: {
                    "asked": len(search.queries),
                    "occurring": search.occurring,
                    "absent": search.absent_queries,
                    "absent_documents": search.absent_documents,
                }
                for split, search in self.searches.items()
            }
        return described


def open_corpus(name: str, root: str | None) -> Corpus:
    """The corpus at `--data ROOT` or SSFT_BENCH_DATA; `name` may have options, `name:option=value`.

    Raises MissingError when neither is given or the folder does not exist, UsageError for an option
    that the corpus does not have.
    """
    name, options = split_options(name, "--corpus")
    corpus_class: type[Corpus] = registry.load("corpora", name)
    known = [p for p in inspect.signature(corpus_class).parameters if p != "root"]
    for option in options:
        if option not in known:
            raise unknown(f"option of corpus {name}", option, known or ["none, it has no options"])
    if not corpus_class.needs_root:
        return corpus_class(**options)
    place = root or os.environ.get("SSFT_BENCH_DATA")
    if not place:
        raise MissingError(
            f"corpus {name}: say where it lies with --data FOLDER or SSFT_BENCH_DATA. "
            f"It is to be had from {corpus_class.source}"
        )
    if not Path(place).is_dir():
        raise MissingError(f"corpus {name}: --data {place} is not a folder")
    return corpus_class(Path(place), **options)


def prepare(spec: DataSpec, task: str, *, training: bool = True) -> RunData:
    """Read all splits, check every recording, hash the bytes. Raises MissingError naming what is broken.

    Without training there is no train split, dev and test are documents, and `searches` has the queries.
    """
    corpus = open_corpus(spec.corpus, spec.root).for_task(task)
    if task not in corpus.tasks and "*" not in corpus.tasks:
        raise UsageError(
            f"corpus {spec.corpus} has no labels for task {task}; it has: {corpus.tasks}"
        )
    found: dict[str, Search] = {}
    if training:
        splits = {split: corpus.utterances(split)[: spec.max_utterances] for split in SPLITS}
        splits["train"] = share(splits["train"], spec.train_share)
    else:
        found = searches(corpus, spec.max_utterances)
        splits = {split: search.documents for split, search in found.items()}
    for split, rows in splits.items():
        if not rows:
            raise MissingError(f"corpus {spec.corpus}: split {split} has no utterances")
    everything = [u for rows in splits.values() for u in rows]
    everything += [u for search in found.values() for u in search.queries]
    _check_ids(spec.corpus, splits.values())
    audio = check_audio(everything, allow_mixed_rates=spec.mixed_rates, source=corpus.source)
    seconds = dict(zip([u.id for u in everything], audio.seconds, strict=True))
    digest = rows_sha256(everything)
    if found:
        digest = sha256_json([digest, [_truth(search) for search in found.values()]])
    return RunData(corpus, splits, audio, seconds, digest, found)


def _check_ids(corpus: str, splits: Iterable[list[Utterance]]) -> None:
    """Raise MissingError where an identifier names two recordings: states are kept by identifier.

    Dev and test of a search may have the same documents, so the recording counts too.
    """
    places: dict[str, tuple[Any, ...]] = {}
    for row in (row for rows in splits for row in rows):
        place = (row.audio, row.start, row.end)
        if places.setdefault(row.id, place) != place:
            raise MissingError(
                f"corpus {corpus}: two recordings are called {row.id}, {places[row.id][0]} and {row.audio}; "
                "rename one"
            )


def _truth(search: Search) -> list[Any]:
    """What of a search decides scores beside its recordings."""
    matches = {query: sorted(found) for query, found in search.matches.items()}
    return [matches, search.absent_documents, search.absent_queries]


def share(rows: list[Utterance], part: float) -> list[Utterance]:
    """A fixed random part of the rows, in their order; a smaller part is inside a larger one."""
    if part >= 1:
        return rows
    order = np.random.default_rng(SHARE_SEED).permutation(len(rows))
    kept = set(order[: max(1, round(part * len(rows)))].tolist())
    return [row for i, row in enumerate(rows) if i in kept]


def rows_sha256(rows: list[Utterance]) -> str:
    """Digest over every row's labels and its recording's bytes; paths do not count."""
    digests = file_digests([u.audio for u in rows])
    values = []
    for row in rows:
        labels = asdict(row)
        for name, usual in LATER_FIELDS.items():
            if labels[name] == usual:
                del labels[name]
        labels["audio"] = digests[row.audio]
        values.append(labels)
    return sha256_json(values)
