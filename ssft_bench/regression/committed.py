"""What is committed, against itself: published values, reference records, the six boards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ssft_bench.errors import CheckFailed, MissingError
from ssft_bench.files import sha256_file
from ssft_bench.leaderboard.boards import record_folders, stale_boards
from ssft_bench.leaderboard.scores import check_scores
from ssft_bench.published import checksums
from ssft_bench.published.gains import check_claims
from ssft_bench.published.rows import load
from ssft_bench.regression.reference import Reference, ReferenceRow, made_from
from ssft_bench.regression.rescore import rescore
from ssft_bench.regression.verdicts import Check, Status
from ssft_bench.results import ResultRecord
from ssft_bench.spec import signature

PUBLISHED, SCORES, CLAIMS = "published numbers", "official scores", "quoted gains"
RECORDS, BOARDS = "committed records", "boards"


def published(folder: Path) -> Iterator[Check]:
    """Schema, digests, displayed scores recomputed, quoted gains recomputed."""
    try:
        rows = load(folder)
    except CheckFailed as error:
        yield Check(PUBLISHED, "schema", "failed", str(error))
        return
    broken = checksums.broken(folder, rows)
    yield from (Check(PUBLISHED, "value", "failed", text) for text in broken)
    if not broken:
        yield Check(PUBLISHED, f"{len(rows)} rows", "ok")
    for check in check_scores(rows):
        row = check.row
        computed = "a task is missing" if check.computed is None else f"{check.computed:.2f}"
        text = f"displayed {row.text}, its row gives {computed} ({row.place})"
        yield Check(SCORES, row.label, "ok" if check.holds else "failed", text)
    for claim in check_claims(rows):
        status: Status = "ok" if claim.verdict in ("agrees", "attainable") else "listed"
        yield Check(CLAIMS, claim.verdict, status, claim.text)


def records(reference: Reference) -> Iterator[Check]:
    """Every committed record rescored, and each set's file against its records."""
    for name in reference.sets():
        cells = reference.cells(name)
        for folder, record in cells:
            wrong = [*rescore(folder, record), *_signature(folder, record)]
            told = f"{name}: {folder.relative_to(reference.records(name))}"
            yield from (Check(RECORDS, told, "failed", text) for text in wrong)
            if not wrong:
                yield Check(RECORDS, told, "ok")
        try:
            yield from _file(reference, name)
        except (CheckFailed, MissingError) as error:
            yield Check(RECORDS, f"{name}.csv", "failed", str(error))


def _signature(folder: Path, record: ResultRecord) -> list[str]:
    made = signature(record.spec, record.content)
    if made == record.signature == folder.name:
        return []
    return [
        f"{folder / 'result.json'}: the specification or the digests are not those of {folder.name}"
    ]


def _file(reference: Reference, name: str) -> Iterator[Check]:
    """Each number of a set's file is that of its record."""
    rows = {_key(row): row for row in reference.rows(name)}
    folders = {r.signature: folder for folder, r in reference.cells(name)}
    made = {_key(row): row for row in made_from(reference.cells(name))}
    path = reference.file(name)
    for key, row in rows.items():
        other = made.pop(key, None)
        if other is None:
            yield Check(
                RECORDS, row.label, "failed", f"{path}: no committed record has this number"
            )
            continue
        if row.record_sha256 != sha256_file(folders[row.signature] / "result.json"):
            text = f"{folders[row.signature] / 'result.json'} was changed after {path.name} was written"
            yield Check(RECORDS, row.label, "failed", text)
        for field in (
            "value",
            "ci_low",
            "ci_high",
            "unit",
            "higher_is_better",
            "predictions_sha256",
        ):
            mine, theirs = getattr(row, field), getattr(other, field)
            if mine != theirs:
                text = f"{path}: {field} is {mine}, the record has {theirs}"
                yield Check(RECORDS, row.label, "failed", text)
    for other in made.values():
        yield Check(
            RECORDS, other.label, "failed", f"{path} lacks this number of a committed record"
        )


def _key(row: ReferenceRow) -> tuple[str, str, str]:
    return row.signature, row.split, row.metric


def boards(reference: Path, folder: Path) -> Iterator[Check]:
    """The six leaderboard files rebuild byte for byte from the committed records."""
    if not record_folders(reference):
        yield Check(BOARDS, "six files", "not run", "no records are committed yet")
        return
    stale = stale_boards(reference, folder)
    yield from (Check(BOARDS, "not rebuilt", "failed", text) for text in stale)
    if not stale:
        yield Check(BOARDS, "six files", "ok", "the same bytes from the committed records")
