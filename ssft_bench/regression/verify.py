"""`ssft-bench leaderboard verify`: everything that can be checked, one report."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssft_bench.errors import MissingError
from ssft_bench.leaderboard.entries import finished
from ssft_bench.published.rows import leaderboards_folder, published_folder
from ssft_bench.regression import committed, paper
from ssft_bench.regression.against import (
    Rules,
    against_published,
    against_reference,
    rescored,
)
from ssft_bench.regression.reference import Reference
from ssft_bench.regression.rerun import rerun
from ssft_bench.regression.verdicts import Check, Report


@dataclass(frozen=True)
class Request:
    """What is to be verified."""

    runs: Path | None = None
    """Results to look at; None: only what is committed."""
    reference: Path | None = None
    """Somebody's own reference folder; None: the package's, with published numbers and boards."""
    against: Sequence[str] = ("published", "reference")
    again: str | None = None
    """Set whose cells are run again from scratch."""
    tasks: Sequence[str] = ()
    """Only these of the cells that are run again; all."""
    data: str | None = None
    """Folder of the corpora that those cells need."""
    rules: Rules = field(default_factory=Rules)


def verify(request: Request) -> Report:
    """Raises MissingError for a reference folder or a set that is not there."""
    report = Report()
    own = request.reference is None
    folder = request.reference or leaderboards_folder() / "reference"
    if not own and not folder.is_dir():
        raise MissingError(
            f"--reference {folder}: no such folder; 'ssft-bench leaderboard adopt' makes one"
        )
    reference = Reference(folder)
    if own and "published" in request.against:
        report.add(committed.published(published_folder()))
    if "reference" in request.against:
        report.add(committed.records(reference))
        if own:
            report.add(committed.boards(folder, leaderboards_folder()))
    if request.runs is not None:
        _runs(request, reference, report)
    if request.again is not None:
        with tempfile.TemporaryDirectory(prefix="ssft-bench-rerun-") as place:
            done = rerun(
                reference, request.again, Path(place), data=request.data, tasks=request.tasks
            )
            checks = against_reference(done, reference, request.rules, [request.again])
            wanted = [c for c in checks if not (request.tasks and c.status == "not run")]
            report.add(Check("run again", c.name, c.status, c.text, c.details) for c in wanted)
    return report


def _runs(request: Request, reference: Reference, report: Report) -> None:
    """Somebody's results: each rescored, then beside reference, published numbers and papers' gains."""
    assert request.runs is not None
    found = finished([request.runs])
    if not found:
        raise MissingError(
            f"--runs {request.runs}: no finished run there; start one with 'ssft-bench run'"
        )
    good, told = rescored(found)
    report.add(told)
    if "reference" in request.against:
        report.add(against_reference(good, reference, request.rules))
    if "published" in request.against:
        report.add(against_published(good))
        table = paper.markdown(paper.compare(good))
        if table:
            report.tables.append(table)
