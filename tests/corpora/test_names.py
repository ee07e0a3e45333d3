"""Corpora by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssft_bench.corpora import corpus_class, corpus_names, get_corpus
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.lexicon import pronounce, read_lexicon
from ssft_bench.errors import MissingError, UsageError


@pytest.mark.parametrize("name", corpus_names())
def test_every_corpus_introduces_itself(name: str) -> None:
    found = corpus_class(name)
    assert issubclass(found, Corpus)
    assert found.name == name
    assert found.licence
    assert found.source
    assert found.tasks
    assert len(str(found.__doc__).partition("\n")[0]) > 20


def test_an_unknown_name_gets_suggestions() -> None:
    with pytest.raises(UsageError, match=r"'librispech'\. Did you mean librispeech\?.*an4") as e:
        get_corpus("librispech")
    assert e.value.exit_code == 2
    with pytest.raises(UsageError, match=r"'zzz'\. Corpora: an4, librispeech, mini$"):
        corpus_class("zzz")


def test_roots(tmp_path: Path) -> None:
    assert get_corpus("mini", tmp_path).root == tmp_path
    assert get_corpus("mini").root is None
    for name in ("an4", "librispeech"):
        with pytest.raises(MissingError, match=r"--data FOLDER or SSFT_BENCH_DATA"):
            get_corpus(name)


def test_a_lexicon(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(";;; a remark\n\nREAD R IY D\nREAD R EH D\nREAD(2) X\nNOTHING\n")
    two.write_text("READ Y\nME\tM IY\n")
    lexicon = read_lexicon(one, two)
    assert lexicon == {"READ": ("R", "IY", "D"), "ME": ("M", "IY")}
    assert pronounce(["ME", "READ"], lexicon) == (("M", "IY", "R", "IY", "D"), [])
    assert pronounce(["ME", "NOTHING"], lexicon)[1] == ["NOTHING"]


def test_a_lexicon_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(MissingError, match="a is not UTF-8 text"):
        read_lexicon(tmp_path / "a")
