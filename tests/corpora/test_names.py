"""Corpora by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssft_bench import registry
from ssft_bench.corpora import CORPORA
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.lexicon import pronounce, read_lexicon
from ssft_bench.data import open_corpus
from ssft_bench.errors import MissingError, UsageError


@pytest.mark.parametrize("name", sorted(CORPORA))
def test_every_corpus_introduces_itself(name: str) -> None:
    found = registry.load("corpora", name)
    assert issubclass(found, Corpus)
    assert found.name == name
    assert found.licence
    assert found.source
    assert found.tasks or name == "folder"  # recordings without labels
    assert len(str(found.__doc__).partition("\n")[0]) > 20


def test_an_unknown_name_gets_suggestions() -> None:
    with pytest.raises(UsageError, match=r"'librispech'\. Did you mean librispeech .*an4") as e:
        registry.load("corpora", "librispech")
    assert e.value.exit_code == 2
    with pytest.raises(UsageError, match=r"'zzz'\. Known: an4, folder, keywords, librilight_10h"):
        registry.load("corpora", "zzz")


def test_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSFT_BENCH_DATA", raising=False)
    assert open_corpus("mini", str(tmp_path)).root is None
    for name in ("an4", "librispeech"):
        with pytest.raises(MissingError, match=r"--data FOLDER or SSFT_BENCH_DATA"):
            open_corpus(name, None)
        with pytest.raises(MissingError, match=r"not a folder"):
            open_corpus(name, str(tmp_path / "nowhere"))
        monkeypatch.setenv("SSFT_BENCH_DATA", str(tmp_path))
        assert open_corpus(name, None).root == tmp_path
        monkeypatch.delenv("SSFT_BENCH_DATA")


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
