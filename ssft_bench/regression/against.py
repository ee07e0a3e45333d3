"""Results against reference and published numbers: within tolerance, outside, not run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssft_bench import results
from ssft_bench.comparison import paired
from ssft_bench.comparison.sides import Run
from ssft_bench.errors import BenchError
from ssft_bench.leaderboard.entries import metric_of
from ssft_bench.published.correspondence import Correspondence, correspondence
from ssft_bench.published.rows import PublishedRow, load
from ssft_bench.regression.changes import changes, lines
from ssft_bench.regression.reference import Reference, ReferenceRow, same_cell
from ssft_bench.regression.rescore import rescore
from ssft_bench.regression.verdicts import Check, Status
from ssft_bench.results import MetricValue, ResultRecord

REFERENCE, PUBLISHED, RUNS = "against the reference", "against published numbers", "runs"
_IDENTICAL = 1e-9


@dataclass(frozen=True)
class Rules:
    """What counts as moved."""

    exact: bool = False
    """Nothing may move: for the machine that made the reference."""
    worse_only: bool = False
    """Only a change for the worse counts."""
    limit: int = 10
    """Utterances that are named."""


def rescored(runs: Sequence[Run]) -> tuple[list[Run], list[Check]]:
    """The runs that follow from their predictions, and what is wrong with the others."""
    good, told = [], []
    for folder, record in runs:
        wrong = rescore(folder, record)
        told += [Check(RUNS, str(folder), "failed", text) for text in wrong]
        if not wrong:
            good.append((folder, record))
            told.append(Check(RUNS, str(folder), "ok"))
    return good, told


def against_reference(
    runs: Sequence[Run], reference: Reference, rules: Rules, sets: Iterable[str] | None = None
) -> Iterator[Check]:
    """Each guarded number of the sets beside the run of its cell.

    A run is of a cell when its resolved specification is the same; weights and recordings may have
    changed, which is then said.
    """
    by_cell: dict[str, Run] = {}
    for run in runs:
        by_cell.setdefault(same_cell(run[1]), run)
    for name in sets if sets is not None else reference.sets():
        stored = {record.signature: (folder, record) for folder, record in reference.cells(name)}
        rows: dict[str, list[ReferenceRow]] = {}
        for row in reference.rows(name):
            rows.setdefault(row.signature, []).append(row)
        for signature, own in rows.items():
            done, kept = by_cell.get(own[0].cell), stored.get(signature)
            if done is None:
                yield from (Check(REFERENCE, f"{name}: {r.label}", "not run") for r in own)
            else:
                yield from _cell(name, own, done, kept, rules)


def _cell(
    name: str, rows: Sequence[ReferenceRow], run: Run, kept: Run | None, rules: Rules
) -> Iterator[Check]:
    recorded = {m.name: m for m in run[1].metrics if m.split == "test"}
    moved = _moved_utterances(run, kept, rules.limit) if kept is not None else ()
    why = "" if kept is None else _other_circumstances(run[1], kept[1])
    for row in rows:
        metric = recorded.get(row.metric)
        if metric is None:
            yield Check(REFERENCE, f"{name}: {row.label}", "failed", "the run lacks this metric")
            continue
        status = _status(row, metric.value, rules)
        told = (
            f"{metric.value:.4f}, reference {row.value:.4f}, moved {metric.value - row.value:+.4f}, "
            f"tolerance {0.0 if rules.exact else row.tolerance:.4f} ({row.tolerance_from}){why}"
        )
        details = moved if metric.primary or status == "outside" else ()
        yield Check(REFERENCE, f"{name}: {row.label}", status, told, tuple(details))


def _status(row: ReferenceRow, value: float, rules: Rules) -> Status:
    change = value - row.value
    if abs(change) <= _IDENTICAL * max(1.0, abs(row.value)):
        return "identical"
    better = (change > 0) == row.higher_is_better
    if rules.worse_only and better:
        return "within"
    return "outside" if rules.exact or abs(change) > row.tolerance else "within"


def _moved_utterances(run: Run, kept: Run, limit: int) -> tuple[str, ...]:
    """Which utterances are recognised otherwise than stored, and whether that is more than chance."""
    folder, record = run
    old, new = results.load_predictions(kept[0]), results.load_predictions(folder)
    metric = metric_of(record)
    found = changes(metric, old, new)
    if not found:
        return ()
    told = [f"{len(found)} of {len(old)} utterances changed", *lines(found, limit)]
    try:
        test = paired(metric, new, old, seed=1)
    except BenchError as error:
        return (*told, f"no paired test: {error}")
    ci = "" if test.ci95 is None else f" (95% CI {test.ci95[0]:+.2f} to {test.ci95[1]:+.2f})"
    return (
        *told,
        f"paired difference in {metric.name}: {test.difference:+.2f}{ci}, p = {test.p:.3g}",
    )


def _other_circumstances(now: ResultRecord, then: ResultRecord) -> str:
    """What beside the specification is not as it was: bytes, threads, versions, the machine."""
    keys = sorted(now.content.keys() | then.content.keys())
    told = [key for key in keys if now.content.get(key) != then.content.get(key)]
    mine, theirs = _environment(now), _environment(then)
    told += [
        f"{key} {theirs.get(key)} -> {mine.get(key)}"
        for key in sorted(mine.keys() | theirs.keys())
        if mine.get(key) != theirs.get(key)
    ]
    return f"; changed since: {', '.join(told)}" if told else ""


def _environment(record: ResultRecord) -> dict[str, object]:
    env = dict(record.env)
    packages: dict[str, object] = env.pop("packages", {})
    return {**env, **packages}


def against_published(runs: Sequence[Run], folder: Path | None = None) -> Iterator[Check]:
    """Each published score that a run of suite full corresponds to, within the run's own interval.

    Other suites have other corpora and models; no published number is theirs.
    """
    names, rows = correspondence(folder), load(folder)
    full = [run for run in runs if run[1].spec.suite == "full"]
    for _, record in full:
        for metric in record.metrics:
            for row in (r for r in rows if _is_of(r, record, metric, names)):
                yield _published(row, record, metric, names)


def _is_of(
    row: PublishedRow, record: ResultRecord, metric: MetricValue, names: Correspondence
) -> bool:
    task = names.task(row)
    spec = record.spec
    return (
        task is not None
        and not row.relative
        and metric.split == "test"
        and (spec.task.name, metric.name) == (task.ours, task.ours_metric)
        and spec.protocol == (task.ours_protocol or row.protocol)
        and spec.data.corpus.partition(":")[0] == task.corpus
        and spec.upstream.label in names.upstream(row.upstream, row.method, small=False)
        and spec.interface_label in names.interfaces.get(row.interface, ())
    )


def _published(
    row: PublishedRow, record: ResultRecord, metric: MetricValue, names: Correspondence
) -> Check:
    task = names.task(row)
    assert task is not None
    value = row.value * task.factor
    low, high = metric.ci95 or (metric.value, metric.value)
    status: Status = "within" if low <= value <= high else "outside"
    text = (
        f"ours {metric.value:.2f} (95% CI {low:.2f} to {high:.2f}), published {value:g} ({row.status}, "
        f"{row.source}, {row.table})"
    )
    return Check(PUBLISHED, f"{record.spec.upstream.label} {row.label}", status, text)
