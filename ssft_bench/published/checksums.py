"""Digests of published rows, so that a value that was changed by hand is named."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

from ssft_bench.files import atomic_path
from ssft_bench.published.rows import COLUMNS, PublishedRow

NAME = "checksums.csv"


def digest(row: PublishedRow) -> str:
    """SHA-256 of a row's fields as they are written, 16 digits of it."""
    fields = [row.text if name == "value" else str(getattr(row, name)) for name in COLUMNS]
    return hashlib.sha256("\x1f".join(fields).encode()).hexdigest()[:16]


def seal(folder: Path, rows: Iterable[PublishedRow]) -> Path:
    """Write the digests of rows that were checked against their sources; return the file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "line", "sha256"))
    writer.writerows((row.file, row.line, digest(row)) for row in rows)
    with atomic_path(folder / NAME) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return folder / NAME


def broken(folder: Path, rows: Iterable[PublishedRow]) -> list[str]:
    """One line for each row that is not what was sealed: changed, added, gone; empty when all hold."""
    path = folder / NAME
    if not path.is_file():
        return [f"{path} is missing: nothing says whether published values were changed"]
    with path.open(encoding="utf-8", newline="") as file:
        sealed = {(r["file"], int(r["line"])): r["sha256"] for r in csv.DictReader(file)}
    found = {(row.file, row.line): row for row in rows}
    told = []
    for place, row in found.items():
        wanted = sealed.get(place)
        if wanted is None:
            told.append(f"{row.place}: {row.label} was added and is not sealed")
        elif wanted != digest(row):
            told.append(f"{row.place}: {row.label} = {row.text} is not what was sealed")
    told += [f"{file}:{line}: gone" for file, line in sealed if (file, line) not in found]
    return told
