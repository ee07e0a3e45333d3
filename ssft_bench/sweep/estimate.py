"""How long cells take and what their hidden states weigh: from finished runs, else by the cost model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ssft_bench import results
from ssft_bench.results import ResultRecord
from ssft_bench.sweep.cost_model import Rates, fitted
from ssft_bench.sweep.plan import Plan, PlannedCell
from ssft_bench.sweep.state import CellState

ITEM_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Guess:
    """Seconds of a cell on one worker, without its hidden states, and where they come from."""

    seconds: float
    source: str
    """`this cell`, `runs like it` (same suite, task and interface) or `cost model`."""


class Estimate:
    """Guesses for the cells of a plan, from the finished runs in its folder of results."""

    def __init__(self, plan: Plan, records: Iterable[ResultRecord], jobs: int = 1) -> None:
        """`jobs` work side by side."""
        self.plan, self.jobs = plan, max(1, jobs)
        done = [r for r in records if r.status == "done" and r.cost.get("seconds")]
        self.rates: Rates = fitted(done)
        self._seconds: dict[tuple[str, ...], list[tuple[float, int]]] = {}
        for record in done:
            spec = record.spec
            took = _without_states(record.cost["seconds"])
            updates = (spec.train.steps if spec.train else 0) * max(1, len(spec.lr_grid))
            shared = (
                spec.suite,
                spec.interface_label,
                spec.task.name,
                spec.data.corpus,
                spec.protocol,
            )
            for key in ((record.signature,), shared):
                self._seconds.setdefault(key, []).append((took, updates))
        self._guesses = {cell.signature: self._guess(cell) for cell in plan.cells}

    @classmethod
    def of(cls, plan: Plan, jobs: int = 1) -> Estimate:
        """From the results that are there."""
        return cls(plan, results.readable(Path(plan.out)), jobs)

    def cell(self, cell: PlannedCell) -> Guess:
        """What a cell takes on one worker once its hidden states are there."""
        return self._guesses[cell.signature]

    def left(self, found: Sequence[CellState]) -> float:
        """Seconds until the last cell ends, if the work were dealt out evenly."""
        open_ones = [s for s in found if s.status not in ("done", "failed")]
        seconds = sum(self.cell(s.cell).seconds * (1 - (s.progress or 0.0)) for s in open_ones)
        return (seconds + self._states_left(found, open_ones)) / self.jobs

    def _states_left(self, found: Sequence[CellState], open_ones: Sequence[CellState]) -> float:
        """Seconds to compute hidden states: once for a group with a store, else once for each share.

        A group of which a cell is done has them in the store.
        """
        if self.plan.store:
            there = {s.cell.group for s in found if s.status == "done"}
            groups = list({s.cell.group for s in open_ones} - there)
        else:
            names = {s.cell.signature for s in open_ones}
            shares = ([self.plan.cells[n] for n in share] for share in self.plan.shares)
            groups = [own[0].group for own in shares if any(c.signature in names for c in own)]
        return sum(self._states_seconds(group) for group in groups if group)

    def _states_seconds(self, group: str) -> float:
        """Those of the group's longest cell: cells of a group hear the same corpus."""
        own = (self.rates.seconds(c.work) for c in self.plan.cells if c.group == group)
        return max(parts["hidden_states"] for parts in own)

    def states_bytes(self) -> dict[str, float]:
        """Bytes of hidden states by group: those of its longest cell, in all layers that the group uses."""
        item = ITEM_BYTES[self.plan.grid.states]
        found: dict[str, float] = {}
        for cell in self.plan.cells:
            if cell.group:
                own = cell.work.hours * 3600 * cell.floats_per_second * item
                found[cell.group] = max(found.get(cell.group, 0.0), own)
        return found

    def _guess(self, cell: PlannedCell) -> Guess:
        """What the very cell took, else the median of runs like it, scaled by updates."""
        like = (self.plan.grid.suite, cell.interface, cell.task, cell.corpus, cell.protocol)
        for source, key in (("this cell", (cell.signature,)), ("runs like it", like)):
            seen = self._seconds.get(key, [])
            scaled = [
                s * (cell.work.updates / n if n and cell.work.updates else 1) for s, n in seen
            ]
            if scaled:
                return Guess(median(scaled), source)
        return Guess(_without_states(self.rates.seconds(cell.work)), "cost model")


def _without_states(seconds: Mapping[str, float]) -> float:
    return float(sum(took for part, took in seconds.items() if part != "hidden_states"))
