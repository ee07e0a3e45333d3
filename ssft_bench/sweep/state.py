"""What has become of a plan's cells, from files alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ssft_bench import lease, results
from ssft_bench.errors import CheckFailed
from ssft_bench.files import write_json
from ssft_bench.results import ResultRecord
from ssft_bench.sweep.plan import Plan, PlannedCell

Status = Literal["done", "running", "interrupted", "failed", "stale", "missing"]
GIVEN_UP = "given_up"
"""Folder of a plan: a file for each cell that no worker is to try again, with the reason."""
ERRORS = "errors"
"""Folder of a plan: what went wrong in a cell before it had a record of its own."""


@dataclass(frozen=True)
class CellState:
    """One cell at one moment."""

    cell: PlannedCell
    status: Status
    record: ResultRecord | None = None
    note: str = ""
    """Error, holder, or what has changed since an older result."""
    progress: float | None = None
    """Share of the updates that are done, while it is running or interrupted."""

    @property
    def seconds(self) -> float | None:
        """Seconds that the finished run took."""
        if self.record is None or self.status != "done":
            return None
        return float(sum(self.record.cost.get("seconds", {}).values()))

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        metric = self.record.primary() if self.record and self.status == "done" else None
        return {
            "upstream": self.cell.upstream, "interface": self.cell.interface, "task": self.cell.task,
            "seed": self.cell.seed,
            "variant": self.cell.variant, "status": self.status, "note": self.note,
            "progress": self.progress, "seconds": self.seconds, "signature": self.cell.signature,
            "folder": self.cell.folder,
            "metric": None if metric is None else metric.model_dump(mode="json"),
        }  # fmt: skip


def states(plan: Plan, folder: Path) -> Iterator[CellState]:
    """The state of every cell, in the plan's order; `folder` is the plan's."""
    for cell in plan.cells:
        yield state(plan, folder, cell)


def state(plan: Plan, folder: Path, cell: PlannedCell) -> CellState:
    """The state of a cell. A record that cannot be read counts as failed and says so."""
    place = plan.place(cell)
    try:
        record = results.load(place)
    except CheckFailed as error:
        return CellState(cell, "failed", None, str(error))
    if record is not None and results.finished(place, record):
        return CellState(cell, "done", record)
    working = lease.worked_on(place)
    if working is not None:
        return CellState(cell, "running", record, str(working), _progress(place, record))
    if record is not None and record.status == "failed":
        return CellState(cell, "failed", record, record.error or "")
    reason = _text(folder / GIVEN_UP / cell.signature)
    if reason is not None:
        return CellState(cell, "failed", record, reason)
    if record is not None:
        return CellState(cell, "interrupted", record, "", _progress(place, record))
    older = _older(place)
    return CellState(cell, "stale" if older else "missing", None, older)


def give_up(folder: Path, cell: PlannedCell, reason: str) -> None:
    """No worker of this plan tries the cell again until `try_again`."""
    path = folder / GIVEN_UP / cell.signature
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(reason, encoding="utf-8")


def note_error(folder: Path, cell: PlannedCell, error: BaseException) -> None:
    """Keep the error of a cell that may have left no record."""
    write_json(folder / ERRORS / cell.signature, f"{type(error).__name__}: {error}")


def noted_error(folder: Path, cell: PlannedCell) -> str:
    """What `note_error` kept last; empty where nothing was."""
    with suppress(OSError, ValueError):
        return str(json.loads((folder / ERRORS / cell.signature).read_text(encoding="utf-8")))
    return ""


def try_again(folder: Path, cell: PlannedCell) -> None:
    """Undo `give_up` and forget old errors."""
    (folder / ERRORS / cell.signature).unlink(missing_ok=True)
    (folder / GIVEN_UP / cell.signature).unlink(missing_ok=True)


def given_up(folder: Path, cell: PlannedCell) -> bool:
    """Whether a cell is left alone."""
    return (folder / GIVEN_UP / cell.signature).exists()


def _progress(place: Path, record: ResultRecord | None) -> float | None:
    """Updates done by the last whole line of the log."""
    if record is None or record.spec.train is None:
        return None
    with suppress(OSError):
        with (place / "log.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = file.read().decode(errors="replace").splitlines()
        for line in reversed(lines):
            with suppress(ValueError, KeyError, TypeError):
                return float(min(1.0, json.loads(line)["step"] / record.spec.train.steps))
    return None


def _older(place: Path) -> str:
    """What an older finished result of the same names differs in; empty where there is none."""
    if not place.parent.is_dir():
        return ""
    for other in sorted(place.parent.iterdir()):
        with suppress(CheckFailed):
            record = results.load(other)
            if record is not None and record.status == "done":
                return f"{other.name} is of other weights, recordings, numbers or code"
    return ""


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def counts(found: Iterable[CellState]) -> dict[str, int]:
    """How many cells are in each state, the usual order of states, none that is empty."""
    order = ("done", "running", "interrupted", "missing", "stale", "failed")
    number = dict.fromkeys(order, 0)
    for one in found:
        number[one.status] += 1
    return {name: n for name, n in number.items() if n}
