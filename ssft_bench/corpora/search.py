"""What a task without training searches: the queries of a split and the documents they may occur in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError


@dataclass(frozen=True)
class Search:
    """Queries, documents and the truth of one split."""

    queries: list[Utterance]
    documents: list[Utterance]
    matches: dict[str, frozenset[str]]
    """Query -> the documents that it occurs in; may be none."""
    absent_documents: int = 0
    """Documents of the ground truth that are not searched."""
    absent_queries: int = 0
    """Queries of the ground truth that occur somewhere and are not asked."""

    @property
    def occurring(self) -> int:
        """Queries that occur in some document."""
        return sum(bool(found) for found in self.matches.values())


def searches(corpus: Corpus, most: int | None = None) -> dict[str, Search]:
    """The searches of dev and test; the first `most` queries and documents of each where that is given.

    Raises UsageError for a corpus without spoken queries, MissingError where nothing can be found.
    """
    found = {}
    for split in ("dev", "test"):
        queries, documents = corpus.queries(split)[:most], corpus.documents(split)[:most]
        if not queries or not documents:
            what = "spoken queries" if documents else "documents"
            raise UsageError(f"corpus {corpus.name}: split {split} has no {what}")
        truth, searched = corpus.matches(split), {document.id for document in documents}
        search = Search(
            queries,
            documents,
            {query.id: frozenset(truth.get(query.id, set()) & searched) for query in queries},
        )
        if most is None:  # a part of a corpus is no benchmark that others' numbers could be of
            documents_left, queries_left = corpus.unsearched(split), corpus.unasked(split)
            search = replace(search, absent_documents=documents_left, absent_queries=queries_left)
        if not search.occurring:
            raise MissingError(
                f"corpus {corpus.name}: none of {len(queries)} queries of split {split} occurs in any of "
                f"{len(documents)} documents; there is nothing to find"
            )
        found[split] = search
    return found
