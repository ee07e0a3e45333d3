"""What a run makes of a corpus' rows: options, gain, digests, the text of a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssft_bench import spec as spec_module
from ssft_bench.audio import read_audio, read_utterance
from ssft_bench.corpora.librispeech import LibriSpeech
from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.data import open_corpus, prepare, rows_sha256
from ssft_bench.errors import UsageError
from ssft_bench.files import sha256_file, sha256_json
from ssft_bench.spec import DataSpec
from tests.corpora.layouts import SHORT, librispeech, tsv
from tests.speech import rows, sine, write


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))


FIELDS = (
    "id", "audio", "split", "speaker", "text", "phones", "start", "end", "session", "segment",
    "entities", "sentiment", "kind",
)  # fmt: skip
"""Fields of a row when digests were first stored."""


def old_digest(found: list[Any]) -> str:
    values = []
    for row in found:
        value = {name: getattr(row, name) for name in FIELDS}
        value["audio"] = sha256_file(row.audio)
        if row.entities is not None:
            value["entities"] = [vars(e) for e in row.entities]
        values.append(value)
    return sha256_json(values)


def test_stored_digests_still_hold() -> None:
    found = Mini().utterances("dev")[:20] + Mini().queries("dev")[:3]
    assert rows_sha256(found) == old_digest(found)
    softer = [replace(row, gain_db=-3.0) for row in found]
    assert rows_sha256(softer) != old_digest(softer)


def test_gain(tmp_path: Path) -> None:
    (row,) = rows(write(tmp_path / "a.wav", sine(440, 0.2, 16000)))
    plain = read_audio(row.audio)
    np.testing.assert_array_equal(read_utterance(row), plain)
    for gain in (-3.0, 6.0):
        expected = plain.astype(float) * 10 ** (gain / 20)
        np.testing.assert_allclose(read_utterance(replace(row, gain_db=gain)), expected, rtol=1e-6)
    cut = read_utterance(replace(row, start=0.05, end=0.1))
    np.testing.assert_array_equal(cut, plain[800:1600])


def test_options_of_a_corpus(tmp_path: Path) -> None:
    for part in ("dev-clean", "dev-other"):
        librispeech(tmp_path / "LibriSpeech" / part, {"19/198": ["A"]})
    corpus = open_corpus("librispeech:dev=dev-other", str(tmp_path))
    assert "dev-other" in str(corpus.utterances("dev")[0].audio)
    with pytest.raises(UsageError, match=r"unknown option of corpus librispeech 'dve'.*mean dev"):
        open_corpus("librispeech:dve=dev-other", str(tmp_path))
    with pytest.raises(UsageError, match="'dev' is not of the form option=value"):
        open_corpus("librispeech:dev", str(tmp_path))
    with pytest.raises(UsageError, match=r"option of corpus an4 'x'\. Known: none"):
        open_corpus("an4:x=1", str(tmp_path))


def test_neighbours_of_librispeech(tmp_path: Path) -> None:
    librispeech(tmp_path / "LibriSpeech/dev-clean", {"19/198": ["A", "B"], "19/227": ["C"]})
    found = LibriSpeech(tmp_path).utterances("dev")
    assert [(r.session, r.segment) for r in found] == [("19-198", 0), ("19-198", 1), ("19-227", 0)]


def test_a_run_gets_the_text_of_its_task(tmp_path: Path) -> None:
    folder = tmp_path / "slue-voxpopuli"
    for split in ("fine-tune", "dev", "test"):
        row = {
            "id": f"{split}_1", "normalized_text": "europe's union", "speaker_id": "1",
            "normalized_ner": "[['GPE', 0, 6]]",
        }  # fmt: skip
        tsv(folder / f"slue-voxpopuli_{split}.tsv", [row])
        write(folder / split / f"{split}_1.ogg", SHORT)
    spec = DataSpec(corpus="slue_voxpopuli", root=str(tmp_path))
    asr, ner = prepare(spec, "asr"), prepare(spec, "ner")
    assert asr.splits["test"][0].text == "EUROPE'S UNION"
    assert ner.splits["test"][0].text == "EUROPE 'S UNION"
    assert asr.splits["test"][0].entities is None
    assert asr.sha256 != ner.sha256


def test_options_get_through_to_the_run(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"upstream": "fbank", "interface": "last", "task": "asr"}
    other = spec_module.resolve(**arguments, corpus="librispeech:test=test-other", suite="full")
    usual = spec_module.resolve(**arguments, corpus="librispeech", suite="full")
    assert other.data.corpus == "librispeech:test=test-other"
    assert usual.model_dump() == {
        **other.model_dump(),
        "data": {**other.data.model_dump(), "corpus": "librispeech"},
    }
    with pytest.raises(UsageError, match="unknown corpus 'libri'"):
        spec_module.resolve(**arguments, corpus="libri:test=test-other", suite="full")
