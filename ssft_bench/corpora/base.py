"""What a corpus is: a reader from files on disk to manifest rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from ssft_bench.corpora.manifest import Utterance


class Corpus(ABC):
    """Reads one corpus in its official layout.

    A corpus folder or module in `ssft_bench/corpora/` holds one subclass; its first docstring line
    is what `ssft-bench list corpora` shows.
    """

    name: ClassVar[str]
    """The name on the command line."""
    licence: ClassVar[str]
    """Licence of the recordings."""
    source: ClassVar[str]
    """Where a user gets it, public."""
    needs_root: ClassVar[bool] = True
    """False when the corpus ships with the package."""
    synthetic: ClassVar[bool] = False
    """True for synthesised speech; shown wherever a number on it is shown."""
    tasks: ClassVar[tuple[str, ...]]
    """Tasks it has labels for."""
    phone_set: ClassVar[str] = "arpabet39"
    """Name of the phone inventory of its labels (see the task `pr`)."""

    def __init__(self, root: Path | None = None) -> None:
        """`root` is the folder of `--data`: the corpus' own folder, or one that contains it."""
        self.root = root

    @abstractmethod
    def utterances(self, split: str) -> list[Utterance]:
        """Rows of `split` (train, dev or test), in a fixed order.

        Raises MissingError naming the file that is absent or broken and the way out.
        """
