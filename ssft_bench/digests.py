"""SHA-256 of many files, remembered by path, size and time of change."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ssft_bench.files import atomic_path, sha256_file


def cache_folder() -> Path:
    """SSFT_BENCH_CACHE, else the user's cache folder as the platform has it."""
    named = os.environ.get("SSFT_BENCH_CACHE")
    if named:
        return Path(named)
    usual = {"darwin": Path.home() / "Library/Caches", "win32": os.environ.get("LOCALAPPDATA")}
    place = os.environ.get("XDG_CACHE_HOME") or usual.get(sys.platform) or Path.home() / ".cache"
    return Path(place) / "ssft-bench"


def file_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """Digest of each file; unchanged files (same size and time) are not read again."""
    stamp = cache_folder() / "digests.json"
    known: dict[str, list[object]] = {}
    with suppress(OSError, ValueError):
        known = json.loads(stamp.read_text())
    found: dict[Path, str] = {}
    fresh = False
    for path in dict.fromkeys(paths):
        status = path.stat()
        key, state = str(path.resolve()), [status.st_size, status.st_mtime_ns]
        old = known.get(key)
        if not old or old[:2] != state:
            known[key] = old = [*state, sha256_file(path)]
            fresh = True
        found[path] = str(old[2])
    if fresh:
        with suppress(OSError), atomic_path(stamp) as temporary:
            temporary.write_text(json.dumps(known))
    return found
