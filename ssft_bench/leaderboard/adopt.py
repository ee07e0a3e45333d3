"""Finished runs -> committed reference records: nothing that a rescoring needs is lost, paths are."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

from ssft_bench import results
from ssft_bench.errors import CheckFailed, MissingError, UsageError
from ssft_bench.files import atomic_path, write_json
from ssft_bench.leaderboard.entries import finished
from ssft_bench.regression.reference import Reference, same_cell
from ssft_bench.regression.rescore import rescore
from ssft_bench.results import ResultRecord
from ssft_bench.spec import signature

SETS = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PATH = re.compile(r"(?<![\w.:/-])(?:/[\w.+=@~-]+){2,}/?|(?<!\w)[A-Za-z]:\\[^\s'\"]+")
"""An absolute path within a text: at least two folders deep, so that a lone slash or 1/2 is none."""


@dataclass(frozen=True)
class Adopted:
    """What was done with one run."""

    folder: Path
    replaced: tuple[str, ...]
    """Signatures of the committed records of the same cell that are gone."""
    remarks: tuple[str, ...]


def adopt(runs: Path, into: str, reference: Path, *, prune: bool = False) -> list[Adopted]:
    """Copy result.json and predictions.jsonl of every finished run below `runs` into the set `into`.

    A committed record of the same cell (equal specification) is replaced; `prune` drops those that are
    not among the runs. The set's reference file is written anew; tolerances that were set by hand stay.
    Raises MissingError without a finished run, CheckFailed for one that does not rescore to what it says,
    UsageError for one that only this machine could repeat.
    """
    if not SETS.fullmatch(into):
        raise UsageError(f"--into {into}: small letters, digits, - and _")
    found = finished([runs])
    if not found:
        raise MissingError(f"{runs}: no finished run there")
    kept = Reference(reference)
    clean = [(folder, _checked(folder, record)) for folder, record in found]
    _check_twice(clean)
    if prune:
        shutil.rmtree(kept.records(into), ignore_errors=True)
    done = [_copy(folder, record, kept, into) for folder, record in clean]
    kept.write(into)
    return done


def _checked(folder: Path, record: ResultRecord) -> ResultRecord:
    """The record without this machine's paths; it still names the same cell."""
    wrong = rescore(folder, record)
    if wrong:
        raise CheckFailed(f"{wrong[0]}; it cannot be a reference")
    clean = without_paths(record)
    if signature(clean.spec, clean.content) != record.signature:
        raise UsageError(
            f"{folder}: {record.spec.upstream.label} | {record.spec.interface_label} is a file of this "
            "machine, or the record is of another version of the package; nobody else could repeat it"
        )
    return clean


def without_paths(record: ResultRecord) -> ResultRecord:
    """The record with every absolute path cut to its last part; data.root is dropped."""
    values: dict[str, Any] = _cut(record.model_dump(mode="json"))
    values["spec"]["data"]["root"] = None
    for name in ("data", "out"):
        values["args_passed"].pop(name, None)
    return ResultRecord.model_validate(values)


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        return {_cut(key): _cut(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item) for item in value]
    if isinstance(value, str):
        return _PATH.sub(lambda match: _last(match.group()), value)
    return value


def _last(path: str) -> str:
    kind = PureWindowsPath if path[1:2] == ":" else PurePath
    return kind(path).name


def _check_twice(clean: Sequence[tuple[Path, ResultRecord]]) -> None:
    seen: dict[str, tuple[Path, str]] = {}
    for folder, record in clean:
        other, predicted = seen.setdefault(same_cell(record), (folder, _digest(record)))
        if other != folder and predicted != _digest(record):
            raise UsageError(
                f"{other} and {folder} are the same cell with other predictions; adopt one of them"
            )


def _digest(record: ResultRecord) -> str:
    return str(record.predictions["sha256"])


def _copy(folder: Path, record: ResultRecord, kept: Reference, into: str) -> Adopted:
    old = [(f, r) for f, r in kept.cells(into) if same_cell(r) == same_cell(record)]
    for place, _ in old:
        shutil.rmtree(place)
    target = kept.place(into, record)
    target.mkdir(parents=True, exist_ok=True)
    with atomic_path(target / "predictions.jsonl") as temporary:
        shutil.copyfile(folder / "predictions.jsonl", temporary)
    write_json(target / "result.json", json.loads(record.model_dump_json()))
    remarks = []
    if record.code.get("dirty"):
        remarks.append("made from a checkout with uncommitted changes")
    gone = tuple(r.signature for _, r in old if r.signature != record.signature)
    assert results.load(target) == record
    return Adopted(target, gone, tuple(remarks))
