"""The embedded corpus: a manifest made here, and the real one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssft_bench.audio_check import check_audio
from ssft_bench.corpora.manifest import Entity
from ssft_bench.corpora.mini.make.check import check as check_mini
from ssft_bench.corpora.mini_corpus import Mini, MiniPhrases
from ssft_bench.corpora.mini_phrases.make.check import check as check_phrases
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import sha256_file


def line(name: str, split: str, **labels: Any) -> dict[str, Any]:
    row = {"id": name, "kind": "utterance", "split": split, "audio": f"audio/{name}.ogg"}
    return row | {"samples": 1, "speaker": "s1", "engine": "e", "text": "PAT IS IN ROME"} | labels


ENTITIES = [
    {"tag": "PERSON", "text": "PAT", "start": 0, "length": 3},
    {"tag": "PLACE", "text": "ROME", "start": 10, "length": 4},
]
ROWS = [
    line("b", "train", phones=["P", "AE", "T"], entities=ENTITIES, sentiment="neutral"),
    line("a", "train", session="t1", segment=0, entities=[], phones=None),
    line("q", "test", kind="query", text="ROME"),
    line("c", "test"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    return tmp_path


def test_rows(folder: Path) -> None:
    first, second = Mini(folder=folder).utterances("train")
    assert (first.id, first.audio, first.split) == ("b", folder / "audio/b.ogg", "train")
    assert first.entities == (Entity("PERSON", 0, 3), Entity("PLACE", 10, 4))
    assert (first.phones, first.sentiment) == (("P", "AE", "T"), "neutral")
    assert (second.entities, second.phones, second.session, second.segment) == ((), None, "t1", 0)


def test_queries_are_kept_apart(folder: Path) -> None:
    corpus = Mini(folder=folder)
    assert [row.id for row in corpus.utterances("test")] == ["c"]
    assert [(row.id, row.kind) for row in corpus.queries("test")] == [("q", "query")]
    assert corpus.queries("dev") == []


@pytest.mark.parametrize("broken", ["{", '{"id": "x"}', "[1]", '"text"'])
def test_a_broken_line_is_named(folder: Path, broken: str) -> None:
    with (folder / "manifest.jsonl").open("a") as file:
        file.write(broken)
    with pytest.raises(MissingError, match=r"manifest\.jsonl:5 is broken"):
        Mini(folder=folder).utterances("train")


def test_no_manifest_and_no_such_split(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MissingError, match="install ssft-bench anew"):
        Mini(folder=tmp_path / "nothing").utterances("train")
    with pytest.raises(UsageError, match="no split 'x'"):
        Mini(folder=folder).utterances("x")


@pytest.mark.parametrize("kind", [Mini, MiniPhrases])
def test_it_says_that_it_is_synthetic(kind: type[Mini]) -> None:
    assert kind.synthetic
    assert not kind.needs_root
    assert "synthetic" in str(kind.__doc__).partition("\n")[0]


@pytest.mark.parametrize(("kind", "check"), [(Mini, check_mini), (MiniPhrases, check_phrases)])
def test_what_is_asked_of_an_embedded_corpus(kind: type[Mini], check: Any, tmp_path: Path) -> None:
    folder = kind().folder
    assert check(folder) == []
    # Control: a label that moved, a changed file and a speaker of two splits are found.
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("make"))
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    rows = [json.loads(text) for text in lines]
    place = next(n for n, row in enumerate(rows) if row["entities"])
    rows[place]["entities"][0]["start"] += 1
    rows[0]["speaker"] = next(row["speaker"] for row in rows if row["split"] == "test")
    (tmp_path / "copy" / rows[1]["audio"]).write_bytes((folder / rows[2]["audio"]).read_bytes())
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "copy/manifest.jsonl").write_text(text)
    found = "\n".join(check(tmp_path / "copy"))
    for wanted in ("bad entity", "['test', 'train']", f"{rows[1]['id']}: other sha256"):
        assert wanted in found


@pytest.mark.parametrize("kind", [Mini, MiniPhrases])
def test_the_embedded_corpora(
    kind: type[Mini], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = kind()
    manifest = corpus.folder / "manifest.jsonl"
    if not manifest.is_file():
        pytest.skip("the embedded corpus has not been made yet")
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path))
    splits = {split: corpus.utterances(split) for split in ("train", "dev", "test")}
    queries = [row for split in splits for row in corpus.queries(split)]
    rows = [row for part in splits.values() for row in part]
    stored = [json.loads(text) for text in manifest.read_text().splitlines()]
    assert len(stored) == len(rows) + len(queries) == len({row["id"] for row in stored})
    assert check_audio([*rows, *queries]).rates.keys() == {16000}
    assert not {r.speaker for r in splits["test"]} & {r.speaker for r in splits["train"]}
    for row in rows:
        assert row.text == " ".join((row.text or "").upper().split())
        assert row.phones
        for entity in row.entities or ():
            assert 0 <= entity.start < entity.start + entity.length <= len(row.text)
    for wanted in stored:
        assert sha256_file(corpus.folder / wanted["audio"]) == wanted["sha256"]
        for entity in wanted.get("entities") or ():
            start, end = entity["start"], entity["start"] + entity["length"]
            assert wanted["text"][start:end] == entity["text"]
