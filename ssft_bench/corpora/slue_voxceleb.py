"""SLUE-VoxCeleb: interviews with celebrities, with transcripts and sentiment."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import soundfile

from ssft_bench.audio import listing
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.figures import Figure, Quantity
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.slue import REPOSITORY, Record, Table, read_table
from ssft_bench.corpora.slue_text import asr_text
from ssft_bench.corpora.slue_voxpopuli import place, respelled, speaker
from ssft_bench.errors import MissingError

USED = ("negative", "neutral", "positive")
DROPPED = ("<mixed>", "disagreement")
V01_DEV = (784, 167, 3)
"""Neutral, positive and negative rows of the dev split of v0.1 (ESPnet's README)."""
_COUNTED = "asappresearch/slue-toolkit#31, ESPnet's card"


class SlueVoxCeleb(Corpus):
    """SLUE-VoxCeleb v0.2: interviews, 24 h, cut to segments, with three classes of sentiment.

    Rows without one sentiment (`<mixed>`, `Disagreement`) are left out, for ASR too: so the toolkit's
    manifest has it. train is the official fine-tune split. `session` is the video, `segment` the clip in
    it; neighbouring clips may have a pause between them.
    """

    name = "slue_voxceleb"
    licence = "CC BY 4.0"
    source = REPOSITORY
    tasks = ("asr", "sa")
    audio = "{split}_raw/{id}.flac"

    def utterances(self, split: str) -> list[Utterance]:
        """Rows of train, dev or test that have a sentiment, in the order of the table.

        Raises MissingError naming a table, a column, a recording or a label that is absent or broken, and
        for version 0.1, whose dev split is another one.
        """
        table = self._table(split)
        table.require("normalized_text", "sentiment", "start_second", "end_second")
        rows, problems = [], []
        for record in table.records:
            label = str(record.values["sentiment"]).strip().lower()
            if label in DROPPED:
                continue
            try:
                rows.append(_row(record, split, label, table.source == "parquet"))
            except ValueError as error:
                problems.append(f"{record.where}: {record.id}: {error}")
        if problems:
            raise MissingError(
                f"{len(problems)} rows of {table.path} are unusable:{listing(problems)}"
            )
        counts = Counter(row.sentiment for row in rows)
        if tuple(counts[s] for s in ("neutral", "positive", "negative")) == V01_DEV:
            raise MissingError(
                f"{table.path} is version 0.1 of SLUE-VoxCeleb, whose dev split was replaced; numbers on it "
                f"cannot be compared. Get v0.2 with `ssft-bench data get slue_voxceleb` or {REPOSITORY}"
            )
        return rows

    def _table(self, split: str) -> Table:
        return read_table(self.root, "voxceleb", split, self.audio)

    def figures(self) -> list[Figure]:
        """Used rows of v0.2 by class. Published hours count dropped rows too, so they are not given."""
        sizes: dict[str, tuple[int, ...]] = {
            "train": (5729, 227, 4223, 1279),
            "dev": (1437, 51, 1124, 262),
            "test": (3426,),
        }
        quantities: tuple[Quantity, ...] = ("utterances", "negative", "neutral", "positive")
        return [
            Figure(quantity, (split,), value, _COUNTED)
            for split, values in sizes.items()
            for quantity, value in zip(quantities, values, strict=False)
        ]

    def remarks(self, split: str) -> list[str]:
        """Rows left out, and texts that have more than letters and apostrophes."""
        records = self._table(split).records
        labels = Counter(str(r.values.get("sentiment")).strip().lower() for r in records)
        dropped = ", ".join(f"{labels[s]} {s}" for s in DROPPED if labels[s])
        left_out = [f"left out of {len(records)} rows: {dropped}"] if dropped else []
        return left_out + respelled([str(r.values.get("normalized_text")) for r in records], "")


def _row(record: Record, split: str, label: str, may_be_cut: bool) -> Utterance:
    if label not in USED:
        raise ValueError(f"sentiment {record.values['sentiment']!r} is none of {', '.join(USED)}")
    start, end = (float(record.values[f"{edge}_second"]) for edge in ("start", "end"))
    session, segment = place(record.id)
    whole = may_be_cut and _is_cut(record.audio, start, end)
    return Utterance(
        record.id,
        record.audio,
        split,
        speaker=speaker(record.values.get("speaker_id")),
        text=asr_text(str(record.values["normalized_text"]), strip=""),
        start=None if whole else start,
        end=None if whole else end,
        session=session,
        segment=segment,
        sentiment=label,
    )


def _is_cut(audio: Path, start: float, end: float) -> bool:
    """Whether a recording is the segment already: as long as that, and too short to contain it.

    What Hugging Face's recordings are could not be verified, so each is looked at.
    """
    try:
        length = float(soundfile.info(audio).duration)
    except (OSError, soundfile.SoundFileError):
        return False  # the check of all recordings says what is wrong with it
    return length < end - 0.02 and abs(length - (end - start)) < 0.02
