"""QUESST 2014: our own small archive, its lists beside torchaudio's reader, matches by plain loops."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest

from ssft_bench.audio import read_audio, read_utterance
from ssft_bench.corpora.quesst14 import Quesst14
from ssft_bench.errors import MissingError, UsageError
from tests.speech import sine, write

LANGUAGES = ("nnenglish", "czech", "albanian")
SEEDS = [1, secrets.randbelow(2**31)]


def archive(root: Path, seed: int) -> Path:
    """12 documents, 5 queries in dev and in eval, a third English, and random matches."""
    rng = np.random.default_rng(seed)
    folder = root / "quesst14Database"
    wave = sine(300, 0.1, 8000)
    parts = {"utterances": ("Audio", "", 12), "dev": ("dev_queries", "dev_", 5)}
    parts["eval"] = ("eval_queries", "eval_", 5)
    names: dict[str, list[str]] = {}
    for part, (place, prefix, count) in parts.items():
        names[part] = [f"quesst14_{prefix}{i:05d}" for i in rng.permutation(count)]
        lines = []
        for i, name in enumerate(names[part]):
            write(folder / place / f"{name}.wav", wave, 8000)
            lines.append(f"quesst14Database/{place}/{name}.wav {LANGUAGES[i % 3]}")
        path = folder / "scoring" / f"language_key_{part}.lst"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    for part in ("dev", "eval"):
        truth = folder / "scoring" / f"groundtruth_quesst14_{part}"
        truth.mkdir()
        lines = [f"SPKR-INFO {names['utterances'][0]} 1 <NA> <NA> <NA> unknown s <NA>"]
        for document in names["utterances"]:
            lines.append(f"LEXEME {document} 1 0.00 1.00 NO_KEYWORD lex s <NA>")
        for q, query in enumerate(names[part]):
            found = rng.random(12) < 0.3
            found[0] |= q == 0  # an English query and an English document
            for document in np.array(names["utterances"])[found]:
                lines.append(f"LEXEME {document} 1 0.50 0.62 {query} lex s <NA>")
        (truth / f"quesst14_{part}.rttm").write_text("\n".join(lines) + "\n")
        excerpts = "".join(
            f'<excerpt audio_filename="{n}" channel="1" tbeg="0.000" dur="1.0" source_type="x"/>'
            for n in names["utterances"]
        )
        (truth / "quesst14.ecf.xml").write_text(f"<ecf version='1'>{excerpts}</ecf>")
        (truth / f"quesst14_{part}.tlist.xml").write_text("<termlist/>")
    return root


@pytest.mark.parametrize("seed", SEEDS)
def test_the_lists_are_those_of_torchaudio(tmp_path: Path, seed: int) -> None:
    from torchaudio.datasets import QUESST14

    corpus = Quesst14(archive(tmp_path, seed))
    for split, official in (("dev", "dev"), ("test", "eval")):
        for subset, rows in (("docs", corpus.documents(split)), (official, corpus.queries(split))):
            reference = QUESST14(tmp_path, subset)
            wanted = [reference.get_metadata(i) for i in range(len(reference))]
            assert [
                (str(r.audio.relative_to(tmp_path / "quesst14Database")), r.id) for r in rows
            ] == [(path, name) for path, _, name in wanted]
    assert len(corpus.documents("dev")) == 4
    assert {q.kind for q in corpus.queries("dev")} == {"query"}
    assert corpus.utterances("test") == corpus.documents("test")
    assert corpus.utterances("train") == corpus.queries("train") == []
    assert corpus.matches("train") == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_matches(tmp_path: Path, seed: int) -> None:
    root = archive(tmp_path, seed)
    corpus = Quesst14(root)
    for split, official in (("dev", "dev"), ("test", "eval")):
        truth = root / f"quesst14Database/scoring/groundtruth_quesst14_{official}"
        text = (truth / f"quesst14_{official}.rttm").read_text()
        documents = {d.id for d in corpus.documents(split)}
        wanted: dict[str, set[str]] = {q.id: set() for q in corpus.queries(split)}
        for line in text.splitlines():
            for query, found in wanted.items():
                for document in documents:
                    if line.startswith(f"LEXEME {document} ") and f" {query} " in line:
                        found.add(document)
        assert corpus.matches(split) == wanted
        assert any(wanted.values())
        assert corpus.unsearched(split) == 12 - 4
        others = [q for q in (f"quesst14_{official}_{i:05d}" for i in range(5)) if q not in wanted]
        assert corpus.unasked(split) == sum(f" {q} " in text for q in others)
        (remark,) = corpus.remarks(split)
        assert "ground truth has 8 such documents" in remark


def test_recordings_are_read_3_db_softer(tmp_path: Path) -> None:
    query = Quesst14(archive(tmp_path, 1)).queries("dev")[0]
    plain, softer = read_audio(query.audio), read_utterance(query)
    np.testing.assert_allclose(softer, plain * 10 ** (-3 / 20), rtol=1e-6)
    assert softer.dtype == np.float32
    assert np.abs(plain).max() > 0.3  # there is something to make softer


def test_the_root_may_be_the_folder_itself(tmp_path: Path) -> None:
    root = archive(tmp_path, 1)
    assert Quesst14(root / "quesst14Database").queries("dev") == Quesst14(root).queries("dev")
    with pytest.raises(MissingError, match=r"no QUESST 2014 in .*data get quesst14"):
        Quesst14(root / "quesst14Database" / "Audio").queries("dev")
    with pytest.raises(UsageError, match="no split 'eval'; splits: train, dev, test"):
        Quesst14(root).queries("eval")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = archive(tmp_path, 1)
    corpus = Quesst14(root)
    gone = corpus.documents("dev")[1].audio
    gone.unlink()
    with pytest.raises(MissingError, match=rf"1 of 4 recordings.*\n.*no {gone}"):
        corpus.documents("test")
    scoring = root / "quesst14Database/scoring"
    (scoring / "language_key_dev.lst").write_text("quesst14Database/dev_queries/a.wav\n")
    with pytest.raises(MissingError, match=r"language_key_dev\.lst:1 is not `<path> <language>`"):
        corpus.queries("dev")
    (scoring / "language_key_dev.lst").write_text("quesst14Database/dev_queries/a.wav czech\n")
    with pytest.raises(MissingError, match="no line with language nnenglish"):
        corpus.queries("dev")


def test_ground_truth_that_is_not_usable(tmp_path: Path) -> None:
    root = archive(tmp_path, 1)
    corpus = Quesst14(root)
    truth = root / "quesst14Database/scoring/groundtruth_quesst14_dev"
    usual = truth / "quesst14_dev.rttm"
    wanted = corpus.matches("dev")
    usual.rename(truth / "another_name.rttm")  # the only one there is
    assert corpus.matches("dev") == wanted
    (truth / "second.rttm").write_text("")
    with pytest.raises(MissingError, match=r"one .*rttm, found: another_name\.rttm, second\.rttm"):
        corpus.matches("dev")
    usual.write_text("LEXEME a 1 0 1 unknown_query lex s <NA>\n")
    with pytest.raises(MissingError, match="no LEXEME line names an English query of dev"):
        corpus.matches("dev")
    usual.write_text("LEXEME a 1 0\n")
    with pytest.raises(MissingError, match=r"quesst14_dev\.rttm:1 has no sixth field"):
        corpus.matches("dev")
    (truth / "quesst14.ecf.xml").write_text("<ecf>")
    with pytest.raises(MissingError, match=r"cannot read .*ecf\.xml"):
        corpus.unsearched("dev")
