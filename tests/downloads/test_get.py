"""Corpora from a web server into a folder: in place when whole, refused otherwise."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from ssft_bench.corpora import CORPORA
from ssft_bench.downloads import get as module
from ssft_bench.downloads.get import WORK, chosen, get
from ssft_bench.downloads.git_objects import object_name
from ssft_bench.downloads.sources import DOWNLOADS, NOT_HERE, Download, Place, Source, download_of
from ssft_bench.errors import MissingError, UsageError
from tests.downloads.server import Site

FILES = {"top/wav/a.wav": b"a", "top/wav/b.wav": b"b", "top/LICENSE": b"free", "other/c": b"c"}


def packed(kind: str = "tar", files: dict[str, bytes] = FILES) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def source(site: Site, data: bytes, name: str = "a.tgz", **options: object) -> Source:
    site.files[name] = data
    places = (Place("top/wav", "corpus/wav"), Place("top/LICENSE", "corpus/LICENSE", optional=True))
    sha256 = hashlib.sha256(data).hexdigest()
    made = Source(f"{site.url}/{name}", name, places, sha256, "its publisher")
    return replace(made, **options)  # type: ignore[arg-type]


def tree(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "lock")
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


PLACED = {"corpus/wav/a.wav": b"a", "corpus/wav/b.wav": b"b", "corpus/LICENSE": b"free"}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_it_is_put_in_place(site: Site, tmp_path: Path, kind: str) -> None:
    download = Download((source(site, packed(kind)),))
    (outcome,) = get(download, tmp_path / "data")
    found = tree(tmp_path / "data")
    record = json.loads(found.pop(f"{WORK}/a.tgz.json"))
    assert found == PLACED
    assert outcome.status == "downloaded"
    assert "verified by its SHA-256, published by its publisher" in outcome.line
    assert record["sha256"] == outcome.sha256 == download.sources[0].sha256
    (again,) = get(download, tmp_path / "data")
    assert again.status == "present"
    assert "there already and was not touched" in again.line
    assert len(site.asked) == 1


def test_without_a_checksum_it_says_so(site: Site, tmp_path: Path) -> None:
    data = packed()
    (outcome,) = get(Download((source(site, data, sha256=None),)), tmp_path)
    assert outcome.verified == ""
    assert "NOT VERIFIED: no official checksum is known" in outcome.line
    assert hashlib.sha256(data).hexdigest() in outcome.line


def git_places(tmp_path: Path) -> tuple[Place, ...]:
    """The places with the git objects that they should be."""
    folder = tmp_path / "reference"
    for name in ("a.wav", "b.wav"):
        (folder / "wav").mkdir(parents=True, exist_ok=True)
        (folder / "wav" / name).write_bytes(FILES[f"top/wav/{name}"])
    (folder / "LICENSE").write_bytes(b"free")
    return (
        Place("top/wav", "corpus/wav", object_name(folder / "wav")),
        Place("top/LICENSE", "corpus/LICENSE", object_name(folder / "LICENSE")),
    )


def test_git_objects_verify_an_archive_without_digest(site: Site, tmp_path: Path) -> None:
    places = git_places(tmp_path)
    good = source(site, packed(), sha256=None, places=places)
    (outcome,) = get(Download((good,)), tmp_path / "data")
    assert "verified by its git objects" in outcome.line
    wrong = source(site, packed(files={**FILES, "top/wav/a.wav": b"x"}), sha256=None, places=places)
    with pytest.raises(
        MissingError, match=r"top/wav is git object \w{40}, but \w{40} was expected"
    ):
        get(Download((wrong,)), tmp_path / "other")
    assert tree(tmp_path / "other") == {}


def test_a_single_file(site: Site, tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"A AH\n")
    place = Place("", "lexicon/words.txt", object_name(tmp_path / "words"))
    made = source(site, b"A AH\n", "words.txt", sha256=None, places=(place,))
    (outcome,) = get(Download((made,)), tmp_path / "data")
    assert (tmp_path / "data/lexicon/words.txt").read_bytes() == b"A AH\n"
    assert "git objects" in outcome.verified
    changed = source(site, b"A EY\n", "words.txt", sha256=None, places=(place,))
    with pytest.raises(MissingError, match=r"words\.txt is git object"):
        get(Download((changed,)), tmp_path / "other")
    assert tree(tmp_path / "other") == {}


def test_a_wrong_checksum_is_kept_out(site: Site, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="thrown away"):
        get(Download((source(site, packed(), sha256="0" * 64),)), tmp_path)
    assert tree(tmp_path) == {}


def test_an_archive_of_something_else(site: Site, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="has no top/wav: it is not the archive"):
        get(Download((source(site, packed(files={"else/a": b"a"})),)), tmp_path)
    assert tree(tmp_path) == {}
    with pytest.raises(MissingError, match="refused"):
        get(Download((source(site, packed(files={**FILES, "../evil": b""})),)), tmp_path)
    assert tree(tmp_path) == {}
    assert not (tmp_path.parent / "evil").exists()


def test_what_is_there_is_not_touched(site: Site, tmp_path: Path) -> None:
    (tmp_path / "corpus/wav").mkdir(parents=True)
    (tmp_path / "corpus/wav/mine.wav").write_bytes(b"mine")
    (outcome,) = get(Download((source(site, packed()),)), tmp_path)
    assert outcome.status == "present"
    assert tree(tmp_path) == {"corpus/wav/mine.wav": b"mine"}
    assert site.asked == []


def test_after_a_full_disk_nothing_is_downloaded_twice(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise UsageError("full")

    download = Download((source(site, packed()),))
    with monkeypatch.context() as patch:
        patch.setattr(module, "unpack", full)
        with pytest.raises(UsageError, match="full"):
            get(download, tmp_path)
    get(download, tmp_path)
    assert PLACED.items() <= tree(tmp_path).items()
    assert len(site.asked) == 1


def test_two_at_once(site: Site, tmp_path: Path) -> None:
    (tmp_path / WORK).mkdir()
    with (
        FileLock(tmp_path / WORK / "lock"),
        pytest.raises(UsageError, match="another process is downloading"),
    ):
        get(Download((source(site, packed()),)), tmp_path)


def test_parts(site: Site) -> None:
    one, two = (source(site, b"", name, part=name) for name in ("one", "two"))
    always = source(site, b"", "always")
    download = Download((one, two, always), ("one",))
    assert chosen(download, ()) == [one, always]
    assert chosen(download, ["two"]) == [two, always]
    with pytest.raises(UsageError, match="unknown part 'three'"):
        chosen(download, ["three"])
    with pytest.raises(UsageError, match="this corpus is downloaded whole"):
        chosen(Download((always,)), ["one"])


def test_every_corpus_has_a_source_or_a_reason() -> None:
    assert set(DOWNLOADS) | set(NOT_HERE) == set(CORPORA)
    with pytest.raises(UsageError, match="comes with the package"):
        download_of("mini")
    with pytest.raises(UsageError, match=r"'quest14'\. Did you mean quesst14"):
        download_of("quest14")
    for download in DOWNLOADS.values():
        known = {s.part for s in download.sources}
        assert set(download.parts) <= known
        for s in download.sources:
            assert s.url.startswith("https://")
            assert s.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", s.sha256)
            for place in s.places:
                assert place.git is None or re.fullmatch(r"[0-9a-f]{40}", place.git)
                assert not Path(place.target).is_absolute()
                assert ".." not in Path(place.target).parts


def test_digests_are_those_of_torchaudio() -> None:
    from torchaudio.datasets import librilight_limited, librispeech, quesst14

    ours = {s.file: s.sha256 for d in DOWNLOADS.values() for s in d.sources}
    for url, sha256 in librispeech._CHECKSUMS.items():
        assert ours[url.rpartition("/")[2]] == sha256
    assert ours["librispeech_finetuning.tgz"] == librilight_limited._CHECKSUM
    assert ours["quesst14Database.tgz"] == quesst14._CHECKSUM
    assert ours["slue-voxceleb_v0.2_blind.zip"] is None
