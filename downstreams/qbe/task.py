"""Query-by-example spoken term detection as in SUPERB: subsequence DTW over features as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.search import Search
from ssft_bench.downstreams.qbe import mtwv
from ssft_bench.downstreams.qbe.matching import match, normalised
from ssft_bench.downstreams.qbe.stdlist import write_stdlist
from ssft_bench.downstreams.qbe.trials import hypothesis_text, reference_text
from ssft_bench.metric import Prediction
from ssft_bench.progress import Progress
from ssft_bench.task import FramesOf, TaskOptions, TrainingFreeTask


class QbEOptions(TaskOptions):
    """Numbers of the search."""

    min_query_frames: int = Field(default=5, ge=1)
    """A query of fewer frames gets score 0 in every document."""
    count_absent: bool = True
    """Count the ground truth's queries and documents that are not searched, as its scorer does: with the
    default score. False: only what was searched."""


class QbE(TrainingFreeTask):
    """Query-by-example spoken term detection: which documents hold a spoken query; nothing is trained."""

    name = "qbe"
    metrics = (mtwv.MTWV, mtwv.MAP, mtwv.ATWV)
    Options = QbEOptions
    options: QbEOptions

    def prepare(self, splits: Mapping[str, Sequence[Utterance]]) -> None:
        """Nothing to check: the search says which document holds which query."""

    def describe(self) -> dict[str, Any]:
        """The score's constants."""
        return {"beta": round(mtwv.BETA, 6), "decision": mtwv.DECISION}

    def search(
        self, search: Search, frames: FramesOf, folder: Path | None = None
    ) -> list[Prediction]:
        """Scores of each query in all documents; into `folder` also as `benchmark.stdlist.xml`."""
        queries = [frames(query) for query in search.queries]

        def documents() -> Iterator[Any]:
            return (frames(document) for document in search.documents)

        with Progress("matching", len(search.documents), unit="document") as bar:
            raw = match(
                queries,
                documents,
                min_frames=self.options.min_query_frames,
                report=bar.advance,
            )
        scores = normalised(raw)
        names = [document.id for document in search.documents]
        if folder is not None:
            write_stdlist(folder, [query.id for query in search.queries], names, scores)
        return [
            Prediction(query.id, self._reference(search, query.id), hypothesis_text(names, row))
            for query, row in zip(search.queries, scores, strict=True)
        ]

    def _reference(self, search: Search, query: str) -> str:
        found = search.matches[query]
        absent = search.absent_documents or search.absent_queries
        if not (absent and self.options.count_absent):
            return reference_text(found)
        return reference_text(
            found,
            documents=len(search.documents) + search.absent_documents,
            queries=(search.occurring + search.absent_queries, search.occurring),
        )
