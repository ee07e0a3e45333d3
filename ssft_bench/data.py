"""A corpus made ready for one run: rows checked, recordings checked, bytes hashed."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ssft_bench import registry
from ssft_bench.audio_check import AudioSummary, check_audio
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.digests import file_digests
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import sha256_json
from ssft_bench.spec import DataSpec

SPLITS = ("train", "dev", "test")
SHARE_SEED = 15
"""Which utterances a low-resource run keeps does not depend on the run's seed."""


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

    def describe(self) -> dict[str, Any]:
        """What the result record says of the data."""
        return {
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


def open_corpus(name: str, root: str | None) -> Corpus:
    """The corpus at `--data ROOT` or SSFT_BENCH_DATA.

    Raises MissingError when neither is given or the folder does not exist.
    """
    corpus_class: type[Corpus] = registry.load("corpora", name)
    if not corpus_class.needs_root:
        return corpus_class()
    place = root or os.environ.get("SSFT_BENCH_DATA")
    if not place:
        raise MissingError(
            f"corpus {name}: say where it lies with --data FOLDER or SSFT_BENCH_DATA. "
            f"It is to be had from {corpus_class.source}"
        )
    if not Path(place).is_dir():
        raise MissingError(f"corpus {name}: --data {place} is not a folder")
    return corpus_class(Path(place))


def prepare(spec: DataSpec, task: str) -> RunData:
    """Read all splits, check every recording, hash the bytes. Raises MissingError naming what is broken."""
    corpus = open_corpus(spec.corpus, spec.root)
    if task not in corpus.tasks and "*" not in corpus.tasks:
        raise UsageError(
            f"corpus {spec.corpus} has no labels for task {task}; it has: {corpus.tasks}"
        )
    splits = {split: corpus.utterances(split)[: spec.max_utterances] for split in SPLITS}
    splits["train"] = share(splits["train"], spec.train_share)
    for split, rows in splits.items():
        if not rows:
            raise MissingError(f"corpus {spec.corpus}: split {split} has no utterances")
    everything = [u for rows in splits.values() for u in rows]
    audio = check_audio(everything, allow_mixed_rates=spec.mixed_rates, source=corpus.source)
    seconds = dict(zip([u.id for u in everything], audio.seconds, strict=True))
    return RunData(corpus, splits, audio, seconds, rows_sha256(everything))


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
        labels["audio"] = digests[row.audio]
        values.append(labels)
    return sha256_json(values)
