"""`ssft-bench data get` and `data check` as a user types them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from ssft_bench import data_check
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.librispeech import LibriSpeech
from ssft_bench.corpora.quesst14 import Quesst14
from ssft_bench.corpora.slue_voxpopuli import SlueVoxPopuli
from ssft_bench.data_commands import data_app
from ssft_bench.downloads import sources
from ssft_bench.downloads.sources import Download, Place, Source
from ssft_bench.errors import BenchError, MissingError, UsageError
from tests.corpora.layouts import SHORT, librispeech, tsv
from tests.downloads.server import Site, serving
from tests.speech import noise, real_data, write

Call = Callable[..., tuple[int, str]]


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    """Run a `data` command: (exit code, standard output). Errors come as they are."""
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SSFT_BENCH_DATA", raising=False)

    def run(*arguments: object) -> tuple[int, str]:
        command = typer.main.get_command(data_app)
        code = command.main(list(map(str, arguments)), standalone_mode=False)
        return int(code or 0), capsys.readouterr().out

    return run


def libri(root: Path) -> Path:
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        librispeech(root / "LibriSpeech" / part, {"19/198": ["A", "B"], "103/1240": ["C"]})
    return root


def sizes(monkeypatch: pytest.MonkeyPatch, *figures: Figure) -> None:
    monkeypatch.setattr(LibriSpeech, "figures", lambda _: list(figures))


def test_a_whole_corpus(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libri(tmp_path)
    sizes(
        monkeypatch,
        Figure("utterances", ("train", "dev"), 6, "us"),
        Figure("speakers", ("train", "dev"), 2, "us", "derived"),
        Figure("hours", ("test",), 0.0, "us"),
        Figure("utterances", ("dev",), 999, "hearsay", "unverified"),
    )
    code, out = call("check", "librispeech", "--data", tmp_path)
    assert code == 0
    assert f"corpus librispeech in {tmp_path}: whole" in out
    assert "dev: 3 utterances, 2 speakers, 0.00 h" in out
    assert "agrees: utterances of train + dev: counted 6, published 6 (us)" in out
    assert "agrees: speakers of train + dev: counted 2, expected 2 (us)" in out
    assert "not compared: utterances of dev: counted 3, recalled, unverified: 999 (hearsay)" in out
    code, out = call("check", "librispeech", "--data", tmp_path, "--json")
    report = json.loads(out)
    assert report["status"] == "whole"
    assert report["splits"]["dev"]["hours"] == pytest.approx(3 * 0.1 / 3600, abs=1e-4)
    assert [row["agrees"] for row in report["figures"]] == [True, True, True, None]


def test_another_size(call: Call, tmp_path: Path) -> None:
    code, out = call("check", "librispeech", "--data", libri(tmp_path))
    assert code == 1
    assert "DIFFERS: utterances of dev: counted 3, published 2703" in out


def test_all_that_is_broken_is_named(call: Call, tmp_path: Path) -> None:
    dev = libri(tmp_path) / "LibriSpeech/dev-clean"
    for name in ("19-198-0000", "19-198-0001"):
        (dev / f"19/198/{name}.flac").write_bytes(b"")
    (tmp_path / "LibriSpeech/test-clean/19/198/19-198-0000.flac").unlink()
    code, out = call("check", "librispeech", "--data", tmp_path)
    assert code == 3
    broken = [line for line in out.splitlines() if "missing or broken" in line]
    assert len(broken) == 3
    assert sum("zero bytes" in line for line in broken) == 2
    assert "19-198-0000 has a transcript but no audio" in out
    assert "train: 3 utterances" in out
    assert "dev: 3 utterances, 2 speakers, hours unknown" in out
    assert "test: cannot be read" in out


def test_hours_are_compared_to_one_decimal() -> None:
    figure = Figure("hours", ("dev",), 5.0, "us")
    for hours, agrees in ((5.04, True), (4.96, True), (5.2, False), (None, None)):
        counted = data_check.Counted(utterances=[], hours=hours)
        assert data_check._compared(figure, {"dev": counted})["agrees"] is agrees


def test_queries_and_documents_are_counted(tmp_path: Path, call: Call) -> None:
    from tests.corpora.test_quesst14 import archive

    code, out = call("check", "quesst14", "--data", archive(tmp_path, 1), "--json")
    report = json.loads(out)
    assert code == 0
    assert report["splits"]["train"]["utterances"] == 0
    assert report["splits"]["test"]["queries"] == len(Quesst14(tmp_path).queries("test"))
    assert report["splits"]["test"]["documents"] == 4
    assert report["splits"]["test"]["hours"] > 0
    assert all(row["agrees"] is None for row in report["figures"])  # recalled sizes
    assert "have no match" in report["splits"]["dev"]["remarks"][0]


def test_entities_are_counted_as_ner_wants_them(tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "slue-voxpopuli"
    for split in ("fine-tune", "dev", "test"):
        row = {"id": "a_1", "normalized_text": "europe", "normalized_ner": "[['GPE', 0, 6]]"}
        name = f"slue-voxpopuli_{split}{'_blind' if split == 'test' else ''}.tsv"
        tsv(folder / name, [{k: v for k, v in row.items() if split != "test" or k[-3:] != "ner"}])
        write(folder / split / "a_1.ogg", SHORT)
    code, out = call("check", "slue_voxpopuli", "--data", tmp_path, "--json")
    report = json.loads(out)
    assert code == 3  # test has no labels
    assert report["splits"]["dev"]["entities"] == 1
    assert report["splits"]["test"]["utterances"] == 1
    assert "entities" not in report["splits"]["test"]
    assert [p for p in report["problems"] if "blind version" in p] == report["problems"]
    assert len(SlueVoxPopuli(tmp_path).figures()) == 8


def test_mini_and_mistakes(call: Call, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="--data FOLDER or SSFT_BENCH_DATA"):
        call("check", "an4")
    with pytest.raises(UsageError, match="unknown corpus 'an5'"):
        call("check", "an5")
    with pytest.raises(UsageError, match="say where to put it with --data"):
        call("get", "an4")
    for name, message in (
        ("mini", "comes with the package"),
        ("mini_phrases", "comes with the package"),
        ("an5", "unknown corpus to download"),
    ):
        with pytest.raises(UsageError, match=message):
            call("get", name, "--data", tmp_path)


@pytest.mark.slow
def test_the_embedded_corpus_is_whole(call: Call) -> None:
    code, out = call("check", "mini")
    assert (code, "corpus mini in the package: whole" in out) == (0, True)


def test_real_recordings(call: Call) -> None:
    root = real_data("an4").parent
    for name in ("keywords", "speech_to_intent"):
        code, out = call("check", name, "--data", root)
        assert code == 0, out
        assert "agrees" in out


def packed(root: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(root / "LibriSpeech", "LibriSpeech")
    return buffer.getvalue()


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """LibriSpeech's parts on a server of our own."""
    with serving(Site()) as site:
        made = []
        for part in ("train-clean-100", "dev-clean", "test-clean"):
            folder = tmp_path / "made" / part
            librispeech(folder / "LibriSpeech" / part, {"19/198": ["A"]}, noise_of(part))
            data = packed(folder)
            site.files[f"{part}.tar.gz"] = data
            place = Place(f"LibriSpeech/{part}", f"LibriSpeech/{part}")
            url, sha256 = f"{site.url}/{part}.tar.gz", hashlib.sha256(data).hexdigest()
            made.append(Source(url, f"{part}.tar.gz", (place,), sha256, "its publisher", part=part))
        found = Download(tuple(made), ("train-clean-100", "dev-clean", "test-clean"), ("a note",))
        monkeypatch.setitem(sources.DOWNLOADS, "librispeech", found)
        yield site


def noise_of(part: str) -> Any:
    import numpy as np

    return noise(np.random.default_rng(len(part)), 0.1)


def test_get_then_check(
    call: Call, download: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    code, out = call("get", "librispeech", "--data", data, "--part", "dev-clean")
    assert code == 0
    assert "dev-clean.tar.gz: LibriSpeech/dev-clean; verified by its SHA-256" in out
    assert "note: a note" in out
    assert f"next: ssft-bench data check librispeech --data {data}" in out
    monkeypatch.setenv("SSFT_BENCH_DATA", str(data))
    code, out = call("get", "librispeech", "--json")
    files = json.loads(out)["files"]
    assert [row["status"] for row in files] == ["downloaded", "present", "downloaded"]
    sizes(monkeypatch, *(Figure("utterances", (s,), 1, "us") for s in data_check.SPLITS))
    assert call("check", "librispeech")[0] == 0


def test_get_refuses_what_is_not_the_corpus(call: Call, download: Site, tmp_path: Path) -> None:
    entry = sources.DOWNLOADS["librispeech"]
    wrong = replace(entry.sources[1], sha256="0" * 64)
    sources.DOWNLOADS["librispeech"] = replace(entry, sources=(wrong,))
    with pytest.raises(BenchError, match="thrown away") as caught:
        call("get", "librispeech", "--data", tmp_path / "data")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "data/LibriSpeech").exists()
