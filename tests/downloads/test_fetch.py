"""One file over HTTP: whole, resumed, refused."""

from __future__ import annotations

import errno
import hashlib
import json
import secrets
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from ssft_bench.downloads import fetch as module
from ssft_bench.downloads.fetch import ATTEMPTS, fetch
from ssft_bench.errors import MissingError, UsageError
from tests.downloads.server import Site

DATA = secrets.token_bytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def target(site: Site, tmp_path: Path) -> Path:
    site.files["a.tgz"] = DATA
    return tmp_path / "work" / "a.tgz"


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_whole_file(site: Site, target: Path, tells_length: bool) -> None:
    site.tells_length = tells_length
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert target.read_bytes() == DATA
    assert leftovers(target) == ["a.tgz"]
    assert site.asked == [None]
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert site.asked == [None]  # it was there


def test_a_cut_connection_goes_on_where_it_stopped(site: Site, target: Path) -> None:
    site.cuts = [1_000_000, 500_000]
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert site.asked == [None, "bytes=1000000-", "bytes=1500000-"]
    assert leftovers(target) == ["a.tgz"]


def test_a_later_call_goes_on(site: Site, target: Path) -> None:
    site.cuts = [1_200_000] + [0] * ATTEMPTS
    with pytest.raises(MissingError, match=r"broke at 1\.2 of 3\.0 MB; 1\.2 MB are kept, the same"):
        fetch(f"{site.url}/a.tgz", target, sha256=SHA256)
    assert leftovers(target) == ["a.tgz.part", "a.tgz.part.json"]
    assert (target.parent / "a.tgz.part").read_bytes() == DATA[:1_200_000]
    site.asked.clear()
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert site.asked == ["bytes=1200000-"]


def part_way(site: Site, target: Path, sha256: str | None = None) -> None:
    site.cuts = [1_200_000] + [0] * ATTEMPTS
    with pytest.raises(MissingError):
        fetch(f"{site.url}/a.tgz", target, sha256=sha256)
    site.cuts.clear()
    site.asked.clear()


def test_a_server_without_ranges_sends_all_again(site: Site, target: Path) -> None:
    part_way(site, target)
    site.ranges = False
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert target.read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_not_patched(site: Site, target: Path) -> None:
    part_way(site, target)
    other = secrets.token_bytes(2_000_000)
    site.files["a.tgz"], site.tag = other, '"two"'
    assert fetch(f"{site.url}/a.tgz", target) == hashlib.sha256(other).hexdigest()
    assert target.read_bytes() == other


def test_without_a_tag_only_a_digest_allows_to_go_on(site: Site, target: Path) -> None:
    site.tag = None
    part_way(site, target)
    assert fetch(f"{site.url}/a.tgz", target) == SHA256
    assert site.asked == [None]
    target.unlink()
    part_way(site, target, SHA256)
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert site.asked == ["bytes=1200000-"]


def test_all_bytes_are_there_but_it_was_killed(site: Site, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "a.tgz.part").write_bytes(DATA)
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert site.asked == ["bytes=3000000-"]


def test_more_bytes_than_the_file_has_now(site: Site, target: Path) -> None:
    target.parent.mkdir()
    (target.parent / "a.tgz.part").write_bytes(DATA + b"more")
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert site.asked == ["bytes=3000004-", None]


def test_a_wrong_checksum_is_thrown_away(site: Site, target: Path) -> None:
    wanted = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(MissingError, match=rf"SHA-256 is {SHA256}, but {wanted} is published"):
        fetch(f"{site.url}/a.tgz", target, sha256=wanted)
    assert leftovers(target) == []
    target.write_bytes(b"left by somebody")
    assert fetch(f"{site.url}/a.tgz", target, sha256=SHA256) == SHA256
    assert target.read_bytes() == DATA


def test_no_such_file(site: Site, target: Path) -> None:
    with pytest.raises(MissingError, match=r"b\.tgz: the server answers 404.*by hand.*--data") as e:
        fetch(f"{site.url}/b.tgz", target.with_name("b.tgz"))
    assert e.value.exit_code == 3
    assert len(site.asked) == 1  # asking again would not help


def test_a_busy_server_is_asked_again(site: Site, target: Path) -> None:
    site.statuses = [503, 429, 500]
    assert fetch(f"{site.url}/a.tgz", target) == SHA256
    site.statuses = [503] * ATTEMPTS
    target.unlink()
    with pytest.raises(MissingError, match="the server answers 503"):
        fetch(f"{site.url}/a.tgz", target)


def test_nobody_answers(tmp_path: Path, site: Site) -> None:
    host, _, port = site.url.rpartition(":")
    closed = "1" if port != "1" else "2"
    with pytest.raises(MissingError, match=r"no connection .*try again later"):
        fetch(f"{host}:{closed}/a.tgz", tmp_path / "a.tgz")


def test_a_disk_without_room_is_told_before(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 8_000_000))
    assert fetch(f"{site.url}/a.tgz", target, unpacked=1.0) == SHA256  # 6 MB
    target.unlink()
    with pytest.raises(UsageError, match=r"a\.tgz needs 0\.01 GB .* 0\.01 GB are free; make room"):
        fetch(f"{site.url}/a.tgz", target, unpacked=2.0)  # 9 MB
    assert not target.exists()
    site.tells_length = False
    with pytest.raises(UsageError, match="make room"):
        fetch(f"{site.url}/a.tgz", target, unpacked=2.0, expected=3_000_000)


def test_a_disk_that_fills_up(site: Site, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(UsageError, match="is full; make room, the same command goes on"):
        fetch(f"{site.url}/a.tgz", target)
    assert len(site.asked) == 1


def test_a_damaged_record_of_a_part_is_no_obstacle(site: Site, target: Path) -> None:
    part_way(site, target)
    state = target.parent / "a.tgz.part.json"
    assert json.loads(state.read_text()) == {"if_range": '"one"'}
    state.write_text("{")
    assert fetch(f"{site.url}/a.tgz", target) == SHA256
