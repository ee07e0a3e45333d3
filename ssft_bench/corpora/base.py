"""What a corpus is: a reader from files on disk to manifest rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ssft_bench.corpora.figures import Figure
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

    stands_in: ClassVar[Mapping[str, str]] = {}
    """Task -> what its labels are here, where the corpus only stands in for one that was made for the task;
    shown under every table of such numbers."""

    def __init__(self, root: Path | None = None) -> None:
        """`root` is the folder of `--data`: the corpus' own folder, or one that contains it."""
        self.root = root

    @abstractmethod
    def utterances(self, split: str) -> list[Utterance]:
        """Rows of `split` (train, dev or test), in a fixed order.

        Raises MissingError naming the file that is absent or broken and the way out.
        """

    def queries(self, split: str) -> list[Utterance]:
        """Isolated spoken terms of a split, the queries of query-by-example; none by default."""
        return []

    def documents(self, split: str) -> list[Utterance]:
        """What the queries of a split are looked for in; by default all its utterances."""
        return self.utterances(split)

    def matches(self, split: str) -> dict[str, set[str]]:
        """For every query of a split, the identifiers of the documents that it occurs in.

        By default, those whose text has the words of the query, one after the other.
        """
        texts = {document.id: f" {document.text or ''} " for document in self.documents(split)}
        return {
            query.id: {name for name, text in texts.items() if f" {query.text} " in text}
            for query in self.queries(split)
        }

    def unsearched(self, split: str) -> int:
        """Documents of the ground truth that `documents` leaves out; its scorer counts them."""
        return 0

    def unasked(self, split: str) -> int:
        """Queries of the ground truth with a match that `queries` leaves out; its scorer counts them."""
        return 0

    def for_task(self, task: str) -> Corpus:
        """The corpus with labels as `task` wants them: itself, unless tasks differ in their text."""
        return self

    def figures(self) -> list[Figure]:
        """What its publishers say of its size, for `ssft-bench data check`."""
        return []

    def remarks(self, split: str) -> list[str]:
        """What a reader of `ssft-bench data check` should know of a split beside its size."""
        return []
