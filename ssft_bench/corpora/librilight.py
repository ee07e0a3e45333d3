"""Libri-light's limited supervision: 10 minutes, 1 hour and 10 hours of LibriSpeech with transcripts.

The layout is that of `librispeech_finetuning.tgz`, LibriSpeech's own dev and test sets beside it:

    librispeech_finetuning/1h/{0,...,5}/{clean,other}/<speaker>/<chapter>/   six times 10 minutes
    librispeech_finetuning/9h/{clean,other}/<speaker>/<chapter>/
    LibriSpeech/{dev-clean,test-clean,...}/
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

from ssft_bench.audio import listing
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.librispeech import LibriSpeech
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError

ARCHIVE = "librispeech_finetuning"
TENTHS = tuple(f"1h/{number}" for number in range(6))


class LibriLight10h(LibriSpeech):
    """Libri-light 10 h: 24 speakers of LibriSpeech, half clean and half other; SUPERB's dev and test.

    `dev` and `test` name other subsets of LibriSpeech. Clean parts are from train-clean-100, other parts
    from train-other-500: an upstream that was tuned on train-clean-100 has heard half of it, without the
    transcripts. Phones as for corpus librispeech.
    """

    name = "librilight_10h"
    source = "https://github.com/facebookresearch/libri-light"
    speakers: ClassVar[int] = 24

    def __init__(
        self, root: Path | None = None, *, dev: str = "dev-clean", test: str = "test-clean"
    ) -> None:
        """`root` holds `librispeech_finetuning` and `LibriSpeech`."""
        super().__init__(root, dev=dev, test=test)
        self.subsets["train"] = ARCHIVE

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders of the archive that train is made of."""
        return (*TENTHS, "9h")

    def utterances(self, split: str) -> list[Utterance]:
        """Rows of train, sorted by identifier, or those of LibriSpeech's dev or test subset.

        Raises MissingError naming a folder, a transcript or a recording that is absent.
        """
        if split != "train":
            return super().utterances(split)
        rows: list[Utterance] = []
        for part in self.parts:
            for kind in ("clean", "other"):
                rows += self.read_subset(self._archive() / part / kind, split, whole=False)
        twice = [name for name, count in Counter(row.id for row in rows).items() if count > 1]
        if twice:
            raise MissingError(
                f"{self._archive()} has {len(twice)} utterances in two places; get it again from "
                f"{self.source}:{listing(twice)}"
            )
        return sorted(rows, key=lambda row: row.id)

    def figures(self) -> list[Figure]:
        """Speakers of train, and utterances of LibriSpeech's subsets."""
        published = "facebookresearch/libri-light data README"
        return [*super().figures(), Figure("speakers", ("train",), self.speakers, published)]

    def _archive(self) -> Path:
        if self.root is None:
            raise MissingError(f"corpus {self.name} needs --data FOLDER; get it from {self.source}")
        for folder in (self.root / ARCHIVE, self.root):
            if (folder / "1h").is_dir():
                return folder
        raise MissingError(
            f"no {ARCHIVE} in {self.root}: neither 1h nor {ARCHIVE}/1h is a folder there; get it with "
            f"`ssft-bench data get {self.name}`, or mend --data FOLDER"
        )


class LibriLight1h(LibriLight10h):
    """Libri-light 1 h: about 150 s of each of the 24 speakers of the 10 h set; SUPERB's dev and test."""

    name = "librilight_1h"

    @property
    def parts(self) -> tuple[str, ...]:
        """All six tenths of an hour."""
        return TENTHS


class LibriLight10min(LibriLight10h):
    """Libri-light 10 min: one sixth of the 1 h set, 2 clean and 2 other speakers; `fold` says which."""

    name = "librilight_10min"
    speakers = 4

    def __init__(
        self,
        root: Path | None = None,
        *,
        fold: int = 0,
        dev: str = "dev-clean",
        test: str = "test-clean",
    ) -> None:
        """`fold` is 0 to 5, the folder in `1h`."""
        super().__init__(root, dev=dev, test=test)
        if fold not in range(6):
            raise UsageError(f"corpus librilight_10min: fold={fold}; give 0, 1, 2, 3, 4 or 5")
        self.fold = fold

    @property
    def parts(self) -> tuple[str, ...]:
        """One of the six."""
        return (TENTHS[self.fold],)
