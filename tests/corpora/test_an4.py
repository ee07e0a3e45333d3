"""AN4: our own small layout, its errors, and the counts of the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssft_bench.audio import read_audio
from ssft_bench.corpora.an4 import AN4, dev_speakers
from ssft_bench.errors import MissingError, UsageError
from tests.speech import murmur, real_data, write

DICTIONARY = """\
A                    AH
A(2)                 EY
GO                   G OW
ENTER                EH N ER
ENTER(2)             EH N T ER
"""
SPEAKERS = ("fabc", "mdef", "mxyz")


@pytest.fixture
def an4(tmp_path: Path) -> Path:
    """Three training speakers with four utterances each, one test speaker with two."""
    return make(tmp_path / "an4", ".wav")


def make(root: Path, suffix: str) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "an4.dic").write_text(DICTIONARY)
    train = [f"an4_clstk/{s}/an{i}-{s}-b" for s in SPEAKERS for i in range(4)]
    put(root, "train", train, "<s> ENTER <sil> A </s>", suffix)
    put(root, "test", [f"an4test_clstk/ftst/cen{i}-ftst-b" for i in range(2)], "go A", suffix)
    return root


def put(root: Path, official: str, identifiers: list[str], text: str, suffix: str) -> None:
    names = [identifier.rpartition("/")[2] for identifier in identifiers]
    (root / "etc" / f"an4_{official}.fileids").write_text("\n".join(identifiers) + "\n")
    lines = [f"{text} ({name})\n" for name in names]
    (root / "etc" / f"an4_{official}.transcription").write_text("".join(lines))
    wave = murmur(np.random.default_rng(len(names)), 0.2)
    for identifier in identifiers:
        path = root / "wav" / f"{identifier}{suffix}"
        if suffix == ".raw":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((wave * 32767).astype(">i2").tobytes())
        else:
            write(path, wave)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_rows_of_each_split(an4: Path) -> None:
    corpus = AN4(an4)
    splits = {split: corpus.utterances(split) for split in ("train", "dev", "test")}
    assert [len(splits[s]) for s in splits] == [8, 4, 2]
    assert {row.speaker for row in splits["train"]} == {"mdef", "mxyz"}
    assert {row.speaker for row in splits["dev"]} == {"fabc"}
    assert all(row.split == split for split, rows in splits.items() for row in rows)
    row = splits["test"][1]
    assert (row.id, row.speaker) == ("cen1-ftst-b", "ftst")
    assert (row.text, row.phones) == ("GO A", ("G", "OW", "AH"))
    assert row.audio == an4 / "wav/an4test_clstk/ftst/cen1-ftst-b.wav"
    assert (splits["dev"][0].text, splits["dev"][0].phones) == ("ENTER A", ("EH", "N", "ER", "AH"))


@pytest.mark.parametrize("suffix", [".flac", ".sph", ".raw"])
def test_formats_of_the_original_archives(tmp_path: Path, suffix: str) -> None:
    rows = AN4(make(tmp_path / "an4", suffix)).utterances("test")
    reference = read_audio(AN4(make(tmp_path / "wav", ".wav")).utterances("test")[0].audio)
    assert rows[0].audio.suffix == suffix
    assert np.abs(read_audio(rows[0].audio) - reference).max() < 1e-4


def test_the_root_may_contain_the_folder(an4: Path) -> None:
    assert AN4(an4.parent).utterances("dev") == AN4(an4).utterances("dev")


def test_dev_speakers_are_every_tenth_until_a_tenth_is_reached() -> None:
    names = [f"{sex}{i:02d}" for sex in "fm" for i in range(15)]
    assert dev_speakers(names) == {"f00", "f10", "m05"}
    assert dev_speakers(["f00"] + 30 * ["f01"] + 4 * ["f02"]) == {"f00", "f01"}
    assert dev_speakers(9 * ["b"] + ["a"]) == {"a"}


def test_no_corpus_there(tmp_path: Path, an4: Path) -> None:
    with pytest.raises(MissingError, match=r"no AN4 corpus in .*cmusphinx/an4 or mend --data"):
        AN4(tmp_path / "nowhere").utterances("train")
    with pytest.raises(MissingError, match="--data FOLDER"):
        AN4().utterances("train")
    with pytest.raises(UsageError, match="no split 'eval'; splits: train, dev, test"):
        AN4(an4).utterances("eval")


def test_a_transcript_without_audio(an4: Path) -> None:
    (an4 / "wav/an4_clstk/mdef/an2-mdef-b.wav").unlink()
    assert len(AN4(an4).utterances("test")) == 2
    with pytest.raises(MissingError) as caught:
        AN4(an4).utterances("train")
    message = str(caught.value)
    assert f"{an4}/etc/an4_train.transcription:7: an2-mdef-b has a transcript but no au" in message
    assert f"{an4}/wav/an4_clstk/mdef/an2-mdef-b" in message
    assert "\n" not in message


def test_a_transcript_of_another_recording(an4: Path) -> None:
    edit(an4 / "etc/an4_test.transcription", "(cen1-ftst-b)", "(cen7-ftst-b)")
    expected = r"an4_test\.transcription:2: the transcript is of cen7-ftst-b, but cen1-ftst-b is"
    with pytest.raises(MissingError, match=expected):
        AN4(an4).utterances("test")


def test_a_word_that_the_dictionary_lacks(an4: Path) -> None:
    edit(an4 / "etc/an4_train.transcription", "ENTER <sil> A", "ENTER ZEBRA A")
    with pytest.raises(MissingError) as caught:
        AN4(an4).utterances("train")
    head, *listed = str(caught.value).split("\n")
    assert head.startswith("12 lines of AN4")
    assert (
        "an4_train.transcription:1: an0-fabc-b has words that etc/an4.dic does not: ZEBRA"
        in (listed[0])
    )
    assert listed[5] == "  ... and 7 more"


def test_a_line_without_identifier_and_a_line_without_words(an4: Path) -> None:
    path = an4 / "etc/an4_test.transcription"
    edit(path, " (cen1-ftst-b)", "")
    with pytest.raises(MissingError, match=r":2: no \(identifier\) at the end of 'go A'"):
        AN4(an4).utterances("test")
    path.write_text("go (cen0-ftst-b)\n<s> </s> (cen1-ftst-b)\n")
    with pytest.raises(MissingError, match=r":2: cen1-ftst-b has no words"):
        AN4(an4).utterances("test")


def test_lists_of_different_length(an4: Path) -> None:
    with (an4 / "etc/an4_test.fileids").open("a") as file:
        file.write("an4test_clstk/ftst/cen3-ftst-b\n")
    with pytest.raises(MissingError, match=r"has 2 transcripts, an4_test\.fileids 3 recordings"):
        AN4(an4).utterances("test")


def test_a_list_that_is_absent(an4: Path) -> None:
    (an4 / "etc/an4.dic").unlink()
    with pytest.raises(MissingError, match=r"cannot read .*an4\.dic: No such file"):
        AN4(an4).utterances("test")


def test_the_real_corpus() -> None:
    corpus = AN4(real_data("an4"))
    train, dev, test = (corpus.utterances(split) for split in ("train", "dev", "test"))
    assert len(train) + len(dev) == 948
    assert len(test) == 130
    speakers = [{row.speaker for row in rows} for rows in (train, dev, test)]
    assert len(speakers[0] | speakers[1]) == 74
    assert len(speakers[2]) == 10
    assert len(set.union(*speakers)) == sum(map(len, speakers))  # no speaker in two splits
    assert 95 <= len(dev) <= 110
    everything = [*train, *dev, *test]
    assert len({row.id for row in everything}) == 1078
    assert sum(len((row.text or "").split()) for row in test) == 773
    listed = set((real_data("an4") / "etc/an4.phone").read_text().split())
    assert {phone for row in everything for phone in row.phones or ()} == listed - {"SIL"}
    assert len(read_audio(test[0].audio)) > 16000
