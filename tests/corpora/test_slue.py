"""SLUE's tables: archives with tsv files, blind ones, and Hugging Face's parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssft_bench.audio import read_utterance
from ssft_bench.audio_check import check_audio
from ssft_bench.corpora import slue
from ssft_bench.corpora.manifest import Entity
from ssft_bench.corpora.slue_voxceleb import SlueVoxCeleb
from ssft_bench.corpora.slue_voxpopuli import SlueVoxPopuli, read_entities
from ssft_bench.errors import MissingError, UsageError
from tests.corpora.layouts import SHORT, encoded, parquet, tsv
from tests.speech import noise, write

SPLITS = {"train": "fine-tune", "dev": "dev", "test": "test"}
PARAGRAPH = "20131007-0900-PLENARY-19-en_20131007-21:26:04"
LONG = noise(np.random.default_rng(3), 2.0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))


def voxpopuli_rows(split: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{PARAGRAPH}_{number}", "raw_text": 'He said "no".', "normalized_text": text,
            "speaker_id": speaker, "split": split, "raw_ner": "[]", "normalized_ner": entities,
        }
        for number, text, speaker, entities in (
            (7, "the commission's article twenty one.", "4567.0", "[['LAW', 17, 18]]"),
            (9, "no; entities?", "None", "None"),
        )
    ]  # fmt: skip


def voxceleb_rows(split: str) -> list[dict[str, Any]]:
    labels = ("Neutral", "Positive", "<mixed>", "Disagreement", "Negative")
    return [
        {
            "id": f"id10012_0AXj_xNXi_{i:05d}", "normalized_text": "like i said", "speaker_id": "id10012",
            "split": split, "sentiment": label, "start_second": 0.1 * i, "end_second": 0.1 * i + 0.25,
        }
        for i, label in enumerate(labels)
    ]  # fmt: skip


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """Both archives, with labels for test."""
    for split in SPLITS.values():
        folder = tmp_path / "slue-voxpopuli"
        tsv(folder / f"slue-voxpopuli_{split}.tsv", voxpopuli_rows(split))
        for row in voxpopuli_rows(split):
            write(folder / split / f"{row['id']}.ogg", SHORT)
        folder = tmp_path / "slue-voxceleb"
        tsv(folder / f"slue-voxceleb_{split}.tsv", voxceleb_rows(split))
        for row in voxceleb_rows(split):
            write(folder / f"{split}_raw" / f"{row['id']}.flac", LONG)
    return tmp_path


def test_voxpopuli_for_asr(archives: Path) -> None:
    corpus = SlueVoxPopuli(archives)
    first, second = corpus.utterances("train")
    assert first.text == "THE COMMISSION'S ARTICLE TWENTY ONE"
    assert second.text == "NO ENTITIES"
    assert (first.speaker, second.speaker) == ("4567", None)
    assert (first.session, first.segment, second.segment) == (PARAGRAPH, 7, 9)
    assert first.entities is None  # NER on ASR's text would be another task
    assert first.audio == archives / f"slue-voxpopuli/fine-tune/{PARAGRAPH}_7.ogg"
    assert corpus.remarks("train") == []
    assert SlueVoxPopuli(archives / "slue-voxpopuli").utterances("train") == [first, second]


def test_voxpopuli_for_ner(archives: Path) -> None:
    corpus = SlueVoxPopuli(archives)
    first, second = corpus.for_task("ner").utterances("dev")
    assert first.text == "THE COMMISSION 'S ARTICLE TWENTY ONE"
    assert first.entities == (Entity("LAW", 18, 18),)
    assert first.text[18:36] == "ARTICLE TWENTY ONE"
    assert (second.text, second.entities) == ("NO ENTITIES", ())
    assert corpus.utterances("dev")[0].text == "THE COMMISSION'S ARTICLE TWENTY ONE"  # not changed
    assert corpus.for_task("ner").for_task("asr").utterances("dev") == corpus.utterances("dev")


def test_voxceleb(archives: Path) -> None:
    rows = SlueVoxCeleb(archives).utterances("dev")
    assert [row.sentiment for row in rows] == ["neutral", "positive", "negative"]
    assert [row.segment for row in rows] == [0, 1, 4]
    assert {row.session for row in rows} == {"id10012_0AXj_xNXi"}
    assert {row.speaker for row in rows} == {"id10012"}
    assert rows[1].text == "LIKE I SAID"
    assert (rows[1].start, rows[1].end) == (0.1, 0.35)
    wave = read_utterance(rows[1])
    assert len(wave) == int(0.35 * 16000) - int(0.1 * 16000)
    np.testing.assert_allclose(wave, LONG[1600:5600], atol=1e-4)
    assert check_audio(rows).seconds == pytest.approx((0.25, 0.25, 0.25))
    assert SlueVoxCeleb(archives).remarks("dev") == [
        "left out of 5 rows: 1 <mixed>, 1 disagreement"
    ]


def blind(archives: Path) -> None:
    """Make the test splits what the archives of v0.2 have."""
    folder = archives / "slue-voxpopuli"
    (folder / "slue-voxpopuli_test.tsv").unlink()
    keys = ("id", "raw_text", "normalized_text", "speaker_id", "split")
    kept = [{k: row[k] for k in keys} for row in voxpopuli_rows("test")]
    tsv(folder / "slue-voxpopuli_test_blind.tsv", kept)
    folder = archives / "slue-voxceleb"
    (folder / "slue-voxceleb_test.tsv").unlink()
    keys = ("id", "speaker_id", "split", "start_second", "end_second")
    kept = [{k: row[k] for k in keys} for row in voxceleb_rows("test")]
    tsv(folder / "slue-voxceleb_test_blind.tsv", kept)


def test_blind_archives_say_where_the_labels_are(archives: Path) -> None:
    blind(archives)
    assert len(SlueVoxPopuli(archives).utterances("test")) == 2  # texts are there, for ASR
    with pytest.raises(
        MissingError, match=r"blind version .* no column normalized_ner.*hf download"
    ):
        SlueVoxPopuli(archives).for_task("ner").utterances("test")
    with pytest.raises(MissingError, match="no column normalized_text, sentiment"):
        SlueVoxCeleb(archives).utterances("test")
    assert len(SlueVoxCeleb(archives).utterances("dev")) == 3


def hugging_face(root: Path, cut: bool = False) -> None:
    """`asapp/slue`, the test split of VoxCeleb in two files."""
    for split, theirs in slue.HUGGING_FACE.items():
        rows = []
        for row in voxpopuli_rows(split):
            entities = read_entities(row["normalized_ner"])
            audio = {"bytes": encoded(SHORT, kind="OGG"), "path": f"{row['id']}.ogg"}
            rows.append({
                **{k: row[k] for k in ("id", "raw_text", "normalized_text")}, "audio": audio,
                "speaker_id": row["speaker_id"],
                "normalized_ner": {"type": [e.tag for e in entities], "start": [e.start for e in entities],
                                   "length": [e.length for e in entities]},
            })  # fmt: skip
        parquet(root / f"voxpopuli/{theirs}-00000-of-00001.parquet", rows)
        rows = []
        for row in voxceleb_rows(split):
            start, end = (int(row[f"{edge}_second"] * 16000) for edge in ("start", "end"))
            wave = LONG[start:end] if cut else LONG
            rows.append({**row, "index": 0, "audio": {"bytes": encoded(wave), "path": None}})
        parquet(root / f"voxceleb/{theirs}-00000-of-00002.parquet", rows[:2])
        parquet(root / f"voxceleb/{theirs}-00001-of-00002.parquet", rows[2:])


def test_hugging_face_gives_the_same_rows(archives: Path, tmp_path: Path) -> None:
    hugging_face(tmp_path / "hf" / "slue")
    for official, theirs in (
        (SlueVoxPopuli(archives), SlueVoxPopuli(tmp_path / "hf")),
        (SlueVoxPopuli(archives).for_task("ner"), SlueVoxPopuli(tmp_path / "hf").for_task("ner")),
        (SlueVoxCeleb(archives), SlueVoxCeleb(tmp_path / "hf/slue")),
    ):
        for split in SPLITS:
            wanted, rows = official.utterances(split), theirs.utterances(split)
            for one, other in zip(wanted, rows, strict=True):
                assert {**vars(one), "audio": 0} == {**vars(other), "audio": 0}
                np.testing.assert_allclose(read_utterance(one), read_utterance(other), atol=1e-4)


def test_test_labels_from_hugging_face_complete_a_blind_archive(archives: Path) -> None:
    blind(archives)
    hugging_face(archives / "slue")
    assert len(SlueVoxCeleb(archives).utterances("test")) == 3
    assert SlueVoxPopuli(archives).for_task("ner").utterances("test")[0].entities
    assert (
        SlueVoxCeleb(archives).utterances("dev")[0].audio.is_relative_to(archives / "slue-voxceleb")
    )


def test_recordings_that_are_cut_already_are_not_cut_again(tmp_path: Path) -> None:
    hugging_face(tmp_path, cut=True)
    rows = SlueVoxCeleb(tmp_path).utterances("train")
    assert [row.start for row in rows] == [0.0, None, None]  # the first segment begins its file
    for row, (start, end) in zip(rows, ((0, 4000), (1600, 5600), (6400, 10400)), strict=True):
        np.testing.assert_allclose(read_utterance(row), LONG[start:end], atol=1e-4)


def test_parquet_files_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hugging_face(tmp_path)
    rows = SlueVoxCeleb(tmp_path).utterances("dev")
    with monkeypatch.context() as patch:
        patch.setattr(slue, "_unpack", lambda *_: pytest.fail("unpacked again"))
        assert SlueVoxCeleb(tmp_path).utterances("dev") == rows
    rows[0].audio.unlink()
    assert SlueVoxCeleb(tmp_path).utterances("dev") == rows
    assert rows[0].audio.is_file()


def test_version_0_1_is_refused(archives: Path) -> None:
    folder = archives / "slue-voxceleb"
    row = voxceleb_rows("dev")[0]
    labels = ["Neutral"] * 784 + ["Positive"] * 167 + ["Negative"] * 3
    tsv(folder / "slue-voxceleb_dev.tsv", [{**row, "sentiment": label} for label in labels])
    with pytest.raises(MissingError, match=r"version 0\.1 of SLUE-VoxCeleb"):
        SlueVoxCeleb(archives).utterances("dev")
    tsv(folder / "slue-voxceleb_dev.tsv", [{**row, "sentiment": label} for label in labels[1:]])
    assert len(SlueVoxCeleb(archives).utterances("dev")) == 953


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalized_ner": "[['LAW', 17]]"}, r"dev\.tsv:2: .*_7: normalized_ner is not \[tag"),
        ({"normalized_ner": "[['LAW', 17, 99]]"}, "lies outside the text of 36 characters"),
        ({"normalized_ner": "oops("}, "normalized_ner is no list: 'oops\\('"),
    ],
)
def test_broken_entities_are_named(archives: Path, change: dict[str, str], message: str) -> None:
    rows = voxpopuli_rows("dev")
    tsv(archives / "slue-voxpopuli/slue-voxpopuli_dev.tsv", [{**rows[0], **change}, rows[1]])
    with pytest.raises(MissingError, match=message):
        SlueVoxPopuli(archives).for_task("ner").utterances("dev")


def test_other_mistakes_are_named(archives: Path) -> None:
    folder = archives / "slue-voxceleb"
    path = folder / "slue-voxceleb_dev.tsv"
    rows = voxceleb_rows("dev")
    tsv(path, [{**row, "sentiment": "Happy"} for row in rows])
    with pytest.raises(MissingError, match="sentiment 'Happy' is none of negative, neutral"):
        SlueVoxCeleb(archives).utterances("dev")
    tsv(path, [{k: v for k, v in row.items() if k != "end_second"} for row in rows])
    with pytest.raises(MissingError, match="has no column end_second; it has: id,"):
        SlueVoxCeleb(archives).utterances("dev")
    path.write_text("id\tsentiment\na\n")
    with pytest.raises(MissingError, match=r"dev\.tsv:2: not as many fields"):
        SlueVoxCeleb(archives).utterances("dev")
    tsv(path, rows)
    (folder / f"dev_raw/{rows[1]['id']}.flac").unlink()
    with pytest.raises(MissingError, match=rf"1 of 5 rows.*\n.*{rows[1]['id']} has no audio"):
        SlueVoxCeleb(archives).utterances("dev")
    with pytest.raises(
        MissingError, match=r"no split dev of slue-voxceleb in .*data get slue_voxceleb"
    ):
        SlueVoxCeleb(archives / "slue-voxpopuli").utterances("dev")
    with pytest.raises(UsageError, match="no split 'fine-tune'"):
        SlueVoxCeleb(archives).utterances("fine-tune")


def test_texts_that_are_respelled_are_reported(archives: Path) -> None:
    rows = voxpopuli_rows("dev")
    changed = {**rows[0], "normalized_text": "caf\u00e9, the commission's article"}
    tsv(archives / "slue-voxpopuli/slue-voxpopuli_dev.tsv", [changed, rows[1]])
    corpus = SlueVoxPopuli(archives)
    assert corpus.utterances("dev")[0].text == "CAFE THE COMMISSION'S ARTICLE"
    (remark,) = corpus.remarks("dev")
    assert remark.startswith("1 of 2 texts have characters besides A-Z")
