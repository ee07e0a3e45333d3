"""What a table has a row for: a finished run, or the seeds of one cell together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ssft_bench import registry, results
from ssft_bench.comparison.sides import Run, Side
from ssft_bench.metric import Counts, Metric
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.spec import signature
from ssft_bench.statistics import clustered, times_drawn

Seeds = Literal["each", "mean"]
RESAMPLES = 2000
SEED = 1
"""Of what is drawn for a table: the same table from the same records."""


@dataclass(frozen=True)
class Entry:
    """One run, or several that differ in nothing but their seed."""

    side: Side

    @property
    def record(self) -> ResultRecord:
        """The first run's."""
        return self.side.record

    @property
    def records(self) -> list[ResultRecord]:
        """All runs', by seed."""
        return [record for _, record in self.side.runs]

    @property
    def primary(self) -> MetricValue:
        """The first run's primary test metric."""
        found = self.record.primary()
        assert found is not None
        return found

    @property
    def values(self) -> list[float]:
        """The primary test metric of each run."""
        return [m.value for m in (record.primary() for record in self.records) if m is not None]

    @property
    def value(self) -> float:
        """Mean over the runs."""
        return float(np.mean(self.values))

    @property
    def section(self) -> tuple[str, str, str, str]:
        """Suite, corpus, task, protocol: what is in one table."""
        spec = self.record.spec
        return spec.suite, spec.data.corpus, spec.task.name, spec.protocol


def finished(folders: Iterable[Path]) -> list[Run]:
    """The finished runs below some folders that have a primary test metric, in the order of their paths."""
    return [
        (folder, record)
        for root in folders
        for folder, record in results.find_all(root)
        if record.status == "done" and record.primary()
    ]


def entries(runs: Sequence[Run], seeds: Seeds = "each") -> list[Entry]:
    """`each`: one for each run. `mean`: runs that differ only in their seed are one; copies count once."""
    if seeds == "each":
        return [Entry(Side((run,))) for run in runs]
    cells: dict[str, dict[str, Run]] = {}
    for run in runs:
        cells.setdefault(cell_of(run[1]), {}).setdefault(run[1].signature, run)
    return [
        Entry(Side(tuple(sorted(same.values(), key=lambda run: run[1].spec.seed))))
        for same in cells.values()
    ]


def cell_of(record: ResultRecord) -> str:
    """What runs share that differ in nothing but their seed."""
    return signature(record.spec.model_copy(update={"seed": 0}), record.content)


def metric_of(record: ResultRecord) -> Metric:
    """The function behind a record's primary metric."""
    task = registry.load("tasks", record.spec.task.name)
    found: Metric = next(m for m in task.metrics if m.primary)
    return found


@dataclass(frozen=True)
class Pooled:
    """Interval of a mean over seeds."""

    ci95: tuple[float, float]
    method: str


def pooled_interval(metric: Metric, side: Side) -> Pooled:
    """95 % interval of the mean over the runs of a cell: speakers and seeds are both drawn again.

    Clusters of utterances are drawn as `statistics.score` draws them, one draw for all seeds; of S seeds
    S - 1 are drawn with replacement, so that the spread of their mean is not too small (Rao & Wu, JASA
    83, 1988, §2). Raises CheckFailed or MissingError for predictions that are not what was scored.
    """
    runs = [sorted(run, key=lambda p: p.id) for run in side.predictions(False)]
    counts = metric.rows([p for run in runs for p in run])
    n, width, seeds = len(runs[0]), counts.shape[1], len(runs)
    beside = counts.reshape(seeds, n, width).transpose(1, 0, 2).reshape(n, -1)
    units, over = clustered(metric, runs[0], beside)
    size = len(units)
    rng = np.random.default_rng(SEED)
    drawn = times_drawn(rng.integers(size, size=(RESAMPLES, size)), size)
    values = np.stack(
        [metric.combine(drawn @ units[:, s * width : (s + 1) * width]) for s in range(seeds)],
        axis=1,
    )
    low, high = np.quantile((values * _seed_shares(rng, seeds)).sum(axis=1), [0.025, 0.975])
    return Pooled(
        (float(low), float(high)),
        f"percentile bootstrap over {over} and {seeds} seeds, {RESAMPLES} resamples, seed {SEED}",
    )


def _seed_shares(rng: np.random.Generator, seeds: int) -> Counts:
    """Weight of each seed in each draw [R, S]; they sum to 1."""
    taken = max(1, seeds - 1)
    return times_drawn(rng.integers(seeds, size=(RESAMPLES, taken)), seeds) / taken
