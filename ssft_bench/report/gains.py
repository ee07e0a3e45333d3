"""Gains over the base upstream: one map for each group of runs, upstream by interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ssft_bench import registry
from ssft_bench.comparison import PairedResult, paired_seeds
from ssft_bench.comparison.corrections import holm
from ssft_bench.errors import BenchError
from ssft_bench.metric import Metric, Prediction
from ssft_bench.report.collect import Collection, Group, Run

ALPHA = 0.05
"""Level of the marks, after correction."""
LEVELS = 4
"""Shades on either side of no gain."""
SEED = 1
"""Of the bootstrap and the permutations."""


@dataclass(frozen=True)
class Gain:
    """An upstream over the base, through one interface."""

    upstream: str
    interface: str
    gain: float
    """In the metric's unit; positive is better, whichever way the metric goes."""
    ci95: tuple[float, float] | None
    value: float
    """Mean of the upstream's runs."""
    base_value: float
    runs: tuple[Run, ...]
    base_runs: tuple[Run, ...]
    paired: PairedResult | None
    """None where it could not be tested."""
    why_not: str = ""
    """Why it could not."""
    p_corrected: float | None = None
    """After Holm's correction over the cells of the map."""
    level: int = 0
    """Shade, from -LEVELS (worse) to LEVELS (better)."""

    @property
    def significant(self) -> bool:
        """Whether chance is ruled out at ALPHA after correction."""
        return self.p_corrected is not None and self.p_corrected < ALPHA


@dataclass(frozen=True)
class Map:
    """The gains of a group."""

    group: Group
    base: str
    upstreams: tuple[str, ...]
    interfaces: tuple[str, ...]
    base_values: dict[str, float]
    """Interface -> mean of the base's runs."""
    cells: dict[tuple[str, str], Gain]
    """(upstream, interface) -> gain; what was not run is not there."""

    @property
    def tested(self) -> int:
        """How many cells have a p-value: what the correction is for."""
        return sum(cell.paired is not None for cell in self.cells.values())


def maps(collection: Collection) -> list[Map]:
    """A map for each group that has runs of the base and of another upstream through one interface."""
    found = (_map(group, collection.base) for group in collection.groups if collection.base)
    return [one for one in found if one.cells]


def _map(group: Group, base: str) -> Map:
    others = [name for name in group.upstreams if name != base]
    cells: dict[tuple[str, str], Gain] = {}
    bases = {interface: group.cell(base, interface) for interface in group.interfaces}
    metric = _metric(group)
    for interface, base_runs in bases.items():
        for upstream in others:
            runs = group.cell(upstream, interface)
            if runs and base_runs:
                cells[upstream, interface] = _gain(metric, upstream, interface, runs, base_runs)
    used = {interface for _, interface in cells}
    return Map(
        group,
        base,
        tuple(name for name in others if any(own == name for own, _ in cells)),
        tuple(interface for interface in group.interfaces if interface in used),
        {interface: _mean(runs) for interface, runs in bases.items() if interface in used},
        _shaded(_corrected(cells)),
    )


def _metric(group: Group) -> Metric | str:
    """The primary metric as a function of predictions, or why there is none here."""
    try:
        task = registry.load("tasks", group.task)
    except BenchError as error:
        return str(error)
    name = group.metric.name
    return next((m for m in task.metrics if m.name == name), f"task {group.task} has no {name}")


def _gain(
    metric: Metric | str, upstream: str, interface: str, runs: Sequence[Run], base_runs: Sequence[Run]
) -> Gain:  # fmt: skip
    sign = 1 if runs[0].metric.higher_is_better else -1
    value, base_value = _mean(runs), _mean(base_runs)
    plain = Gain(
        upstream, interface, sign * (value - base_value), None, value, base_value,
        tuple(runs), tuple(base_runs), None,
    )  # fmt: skip
    if isinstance(metric, str):
        return replace(plain, why_not=metric)
    try:
        tested = paired_seeds(metric, _predicted(runs), _predicted(base_runs), seed=SEED)
    except BenchError as error:
        return replace(plain, why_not=str(error))
    interval = tested.ci95
    if interval is not None and sign < 0:
        interval = (-interval[1], -interval[0])
    return replace(plain, ci95=interval, paired=tested)


def _predicted(runs: Sequence[Run]) -> list[list[Prediction]]:
    return [run.predictions() for run in runs]


def _mean(runs: Sequence[Run]) -> float:
    return sum(run.metric.value for run in runs) / len(runs)


def _corrected(cells: dict[tuple[str, str], Gain]) -> dict[tuple[str, str], Gain]:
    """Holm's correction over the cells that have a p-value."""
    tested = [(key, cell.paired.p) for key, cell in cells.items() if cell.paired is not None]
    adjusted = holm([p for _, p in tested])
    p = {key: value for (key, _), value in zip(tested, adjusted, strict=True)}
    return {key: replace(cell, p_corrected=p.get(key)) for key, cell in cells.items()}


def _shaded(cells: dict[tuple[str, str], Gain]) -> dict[tuple[str, str], Gain]:
    """The largest gain or loss of the map has the deepest shade; what rounds to none has none."""
    largest = max((abs(cell.gain) for cell in cells.values()), default=0.0)
    return {
        key: replace(cell, level=round(LEVELS * cell.gain / largest) if largest else 0)
        for key, cell in cells.items()
    }
