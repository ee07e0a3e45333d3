"""Unpacking tar and zip files that come from elsewhere: nothing is written outside the folder given."""

from __future__ import annotations

import errno
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.progress import Progress

_MB = 1_000_000
_DAMAGED = (tarfile.ReadError, zipfile.BadZipFile, EOFError, zlib.error, tarfile.HeaderError)


def unpack(archive: Path, folder: Path, wanted: Sequence[str]) -> None:
    """Unpack what lies at or below the paths `wanted` into `folder`.

    Raises MissingError for a damaged archive, and for one with a member that would be written outside the
    folder (`..`, an absolute path, a link that leads out). UsageError when the disk is full.
    """
    chosen = [PurePosixPath(path).parts for path in wanted]
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, folder, chosen)
        else:
            _unpack_tar(archive, folder, chosen)
    except tarfile.FilterError as error:
        raise MissingError(f"{archive} was refused: {error}; it may not be what it says") from error
    except _DAMAGED as error:
        why = str(error).partition("\n")[0].rstrip(":")
        raise MissingError(f"{archive} is damaged ({why}); download it again") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(f"the disk of {folder} is full; make room, then try again") from error
        raise


def _unpack_tar(archive: Path, folder: Path, chosen: Sequence[tuple[str, ...]]) -> None:
    if not hasattr(tarfile, "data_filter"):  # Python before 3.11.4
        raise UsageError("unpacking safely needs Python 3.11.4 or later")
    with (
        archive.open("rb") as raw,
        Progress(f"unpacking {archive.name}", archive.stat().st_size // _MB, unit="MB") as bar,
        tarfile.open(fileobj=raw) as tar,
    ):
        done = 0
        for member in tar:
            tarfile.data_filter(member, str(folder))  # also those that are not wanted
            if _is_wanted(member.name, chosen):
                tar.extract(member, folder, filter="data")
            bar.advance(raw.tell() // _MB - done)
            done = raw.tell() // _MB


def _unpack_zip(archive: Path, folder: Path, chosen: Sequence[tuple[str, ...]]) -> None:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            path = PurePosixPath(member.filename.replace("\\", "/"))
            link = stat.S_ISLNK(member.external_attr >> 16)
            if path.is_absolute() or ".." in path.parts or link:
                raise MissingError(
                    f"{archive} was refused: its member {member.filename!r} leads outside; it may not be "
                    "what it says"
                )
        with Progress(f"unpacking {archive.name}", len(members), unit="file") as bar:
            for member in members:
                if _is_wanted(member.filename, chosen):
                    file.extract(member, folder)
                bar.advance()


def _is_wanted(name: str, chosen: Iterable[tuple[str, ...]]) -> bool:
    parts = PurePosixPath(name).parts
    return any(parts[: len(path)] == path for path in chosen)
