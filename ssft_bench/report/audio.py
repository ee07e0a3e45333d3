"""Recordings of the examples, small enough to be part of the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import soundfile

from ssft_bench.audio import RATE, read_utterance
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.data import SPLITS, open_corpus, rows_sha256, share
from ssft_bench.errors import BenchError
from ssft_bench.report.collect import Run

BUDGET = 3_000_000
"""Bytes of encoded audio on a page."""
FORMATS = (
    ("MP3", "MPEG_LAYER_III", "audio/mpeg"),
    ("FLAC", "PCM_16", "audio/flac"),
    ("WAV", "PCM_16", "audio/wav"),
)
"""Of libsndfile, the smallest first. Ogg is left out: its streams are numbered at random, by time."""
ALLOWED = ("Apache-2.0", "CC0", "CC BY 4.0", "CMU BSD-style")
"""Starts of the licences under which recordings may be passed on inside a page."""


@dataclass(frozen=True)
class Clip:
    """A recording inside the page."""

    source: str
    """data: URL."""
    seconds: float


class Recordings:
    """Recordings and texts of corpora that are at hand; each corpus is opened once."""

    def __init__(self, data: str | None = None, budget: int = BUDGET) -> None:
        """`data` is the folder of corpora; else that of each run."""
        self._data, self._left = data, budget
        self._rows: dict[tuple[str, ...], dict[str, Utterance]] = {}
        self._said: dict[tuple[str, ...], list[str]] = {}
        self._clips: dict[tuple[Path, float | None], Clip | None] = {}

    def text(self, run: Run, name: str) -> str | None:
        """What is said in a recording, where its corpus is at hand."""
        row = self._of(run).get(name)
        return row.text if row else None

    def seconds(self, run: Run, name: str) -> float:
        """Its length; 0 where it cannot be told cheaply."""
        row = self._of(run).get(name)
        if row is None:
            return 0.0
        if row.end is not None:
            return row.end - (row.start or 0.0)
        try:
            return float(soundfile.info(row.audio).duration)
        except (OSError, soundfile.SoundFileError):
            return 0.0

    def remarks(self, run: Run) -> list[str]:
        """Why there is no audio, and whose recordings there are."""
        self._of(run)
        return self._said[self._key(run)]

    def clips(self, run: Run, names: Iterable[str]) -> dict[str, Clip]:
        """The recordings of these names, as far as licence and budget allow."""
        rows, found = self._of(run), {}
        for name in names:
            clip = self._clip(rows[name]) if name in rows and self._may(run) else None
            if clip is not None:
                found[name] = clip
        return found

    def _key(self, run: Run) -> tuple[str, ...]:
        data = run.record.spec.data
        root = self._data or data.root or ""
        return data.corpus, run.record.spec.task.name, root, str(run.record.content.get("corpus"))

    def _may(self, run: Run) -> bool:
        licence = str(run.record.data.get("licence"))
        return licence.startswith(ALLOWED)

    def _of(self, run: Run) -> dict[str, Utterance]:
        """Rows of the test split by identifier; empty where the corpus is not at hand."""
        key = self._key(run)
        if key not in self._rows:
            self._rows[key], self._said[key] = self._opened(run)
        return self._rows[key]

    def _opened(self, run: Run) -> tuple[dict[str, Utterance], list[str]]:
        data, task = run.record.spec.data, run.record.spec.task.name
        try:
            corpus = open_corpus(data.corpus, self._data or data.root).for_task(task)
            rows = [*corpus.utterances("test"), *_searched(corpus)]
        except (BenchError, OSError) as error:
            return {}, [f"no audio: {error}"]
        if not self._may(run):
            return _by_id(rows), [f"no audio: the recordings' licence is {corpus.licence}"]
        told = _differs(corpus, run)
        if told:
            return {}, [f"no audio: {told}"]
        kind = "synthetic speech" if corpus.synthetic else "recordings"
        source = "" if corpus.source.startswith("the ssft-bench") else f", from {corpus.source}"
        return _by_id(rows), [f"audio: {kind} of {corpus.name}, {corpus.licence}{source}"]

    def _clip(self, row: Utterance) -> Clip | None:
        key = (row.audio, row.start)
        if key not in self._clips:
            self._clips[key] = self._encoded(row)
        return self._clips[key]

    def _encoded(self, row: Utterance) -> Clip | None:
        try:
            wave = read_utterance(row)
        except BenchError:
            return None
        kind, subtype, mime = next(f for f in FORMATS if f[0] in soundfile.available_formats())
        file = io.BytesIO()
        soundfile.write(file, wave, RATE, format=kind, subtype=subtype)
        data = file.getvalue()
        if len(data) > self._left:
            return None
        self._left -= len(data)
        return Clip(f"data:{mime};base64,{base64.b64encode(data).decode()}", len(wave) / RATE)


def _differs(corpus: Corpus, run: Run) -> str:
    """What is wrong with the corpus at hand: it must have the bytes that the run was scored on."""
    spec = run.record.spec
    if spec.protocol == "training-free":
        return ""  # its digest holds the search's truth too; ids and texts have to do
    splits = {split: corpus.utterances(split)[: spec.data.max_utterances] for split in SPLITS}
    splits["train"] = share(splits["train"], spec.data.train_share)
    digest = rows_sha256([row for rows in splits.values() for row in rows])
    same = digest == run.record.content.get("corpus")
    return "" if same else f"{spec.data.corpus} as it lies here is not what the run was scored on"


def _searched(corpus: Corpus) -> list[Utterance]:
    return [*corpus.queries("test"), *corpus.documents("test")]


def _by_id(rows: Iterable[Utterance]) -> dict[str, Utterance]:
    return {row.id: row for row in rows}
