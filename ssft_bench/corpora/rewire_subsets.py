"""Low-resource phone recognition of the rewiring paper: 1, 10 and 100 % of a part of train-clean-100.

As `s3prl/downstream/ctc/corpus/libriphone.py` of YangHao97/rewireW2V2 @ a5eb089 has it: train-clean-100 by
length, longest first; the first 21,887 are "100 %"; `random.seed(15)`, `random.shuffle`; the first 286 or
2,860 of that are "1 %" and "10 %".

Utterances of equal length stand in the authors' table in an order that nobody else has; ours is by
identifier. So 100 % is the authors' set, and 1 % and 10 % are drawn by their rule but are other utterances.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import soundfile

from ssft_bench.audio import reason
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.librispeech import LibriSpeech
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError

LONGEST = 21_887
SEED = 15
KEPT = {100: LONGEST, 10: 2_860, 1: 286}
"""Percent -> utterances."""
SHA256 = {
    100: "52c39b145cfbfd7cadf99988ffe1ad00500c22ffd59f0d2d9b4583c515d235fa",
    10: "33b191c134b3346ac4a3e44d4ba08301037286530b774962ae1e28aef3dea3b1",
    1: "43756e5e538f933e6c036fb5b8f9653137a4e086cd60f17457f51ae18cae03ba",
}
"""Digest of each list (see `digest`), from the lengths in the fork's table of train-clean-100."""


def subset(samples: Mapping[str, int], percent: int) -> list[str]:
    """Identifiers of the subset in the order in which they are drawn.

    `samples` has the length of every utterance of train-clean-100. For 100 % the order is by length.
    """
    longest = sorted(samples, key=lambda name: (-samples[name], name))[:LONGEST]
    if percent == 100:
        return longest
    random.Random(SEED).shuffle(longest)
    return longest[: KEPT[percent]]


def digest(identifiers: list[str]) -> str:
    """SHA-256 of a list: its identifiers in their order, one on a line, no line feed at the end."""
    return hashlib.sha256("\n".join(identifiers).encode()).hexdigest()


class Rewire100(LibriSpeech):
    """The 21,887 longest utterances of train-clean-100: "100 %" of the rewiring paper's PR.

    Seven of them, at exactly 180,000 samples, are also among the 6,659 that rewiring may hear by the
    length rule of `upstreams/rewire`; the authors' own loader keeps the two apart.
    """

    name = "librispeech_rewire_100"
    percent: ClassVar[int] = 100

    def __init__(
        self, root: Path | None = None, *, dev: str = "dev-clean", test: str = "test-clean"
    ) -> None:
        """`root` as for corpus librispeech."""
        super().__init__(root, dev=dev, test=test)

    def utterances(self, split: str) -> list[Utterance]:
        """Rows of the subset for train, sorted by identifier; LibriSpeech's for dev and test.

        Raises MissingError when train-clean-100 is not whole: the subset would be another one.
        """
        rows = super().utterances(split)
        if split != "train":
            return rows
        chosen = subset({row.id: _samples(row.audio) for row in rows}, self.percent)
        if digest(chosen) != SHA256[self.percent]:
            raise MissingError(
                f"{self._subset('train-clean-100')} has {len(rows)} utterances, and the {self.percent} % "
                "subset drawn from them is not the one of the 28,539 official ones; get it again from "
                f"{self.source}"
            )
        kept = set(chosen)
        return [row for row in rows if row.id in kept]

    def figures(self) -> list[Figure]:
        """The rule's counts for train, and LibriSpeech's for dev and test."""
        others = [figure for figure in super().figures() if figure.splits != ("train",)]
        rule = "YangHao97/rewireW2V2 @ a5eb089"
        return [Figure("utterances", ("train",), KEPT[self.percent], rule), *others]


class Rewire10(Rewire100):
    """2,860 utterances drawn from the 21,887 longest of train-clean-100: "10 %" of the rewiring paper's PR.

    The authors' rule, but not the authors' utterances (see the module).
    """

    name = "librispeech_rewire_10"
    percent = 10


class Rewire1(Rewire100):
    """286 utterances drawn from the 21,887 longest of train-clean-100: "1 %" of the rewiring paper's PR.

    The authors' rule, but not the authors' utterances (see the module).
    """

    name = "librispeech_rewire_1"
    percent = 1


def _samples(audio: Path) -> int:
    """Length by the file's header."""
    try:
        return int(soundfile.info(audio).frames)
    except (OSError, soundfile.SoundFileError) as error:
        raise MissingError(
            f"cannot use the audio file {audio}: {reason(audio, error)}; replace it"
        ) from error
