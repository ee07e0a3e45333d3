"""LibriSpeech: read audio books, in the layout of openslr.org/12.

    LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac
    LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt

Panayotov et al., "Librispeech: an ASR corpus based on public domain audio books", ICASSP 2015.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ssft_bench.audio import listing
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.lexicon import Lexicon, numbered_lines, pronounce, read_lexicon
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError

LEXICA = ("librispeech-lexicon-200k-g2p.txt", "librispeech-lexicon-allothers-g2p.txt")
UTTERANCES = {
    "train-clean-100": 28539,
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
}
"""Utterances of each subset (openslr/librispeech_asr card)."""


class LibriSpeech(Corpus):
    """LibriSpeech: read English audio books; SUPERB's train-clean-100, dev-clean, test-clean.

    Phones are SUPERB's: 71 symbols with stress, the first pronunciation of each word in two
    lexica that LibriSpeech does not ship. They are in git in s3prl's repository,
    https://github.com/s3prl/s3prl, folder `s3prl/downstream/ctc/lexicon/`; copy both into the root
    or into `lexicon` in it, or let `ssft-bench data get librispeech` do it. Without them `phones` is None
    and only `pr` is out of reach. `session` is the chapter, `segment` the number in it.
    """

    name = "librispeech"
    licence = "CC BY 4.0"
    source = "https://www.openslr.org/12"
    tasks = ("asr", "pr")
    phone_set = "superb71"

    def __init__(
        self,
        root: Path | None = None,
        *,
        train: str = "train-clean-100",
        dev: str = "dev-clean",
        test: str = "test-clean",
    ) -> None:
        """`root` is `LibriSpeech` or the folder that contains it; the others name subsets."""
        super().__init__(root)
        self.subsets = {"train": train, "dev": dev, "test": test}

    def utterances(self, split: str) -> list[Utterance]:
        """Rows of train, dev or test, sorted by speaker, chapter and number as text.

        Raises MissingError naming a subset or a chapter's transcript that is absent, a transcript
        without audio, audio without a transcript, or a word that the lexica do not have.
        """
        if split not in self.subsets:
            raise UsageError(f"corpus {self.name} has no split {split!r}; splits: train, dev, test")
        folder = self._subset(self.subsets[split])
        return self.read_subset(folder, split)

    def read_subset(self, folder: Path, split: str, *, whole: bool = True) -> list[Utterance]:
        """Rows of a folder of speakers, sorted as `utterances` says; the same errors.

        Where it is not `whole` but a selection, transcripts of recordings that are not there are passed
        over.
        """
        rows: list[Utterance] = []
        problems: list[str] = []
        for chapter in sorted(folder.glob("*/*/")):
            _read_chapter(chapter, split, self._lexicon, rows, problems, whole)
        if problems:
            count = f"{len(problems)} problems in {folder}" if len(problems) > 1 else str(folder)
            raise MissingError(f"{count}; get it again from {self.source}:{listing(problems)}")
        if not rows:
            raise MissingError(f"{folder} holds no <speaker>/<chapter>/*.flac; mend --data FOLDER")
        return rows

    def figures(self) -> list[Figure]:
        """Utterances of the subsets that are read."""
        return [
            Figure("utterances", (split,), UTTERANCES[subset], "openslr/librispeech_asr card")
            for split, subset in self.subsets.items()
            if subset in UTTERANCES
        ]

    def _subset(self, subset: str) -> Path:
        if self.root is None:
            raise MissingError(f"corpus {self.name} needs --data FOLDER; get it from {self.source}")
        for folder in (self.root / "LibriSpeech" / subset, self.root / subset):
            if folder.is_dir():
                return folder
        raise MissingError(
            f"no {subset} in {self.root}: neither {subset} nor LibriSpeech/{subset} is a folder "
            f"there; get it from {self.source} or mend --data FOLDER"
        )

    @cached_property
    def _lexicon(self) -> Lexicon | None:
        """SUPERB's two lexica as one, the first file's words first; None when there are none."""
        root = self.root or Path()
        libri = root / "LibriSpeech"
        for folder in (root, root / "lexicon", libri, libri / "lexicon"):
            missing = [name for name in LEXICA if not (folder / name).is_file()]
            if len(missing) == 1:
                raise MissingError(f"{folder} lacks {missing[0]}, the second lexicon of SUPERB's")
            if not missing:
                return read_lexicon(*(folder / name for name in LEXICA))
        return None


def _read_chapter(
    chapter: Path,
    split: str,
    lexicon: Lexicon | None,
    rows: list[Utterance],
    problems: list[str],
    whole: bool,
) -> None:
    """Add a chapter's rows, sorted by identifier, and what is wrong with it."""
    speaker = chapter.parent.name
    audio = {path.stem: path for path in chapter.glob("*.flac")}
    path = chapter / f"{speaker}-{chapter.name}.trans.txt"
    if not path.is_file():
        problems.append(f"{path} is missing: {len(audio)} recordings without transcript")
        return
    lines = sorted(
        (line.partition(" ")[0], line.partition(" ")[2], number)
        for number, line in numbered_lines(path)
    )
    for identifier, spoken, number in lines:
        where = f"{path}:{number}: {identifier}"
        if identifier not in audio:
            if whole:
                problems.append(f"{where} has a transcript but no audio: no {identifier}.flac")
            continue
        words = spoken.upper().split()
        phones, unknown = pronounce(words, lexicon) if lexicon is not None else (None, [])
        if not words:
            problems.append(f"{where} has no words")
        elif unknown:
            problems.append(f"{where} has words that the lexica do not: {' '.join(unknown)}")
        else:
            rows.append(
                Utterance(
                    identifier,
                    audio[identifier],
                    split,
                    speaker,
                    " ".join(words),
                    phones,
                    session=f"{speaker}-{chapter.name}",
                    segment=_segment(identifier),
                )
            )
    transcribed = {identifier for identifier, _, _ in lines}
    problems.extend(
        f"{audio[name]} has no transcript in {path.name}"
        for name in sorted(set(audio) - transcribed)
    )


def _segment(identifier: str) -> int | None:
    """Place in the chapter: the number after the last dash of `speaker-chapter-NNNN`."""
    number = identifier.rpartition("-")[2]
    return int(number) if number.isdecimal() else None
