"""How soon a tuned upstream's head is as good as the base's ever gets (our definition).

Speed-up of a pair of runs: steps of the tuned one until its dev score reaches the base's best, divided
by the base's steps to that best; below 1 is faster. Both are read off the same evaluation grid.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssft_bench import results
from ssft_bench.analysis.report import Column, Report
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.results import ResultRecord
from ssft_bench.spec import NOT_IN_SIGNATURE

COLUMNS = (
    Column("base", "base"),
    Column("tuned", "tuned"),
    Column("task", "task"),
    Column("seed", "seed"),
    Column("base's best", "base_best", ".4g"),
    Column("at step", "base_step"),
    Column("tuned reaches it at", "tuned_step"),
    Column("ratio of steps", "ratio", ".3f"),
    Column("tuned's best", "tuned_best", ".4g"),
    Column("at step", "tuned_best_step"),
)


@dataclass(frozen=True)
class Curve:
    """Dev scores of a finished run over its evaluation grid."""

    folder: Path
    record: ResultRecord
    steps: tuple[int, ...]
    values: tuple[float, ...]
    higher_is_better: bool

    @property
    def metric(self) -> str:
        """Name of the metric that picked the best step."""
        return self.record.spec.selection.metric

    def best(self) -> tuple[int, float]:
        """The first step with the best score, and the score. A NaN is never the best."""
        value = (max if self.higher_is_better else min)(v for v in self.values if not math.isnan(v))
        return self.steps[self.values.index(value)], value

    def reaches(self, target: float) -> int | None:
        """The first step whose score is at least as good as `target`; None when there is none."""
        sign = 1 if self.higher_is_better else -1
        pairs = zip(self.steps, self.values, strict=True)
        return next((step for step, value in pairs if sign * value >= sign * target), None)


def read_curve(place: Path) -> Curve:
    """The learning curve in a run's folder (or of its result.json).

    Raises MissingError when there is no finished run, UsageError when it has no dev scores.
    """
    folder = place.parent if place.name == "result.json" else place
    record = results.load(folder)
    if record is None:
        raise MissingError(f"{folder}: no result.json there; give the folder of a finished run")
    if record.status != "done":
        raise MissingError(
            f"{folder}: the run is {record.status}, not done; run it to its end first"
        )
    metric = record.spec.selection.metric
    rows = [row for row in record.learning_curve if f"dev_{metric}" in row]
    known = [m for m in record.metrics if m.name == metric]
    values = [float(row[f"dev_{metric}"]) for row in rows]
    if not known or all(math.isnan(v) for v in values):
        raise UsageError(f"{folder}: no dev scores of {metric} in its learning_curve")
    steps = tuple(int(row["step"]) for row in rows)
    return Curve(folder, record, steps, tuple(values), known[0].higher_is_better)


def pairs_of(bases: Sequence[Path], tuned: Sequence[Path]) -> list[tuple[Curve, Curve]]:
    """Base and tuned runs in the order given; one base stands beside every tuned run.

    Raises UsageError when the counts do not fit, or two runs of a pair differ in more than upstream.
    """
    if len(bases) not in (1, len(tuned)):
        raise UsageError(
            f"{len(bases)} --base and {len(tuned)} --tuned runs: give one base for all, or one for each"
        )
    curves = [read_curve(place) for place in bases]
    curves = curves * len(tuned) if len(curves) == 1 else curves
    pairs = [(base, read_curve(place)) for base, place in zip(curves, tuned, strict=True)]
    for base, own in pairs:
        check_alike(base, own)
    return pairs


def check_alike(base: Curve, tuned: Curve) -> None:
    """Raise UsageError unless the runs differ in their upstream only: task, corpus and its share,
    interface, seed, recipe and evaluation grid are the same.
    """
    ours, theirs = (comparable(c.record) for c in (base, tuned))
    differing = [
        f"{key} ({ours.get(key)!r} and {theirs.get(key)!r})"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]
    if not differing and base.steps != tuned.steps:
        differing = ["the steps at which they were evaluated"]
    if differing:
        raise UsageError(
            f"{base.folder} and {tuned.folder} cannot be compared: they differ in "
            f"{'; '.join(differing[:5])}. Only the upstream may differ"
        )


def comparable(record: ResultRecord) -> dict[str, Any]:
    """Every key of the specification that may move the curve but the upstream, and the data's digest."""
    flat = _flat(record.spec.model_dump(mode="json"))
    dropped = ("upstream", *NOT_IN_SIGNATURE)
    kept = {
        key: value
        for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in dropped)
    }
    return {**kept, "the corpus' bytes": record.content.get("corpus")}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def compare(base: Curve, tuned: Curve) -> dict[str, Any]:
    """One row: the steps of both, and their ratio; None when the tuned run never gets there."""
    step, target = base.best()
    reached = tuned.reaches(target)
    best_step, best = tuned.best()
    return {
        "base": base.record.spec.upstream.label,
        "tuned": tuned.record.spec.upstream.label,
        "task": base.record.spec.task.name,
        "interface": base.record.spec.interface_label,
        "seed": base.record.spec.seed,
        "metric": base.metric,
        "base_best": target,
        "base_step": step,
        "tuned_step": reached,
        "ratio": None if reached is None else reached / step,
        "tuned_best": best,
        "tuned_best_step": best_step,
        "grid": grid_of(base.steps),
    }


def grid_of(steps: Sequence[int]) -> int:
    """The widest distance between evaluations: no step is known better than this."""
    return max(after - before for before, after in zip((0, *steps), steps, strict=False))


def median_ratio(rows: Sequence[dict[str, Any]]) -> float | None:
    """Median over pairs; one that never got there counts as infinite, None when the median is."""
    ratios = [math.inf if row["ratio"] is None else row["ratio"] for row in rows]
    middle = statistics.median(ratios)
    return middle if math.isfinite(middle) else None


def _origin(curve: Curve) -> str:
    kind = " (synthetic speech)" if curve.record.data.get("synthetic") else ""
    better = "higher" if curve.higher_is_better else "lower"
    corpus = curve.record.spec.data.corpus
    return f"corpus {corpus}{kind}, dev scores of {curve.metric}: {better} is better."


def report(pairs: Sequence[tuple[Curve, Curve]], settings: dict[str, Any]) -> Report:
    """The table over pairs, with the median ratio in the notes."""
    rows = [compare(base, tuned) for base, tuned in pairs]
    notes = [
        *dict.fromkeys(_origin(base) for base, _ in pairs),
        "Ratio: steps of the tuned run to reach the base's best dev score, divided by the base's steps "
        "to it; below 1 is faster. Evaluated every "
        f"{max(row['grid'] for row in rows)} steps, so no step is known better than that.",
    ]
    missed = sum(row["ratio"] is None for row in rows)
    if missed:
        notes.append(f"{missed} of {len(rows)} never reached the base's best (shown as -).")
    middle = median_ratio(rows)
    if len(rows) > 1:
        shown = "not reached" if middle is None else f"{middle:.3f}"
        notes.append(f"Median ratio over {len(rows)} pairs: {shown}.")
    settings = {**settings, "median_ratio": middle}
    return Report(
        "convergence", "Steps to the base's best dev score", COLUMNS, rows, settings, notes
    )
