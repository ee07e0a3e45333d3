"""One file over HTTP: goes on where it stopped, and is whole or not there."""

from __future__ import annotations

import errno
import http.client
import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssft_bench import __version__
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import sha256_file, write_json
from ssft_bench.progress import Progress

ATTEMPTS = 5
"""Attempts in a row that bring nothing before it is given up."""
PAUSE = 2.0
"""Seconds before the second attempt; doubled for each further one."""
TIMEOUT = 60.0
_BLOCK = 1 << 20
_MB = 1_000_000
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


class Broken(Exception):
    """The connection ended before the file did; the bytes so far are kept."""


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    unpacked: float = 1.0,
    expected: int | None = None,
) -> str:
    """Download `url` to `target`; its SHA-256.

    Bytes arrive in `<target>.part`. A later call goes on from there where the server can (`Range`) and the
    file is still the same (`If-Range`, or the digest in the end), else it begins anew. `unpacked` is the
    room, in sizes of the file, that unpacking will need beside it. `expected` is about the size in bytes,
    for servers that do not tell.

    Raises MissingError for an address that does not answer, a connection that keeps breaking, or bytes
    without the given digest, which are thrown away; UsageError when the disk has not enough room.
    """
    if target.is_file():  # whole, but whoever asked for it did not get to the end
        found = sha256_file(target)
        if sha256 in (None, found):
            return found
        target.unlink()
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures, reason = 0, ""
    while failures < ATTEMPTS:
        before = _size(part)
        try:
            _attempt(url, part, unpacked, expected, checked=sha256 is not None)
            break
        except Broken as error:
            failures, reason = (0 if _size(part) > before else failures + 1), str(error)
            if failures < ATTEMPTS:
                wait = PAUSE * 2 ** max(0, failures - 1)
                print(f"{target.name}: {reason}; again in {wait:g} s", file=sys.stderr, flush=True)
                time.sleep(wait)
    else:
        kept = f"{_size(part) / _MB:.1f} MB are kept, the same command goes on from there"
        raise MissingError(f"{url}: {reason}; {kept if _size(part) else 'try again later'}")
    found = sha256_file(part)
    if sha256 is not None and found != sha256:
        forget(part)
        raise MissingError(
            f"{url}: its SHA-256 is {found}, but {sha256} is published; it was thrown away. Try again; if "
            "it stays so, the file has changed at its source"
        )
    part.replace(target)
    forget(part)
    return found


def need_room(folder: Path, needed: float, what: str) -> None:
    """Raises UsageError when the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"{what} needs {needed / 1e9:.2f} GB in {folder}, but {free / 1e9:.2f} GB are free; make room or "
            "choose another --data FOLDER"
        )


def forget(part: Path) -> None:
    """Remove a partial download and what is known of it."""
    part.unlink(missing_ok=True)
    _state(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, unpacked: float, expected: int | None, *, checked: bool) -> None:
    """Get what is missing of a file. Raises Broken when there may be more."""
    start = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": f"ssft-bench/{__version__}"})
    validator = _validator(part)
    if start and (validator or checked):
        request.add_header("Range", f"bytes={start}-")
    if start and validator:
        request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _receive(url, response, part, unpacked, expected)
    except urllib.error.HTTPError as error:
        with error:
            _refused(url, error, part)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(
                f"the disk of {part.parent} is full; make room, the same command goes on"
            ) from error
        why = getattr(error, "reason", None) or error
        raise Broken(f"no connection ({why})") from error


def _receive(url: str, response: Any, part: Path, unpacked: float, expected: int | None) -> None:
    start, total = _extent(response)
    if start not in (0, _size(part)):
        forget(part)
        raise Broken("the server sent another part than was asked for")
    if start == 0:
        forget(part)
        _keep_validator(part, response)
    size = expected if total is None else total
    if size is not None:
        name = part.name.removesuffix(".part")
        need_room(part.parent, size - start + unpacked * size, f"downloading and unpacking {name}")
    _copy(response, part, start, size or 0)
    if total is not None and _size(part) < total:
        raise Broken(f"the connection broke at {_size(part) / _MB:.1f} of {total / _MB:.1f} MB")


def _extent(response: Any) -> tuple[int, int | None]:
    """First byte that is sent, and the size of the whole file where the server tells."""
    if response.status == 206:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found and found[1]:
            return int(found[1]), None if found[2] == "*" else int(found[2])
        return -1, None
    length = response.headers.get("Content-Length")
    return 0, int(length) if length and length.isdecimal() else None


def _copy(response: Any, part: Path, start: int, total: int) -> None:
    """Append to the partial file, in megabytes on a progress bar."""
    label = f"downloading {part.name.removesuffix('.part')}"
    done, size = start // _MB, start
    with (
        Progress(label, total // _MB, done=done, unit="MB") as bar,
        part.open("ab" if start else "wb") as file,
    ):
        while block := response.read(_BLOCK):
            file.write(block)
            size += len(block)
            bar.advance(size // _MB - done)
            done = size // _MB


def _refused(url: str, error: urllib.error.HTTPError, part: Path) -> None:
    """An answer that is no file: what to do about it."""
    if error.code == 416:  # nothing beyond what is here: all of it, or the file has become shorter
        found = _RANGE.fullmatch(error.headers.get("Content-Range", ""))
        if found and found[2] == str(_size(part)):
            return
        forget(part)
        raise Broken("the file at the source is another one now")
    if error.code in (408, 429) or error.code >= 500:
        raise Broken(f"the server answers {error.code} {error.reason}")
    raise MissingError(
        f"{url}: the server answers {error.code} {error.reason}. The address may have changed: get the file "
        "by hand from the corpus' page (see `ssft-bench show CORPUS`) and unpack it below --data FOLDER"
    )


def _keep_validator(part: Path, response: Any) -> None:
    """Remember by what the server can tell that the file is still the same; a weak tag cannot."""
    tag = response.headers.get("ETag") or ""
    validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")
    if validator:
        write_json(_state(part), {"if_range": validator})


def _validator(part: Path) -> str | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(_state(part).read_text(encoding="utf-8"))["if_range"])
    return None


def _state(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
