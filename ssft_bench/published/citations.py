"""How the sources of published numbers are cited."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from ssft_bench.errors import CheckFailed
from ssft_bench.published.rows import PublishedRow

BIBLIOGRAPHY = "CITATIONS.bib"
SOURCES = "sources.csv"
_ENTRY = re.compile(r"^@(\w+)\{([^,\s]+),\s*$(.*?)^\}\s*$", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*\{(.*)\},?\s*$", re.MULTILINE)


def bibliography(folder: Path) -> dict[str, dict[str, str]]:
    """Citation key -> fields of its BibTeX entry, one field a line in braces; `ENTRYTYPE` is its kind.

    Raises CheckFailed for an entry without a title or a way to it, and for a key that is there twice.
    """
    path = folder / BIBLIOGRAPHY
    entries: dict[str, dict[str, str]] = {}
    for kind, key, body in _ENTRY.findall(path.read_text(encoding="utf-8")):
        fields = {"ENTRYTYPE": kind, **{k.lower(): v for k, v in _FIELD.findall(body)}}
        if key in entries:
            raise CheckFailed(f"{path}: {key} is there twice")
        if not fields.get("title") or not (fields.keys() & {"url", "eprint"}):
            raise CheckFailed(f"{path}: {key} needs a title, and a url or an eprint")
        entries[key] = fields
    return entries


def cited_as(folder: Path) -> dict[str, str]:
    """Source, as the rows have it -> citation key."""
    with (folder / SOURCES).open(encoding="utf-8", newline="") as file:
        return {row["source"]: row["citation"] for row in csv.DictReader(file)}


def check_cited(folder: Path, rows: Iterable[PublishedRow]) -> None:
    """Raise CheckFailed, naming file and line, for a row whose source nobody can look up."""
    keys, entries = cited_as(folder), bibliography(folder)
    for row in rows:
        where = f"{folder / row.file}:{row.line}: source {row.source!r}"
        if row.source not in keys:
            raise CheckFailed(f"{where} is not in {SOURCES}; say there how to cite it")
        if keys[row.source] not in entries:
            raise CheckFailed(f"{where} is cited as {keys[row.source]}, which {BIBLIOGRAPHY} lacks")
