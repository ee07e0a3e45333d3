"""Archives that come from elsewhere: what is wanted comes out, and nothing outside the folder."""

from __future__ import annotations

import errno
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from ssft_bench.downloads.archives import unpack
from ssft_bench.errors import MissingError, UsageError


def tar(path: Path, members: list[tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for member in members:
            member.size = len(b"data") if member.isreg() else 0
            file.addfile(member, io.BytesIO(b"data"))
    return path


def regular(name: str, mode: int = 0o644) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = mode
    return member


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def tree(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("prefix", ["", "./"])
def test_only_what_is_wanted(tmp_path: Path, prefix: str) -> None:
    names = ["top/a/1", "top/a/b/2", "top/ab/3", "top/LICENSE", "other/4"]
    packed = tar(tmp_path / "a.tgz", [regular(prefix + name) for name in names])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in names:
            file.writestr(name, "data")
    for archive in (packed, tmp_path / "a.zip"):
        folder = tmp_path / archive.suffix
        unpack(archive, folder, ["top/a", "top/LICENSE"])
        assert tree(folder) == {"top/a/1", "top/a/b/2", "top/LICENSE"}
        assert (folder / "top/a/1").read_text() == "data"


@pytest.mark.parametrize(
    "evil",
    [
        regular("../outside"),
        regular("top/../../outside"),
        link("top/a", "/etc"),
        link("top/a", "../../outside"),
        link("top/a", "../../outside", tarfile.LNKTYPE),
        link("top/a", "", tarfile.FIFOTYPE),
    ],
)
def test_a_tar_that_leads_outside_is_refused(tmp_path: Path, evil: tarfile.TarInfo) -> None:
    archive = tar(tmp_path / "a.tgz", [regular("top/fine"), evil])
    (tmp_path / "in").mkdir()
    with pytest.raises(MissingError, match=r"a\.tgz was refused"):
        unpack(archive, tmp_path / "in", ["top"])
    assert {p.name for p in tmp_path.iterdir()} == {"a.tgz", "in"}


def test_a_link_is_no_way_out(tmp_path: Path) -> None:
    """A link inside the folder, then a file behind it: it stays inside."""
    members = [link("top/link", "."), regular("top/link/file")]
    unpack(tar(tmp_path / "a.tgz", members), tmp_path / "in", ["top"])
    assert (tmp_path / "in/top/file").read_text() == "data"


@pytest.mark.parametrize("name", ["../outside", "/outside", "top/../../outside", "..\\outside"])
def test_a_zip_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("top/fine", "data")
        file.writestr(name, "data")
    with pytest.raises(MissingError, match=r"a\.zip was refused: its member .*outside"):
        unpack(tmp_path / "a.zip", tmp_path / "in", ["top"])
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip"}


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("top/link")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(member, "/etc")
    with pytest.raises(MissingError, match="refused"):
        unpack(tmp_path / "a.zip", tmp_path / "in", ["top"])


def test_executables_stay_executable(tmp_path: Path) -> None:
    members = [regular("a", 0o755), regular("b", 0o666)]
    unpack(tar(tmp_path / "a.tgz", members), tmp_path / "in", ["a", "b"])
    assert (tmp_path / "in/a").stat().st_mode & 0o100
    assert not (tmp_path / "in/b").stat().st_mode & 0o111


@pytest.mark.parametrize("kind", ["text", "cut tar", "cut zip"])
def test_a_damaged_archive(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "a"
    archive.write_text("no archive")
    if kind == "cut tar":
        tar(archive, [regular(f"top/{i}") for i in range(50)])
        archive.write_bytes(archive.read_bytes()[:150])
    if kind == "cut zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("top/a", "data")
        archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(MissingError, match=r"is damaged .*download it again"):
        unpack(archive, tmp_path / "in", ["top"])


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = tar(tmp_path / "a.tgz", [regular("top/a")])
    monkeypatch.setattr(tarfile.TarFile, "extract", full)
    with pytest.raises(UsageError, match="is full; make room"):
        unpack(archive, tmp_path / "in", ["top"])
