"""Phone and word segments of utterances from JSON-lines files, on a grid of 10 ms.

A line: {"file": utterance id, "words": [[word, start, frames, [[PHONE, start, frames], ...]], ...]},
starts and counts in frames of 10 ms. Other keys are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssft_bench.corpora.lexicon import numbered_lines
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError

GRID = 160
"""Samples at 16 kHz per frame of an alignment."""
SILENCE = "SIL"
_SILENT = frozenset({"SIL", "SP", "SPN", "NSN", ""})
_FILLER = re.compile(r"^(<.*>|</.*>|\+\+.*\+\+|\[.*\])$")  # <sil>, </s>, ++NOISE++, [NOISE]
_ALTERNATIVE = re.compile(r"\(\d+\)$")  # aligners write further pronunciations as word(2)

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Segment:
    """A word or a phone from frame `start` on, for `frames` frames of 10 ms."""

    label: str
    start: int
    frames: int


@dataclass(frozen=True)
class Alignment:
    """One utterance: words without fillers, phones with silence and without stress digits."""

    words: tuple[Segment, ...]
    phones: tuple[Segment, ...]

    def frames(self) -> list[str | None]:
        """The phone of every 10 ms from the beginning on; None where no segment is."""
        end = max((p.start + p.frames for p in self.phones), default=0)
        labels: list[str | None] = [None] * end
        for phone in self.phones:
            labels[phone.start : phone.start + phone.frames] = [phone.label] * phone.frames
        return labels


def read_alignments(paths: Sequence[Path]) -> dict[str, Alignment]:
    """Alignments by utterance id.

    Raises MissingError naming file and line that cannot be read, UsageError for an id given twice.
    """
    found: dict[str, Alignment] = {}
    for path in paths:
        for number, line in numbered_lines(path):
            try:
                name, alignment = _parsed(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                what = f"{type(error).__name__}: {error}"
                raise MissingError(
                    f"{path}:{number} is no alignment ({what}); a line is "
                    '{"file": id, "words": [[word, start, frames, [[phone, start, frames]]]]}'
                ) from error
            if name in found:
                raise UsageError(f"{path}:{number}: utterance {name} is aligned twice")
            found[name] = alignment
    return found


def _parsed(row: dict[str, Any]) -> tuple[str, Alignment]:
    words, phones = [], []
    for word, start, frames, inner in row["words"]:
        if not _FILLER.match(word):
            words.append(_segment(_ALTERNATIVE.sub("", word).upper(), start, frames))
        for phone, phone_start, phone_frames in inner:
            name = phone.rstrip("0123456789").upper()
            name = SILENCE if name in _SILENT or _FILLER.match(phone) else name
            phones.append(_segment(name, phone_start, phone_frames))
    return str(row["file"]), Alignment(tuple(words), tuple(phones))


def _segment(label: str, start: Any, frames: Any) -> Segment:
    if type(start) is not int or type(frames) is not int or start < 0 or frames < 0:
        raise ValueError(
            f"{label}: start {start!r} and frames {frames!r} must be whole numbers >= 0"
        )
    return Segment(label, start, frames)


def aligned(
    rows: Sequence[Utterance], alignments: dict[str, Alignment], origin: str
) -> list[Utterance]:
    """The utterances that have an alignment. Raises MissingError when none has."""
    found = [row for row in rows if row.id in alignments]
    if not found:
        example = next(iter(alignments), "nothing")
        raise MissingError(
            f"--alignments: none of the {len(rows)} utterances of {origin} is aligned there; it has "
            f"{example!r} and the like, the corpus {rows[0].id!r}. Another --split?"
        )
    return found


class PhoneIndex:
    """Numbers for phone names; frames without a label, and silence if it is dropped, are -1."""

    def __init__(self, alignments: Sequence[Alignment], *, drop_silence: bool) -> None:
        names = {phone.label for one in alignments for phone in one.phones}
        if drop_silence:
            names.discard(SILENCE)
        self.names = sorted(names)
        self._number: dict[str | None, int] = {name: i for i, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def labels(self, alignment: Alignment) -> Labels:
        """Phone numbers on the 10 ms grid, int64 [T]."""
        return np.array([self._number.get(p, -1) for p in alignment.frames()], np.int64)


def repeats(stride: int, upstream: str) -> int:
    """Frames of 10 ms per frame of that stride. Raises UsageError when it is no whole number."""
    if stride % GRID:
        raise UsageError(
            f"upstream {upstream}: a frame every {stride} samples does not fit phones on a grid of "
            f"{GRID} samples (10 ms)"
        )
    return stride // GRID


def on_grid(codes: Labels, phones: Labels, times: int) -> tuple[Labels, Labels]:
    """Codes repeated `times` to 10 ms and phones, both cut to the shorter (Spin, dev set PNMI)."""
    fine = np.repeat(codes, times)
    length = min(len(fine), len(phones))
    return fine[:length], phones[:length]
