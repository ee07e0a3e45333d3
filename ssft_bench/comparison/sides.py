"""What is compared: finished runs, by folder or by cell, and the runs of one cell with several seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from ssft_bench import registry, results
from ssft_bench.errors import CheckFailed, MissingError, UsageError
from ssft_bench.files import sha256_file
from ssft_bench.metric import Metric, Prediction
from ssft_bench.names import unknown
from ssft_bench.results import ResultRecord
from ssft_bench.spec import signature

Run = tuple[Path, ResultRecord]
LM = "_lm"
"""Ending of a metric's name over what was decoded with a language model."""


@dataclass(frozen=True)
class Side:
    """One system: the runs of a cell that differ in nothing but their seeds, by seed."""

    runs: tuple[Run, ...]
    letter: str = ""
    """Which one it is in a table: A, B, ..."""
    label: str = ""
    """Upstream and interface, and what else tells it from the others."""

    @property
    def record(self) -> ResultRecord:
        """The first run's."""
        return self.runs[0][1]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the runs."""
        return tuple(record.spec.seed for _, record in self.runs)

    def predictions(self, with_lm: bool) -> list[list[Prediction]]:
        """The test predictions of each run, `with_lm` those of the decoding with a language model.

        Raises CheckFailed for a file that is not what the run wrote, UsageError for a run without one.
        """
        return [_predictions(folder, record, with_lm) for folder, record in self.runs]


def sides(names: Sequence[str], root: Path) -> list[Side]:
    """The systems that the names stand for, in the order in which they come up.

    A name is a run's folder, a folder above runs of one cell, or `upstream/interface/task` (with
    `suite/` before it where needed) of runs below `root`. Runs that differ only in their seed are one
    system. Raises UsageError for a name that fits several cells (naming them), for a run given twice
    and for a single system; MissingError for one that fits none.
    """
    runs = [run for name in names for run in _find(name, root)]
    twice = [folder for folder, _ in runs if sum(folder.samefile(f) for f, _ in runs) > 1]
    if twice:
        raise UsageError(f"{twice[0]} was given twice; a run is not compared with itself")
    by_cell: dict[str, list[Run]] = {}
    for run in runs:
        by_cell.setdefault(_cell(run[1]), []).append(run)
    found = [_side(group) for group in by_cell.values()]
    if len(found) < 2:
        raise UsageError(
            f"{', '.join(names)}: one cell, {len(runs)} runs that differ at most in their seeds; "
            "give a second cell to compare with"
        )
    return _labelled(found)


def metric_of(every: Sequence[Side], name: str | None) -> tuple[Metric, bool]:
    """The metric to compare, and whether it is over hypotheses decoded with a language model.

    Raises UsageError for systems that were not measured alike: other tasks, corpora or recordings.
    """
    first = every[0]
    for other in every[1:]:
        _check_comparable(first, other)
    task = registry.load("tasks", first.record.spec.task.name)
    known = {metric.name: metric for metric in task.metrics}
    if name is None:
        return next(m for m in task.metrics if m.primary), False
    plain = name.removesuffix(LM)
    if name in known or plain not in known:
        if name not in known:
            raise unknown("metric in --metric", name, [*known, *(k + LM for k in known)])
        return known[name], False
    return replace(known[plain], name=name), True


def _check_comparable(first: Side, other: Side) -> None:
    mine, theirs = first.record, other.record
    told = {
        "task": (mine.spec.task.name, theirs.spec.task.name),
        "corpus": (mine.spec.data.corpus, theirs.spec.data.corpus),
        "recordings (corpus digest)": (mine.content.get("corpus"), theirs.content.get("corpus")),
    }
    for what, (one, another) in told.items():
        if one != another:
            raise UsageError(
                f"not comparable: {first.runs[0][0]} and {other.runs[0][0]} have another {what}: "
                f"{_short(one)} and {_short(another)}"
            )


def _short(text: str | None) -> str:
    return f"{text[:12]}…" if text and len(text) == 64 else str(text)


def _find(name: str, root: Path) -> list[Run]:
    """The runs that one name stands for; see `sides`."""
    path = Path(name)
    if (path / "result.json").exists():
        record = results.load(path)
        assert record is not None
        if record.status != "done":
            raise UsageError(f"{name}: the run is {record.status}; only finished runs are compared")
        return [(path, record)]
    done = [run for run in results.find_all(path) if _done(run)] if path.is_dir() else []
    if not done:
        every = [run for run in results.find_all(root) if _done(run)] if root.is_dir() else []
        done = [(folder, record) for folder, record in every if name in _names(folder, record)]
        if not done:
            known = ", ".join(dict.fromkeys(_name(r) for _, r in every)) or "no finished run"
            raise MissingError(
                f"'{name}' is neither a run's folder nor a cell below --runs {root}. There: {known}."
            )
    if len({_cell(record) for _, record in done}) > 1:
        told = _differences([record for _, record in done])
        listed = "".join(f"\n  {run[0]}  {one}" for run, one in zip(done, told, strict=True))
        raise UsageError(
            f"'{name}' fits several cells; give one's folder or more of its name:{listed}"
        )
    return done


def _done(run: Run) -> bool:
    return run[1].status == "done"


def _name(record: ResultRecord) -> str:
    return f"{_system(record)}/{record.spec.task.name}"


def _system(record: ResultRecord) -> str:
    return f"{record.spec.upstream.label}/{record.spec.interface_label}"


def _names(folder: Path, record: ResultRecord) -> set[str]:
    """What a run's cell may be called: by its specification, or as its folder lies."""
    spoken = {_name(record), "/".join(folder.parts[-4:-1])}
    return spoken | {f"{record.spec.suite}/{one}" for one in spoken}


def _differences(records: Sequence[ResultRecord]) -> list[str]:
    """What tells runs of one name apart, `seed=1, train.steps=600`."""
    tables = [
        dict(_leaves({**record.spec.model_dump(mode="json"), "content": record.content}))
        for record in records
    ]
    keys = [
        key
        for key in dict.fromkeys(key for table in tables for key in table)
        if len({str(table.get(key)) for table in tables}) > 1
    ]
    return [", ".join(f"{key}={_short(str(t.get(key)))}" for key in keys) for t in tables]


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _cell(record: ResultRecord) -> str:
    """What runs that differ in nothing but their seeds share."""
    return signature(record.spec.model_copy(update={"seed": 0}), record.content)


def _side(runs: Sequence[Run]) -> Side:
    ordered = tuple(sorted(runs, key=lambda run: (run[1].spec.seed, run[0])))
    for seed, group in groupby(ordered, key=lambda run: run[1].spec.seed):
        same = [str(folder) for folder, _ in group]
        if len(same) > 1:
            raise UsageError(f"{' and '.join(same)} are the same cell with the same seed {seed}")
    return Side(ordered)


def _labelled(found: Sequence[Side]) -> list[Side]:
    """Letters, and labels: upstream and interface, and where two have the same, their signatures."""
    names = [_system(side.record) for side in found]
    return [
        replace(
            side,
            letter=ascii_uppercase[place] if place < 26 else f"S{place + 1}",
            label=name if names.count(name) == 1 else f"{name} ({side.record.signature[:8]})",
        )
        for place, (side, name) in enumerate(zip(found, names, strict=True))
    ]


def _predictions(folder: Path, record: ResultRecord, with_lm: bool) -> list[Prediction]:
    path = folder / "predictions.jsonl"
    if not path.exists():
        raise MissingError(f"{path} is absent; run the cell again with --overwrite always")
    if sha256_file(path) != record.predictions.get("sha256"):
        raise CheckFailed(
            f"{path} is not what the run wrote: its digest differs from result.json's"
        )
    rows = results.load_predictions(folder)
    if not with_lm:
        return rows
    if any(row.hypothesis_lm is None for row in rows):
        raise UsageError(f"{folder}: the run was not decoded with a language model (run --lm)")
    return [replace(row, hypothesis=row.hypothesis_lm or "") for row in rows]
