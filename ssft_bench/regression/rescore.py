"""A record against its own predictions: every score computed again, no model needed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from ssft_bench import registry, results
from ssft_bench.files import sha256_file
from ssft_bench.metric import Prediction
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.statistics import score

LM = "_lm"
CLOSE = 1e-9
"""Relative: the same numbers added in another order."""


def rescore(folder: Path, record: ResultRecord) -> list[str]:
    """What of a finished run does not follow from its predictions, one line each; empty when all does.

    Digest and count of predictions.jsonl; each test metric, its interval and how it was made; the dev
    value that picked the step, where the record has it twice.
    """
    name = f"{folder / 'result.json'}"
    path = folder / "predictions.jsonl"
    if not path.is_file():
        return [f"{path} is missing"]
    told = []
    if sha256_file(path) != record.predictions.get("sha256"):
        told.append(f"{path}: the predictions are not those that were scored (digest differs)")
    try:
        found = results.load_predictions(folder)
    except (ValueError, TypeError) as error:
        return [*told, f"{path}: cannot be read ({error})"]
    if len(found) != record.predictions.get("n"):
        told.append(
            f"{path}: {len(found)} predictions, recorded were {record.predictions.get('n')}"
        )
    recorded = {(m.name, m.split): m for m in record.metrics}
    for metric in scored(record, found):
        old = recorded.get((metric.name, "test"))
        told += [f"{name}: {text}" for text in _differences(old, metric)]
    return [*told, *(f"{name}: {text}" for text in _dev(record))]


def scored(record: ResultRecord, found: list[Prediction]) -> list[MetricValue]:
    """The test metrics that follow from predictions, as `Cell` computes them."""
    values = _metrics(record, found, "")
    if found and found[0].hypothesis_lm is not None:
        values += _metrics(
            record, [replace(p, hypothesis=p.hypothesis_lm or "") for p in found], LM
        )
    return values


def _metrics(record: ResultRecord, found: list[Prediction], suffix: str) -> list[MetricValue]:
    values = []
    for metric in registry.load("tasks", record.spec.task.name).metrics:
        s = score(metric, found, seed=record.spec.seed)
        values.append(
            MetricValue(
                name=metric.name + suffix, split="test", value=s.value, unit=metric.unit,
                higher_is_better=metric.higher_is_better, n=s.n, ci95=s.ci95, ci_method=s.method,
                primary=metric.primary and not suffix,
            )
        )  # fmt: skip
    return values


def _differences(old: MetricValue | None, new: MetricValue) -> list[str]:
    if old is None:
        return [f"test {new.name} is {new.value:.4f}, the record has none"]
    told = []
    if not _same(old.value, new.value):
        told.append(
            f"test {new.name} is recorded as {old.value!r}, the predictions give {new.value!r}"
        )
    ends = zip(old.ci95 or (), new.ci95 or (), strict=False)
    if (old.ci95 is None) != (new.ci95 is None) or not all(_same(a, b) for a, b in ends):
        told.append(f"test {new.name}: the interval is recorded as {old.ci95}, it is {new.ci95}")
    for field in ("unit", "higher_is_better", "n", "ci_method", "primary"):
        if getattr(old, field) != getattr(new, field):
            told.append(
                f"test {new.name}: {field} is recorded as {getattr(old, field)!r}, it is "
                f"{getattr(new, field)!r}"
            )
    return told


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE)


def _dev(record: ResultRecord) -> list[str]:
    """Dev predictions are not kept; what can be checked is that the record agrees with itself."""
    picked, name = record.selection.get("value"), record.spec.selection.metric
    value = next((m.value for m in record.metrics if (m.split, m.name) == ("dev", name)), None)
    if picked is None or value is None or _same(float(picked), value):
        return []
    return [f"dev {name} is recorded as {value!r}, but {picked!r} is what picked"]
