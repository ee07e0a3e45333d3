"""Several heads side by side on one forward pass of their frozen upstream.

For hidden states that fit neither the feature store nor memory. Each run is the run it is alone: its own
batches, random draws, checkpoints and record. They advance in lock-step, whoever is behind first, and
whoever comes to a micro-batch that another has just seen takes its hidden states over.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssft_bench.cell import Turn
from ssft_bench.errors import UsageError
from ssft_bench.features import SharedStates
from ssft_bench.random_state import RandomState
from ssft_bench.results import ResultRecord
from ssft_bench.trained_cell import FrozenCell

BEGIN: Turn = (-1, 0)


class _Runner:
    """One cell, and where it stands."""

    def __init__(self, cell: FrozenCell, fresh: bool) -> None:
        self.cell, self.place = cell, BEGIN
        self.turns = cell.turns(fresh)
        self.random_state = cell.random_state
        self.outcome: ResultRecord | Exception | None = None

    def advance(self) -> None:
        """One turn, with the global random generators as the cell left them."""
        self.random_state.restore()
        try:
            self.place = next(self.turns)
        except StopIteration:
            self.outcome = self.cell.record
        except Exception as error:  # the cell has recorded it; it leaves, the others go on
            self.outcome = error
        self.random_state = RandomState.now()


def run(
    cells: Sequence[FrozenCell], fresh: Sequence[bool] = (), shared: SharedStates | None = None
) -> list[ResultRecord | Exception]:
    """Execute cells of one upstream and one corpus together; each one's record, or why it failed.

    What one gets, all get: a forward pass happens once where they are at the same micro-batch, which is
    so for the same splits, batch sizes, accumulation and seed. Cells that differ in these only share
    the dev and test passes. An interface that is fitted before training costs a pass of its own.
    `fresh` says by cell whether an earlier attempt's files are removed. Raises UsageError for cells that
    do not have their hidden states in common.
    """
    _check(cells)
    if not cells:
        return []
    if shared is None:
        layers = {layer for cell in cells for layer in cell.features.layers}
        shared = SharedStates(sorted(layers), max(c.spec.data.memory_gib for c in cells))
    before = RandomState.now()
    runners = [
        _Runner(cell, flag) for cell, flag in zip(cells, fresh or [False] * len(cells), strict=True)
    ]
    try:
        for cell in cells:
            cell.features.shared = shared
        _lock_step(runners, shared)
    finally:
        for runner in runners:
            runner.turns.close()
            runner.cell.features.shared = None
        before.restore()
    return [r.outcome for r in runners if r.outcome is not None]


def _lock_step(runners: Sequence[_Runner], shared: SharedStates) -> None:
    """Let whoever is furthest behind have the next turn, until all are through."""
    while waiting := [r for r in runners if r.outcome is None]:
        last = min(r.place for r in waiting)
        shared.move_on()
        for runner in waiting:
            if runner.place == last:
                runner.advance()


def _check(cells: Sequence[FrozenCell]) -> None:
    """Utterances are told apart by identifier, so the cells must mean the same by it."""
    common = {
        (
            cell.record.content.get("upstream_weights"),
            cell.record.content.get("upstream_source"),
            cell.spec.upstream.label,
            cell.spec.data.states,
            cell.fabric.device.type,
        )
        for cell in cells
    }
    heard: dict[str, object] = {}
    for cell in cells:
        for row in (row for rows in cell.data.splits.values() for row in rows):
            place = (row.audio, row.start, row.end, row.gain_db)
            if heard.setdefault(row.id, place) != place:
                raise UsageError(
                    f"fan-out: {row.id} is one recording for one cell and another for another; give "
                    "cells of one corpus"
                )
    if len(common) > 1:
        raise UsageError(
            "fan-out: the cells differ in upstream, data.states or device; they share no hidden states"
        )
    if any(cell.machine.devices > 1 for cell in cells):
        raise UsageError("fan-out: runs on several devices cannot take turns; give --devices 1")
