"""How soon tuned upstreams' heads are as good as the base's ever gets, by `analysis.convergence`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from ssft_bench.analysis.convergence import Curve, check_alike, compare, grid_of, median_ratio
from ssft_bench.errors import UsageError
from ssft_bench.report.collect import Group, Run
from ssft_bench.report.figures import curve, selecting


@dataclass(frozen=True)
class Speedup:
    """An upstream against the base through one interface."""

    upstream: str
    interface: str
    pairs: int
    """Seeds that both have."""
    reached: int
    """In how many of them the base's best was reached."""
    ratio: float | None
    """Median of the ratios of steps; None where it was not reached in most."""
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Speedups:
    """Of a group of runs."""

    base: str
    grid: int
    """Steps between evaluations: nothing is known better than that."""
    rows: tuple[Speedup, ...]


def speedups(group: Group, base: str) -> Speedups | None:
    """Every upstream against the base, seed by seed; None where no two curves can be compared."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
    grid = 0
    for interface in group.interfaces:
        bases = {run.seed: run for run in group.cell(base, interface)}
        for upstream in group.upstreams:
            for run in group.cell(upstream, interface):
                row = _compared(bases.get(run.seed), run) if upstream != base else None
                if row is not None:
                    found[upstream, interface].append(row)
                    runs[upstream, interface].append(run)
                    grid = max(grid, grid_of([step for step, _ in curve(run)]))
    rows = tuple(
        Speedup(
            *key, len(own), sum(r["ratio"] is not None for r in own), median_ratio(own), tuple(runs[key])
        )
        for key, own in found.items()
    )  # fmt: skip
    return Speedups(base, grid, rows) if rows else None


def _compared(base: Run | None, tuned: Run) -> dict[str, Any] | None:
    if base is None or not curve(base) or not curve(tuned):
        return None
    ours, theirs = _curve(base), _curve(tuned)
    try:
        check_alike(ours, theirs)
    except UsageError:
        return None
    return compare(ours, theirs)


def _curve(run: Run) -> Curve:
    steps, values = zip(*curve(run), strict=True)
    return Curve(run.folder, run.record, steps, values, selecting(run)[2])
