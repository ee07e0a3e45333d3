"""Libri-light's limited supervision beside torchaudio's reader of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssft_bench.corpora.librilight import LibriLight1h, LibriLight10h, LibriLight10min
from ssft_bench.corpora.librispeech import LEXICA
from ssft_bench.data import open_corpus
from ssft_bench.errors import MissingError, UsageError
from tests.corpora.layouts import SHORT, librispeech
from tests.speech import write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two speakers in each folder of the archive, those of 9h in the 1 h set too."""
    archive = tmp_path / "librispeech_finetuning"
    for fold in range(6):
        for kind, speaker in (("clean", 100 + fold), ("other", 200 + fold)):
            librispeech(archive / f"1h/{fold}/{kind}", {f"{speaker}/7": ["A BOOK", "A"]})
            more = archive / f"9h/{kind}/{speaker}/7"  # the same chapter, other utterances of it
            write(more / f"{speaker}-7-0002.flac", SHORT)
            lines = [f"{speaker}-7-{i:04d} BOOK\n" for i in range(3)]
            (more / f"{speaker}-7.trans.txt").write_text("".join(lines))
    for subset in ("dev-clean", "test-clean", "test-other"):
        librispeech(tmp_path / "LibriSpeech" / subset, {"19/198": ["A"]})
    return tmp_path


@pytest.mark.parametrize(
    ("corpus_class", "subset", "count"),
    [(LibriLight10h, "10h", 36), (LibriLight1h, "1h", 24), (LibriLight10min, "10min", 4)],
)
def test_train_is_what_torchaudio_reads(
    root: Path, corpus_class: type[LibriLight10h], subset: str, count: int
) -> None:
    from torchaudio.datasets import LibriLightLimited

    rows = corpus_class(root).utterances("train")
    reference = LibriLightLimited(root, subset)
    assert [row.id for row in rows] == sorted(name for _, name in reference._fileids_paths)
    assert len(rows) == count
    for row in rows:
        assert row.text == ("BOOK" if row.segment == 2 else ("A BOOK", "A")[row.segment or 0])
        assert row.session == f"{row.speaker}-7"
        assert row.split == "train"
        assert row.audio.is_file()
    assert corpus_class.tasks == ("asr", "pr")


def test_dev_and_test_are_librispeechs(root: Path) -> None:
    for split in ("dev", "test"):
        (row,) = LibriLight1h(root).utterances(split)
        assert row.audio.is_relative_to(root / f"LibriSpeech/{split}-clean")
    (row,) = LibriLight1h(root, test="test-other").utterances("test")
    assert row.audio.is_relative_to(root / "LibriSpeech/test-other")


def test_folds(root: Path) -> None:
    corpus = open_corpus("librilight_10min:fold=4,test=test-other", str(root))
    assert {row.speaker for row in corpus.utterances("train")} == {"104", "204"}
    assert "test-other" in str(corpus.utterances("test")[0].audio)
    folds = [{r.id for r in LibriLight10min(root, fold=i).utterances("train")} for i in range(6)]
    assert set.union(*folds) == {r.id for r in LibriLight1h(root).utterances("train")}
    assert sum(map(len, folds)) == len(set.union(*folds))
    with pytest.raises(UsageError, match="fold=6; give 0, 1, 2, 3, 4 or 5"):
        LibriLight10min(root, fold=6)
    with pytest.raises(
        UsageError, match=r"unknown option of corpus librilight_1h 'fold'.*dev, test"
    ):
        open_corpus("librilight_1h:fold=1", str(root))


def test_phones(root: Path) -> None:
    (root / LEXICA[0]).write_text("A AH0\nBOOK B UH1 K\n")
    (root / LEXICA[1]).write_text("")
    rows = LibriLight10min(root).utterances("train")
    assert rows[0].phones == ("AH0", "B", "UH1", "K")
    assert LibriLight10min.phone_set == "superb71"


def test_mistakes(root: Path) -> None:
    archive = root / "librispeech_finetuning"
    write(archive / "1h/3/clean/100/7/100-7-0000.flac", SHORT)
    (archive / "1h/3/clean/100/7/100-7.trans.txt").write_text("100-7-0000 A\n")
    with pytest.raises(MissingError, match=r"1 utterances in two places.*\n.*100-7-0000"):
        LibriLight1h(root).utterances("train")
    (archive / "1h/0/clean/100/7/100-7.trans.txt").unlink()
    with pytest.raises(MissingError, match=r"100-7\.trans\.txt is missing"):
        LibriLight10min(root).utterances("train")
    with pytest.raises(
        MissingError, match=r"no librispeech_finetuning in .*data get librilight_10h"
    ):
        LibriLight10h(root / "LibriSpeech").utterances("train")
