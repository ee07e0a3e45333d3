"""LibriSpeech: our own small layout, its errors, and the part of the real one that is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssft_bench.corpora.librispeech import LEXICA, LibriSpeech
from ssft_bench.errors import MissingError, UsageError
from tests.speech import noise, real_data, write

CHAPTERS = {"19/198": ["A BOOK", "A"], "103/1240": ["BOOK BOOK'S"]}


@pytest.fixture
def libri(tmp_path: Path) -> Path:
    """The folder that contains LibriSpeech, with two chapters in each of SUPERB's subsets."""
    wave = noise(np.random.default_rng(), 0.1)
    for subset in ("train-clean-100", "dev-clean", "test-clean"):
        for chapter, texts in CHAPTERS.items():
            folder = tmp_path / "LibriSpeech" / subset / chapter
            stem = chapter.replace("/", "-")
            lines = [f"{stem}-{i:04d} {text}\n" for i, text in enumerate(texts)]
            for line in lines:
                write(folder / f"{line.split()[0]}.flac", wave)
            (folder / f"{stem}.trans.txt").write_text("".join(lines))
    return tmp_path


def put_lexica(folder: Path, words: str = "A\tAH0\nA EY1\nBOOK\tB UH1 K\n") -> None:
    folder.mkdir(exist_ok=True)
    (folder / LEXICA[0]).write_text(words)
    (folder / LEXICA[1]).write_text("BOOK'S B UH1 K S\nA AA0\n")


def test_rows(libri: Path) -> None:
    corpus = LibriSpeech(libri)
    assert corpus.phone_set == "superb71"
    rows = corpus.utterances("dev")
    assert [row.id for row in rows] == ["103-1240-0000", "19-198-0000", "19-198-0001"]
    assert [row.speaker for row in rows] == ["103", "19", "19"]
    assert [row.text for row in rows] == ["BOOK BOOK'S", "A BOOK", "A"]
    assert {row.split for row in rows} == {"dev"}
    assert rows[1].audio == libri / "LibriSpeech/dev-clean/19/198/19-198-0000.flac"
    assert all(row.audio.is_file() and row.phones is None for row in rows)


def test_the_root_may_be_the_folder_itself(libri: Path) -> None:
    assert LibriSpeech(libri).utterances("train") == LibriSpeech(libri / "LibriSpeech").utterances(
        "train"
    )


def test_other_subsets(libri: Path) -> None:
    (libri / "LibriSpeech/test-clean").rename(libri / "LibriSpeech/test-other")
    assert len(LibriSpeech(libri, test="test-other").utterances("test")) == 3
    with pytest.raises(MissingError, match=r"no test-clean in .*openslr\.org/12 or mend --data"):
        LibriSpeech(libri).utterances("test")
    with pytest.raises(UsageError, match="no split 'test-other'; splits: train, dev, test"):
        LibriSpeech(libri).utterances("test-other")


@pytest.mark.parametrize("place", [".", "lexicon", "LibriSpeech", "LibriSpeech/lexicon"])
def test_phones_of_superb(libri: Path, place: str) -> None:
    put_lexica(libri / place)
    first, second, third = LibriSpeech(libri).utterances("test")
    assert first.phones == ("B", "UH1", "K", "B", "UH1", "K", "S")
    assert second.phones == ("AH0", "B", "UH1", "K")
    assert third.phones == ("AH0",)


def test_lexica_that_are_not_enough(libri: Path) -> None:
    put_lexica(libri, "A AH0\nBOOK\n")
    with pytest.raises(MissingError) as caught:
        LibriSpeech(libri).utterances("train")
    assert "2 problems" in str(caught.value)
    assert "19-198.trans.txt:1: 19-198-0000 has words that the lexica do not: BOOK" in str(
        caught.value
    )
    (libri / LEXICA[1]).unlink()
    with pytest.raises(MissingError, match=rf"lacks {LEXICA[1]}"):
        LibriSpeech(libri).utterances("train")


def refusal(libri: Path) -> str:
    with pytest.raises(MissingError) as caught:
        LibriSpeech(libri).utterances("test")
    return str(caught.value)


def test_a_chapter_without_transcript(libri: Path) -> None:
    path = libri / "LibriSpeech/test-clean/19/198/19-198.trans.txt"
    path.unlink()
    assert f"{path} is missing: 2 recordings without transcript" in refusal(libri)
    assert len(LibriSpeech(libri).utterances("dev")) == 3


def test_a_transcript_without_audio(libri: Path) -> None:
    chapter = libri / "LibriSpeech/test-clean/19/198"
    (chapter / "19-198-0001.flac").unlink()
    expected = f"{chapter}/19-198.trans.txt:2: 19-198-0001 has a transcript but no audio"
    assert expected in refusal(libri)


def test_audio_without_transcript(libri: Path) -> None:
    chapter = libri / "LibriSpeech/test-clean/19/198"
    (chapter / "19-198.trans.txt").write_text("19-198-0000 A\n")
    assert f"{chapter}/19-198-0001.flac has no transcript in 19-198.trans.txt" in refusal(libri)


def test_a_transcript_without_words(libri: Path) -> None:
    chapter = libri / "LibriSpeech/test-clean/19/198"
    (chapter / "19-198.trans.txt").write_text("19-198-0000 A\n19-198-0001\n")
    assert "19-198.trans.txt:2: 19-198-0001 has no words" in refusal(libri)


def test_a_subset_without_chapters(libri: Path) -> None:
    (libri / "LibriSpeech/empty").mkdir()
    with pytest.raises(MissingError, match=r"empty holds no <speaker>/<chapter>"):
        LibriSpeech(libri, test="empty").utterances("test")


def test_the_real_subset() -> None:
    corpus = LibriSpeech(real_data("librispeech_subset"), test="test-other")
    rows = corpus.utterances("test")
    assert len(rows) == len({row.id for row in rows}) == 100
    assert len({row.speaker for row in rows}) == 10
    assert all(row.text and set(row.text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ") for row in rows)
    with pytest.raises(MissingError, match=r"251 problems .*train-clean-100"):
        corpus.utterances("train")  # it has no gold transcripts there
