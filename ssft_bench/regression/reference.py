"""The reference: committed records, and a file of numbers with a tolerance for each."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssft_bench import results
from ssft_bench.comparison.sides import Run
from ssft_bench.errors import CheckFailed, MissingError
from ssft_bench.files import atomic_path, sha256_file
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.spec import signature

FLOOR = 1.0
"""Smallest tolerance, in points of the metric: one utterance of a hundred."""


class ReferenceRow(BaseModel):
    """One number that is guarded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: str
    corpus: str
    task: str
    upstream: str
    interface: str
    protocol: str
    seed: int
    split: str
    metric: str
    unit: str
    higher_is_better: bool
    value: float
    ci_low: float | None
    ci_high: float | None
    tolerance: float = Field(ge=0)
    """How far a number may be from this one, in the metric's unit."""
    tolerance_from: str
    """ci: the larger half of the interval; seeds: twice their standard deviation; floor; or hand."""
    cell: str
    """Hash of the resolved specification, without bytes: what is run again."""
    signature: str
    predictions_sha256: str
    record_sha256: str
    """Of result.json."""

    @property
    def label(self) -> str:
        """`asr | hubert_mini | hconv, wer`."""
        seed = "" if self.seed == 1 else f", seed {self.seed}"
        return f"{self.task} | {self.upstream} | {self.interface}{seed}: {self.metric}"


COLUMNS = tuple(ReferenceRow.model_fields)
HAND = "hand"
_EMPTY_IS_NONE = ("ci_low", "ci_high")


CHOSEN_BYTES = ("interface_tensors", "language_model")
"""Digests of files that were chosen for a run (--interface-from, --lm): another file is another cell."""


def same_cell(record: ResultRecord) -> str:
    """What two runs share that were to do the same, whatever weights and recordings they found."""
    chosen = {key: record.content[key] for key in CHOSEN_BYTES if key in record.content}
    return signature(record.spec, chosen)


class Reference:
    """A folder with `<set>.csv` and `records/<set>/...`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sets(self) -> list[str]:
        """Names of the sets that have records or a file."""
        named = {p.stem for p in self.folder.glob("*.csv")}
        return sorted(named | {p.name for p in (self.folder / "records").glob("*") if p.is_dir()})

    def records(self, name: str) -> Path:
        """Folder of a set's records."""
        return self.folder / "records" / name

    def file(self, name: str) -> Path:
        """A set's numbers."""
        return self.folder / f"{name}.csv"

    def place(self, name: str, record: ResultRecord) -> Path:
        """Where a record belongs: as below `runs`, the set in place of the suite."""
        whole = results.run_folder(Path(), record.spec, record.signature)
        return self.records(name).joinpath(*whole.parts[1:])

    def cells(self, name: str) -> list[Run]:
        """The committed records of a set, by path. Raises CheckFailed for one that cannot be read."""
        return list(results.find_all(self.records(name)))

    def rows(self, name: str) -> list[ReferenceRow]:
        """The numbers of a set. Raises MissingError without the file, CheckFailed naming file and line."""
        path = self.file(name)
        if not path.is_file():
            raise MissingError(f"{path} is missing; 'ssft-bench leaderboard adopt' writes it")
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise CheckFailed(f"{path}:1: expected the header {','.join(COLUMNS)}")
            return [_row(path, reader.line_num, fields) for fields in reader]

    def write(self, name: str) -> Path:
        """Write a set's file from its records, atomically; tolerances set by hand are kept."""
        path = self.file(name)
        by_hand = {}
        if path.is_file():
            by_hand = {
                (r.cell, r.split, r.metric): r for r in self.rows(name) if r.tolerance_from == HAND
            }
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in made_from(self.cells(name)):
            kept = by_hand.get((row.cell, row.split, row.metric))
            if kept is not None:
                row = row.model_copy(update={"tolerance": kept.tolerance, "tolerance_from": HAND})
            writer.writerow(row.model_dump(mode="json"))
        with atomic_path(path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")
        return path


def _row(path: Path, line: int, fields: dict[str, str]) -> ReferenceRow:
    values = {k: None if k in _EMPTY_IS_NONE and v == "" else v for k, v in fields.items()}
    try:
        return ReferenceRow.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckFailed(f"{path}:{line}: {first['loc'][0]}: {first['msg']}") from error


def made_from(cells: Sequence[Run]) -> list[ReferenceRow]:
    """A row for each test metric of each record, with the tolerance that follows from the records."""
    by_cell: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _, record in cells:
        for metric in _test(record):
            by_cell[_seedless(record), metric.name].append(metric.value)
    return [
        _made(folder, record, metric, by_cell[_seedless(record), metric.name])
        for folder, record in cells
        for metric in _test(record)
    ]


def _test(record: ResultRecord) -> list[MetricValue]:
    return [m for m in record.metrics if m.split == "test"]


def _seedless(record: ResultRecord) -> str:
    seedless = record.spec.model_copy(update={"seed": 0})
    return same_cell(record.model_copy(update={"spec": seedless}))


def tolerance(metric: MetricValue, over_seeds: Sequence[float]) -> tuple[float, str]:
    """How far a number may move, and why so far.

    On one machine with one number of threads nothing moves. Elsewhere sums are rounded in another order
    and a training run takes another path, much as another seed would: so the larger of (a) the longer
    side of the 95 % interval, (b) twice the standard deviation over seeds where there are three or
    more, (c) one point. Measured between 1 and 2 threads: PER 0.07, WER 0.3, CER 2.1 points.
    """
    found = {"floor": FLOOR}
    if metric.ci95 is not None:
        found["ci"] = max(metric.value - metric.ci95[0], metric.ci95[1] - metric.value)
    if len(over_seeds) > 2:
        found["seeds"] = 2 * float(np.std(over_seeds, ddof=1))
    why = max(found, key=lambda name: found[name])
    return round(found[why], 4), why


def _made(
    folder: Path, record: ResultRecord, metric: MetricValue, over_seeds: Sequence[float]
) -> ReferenceRow:
    spec = record.spec
    allowed, why = tolerance(metric, over_seeds)
    return ReferenceRow(
        suite=spec.suite, corpus=spec.data.corpus, task=spec.task.name,
        upstream=spec.upstream.label, interface=spec.interface_label, protocol=spec.protocol,
        seed=spec.seed, split=metric.split, metric=metric.name, unit=metric.unit,
        higher_is_better=metric.higher_is_better, value=metric.value,
        ci_low=metric.ci95[0] if metric.ci95 else None,
        ci_high=metric.ci95[1] if metric.ci95 else None,
        tolerance=allowed, tolerance_from=why, cell=same_cell(record), signature=record.signature,
        predictions_sha256=str(record.predictions["sha256"]),
        record_sha256=sha256_file(folder / "result.json"),
    )  # fmt: skip
