"""Committed cells, run again from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ssft_bench import runner
from ssft_bench.cell import Machine
from ssft_bench.comparison.sides import Run
from ssft_bench.errors import MissingError
from ssft_bench.regression.reference import Reference
from ssft_bench.results import ResultRecord


def rerun(
    reference: Reference,
    name: str,
    out: Path,
    *,
    data: str | None = None,
    tasks: Sequence[str] = (),
) -> list[Run]:
    """Run every committed cell of a set anew into `out`, by its recorded specification.

    Cells of one process share corpora, upstreams and hidden states. `data` is the folder of the corpora,
    `tasks` keeps those cells only. Raises MissingError where the set has no records, and what a run raises.
    """
    cells = [record for _, record in reference.cells(name)]
    if not cells:
        raise MissingError(f"{reference.records(name)}: no committed records to run again")
    chosen = [r for r in cells if not tasks or r.spec.task.name in tasks]
    if not chosen:
        known = ", ".join(sorted({r.spec.task.name for r in cells}))
        raise MissingError(f"set {name} has no cell of {', '.join(tasks)}; it has: {known}")
    sources, machine = runner.Sources(), Machine(states={})
    return [_again(record, out, data, sources, machine) for record in chosen]


def _again(
    record: ResultRecord, out: Path, data: str | None, sources: runner.Sources, machine: Machine
) -> Run:
    spec = record.spec
    if data is not None:
        spec = spec.model_copy(update={"data": spec.data.model_copy(update={"root": data})})
    ready = runner.ready(spec, sources)
    with runner.claim(ready, out, overwrite="always", machine=machine) as claimed:
        answer = claimed if isinstance(claimed, runner.Answer) else claimed.answer()
    return answer.folder, answer.record
