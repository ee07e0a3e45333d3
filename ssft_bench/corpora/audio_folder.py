"""Any folder of recordings: unlabelled speech to tune on."""

from __future__ import annotations

from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError

SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".sph")


class AudioFolder(Corpus):
    """Every recording below `--data`, without labels: speech for `ssft-bench tune`.

    All of it is train. Identifiers are paths below the folder without suffix; speakers are not known.
    """

    name = "folder"
    licence = "as the recordings'"
    source = "your own recordings"
    tasks = ()

    def utterances(self, split: str) -> list[Utterance]:
        """All recordings for train, in the order of their paths; nothing for dev and test.

        Raises MissingError when the folder holds none.
        """
        if split not in ("train", "dev", "test"):
            raise UsageError(f"corpus folder has no split {split!r}; splits: train, dev, test")
        if self.root is None:
            raise MissingError("corpus folder needs --data FOLDER")
        if split != "train":
            return []
        paths = sorted(p for p in self.root.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not paths:
            raise MissingError(f"{self.root} holds no recording ({', '.join(SUFFIXES)})")
        root = self.root
        return [
            Utterance(p.relative_to(root).with_suffix("").as_posix(), p, "train") for p in paths
        ]
