"""Corpora: files on disk -> manifest rows."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssft_bench.errors import MissingError, UsageError

if TYPE_CHECKING:
    from ssft_bench.corpora.base import Corpus

CORPORA = {
    "an4": ("ssft_bench.corpora.an4", "AN4"),
    "librispeech": ("ssft_bench.corpora.librispeech", "LibriSpeech"),
    "mini": ("ssft_bench.corpora.mini_corpus", "Mini"),
}
"""Name on the command line -> module and class, imported when asked for."""


def corpus_names() -> tuple[str, ...]:
    """Names of all corpora, sorted."""
    return tuple(sorted(CORPORA))


def corpus_class(name: str) -> type[Corpus]:
    """The class of a corpus. Raises UsageError with suggestions when there is none of that name."""
    if name not in CORPORA:
        close = difflib.get_close_matches(name.lower(), CORPORA, n=3)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(
            f"no corpus is called {name!r}.{hint} Corpora: {', '.join(corpus_names())}"
        )
    module, attribute = CORPORA[name]
    found: type[Corpus] = getattr(import_module(module), attribute)
    return found


def get_corpus(name: str, root: Path | None = None, **options: Any) -> Corpus:
    """A reader of the corpus at `root`; `options` are the class' own (subsets of `librispeech`).

    Raises UsageError on an unknown name, MissingError when the corpus needs a root and has none.
    """
    corpus: Callable[..., Corpus] = (found := corpus_class(name))
    if found.needs_root and root is None:
        raise MissingError(
            f"corpus {name} does not come with the package: get it from {found.source} and say "
            "where it lies with --data FOLDER or SSFT_BENCH_DATA"
        )
    return corpus(root, **options)
