"""A corpus from its public sources into `--data`: verified, and in place only when it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from ssft_bench.downloads.archives import unpack
from ssft_bench.downloads.fetch import fetch
from ssft_bench.downloads.git_objects import object_name
from ssft_bench.downloads.sources import Download, Place, Source
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import write_json
from ssft_bench.names import unknown

WORK = ".ssft-bench"
"""Folder below --data with unfinished downloads and the records of finished ones."""
UNPACKED = 2.0
"""Room that unpacking needs, in sizes of the archive: speech hardly compresses, 8 kHz WAV by a half."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file of a corpus."""

    file: str
    url: str
    status: str
    """downloaded, or present when all of it was there before."""
    targets: tuple[str, ...]
    """Where it is, below --data."""
    sha256: str | None
    """Of the download; None when nothing was downloaded."""
    verified: str
    """By what; empty when no official digest is known."""

    @property
    def line(self) -> str:
        """For people."""
        where = ", ".join(self.targets)
        if self.status == "present":
            return f"{self.file}: {where} is there already and was not touched"
        if self.verified:
            return f"{self.file}: {where}; verified by {self.verified}"
        return (
            f"{self.file}: {where}; NOT VERIFIED: no official checksum is known. SHA-256 of what came: "
            f"{self.sha256}"
        )


def get(download: Download, root: Path, parts: Sequence[str] = ()) -> list[Outcome]:
    """Download, verify and unpack all that belongs to a corpus. Run again, it does only what is missing.

    `parts` replaces the parts that are downloaded by default. A target that exists is never touched.

    Raises UsageError for an unknown part, a folder that another process works on or a full disk;
    MissingError as `fetch` and `unpack` do, and for bytes that are not what they should be.
    """
    sources = chosen(download, parts)
    work = root / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=0):
            return [_one(source, root, work) for source in sources]
    except Timeout as error:
        raise UsageError(
            f"another process is downloading into {root}; wait for it to finish"
        ) from error
    except PermissionError as error:
        raise UsageError(f"cannot write to {root}: {error.strerror}; mend --data FOLDER") from error


def chosen(download: Download, parts: Sequence[str]) -> list[Source]:
    """The sources of the default parts or of those that were named. Raises UsageError for an unknown one."""
    known = [source.part for source in download.sources if source.part]
    for part in parts:
        if not known:
            raise UsageError(f"--part {part}: this corpus is downloaded whole")
        if part not in known:
            raise unknown("part", part, known)
    kept = parts or download.parts
    return [source for source in download.sources if source.part is None or source.part in kept]


def _one(source: Source, root: Path, work: Path) -> Outcome:
    targets = tuple(place.target for place in source.places if not place.optional)
    missing = [p for p in source.places if not (root / p.target).exists()]
    if all(place.optional for place in missing):
        return Outcome(source.file, source.url, "present", targets, None, "")
    archive = work / source.file
    packed = any(place.inside for place in source.places)
    sha256 = fetch(
        source.url,
        archive,
        sha256=source.sha256,
        unpacked=UNPACKED if packed else 0.0,
        expected=source.expected,
    )
    unpacked = work / "unpacking"
    shutil.rmtree(unpacked, ignore_errors=True)  # of a process that was killed: we hold the lock
    keep = True
    try:
        unpacked.mkdir()
        if packed:
            unpack(archive, unpacked, [place.inside for place in missing])
        else:
            shutil.copyfile(archive, unpacked / source.file)
        found = {place: unpacked / (place.inside or source.file) for place in missing}
        verified = _verify(source, found)
        _move(found, root)
        keep = False
    except MissingError:  # not what it should be; after a full disk or Ctrl-C it is still good
        keep = False
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
        if not keep:
            archive.unlink(missing_ok=True)
    done = Outcome(source.file, source.url, "downloaded", targets, sha256, verified)
    when = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(work / f"{source.file}.json", {**asdict(done), "time": when})
    return done


def _verify(source: Source, found: dict[Place, Path]) -> str:
    """By what the download is known; empty when by nothing. Raises MissingError when it is something else."""
    for place, path in found.items():
        if not path.exists() and not place.optional:
            raise MissingError(
                f"{source.url} has no {place.inside}: it is not the archive that was expected; nothing of it "
                "was kept"
            )
        if place.git is not None and (name := object_name(path)) != place.git:
            raise MissingError(
                f"{source.url}: {place.inside or source.file} is git object {name}, but {place.git} was "
                "expected; nothing of it was kept. Try again; if it stays so, its source has changed"
            )
    if source.sha256 is not None:
        return f"its SHA-256, published by {source.digest_from}"
    if all(place.git is not None for place in found):
        return "its git objects, as the repository names them"
    return ""


def _move(found: dict[Place, Path], root: Path) -> None:
    """Put parts in place, each by one rename."""
    for place, path in found.items():
        if path.exists():
            (root / place.target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, root / place.target)
